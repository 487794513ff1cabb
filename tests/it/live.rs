//! Changing the log of a running server: what is taken over, what is refused, and what each request sees of it.
//!
//! # Layout
//! - [`admin`]: by an operator; [`levels`]: who sees more. [`flight`]: while requests are under way. [`rollback`]: and back by itself.
//! - [`selection`]: routes follow, and the floor stays. [`cache`]: compiled components outlive the server.

mod admin;
mod cache;
mod flight;
mod levels;
mod rollback;
mod selection;

use std::{
    collections::BTreeSet,
    fs, iter,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Config, Server, by_request, eventually, records, repository};

const ADDRESS: &str = "kim.minsu@example.com";
/// The number of the revision in force.
const REVISION: &str = "bucksaw_log_revision";
const REFUSALS: &str = "bucksaw_log_refusals_total";

/// A built component of the project.
fn component(path: &str) -> Vec<u8> {
    fs::read(repository(path)).unwrap()
}

/// The prompts in a file of JSON, in order, once each.
fn prompts(server: &Server, file: &str) -> Vec<String> {
    records(&server.read(file))
        .iter()
        .filter(|it| it["event_name"] == "request.prompt" && it["severity_text"] == "INFO")
        .map(|it| it["attributes"]["bucksaw.prompt.text"].as_str().unwrap().to_owned())
        .collect()
}

/// What was said of each change that was refused, in order.
fn refused(server: &Server, file: &str) -> Vec<String> {
    records(&server.read(file))
        .iter()
        .filter(|it| it["event_name"] == "chain.refused")
        .map(|it| it["attributes"]["bucksaw.notice"].as_str().unwrap().to_owned())
        .collect()
}

/// Revision, the one before, and why, of each change that was made, in order.
fn revised(records: &[Value]) -> Vec<(u64, u64, String)> {
    let number = |it: &Value| it.as_u64().unwrap();
    records
        .iter()
        .map(|it| &it["attributes"])
        .filter(|it| it["bucksaw.revision.reason"].is_string())
        .map(|it| {
            let reason = it["bucksaw.revision.reason"].as_str().unwrap().to_owned();
            (number(&it["bucksaw.revision"]), number(&it["bucksaw.revision.previous"]), reason)
        })
        .collect()
}

#[test]
fn an_edited_file_changes_what_the_next_request_writes() {
    let config = |edit: &[&str], format: &str, level: &str| {
        Config::default().edit(edit).file("app", format, "").log(&format!("level = {level:?}"))
    };
    let mut server = Server::start(&config(&["redact"], "guide", "INFO"));
    let prompt = format!("mail {ADDRESS}");
    let ask = || server.chat(&prompt, &json!({"max_tokens": 1})).id();
    let changes =
        [config(&[], "guide", "INFO"), config(&[], "json", "INFO"), config(&[], "json", "DEBUG")];
    let first = ask();
    let others = (2..).zip(&changes).map(|(revision, it)| {
        server.configure(&it.text());
        server.reaches(REVISION, revision);
        ask()
    });
    let ids: Vec<String> = iter::once(first).chain(others).collect();
    server.stop();
    let [redacted, raw, json, debug] = ids.as_slice() else { panic!("{ids:?}") };

    // One file, in which the format changes.
    let text = server.read("app.log");
    let (objects, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|it| it.starts_with('{'));
    let guide = |id: &str| -> String {
        let mark = format!("[{}] ", &id[..8]);
        lines.iter().filter(|it| it.contains(&mark)).copied().collect()
    };
    assert!(guide(redacted).contains("mail [EMAIL]"), "{text}");
    assert!(!guide(redacted).contains(ADDRESS), "{text}");
    assert!(guide(raw).contains(&prompt), "{text}");
    assert!(guide(json).is_empty() && guide(debug).is_empty(), "{text}");

    let records = records(&objects.join("\n"));
    let requests = by_request(&records);
    let levels = |id: &str| -> BTreeSet<&str> {
        requests[id].iter().filter_map(|it| it["severity_text"].as_str()).collect()
    };
    assert_eq!(levels(json), BTreeSet::from(["INFO"]));
    assert_eq!(levels(debug), BTreeSet::from(["DEBUG", "INFO"]));
    let said = |id: &str| {
        requests[id].iter().any(|it| it["attributes"]["bucksaw.prompt.text"] == prompt.as_str())
    };
    assert!(said(json) && said(debug), "{text}");
    // Each change is told by the chain that it brought: the first one by the guide.
    let installed = |number: u64, previous: u64| (number, previous, "installed".to_owned());
    assert_eq!(revised(&records), [installed(3, 2), installed(4, 3)]);
    assert!(lines.iter().any(|it| it.contains("revision 2 of the log is in force")), "{text}");
}

