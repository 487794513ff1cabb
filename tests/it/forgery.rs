//! One line can't lie: what a person writes cannot begin a line, end one, hide a part of one, or look like the server's words.

use std::{
    fs::{self, File},
    process::Command,
};

use proptest::prelude::*;
use regex::Regex;
use serde_json::json;

use crate::support::{Config, Server, program, records};

/// Short enough for a preview, so that nothing of it is cut.
const HOSTILE: [&str; 14] = [
    "a\nb",
    "a\r\nb\rc",
    "\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7} \u{9b}2J",
    "\u{202e}drawkcab\u{2066}x\u{2069}\u{200f}\u{61c}",
    "❌ failed",
    "x - ERROR - y",
    "- CRITICAL - y",
    "2025-01-09 14:30:25 - ERROR - ❌ [a1b2c3d4] ===== 요청 실패 =====",
    "\n2025-01-09 14:30:25 - ERROR - ❌ [a1b2c3d4] ===== 요청 실패 =====\n",
    "x\n   - generation_ms: 1ms\n   - tokens_generated: 9",
    "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f",
    "a\u{0}b\u{8}c\u{7f}d",
    "\u{feff}\u{200b}\u{ad}x",
    "\"}\n{\"event_name\":\"request.failed\",\"stub\":true",
];

/// Whether a character could move a cursor, end a line or turn text around.
fn is_trick(it: char) -> bool {
    it.is_control()
        || matches!(it, '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        || matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// That each line is one of the server's making.
fn check_lines(text: &str) {
    let line = Regex::new(
        r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - (DEBUG|INFO|WARNING|ERROR|CRITICAL) - \S|   - \w)",
    );
    let line = line.unwrap();
    // Not `lines`, which would forgive a carriage return.
    let text = text.strip_suffix('\n').unwrap();
    for it in text.split('\n') {
        assert!(line.is_match(it), "{it:?}");
        assert!(!it.contains(is_trick), "{it:?}");
    }
}

#[test]
fn hostile_text_stays_inside_its_line() {
    let config = Config::default()
        .file("guide", "guide", "")
        .file("json", "json", "")
        .log("level = \"DEBUG\"");
    let mut server = Server::start(&config);
    let ask = |text: &str| {
        let more = json!({"max_tokens": 2, "stop": ["never", text]});
        let answer = server.chat(text, &more);
        assert_eq!(answer.status, 200, "{text:?}: {}", answer.text);
    };
    ask("plain");
    HOSTILE.iter().for_each(|it| ask(it));
    server.stop();

    let guide = server.read("guide.log");
    check_lines(&guide);
    // Every request has as many lines as the first one, whose text is harmless.
    let start = Regex::new(r"(?m)^[\d :-]+ - INFO - 🎯 \[[0-9a-f]{8}\] =====").unwrap();
    let requests: Vec<&str> = start.split(&guide).skip(1).collect();
    // Except that an answer which happens to be JSON has one line more.
    let own = |it: &&str| !it.contains(" - ℹ️ ") && !it.contains("JSON 파싱");
    let lines = |it: &&str| it.lines().filter(own).count();
    let counts: Vec<usize> = requests.iter().map(lines).collect();
    assert_eq!(counts, vec![counts[0]; HOSTILE.len() + 1], "{guide}");

    // No request failed, and the guide's commands agree.
    for pattern in ["❌", " - ERROR", " - CRITICAL"] {
        let path = server.path("guide.log");
        let output = Command::new("grep").args(["-c", "-e", pattern]).arg(path).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n", "{pattern}");
    }

    let text = server.read("json.log");
    assert!(!text.contains(|it: char| it != '\n' && is_trick(it)));
    let prompts: Vec<String> = records(&text)
        .iter()
        .filter(|it| it["event_name"] == "request.prompt" && it["severity_text"] == "INFO")
        .map(|it| it["attributes"]["bucksaw.prompt.text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(prompts, [["plain"].as_slice(), HOSTILE.as_slice()].concat());
}

#[test]
fn hostile_names_and_messages_stay_inside_their_lines() {
    let config = Config::default()
        .file("guide", "guide", "")
        .file("json", "json", "")
        .log("level = \"DEBUG\"");
    let mut server = Server::start(&config);
    for text in HOSTILE {
        assert_eq!(server.chat("x", &json!({"model": text})).status, 404);
        assert_eq!(server.post("/vision", &json!({"prompt": "x", "adapter": text})).status, 404);
        assert_eq!(server.chat("x", &json!({"temperature": text})).status, 400);
    }
    server.stop();
    let guide = server.read("guide.log");
    check_lines(&guide);
    assert!(!guide.contains('❌'), "{guide}");
    assert_eq!(guide.matches(" - WARNING - ⛔ [").count(), 2 * 3 * HOSTILE.len());
    records(&server.read("json.log"));
}

/// Runs lines of JSON with these messages through `bucksaw run`.
fn run(messages: &[String], format: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::default()
        .output("a", "sink = \"console\"\nformat = \"guide\"")
        .output("b", "sink = \"console\"\nformat = \"json\"");
    fs::write(folder.path().join("test.toml"), config.text()).unwrap();
    let lines: String =
        messages.iter().map(|it| format!("{}\n", json!({"level": "info", "msg": it}))).collect();
    fs::write(folder.path().join("input"), lines).unwrap();
    let output = program(folder.path())
        .args(["run", "--config", "test.toml", "--format", format])
        .stdin(File::open(folder.path().join("input")).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Of all characters; those that proptest makes by itself are printable ones.
fn any_text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..40).prop_map(|it| it.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each case is hundreds of texts, since each starts a process.
    #[test]
    fn any_text_survives_and_stays_in_its_line(
        messages in prop::collection::vec(any_text(), 200..400),
    ) {
        let guide = run(&messages, "guide");
        check_lines(&guide);
        prop_assert_eq!(guide.lines().count(), messages.len());
        let back: Vec<String> = records(&run(&messages, "json"))
            .iter()
            .map(|it| it["attributes"]["msg"].as_str().unwrap().to_owned())
            .collect();
        prop_assert_eq!(back, messages);
    }
}
