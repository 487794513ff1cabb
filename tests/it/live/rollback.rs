//! A change whose editors fail is taken back by the server itself.

use std::fs;

use record::field::is_metadata;
use serde_json::{Value, json};

use super::{ADDRESS, REVISION, admin::Admin, revised};
use crate::support::{Config, Server, by_request, records, repository, terminals};

/// A word that no editor knows, in the request whose editors fail.
const WORD: &str = "umbrella";

#[test]
fn a_change_that_traps_is_taken_back() {
    let admin = Admin::new();
    let good = Config::json()
        .edit(&["redact"])
        .log("watch = false\nrollback_after = 3")
        .more(&admin.lines());
    let path = repository("tests/fixtures/components/hostile.wasm");
    let bad = good
        .clone()
        .edit(&["redact", "hostile"])
        .plugin("hostile", &format!("source = {path:?}\nconfig = {{ do = \"trap\" }}"));
    let mut server = Server::start(&good);
    // Of each request, four records hold text: the arrival, the prompt, the answer, and the model's name in the summary.
    let ask = |text: &str| {
        let more = json!({"model": "demo", "max_tokens": 8});
        let answer = server.chat(&format!("{text} {ADDRESS}"), &more);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.id()
    };
    let before = ask("one");
    server.configure(&bad.text());
    assert_eq!(admin.reload(), 2);
    let failed = ask(WORD);
    server.reaches(REVISION, 3);
    let after = ask("three");
    assert_eq!(server.metric(REVISION), 3);
    assert_eq!(server.metric("bucksaw_log_rollbacks_total"), 1);
    assert_eq!(server.metric("bucksaw_log_revisions_installed_total"), 1);
    server.stop();

    let records = records(&server.read("json.log"));
    let change = |number: u64, before: u64, reason: &str| (number, before, reason.to_owned());
    let changes = [change(2, 1, "installed"), change(3, 2, "automatic_rollback")];
    assert_eq!(revised(&records), changes);
    let back = records.iter().find(|it| it["attributes"]["bucksaw.revision"] == 3).unwrap();
    assert_eq!(back["event_name"], "chain.revised");
    assert_eq!(back["severity_text"], "ERROR");
    assert!(records.iter().any(|it| it["event_name"] == "plugin.trapped"));

    // The request that was hit has all of its records without their texts, and ends on the revision that it began with.
    let requests = by_request(&records);
    assert_eq!(terminals(&requests[&failed]), ["request.finished"]);
    let mut stubs = Vec::new();
    for it in &requests[&failed] {
        assert_eq!(it["revision"], 2, "{it}");
        let attributes = it["attributes"].as_object().unwrap();
        let text = attributes.iter().find(|(name, it)| it.is_string() && !is_metadata(name));
        assert_eq!(text, None, "{it}");
        if it["stub"] == true {
            assert_eq!(attributes["bucksaw.plugin"], "hostile", "{it}");
            stubs.push(it["event_name"].as_str().unwrap());
        }
    }
    for event in ["request.received", "request.prompt", "response.content", "request.summary"] {
        assert!(stubs.contains(&event), "{event}: {stubs:?}");
    }
    for (id, revision, text) in [(before, 1, "one [EMAIL]"), (after, 3, "three [EMAIL]")] {
        let records = &requests[&id];
        assert!(records.iter().all(|it| it["revision"] == revision && it.get("stub").is_none()));
        let prompt = |it: &Value| it["attributes"]["bucksaw.prompt.text"] == text;
        assert!(records.iter().any(prompt), "{records:#?}");
    }
    for entry in fs::read_dir(server.path("")).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        for secret in [ADDRESS, WORD] {
            assert!(!text.contains(secret), "{secret} is in {}", path.display());
        }
    }
}