#[test]
fn a_change_with_problems_changes_nothing_and_says_where_they_are() {
    let wanted = Config::json().edit(&["redact"]);
    let own = |source: &str| wanted.clone().plugin("own", &format!("source = {source:?}")).text();
    let table = [
        (wanted.clone().log("levl = \"DEBUG\"").text(), "log.levl: unknown key"),
        (own("nowhere.wasm"), "plugins.own.source: nowhere.wasm cannot be read: "),
        (own("core.wasm"), "plugins.own.source: it is a core WebAssembly module"),
        (
            Config::json().edit(&["json"]).text(),
            "chains.default.edit[0]: \"json\" is a plugin of the role formatter",
        ),
        ("x = ".to_owned(), "line 1, column "),
    ];
    let mut server = Server::start(&Config::json());
    server.replace("core.wasm", b"\0asm\x01\0\0\0");
    let ask = || assert_eq!(server.chat(ADDRESS, &json!({"max_tokens": 1})).status, 200);
    for (number, (text, _)) in (1..).zip(&table) {
        server.configure(text);
        server.reaches(REFUSALS, number);
        assert_eq!(server.metric(REVISION), 1, "{text}");
        ask();
    }
    // Repaired.
    server.configure(&wanted.text());
    server.reaches(REVISION, 2);
    ask();
    server.stop();

    let told = refused(&server, "json.log");
    assert_eq!(told.len(), table.len(), "{told:#?}");
    for (notice, (_, problem)) in told.iter().zip(&table) {
        let expected = format!("the log was not changed: {problem}");
        assert!(notice.starts_with(&expected), "{notice}");
    }
    let mut expected = vec![ADDRESS; table.len()];
    expected.push("[EMAIL]");
    assert_eq!(prompts(&server, "json.log"), expected);
}

/// What the component beside it is expected to do.
const FIXTURE: &str = r#"{"name": "an address", "record": {"message": "to a@b.example"}, "expect": {"message": "to [EMAIL]"}}"#;

#[test]
fn a_component_is_taken_over_in_a_new_form_if_its_fixtures_agree() {
    let redact = component("plugins/components/redact.wasm");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("own.wasm"), &redact).unwrap();
    let config = Config::json().edit(&["own"]).plugin("own", "source = \"own.wasm\"");
    let mut server = Server::start_in(folder, &config, &[]);
    let prompt = format!("{ADDRESS} {}", "x".repeat(200));
    let ask = || assert_eq!(server.chat(&prompt, &json!({"max_tokens": 1})).status, 200);
    ask();
    server.replace("own.wasm", &component("plugins/components/truncate.wasm"));
    server.reaches(REVISION, 2);
    ask();
    server.replace("own.fixtures.jsonl", FIXTURE.as_bytes());
    server.replace("own.wasm", &component("tests/fixtures/components/hostile.wasm"));
    server.reaches(REFUSALS, 1);
    assert_eq!(server.metric(REVISION), 2);
    ask();
    server.replace("own.wasm", &redact);
    server.reaches(REVISION, 3);
    ask();
    server.stop();

    let redacted = format!("[EMAIL] {}", "x".repeat(200));
    let cut = format!("{ADDRESS} {}…(+122자)", "x".repeat(78));
    let expected = [&redacted, &cut, &cut, &redacted].map(String::as_str);
    assert_eq!(prompts(&server, "json.log"), expected);
    let told = refused(&server, "json.log");
    let [notice] = told.as_slice() else { panic!("{told:#?}") };
    assert!(notice.contains("plugins.own.source: its fixture \"an address\" ("), "{notice}");
    assert!(!notice.contains("a@b.example"), "{notice}");
}

