//! What a configuration selects: chains by route, editors, formatters, outputs, levels and colours.

use serde_json::{Value, json};

use crate::support::{Config, Server, http::chat_body, records};

const CHAT: &str = "/v1/chat/completions";
const ADDRESS: &str = "kim.minsu@example.com";

/// The prompts in a file of JSON, in order.
fn prompts(server: &Server, file: &str) -> Vec<String> {
    records(&server.read(file))
        .iter()
        .filter(|it| it["event_name"] == "request.prompt" && it["severity_text"] == "INFO")
        .map(|it| it["attributes"]["bucksaw.prompt.text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_first_route_that_matches_chooses_the_chain() {
    let output = |name: &str| {
        format!("[outputs.{name}]\nsink = \"file\"\npath = \"{name}.log\"\nformat = \"json\"\n")
    };
    let chain =
        |name: &str| format!("[chains.{name}]\noutputs = [{name:?}]\nallow_raw_content = true\n");
    let names = ["tenant", "seeing", "korean"];
    let config = Config::json()
        .with_adapter()
        .more(&names.map(output).concat())
        .more(&names.map(chain).concat())
        .more("[[route]]\nwhen = { path = \"/vision\", header = { X-Tenant = \"acme\" } }\nchain = \"tenant\"")
        .more("[[route]]\nwhen = { path = \"/vision\" }\nchain = \"seeing\"")
        .more("[[route]]\nwhen = { model = \"demo-ko\" }\nchain = \"korean\"");
    let mut server = Server::start(&config);
    let vision = |text: &str, headers: &[(&str, &str)]| {
        let body = json!({"prompt": text, "max_tokens": 1});
        assert_eq!(server.post_with("/vision", headers, &body).status, 200);
    };
    let chat = |text: &str, model: &str, headers: &[(&str, &str)]| {
        let body = chat_body(text, &json!({"model": model, "max_tokens": 1}));
        assert_eq!(server.post_with(CHAT, headers, &body).status, 200);
    };
    vision("a", &[]);
    vision("b", &[("x-tenant", "acme")]);
    vision("c", &[("X-TENANT", "acme")]);
    vision("d", &[("x-tenant", "Acme")]);
    chat("e", "demo", &[]);
    chat("f", "demo-ko", &[]);
    chat("g", "demo", &[("x-tenant", "acme")]);
    server.stop();
    for (file, expected) in [
        ("tenant.log", ["b", "c"].as_slice()),
        ("seeing.log", ["a", "d"].as_slice()),
        ("korean.log", ["f"].as_slice()),
        ("json.log", ["e", "g"].as_slice()),
    ] {
        assert_eq!(prompts(&server, file), expected, "{file}");
    }
    // All records of a request go the same way, and the server's own the default one.
    let korean = records(&server.read("korean.log"));
    assert_eq!(korean[0]["event_name"], "request.received");
    assert_eq!(korean.last().unwrap()["event_name"], "request.summary");
    assert!(server.read("json.log").contains("server.started"));
    assert!(!server.read("seeing.log").contains("server.started"));
}

#[test]
fn editors_are_what_the_chain_names_and_no_others() {
    let long = format!("{ADDRESS} {}", "x".repeat(200));
    let check = |edit: &[&str], expected: &str| {
        let mut server = Server::start(&Config::json().edit(edit));
        server.chat(&long, &json!({"max_tokens": 1}));
        server.stop();
        assert_eq!(prompts(&server, "json.log"), [expected], "{edit:?}");
    };
    check(&[], &long);
    check(&["redact"], &format!("[EMAIL] {}", "x".repeat(200)));
    check(&["truncate"], &format!("{ADDRESS} {}…(+122자)", "x".repeat(78)));
    // In this order a cut never hides the beginning of what should have been taken out.
    check(&["redact", "truncate"], &format!("[EMAIL] {}…(+108자)", "x".repeat(92)));
}

#[test]
fn an_output_has_its_own_format_stream_and_level() {
    let config = Config::default()
        .log("level = \"DEBUG\"")
        .file("all", "json", "")
        .file("app", "guide", "stream = \"app\"")
        .file("engine", "guide", "stream = \"engine\"")
        .file("info", "json", "level = \"INFO\"")
        .file("bad", "guide", "level = \"WARNING\"");
    let mut server = Server::start(&config);
    server.chat("Hello!", &json!({}));
    let rejected = server.chat("x", &json!({"model": "nobody"}));
    server.stop();

    let levels = |file: &str| {
        let mut levels: Vec<String> = records(&server.read(file))
            .iter()
            .map(|it| it["severity_text"].as_str().unwrap().to_owned())
            .collect();
        levels.sort();
        levels.dedup();
        levels
    };
    assert_eq!(levels("all.log"), ["DEBUG", "INFO", "WARNING"]);
    assert_eq!(levels("info.log"), ["INFO", "WARNING"]);
    let short = rejected.id()[..8].to_owned();
    let bad = server.read("bad.log");
    assert_eq!(bad.lines().count(), 2, "{bad}");
    assert!(bad.lines().all(|it| it.contains(&format!(" - WARNING - ⛔ [{short}] "))), "{bad}");
    let (app, engine) = (server.read("app.log"), server.read("engine.log"));
    assert!(app.contains("요청 성공") && !app.contains("첫 토큰"), "{app}");
    assert!(engine.contains("첫 토큰") && !engine.contains("요청 성공"), "{engine}");
    let streams: Vec<Value> =
        records(&server.read("all.log")).iter().map(|it| it["stream"].clone()).collect();
    assert!(streams.contains(&json!("app")) && streams.contains(&json!("engine")));
}

#[test]
fn a_level_above_info_leaves_the_summaries_out() {
    let mut server = Server::start_with(&Config::json(), &[("LOG_LEVEL", "WARNING")]);
    server.chat("Hello!", &json!({"max_tokens": 1}));
    server.chat("x", &json!({"model": "nobody"}));
    server.stop();
    let records = records(&server.read("json.log"));
    let names: Vec<&Value> = records.iter().map(|it| &it["event_name"]).collect();
    assert_eq!(names, ["request.rejected"]);
}

#[test]
fn lines_are_coloured_by_level_where_it_was_asked_for() {
    let console = |target: &str, color: &str| {
        format!("sink = \"console\"\nformat = \"guide\"\ntarget = {target:?}\ncolor = {color:?}")
    };
    let config = Config::default()
        .output("out", &console("stdout", "always"))
        .output("err", &console("stderr", "auto"))
        .file("app", "guide", "")
        .log("level = \"DEBUG\"");
    let mut server = Server::start(&config);
    server.chat("Hello!", &json!({"max_tokens": 1}));
    server.chat("x", &json!({"model": "nobody"}));
    server.stop();

    let out = server.stdout();
    let mut seen = [false; 3];
    for line in out.lines() {
        let (color, text) = line.split_once('m').unwrap();
        let text = text.strip_suffix("\u{1b}[0m").unwrap_or_else(|| panic!("{line:?}"));
        assert!(!text.contains('\u{1b}'), "{line:?}");
        let levels = [
            (" - DEBUG - ", "\u{1b}[36"),
            (" - INFO - ", "\u{1b}[32"),
            (" - WARNING - ", "\u{1b}[33"),
        ];
        for (at, (level, expected)) in levels.iter().enumerate() {
            if text.contains(level) {
                assert_eq!(color, *expected, "{line:?}");
                seen[at] = true;
            }
        }
    }
    assert_eq!(seen, [true; 3], "{out}");
    // No colour where nobody looks: in a file, or on a console that is none.
    let app = server.read("app.log");
    assert!(!app.contains('\u{1b}'));
    assert!(server.stderr().contains("요청 성공") && !server.stderr().contains('\u{1b}'));
    // But for the colour, the console has what the file has.
    let escape = regex::Regex::new("\u{1b}\\[\\d+m").unwrap();
    assert_eq!(escape.replace_all(&out, ""), app);
}
