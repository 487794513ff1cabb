//! No canary leaves the chain: wherever in a request it stands, and whatever becomes of the plugin that redacts.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Config, Server, base64, http::chat_body, repository};

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

/// The hostile editor in the place of the one that redacts.
fn hostile(deed: &str) -> Config {
    // On a busy machine any deed may take 50 ms, and only one of them is meant to be caught by the clock.
    let deadline = if deed == "loop" { 50 } else { 5000 };
    let path = repository("tests/fixtures/components/hostile.wasm");
    Config::default()
        .edit(&["redact"])
        .file("app", "guide", "")
        .file("json", "json", "")
        .output("console", "sink = \"console\"\nformat = \"guide\"")
        .plugin("redact", &format!("source = {path:?}\nconfig = {{ do = {deed:?} }}"))
        .plugin("redact", &format!("limits = {{ memory_mib = 16, deadline_ms = {deadline} }}"))
}

/// A failed editor costs content and nothing else: no request, no number, no outcome.
fn check_hostile(deed: &str, error: &str) {
    let mut server = Server::start_with(&hostile(deed), &[("LOG_LEVEL", "DEBUG")]);
    for canary in CANARIES {
        let answer = server.chat(&format!("I am {canary}"), &json!({"max_tokens": 4}));
        assert_eq!(answer.status, 200, "{deed}: {}", answer.text);
    }
    server.stop();
    check_folder(&server);
    let app = server.read("app.log");
    let withheld = format!("프롬프트 미리보기: [내용 보류: redact ({error})]");
    assert!(app.contains(&withheld), "{deed}: no {withheld:?} in {app}");
    assert!(app.contains(&format!("❌ 플러그인 오류: redact ({error})")), "{deed}: {app}");
    assert_eq!(app.matches("===== 요청 성공 =====").count(), CANARIES.len(), "{app}");

    let records = crate::support::records(&server.read("json.log"));
    let failed = records.iter().filter(|it| it["event_name"] == "plugin.failed");
    let failed: Vec<_> =
        failed.map(|it| it["attributes"]["bucksaw.plugin.error"].clone()).collect();
    assert!(failed.iter().all(|it| it == error) && !failed.is_empty(), "{deed}: {failed:?}");
    for prompt in records.iter().filter(|it| it["event_name"] == "request.prompt") {
        let attributes = &prompt["attributes"];
        assert_eq!(prompt["stub"], true, "{prompt}");
        assert_eq!(attributes["bucksaw.plugin"], "redact", "{prompt}");
        assert!(attributes.get("bucksaw.prompt.text").is_none(), "{prompt}");
        let stopped = attributes["bucksaw.plugin.error"] == "breaker_open";
        assert!(stopped || attributes["bucksaw.plugin.error"] == error, "{prompt}");
    }
}

#[test]
fn an_editor_that_traps_costs_content_only() {
    check_hostile("trap", "trap");
}

#[test]
fn an_editor_that_loops_costs_content_only() {
    check_hostile("loop", "deadline");
}

#[test]
fn an_editor_that_hoards_memory_costs_content_only() {
    check_hostile("hoard", "memory");
}

#[test]
fn an_editor_that_recurses_without_end_costs_content_only() {
    check_hostile("recurse", "stack");
}

#[test]
fn an_editor_that_answers_nonsense_costs_content_only() {
    check_hostile("short", "bad_answer");
    check_hostile("bad-label", "bad_answer");
}

/// Its nonsense is about one record of a batch; the others it leaves to the editor behind it.
#[test]
fn a_record_with_a_range_outside_of_it_is_withheld() {
    let path = repository("tests/fixtures/components/hostile.wasm");
    let config = Config::json()
        .edit(&["hostile", "redact"])
        .plugin("hostile", &format!("source = {path:?}\nconfig = {{ do = \"bad-range\" }}"));
    let mut server = Server::start(&config);
    for canary in CANARIES {
        assert_eq!(server.chat(canary, &json!({"max_tokens": 4})).status, 200);
    }
    server.stop();
    let records = crate::support::records(&server.read("json.log"));
    let stubs: Vec<&Value> = records.iter().filter(|it| it["stub"] == true).collect();
    assert!(!stubs.is_empty());
    for stub in stubs {
        assert_eq!(stub["attributes"]["bucksaw.plugin"], "hostile", "{stub}");
        assert_eq!(stub["attributes"]["bucksaw.plugin.error"], "bad_answer", "{stub}");
        assert!(stub["attributes"].get("bucksaw.prompt.text").is_none(), "{stub}");
    }
    for canary in CANARIES {
        assert!(!server.read("json.log").contains(canary), "{canary}");
    }
}