#[test]
fn a_component_that_was_missing_is_taken_over_when_it_is_there() {
    let mut server = Server::start(&Config::json());
    let config = Config::json().edit(&["own"]).plugin("own", "source = \"own.wasm\"");
    server.configure(&config.text());
    server.reaches(REFUSALS, 1);
    server.replace("own.wasm", &component("plugins/components/redact.wasm"));
    server.reaches(REVISION, 2);
    server.chat(ADDRESS, &json!({"max_tokens": 1}));
    server.stop();
    assert_eq!(prompts(&server, "json.log"), ["[EMAIL]"]);
}

/// As a deployment that renames whole folders does it.
#[test]
fn a_folder_is_followed_when_another_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, component_path: &str| {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("own.wasm"), component(component_path)).unwrap();
    };
    put("plugins", "plugins/components/truncate.wasm");
    put("second", "plugins/components/redact.wasm");
    put("third", "tests/fixtures/components/hostile.wasm");
    let config = Config::json().edit(&["own"]).plugin("own", "source = \"plugins/own.wasm\"");
    let mut server = Server::start_in(folder, &config, &[]);
    let turn = |next: &str| {
        fs::rename(server.path("plugins"), server.path(&format!("before-{next}"))).unwrap();
        fs::rename(server.path(next), server.path("plugins")).unwrap();
    };
    turn("second");
    server.reaches(REVISION, 2);
    turn("third");
    server.reaches(REVISION, 3);
    // Gone for a while: nothing can be read, and what is in force stays.
    fs::rename(server.path("plugins"), server.path("away")).unwrap();
    server.reaches(REFUSALS, 1);
    fs::rename(server.path("before-third"), server.path("plugins")).unwrap();
    server.reaches(REVISION, 4);
    server.chat(ADDRESS, &json!({"max_tokens": 1}));
    server.stop();
    assert_eq!(prompts(&server, "json.log"), ["[EMAIL]"]);
}

/// How often a file is written in a burst.
const WRITES: usize = 20;
/// On a machine on which a burst has longer pauses than files must be quiet for (300 ms), or lasts longer than a change waits for
/// that (3 s), nothing is said of it.
const PAUSE_MAX: Duration = Duration::from_millis(200);
const BURST_MAX: Duration = Duration::from_secs(2);
const TRIES: usize = 10;

#[test]
fn a_burst_of_writes_is_one_change_and_the_last_one_counts() {
    let config = |by: &str| {
        Config::json().plugin("json", &format!("config = {{ resource = {{ by = {by:?} }} }}"))
    };
    let last = format!("write {WRITES}");
    let burst = || {
        let mut server = Server::start(&config("first"));
        let ask = || assert_eq!(server.chat("hello", &json!({"max_tokens": 1})).status, 200);
        let start = Instant::now();
        let (mut written, mut pause) = (start, Duration::ZERO);
        for number in 1..=WRITES {
            server.configure(&config(&format!("write {number}")).text());
            pause = pause.max(written.elapsed());
            written = Instant::now();
            // Time for whoever does not wait.
            ask();
        }
        if pause > PAUSE_MAX || start.elapsed() > BURST_MAX {
            return None;
        }
        eventually("the last write", || {
            ask();
            server.read("json.log").contains(&format!("{last:?}")).then_some(())
        });
        server.stop();
        Some(server)
    };
    let server = (0..TRIES).find_map(|_| burst()).expect("a machine with time for a burst");
    let records = records(&server.read("json.log"));
    let changes = revised(&records);
    // A look that was due just when the burst began may have seen its beginning.
    assert!((1..=2).contains(&changes.len()), "{changes:?}");
    let by = |it: &Value| it["resource"]["by"].as_str().unwrap_or_default().to_owned();
    assert_eq!(records.last().map(by), Some(last));
}

/// Reading files is no change of them: a look at the configuration is not followed by another one.
#[test]
fn a_change_is_looked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let config = Config::json().log(&format!("cache = {cache:?}"));
    let mut server = Server::start(&config);
    // Each look at it loads one component before it finds the formatter among the editors.
    server.configure(&config.clone().edit(&["json"]).plugin("truncate", "").text());
    server.reaches(REFUSALS, 1);
    let looks = || {
        server.metric("bucksaw_plugin_cache_hits_total")
            + server.metric("bucksaw_plugin_cache_misses_total")
    };
    let before = looks();
    // Work that takes longer than files must be quiet.
    for _ in 0..200 {
        assert_eq!(server.chat("Hello!", &json!({"max_tokens": 8})).status, 200);
    }
    assert_eq!(looks(), before);
    server.stop();
}
