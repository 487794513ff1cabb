//! A few of the cases with the whole program: real requests that hold secrets, a hostile editor in its configuration, and
//! everything that leaves the process: its consoles, its files, what it answers.

use std::{fmt, fs, path::Path};

use record::field::is_metadata;
use serde_json::{Value, json};

use super::{
    canary::Canaries,
    case::{self, number},
};
use crate::support::{
    Config, Server, by_request, eventually,
    http::{Answer, chat_body, read_until},
    model::Model,
    records, repository,
};

const CHAT: &str = "/v1/chat/completions";

/// What the editor does, and the word for it.
const DEEDS: [(&str, &str); 12] = [
    ("trap", "trap"),
    ("loop", "deadline"),
    ("hoard", "memory"),
    ("recurse", "stack"),
    ("short", "bad_answer"),
    ("bad-label", "bad_answer"),
    ("exfiltrate", "bad_answer"),
    ("fail", "refused"),
    ("realloc-trap", "trap"),
    ("post-return-trap", "trap"),
    ("configure-trap-later", "trap"),
    ("configure-refuse-later", "configure"),
];

/// One server, and all that it is asked.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    deed: &'static str,
    error: &'static str,
    level: &'static str,
    /// Whether another editor stands behind the hostile one.
    redacted: bool,
    /// Whether requests fail. If not, they are answered, rejected and cancelled.
    failing: bool,
    /// Whether what is answered is to be stored as well.
    stored: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = if self.redacted { "first" } else { "alone" };
        let outcome = if self.failing { "failed" } else { "answered" };
        let kept = if self.stored { "stored" } else { "logged" };
        write!(f, "server/{}/{position}/{}/{outcome}/{kept}", self.deed, self.level)
    }
}

fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (deed, error) in DEEDS {
        for level in ["INFO", "DEBUG"] {
            for redacted in [false, true] {
                // What fails is not stored.
                for (failing, stored) in [(false, false), (false, true), (true, false)] {
                    cases.push(Case { deed, error, level, redacted, failing, stored });
                }
            }
        }
    }
    cases
}

pub(crate) fn selected() -> Vec<Case> {
    // One of each deed. Their numbers decide, so that the other things are mixed.
    case::selected(all(), |all| {
        let of_deeds = all.chunk_by(|a, b| a.deed == b.deed);
        of_deeds
            .filter_map(|it| it.iter().min_by_key(|it| number(&it.to_string())).copied())
            .collect()
    })
}

#[test]
fn a_server_with_a_hostile_editor_keeps_its_secrets_and_its_word() {
    let folder = tempfile::tempdir().unwrap();
    for case in selected() {
        check(&case, &folder.path().join("cache"));
    }
}

fn check(case: &Case, cache: &Path) {
    let canaries = Canaries::new(number(&case.to_string()));
    let model = if case.failing { Model::faulty() } else { Model::endless() };
    let mut server = Server::start_with(&config(case, &model, cache), &[("LOG_LEVEL", case.level)]);
    let (answers, ends) = if case.failing {
        (fail(&server, &canaries), vec![("request.failed", 2)])
    } else {
        let ends = vec![("request.finished", 3), ("request.rejected", 2), ("request.cancelled", 2)];
        (answer(&server, &canaries, case.stored), ends)
    };
    if case.stored {
        // One whole answer and one stream, of neither of which anything but numbers is kept.
        server.reaches("bucksaw_store_completions_withheld_total", 2);
    }
    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200, "{case}");
    assert!(metrics.text.contains("hostile"), "{case}: {}", metrics.text);
    server.stop();

    for answer in answers.iter().chain([&metrics]) {
        assert_eq!(canaries.find(&answer.text), None, "{case}: an answer: {}", answer.text);
    }
    for entry in fs::read_dir(server.path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            assert_eq!(canaries.find(&text), None, "{case}: in {}", path.display());
        }
    }
    check_records(case, &records(&server.read("json.log")), &ends);
    if case.stored {
        let database = fs::read(server.path("store.db")).unwrap();
        assert!(database.starts_with(b"SQLite format 3"), "{case}");
    }
    // People are told as well.
    let told = format!("hostile ({})", case.error);
    assert!(server.read("app.log").contains(&told), "{case}: no {told:?}");
}

