//! No canary leaves the chain: wherever in a request it stands, and whatever becomes of the plugin that redacts.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Config, Server, base64, http::chat_body};

/// An address, a key, a card, and a Korean resident number.
const CANARIES: [&str; 5] = [
    "kim.minsu@example.com",
    "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb7cDe0f",
    "4111 1111 1111 1111",
    "4111111111111111",
    "900101-1234568",
];

const CHAT: &str = "/v1/chat/completions";

/// The guide's log with each record as JSON beside it.
fn config() -> Config {
    Config::guide().with_adapter().file("json", "json", "")
}

/// That no canary is in what the server wrote: its outputs, its files, its consoles.
fn check_folder(server: &Server) {
    let folder = server.path("");
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        files += 1;
        for canary in CANARIES {
            let line = text.lines().find(|it| it.contains(canary));
            assert_eq!(line, None, "{canary} is in {}", path.display());
        }
    }
    assert!(files >= 5, "the console, three files and the configuration, not {files}");
}

/// Sends a canary everywhere that a client can put one.
fn send_everywhere(server: &Server, canary: &str) {
    let solid = canary.replace(' ', "");
    let ok = |status: u16, body: &Value| {
        let answer = server.post(CHAT, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    };
    let user = json!({"role": "user", "content": format!("write to {canary}, please")});
    let system = json!({"role": "system", "content": format!("you are {canary}.")});
    let short = json!({"max_tokens": 4});
    ok(200, &json!({"messages": [system, user], "max_tokens": 4}));
    ok(200, &json!({"messages": [system, user], "max_tokens": 4, "stream": true}));
    ok(200, &chat_body("x", &json!({"stop": [canary, format!("a{canary}")], "max_tokens": 4})));
    ok(200, &chat_body("x", &json!({"user": canary, canary: canary, "max_tokens": 4})));
    ok(404, &chat_body("x", &json!({"model": canary})));
    ok(404, &chat_body("x", &json!({"model": canary, "stream": true})));
    ok(400, &json!({"messages": [{"role": canary, "content": canary}]}));
    ok(400, &json!({"messages": [{"role": "user", "content": [{"type": canary}]}]}));
    ok(400, &chat_body("x", &json!({"response_format": {"type": canary}})));
    ok(400, &chat_body("x", &json!({"temperature": canary})));
    let url = format!("https://example.com/{canary}");
    let part = json!({"type": "image_url", "image_url": {"url": url}});
    ok(400, &json!({"messages": [{"role": "user", "content": [part]}]}));

    let vision = |status: u16, body: Value| {
        let answer = server.post("/vision", &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    };
    vision(404, json!({"prompt": canary, "adapter": canary}));
    vision(400, json!({"prompt": canary, "image": canary}));
    vision(400, json!({"prompt": canary, "image": base64(canary.as_bytes())}));

    let with = |path: &str, headers: &[(&str, &str)], status: u16| {
        let answer = server.post_with(path, headers, &chat_body("x", &short));
        assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.text);
    };
    let agent = format!("client of {canary}");
    with(CHAT, &[("user-agent", agent.as_str())], 200);
    with(CHAT, &[("x-request-id", solid.as_str())], 200);
    with(CHAT, &[("x-request-id", canary)], 200);
    with(&format!("{CHAT}?to={solid}"), &[], 200);
    with(&format!("/people/{solid}"), &[], 404);
    let path = format!("/v1/models/{solid}");
    assert_eq!(server.get(&path).status, 404);
    let half = format!("{{\"messages\": \"{canary}");
    assert_eq!(server.send("POST", CHAT, &[], half.as_bytes()).status, 400);
}

fn check_level(level: &str) {
    let mut server = Server::start_with(&config(), &[("LOG_LEVEL", level)]);
    for canary in CANARIES {
        send_everywhere(&server, canary);
    }
    server.stop();
    check_folder(&server);
    let (app, json) = (server.read("app.log"), server.read("json.log"));
    for label in ["[EMAIL]", "[SECRET]", "[CARD]", "[KRN]"] {
        assert!(app.contains(label) && json.contains(label), "no {label} in the log");
    }
}

#[test]
fn nothing_leaks_at_info() {
    check_level("INFO");
}

#[test]
fn nothing_leaks_at_debug() {
    check_level("DEBUG");
}

/// A path is written as it came, with its escapes.
#[test]
fn an_escaped_path_is_redacted_like_a_plain_one() {
    let config = Config::json().edit(&["redact"]).log("level = \"DEBUG\"");
    let mut server = Server::start(&config);
    for path in ["/people/kim.minsu%40example.com", "/cards/4111%201111%201111%201111"] {
        assert_eq!(server.get(path).status, 404);
        assert_eq!(server.send("POST", path, &[], b"{}").status, 404);
    }
    server.stop();
    let json = server.read("json.log");
    assert_eq!(json.matches("http.access").count(), 4, "{json}");
    for leaked in ["kim.minsu", "1111%201111"] {
        assert!(!json.contains(leaked), "{json}");
    }
}