/// The guide's log, and each record as JSON beside it.
fn config(case: &Case, model: &Model, cache: &Path) -> Config {
    let path = repository("tests/fixtures/components/hostile.wasm");
    // On a busy machine any deed may take 50 ms, and only one of them is meant to be caught by the clock.
    let deadline = if case.deed == "loop" { 50 } else { 5000 };
    // Completions run through the chain of their request.
    let store = if case.stored { "[store]\npath = \"store.db\"" } else { "" };
    let editors: &[&str] = if case.redacted { &["hostile", "redact"] } else { &["hostile"] };
    Config::default()
        .engine(&model.lines())
        .log(&format!("cache = {cache:?}\nresponse_deltas = true"))
        .edit(editors)
        .plugin("hostile", &format!("source = {path:?}\nconfig = {{ do = {:?} }}", case.deed))
        .plugin("hostile", &format!("limits = {{ memory_mib = 16, deadline_ms = {deadline} }}"))
        .file("app", "guide", "")
        .file("json", "json", "")
        .output("console", "sink = \"console\"\nformat = \"guide\"")
        .more(store)
}

/// Requests that fail in the engine, whole and as a stream.
fn fail(server: &Server, canaries: &Canaries) -> Vec<Answer> {
    // The model cannot bear this character.
    let text = format!("~ {}", canaries.text());
    let whole = server.chat(&text, &json!({"user": text}));
    assert_eq!(whole.status, 500, "{}", whole.text);
    let stream = server.chat(&text, &json!({"stream": true}));
    assert!(stream.text.contains("\"code\":\"internal\""), "{}", stream.text);
    vec![whole, stream]
}

/// Requests that are answered, rejected, and left by their clients; whole and as a stream. The answers are those whose text is
/// not the client's own.
fn answer(server: &Server, canaries: &Canaries, stored: bool) -> Vec<Answer> {
    let (text, path) = (canaries.text(), canaries.path());
    let mut answers = Vec::new();
    for stream in [false, true] {
        let mut more = json!({"stream": stream, "max_tokens": 40, "user": text, "stop": [text]});
        if stored {
            more["store"] = json!(true);
            more["metadata"] = json!({"owner": text});
        }
        let whole = server.chat(&text, &more);
        assert_eq!(whole.status, 200, "{}", whole.text);
        let rejected = server.chat(&text, &json!({"stream": stream, "model": "nobody"}));
        assert_eq!(rejected.status, 404, "{}", rejected.text);
        answers.extend([whole, rejected]);
        leave(server, &text, stream);
    }
    // What a client may say about itself.
    let headers = [("user-agent", path.as_str()), ("x-request-id", path.as_str())];
    let body = chat_body(&text, &json!({"max_tokens": 2}));
    let described = server.post_with(&format!("{CHAT}?to={path}"), &headers, &body);
    assert_eq!(described.status, 200, "{}", described.text);
    answers.push(described);
    assert_eq!(server.get(&path).status, 404);
    answers
}

/// A client that leaves before its answer is there, or in the middle of it.
fn leave(server: &Server, text: &str, stream: bool) {
    let (asked, left) = (count(server, "request.params"), count(server, "request.cancelled"));
    let mut connection = server.open(CHAT, &chat_body(text, &json!({"stream": stream})));
    if stream {
        read_until(&mut connection, "\"delta\":{\"content\":\"");
    } else {
        eventually("work", || (count(server, "request.params") > asked).then_some(()));
    }
    drop(connection);
    eventually("its end", || (count(server, "request.cancelled") > left).then_some(()));
}

/// How often an event is in the log by now.
fn count(server: &Server, event: &str) -> usize {
    let text = fs::read_to_string(server.path("json.log")).unwrap_or_default();
    text.matches(&format!("\"event_name\":\"{event}\"")).count()
}

/// That requests ended once and so often, that no record has content, and that stubs say why.
fn check_records(case: &Case, records: &[Value], ends: &[(&str, usize)]) {
    let mut found: Vec<&str> = Vec::new();
    for (id, records) in by_request(records) {
        let names = records.iter().filter_map(|it| it["event_name"].as_str());
        let terminal: Vec<&str> = names
            .filter_map(|it| record::event::TERMINAL.into_iter().find(|end| *end == it))
            .collect();
        assert_eq!(terminal.len(), 1, "{case}: {id}: {terminal:?}");
        found.extend(terminal);
    }
    for (event, times) in ends {
        let count = found.iter().filter(|it| *it == event).count();
        assert_eq!(count, *times, "{case}: {event} in {found:?}");
    }
    for record in records {
        let attributes = record["attributes"].as_object().unwrap();
        let content = attributes.iter().find(|(name, it)| it.is_string() && !is_metadata(name));
        assert_eq!(content, None, "{case}: {record}");
        if record["stub"] == true {
            let reason = &attributes["bucksaw.plugin.error"];
            assert_eq!(attributes["bucksaw.plugin"], "hostile", "{case}: {record}");
            assert!(*reason == case.error || *reason == "breaker_open", "{case}: {record}");
        }
    }
    assert!(records.iter().any(|it| it["stub"] == true), "{case}: no stub");
}
