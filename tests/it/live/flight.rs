//! Changes while requests are under way: each request keeps the revision that it began with, and nothing of it is lost.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use serde_json::{Value, json};

use super::{REVISION, admin::Admin};
use crate::support::{
    Config, Server, by_request, eventually,
    http::{chat_body, read_until},
    model::Model,
    records, terminals,
};

const CHAT: &str = "/v1/chat/completions";
const LIVE: &str = "bucksaw_log_revisions_live";
/// Answers that go on for some seconds each, one after the other: what comes behind them has not begun when the log is changed.
const HELD: usize = 6;

/// Waits until so many requests have told their parameters; then they wait for the engine.
fn begun(server: &Server, requests: usize) {
    eventually("requests", || {
        let text = fs::read_to_string(server.path("json.log")).ok()?;
        let count = text.matches("\"event_name\":\"request.params\"").count();
        (count == requests).then_some(())
    });
}

#[test]
fn a_request_keeps_the_revision_that_it_began_with() {
    let model = Model::endless();
    let config = |by: &str| {
        let lines = format!("config = {{ resource = {{ by = {by:?} }} }}");
        // One after the other, so that those who come later wait.
        let engine = format!("{}\nmax_num_seqs = 1", model.lines());
        Config::json().engine(&engine).plugin("json", &lines)
    };
    let mut server = Server::start(&config("first"));
    let stream = |text: &str, more: &Value| server.open(CHAT, &chat_body(text, more));
    let (endless, short) = (json!({"stream": true}), json!({"stream": true, "max_tokens": 5}));
    let held: Vec<TcpStream> = (0..HELD).map(|_| stream("Hello!", &endless)).collect();
    begun(&server, HELD);
    let mut before = stream("before", &short);
    begun(&server, HELD + 1);
    server.configure(&config("second").text());
    server.reaches(REVISION, 2);
    assert_eq!(server.metric(LIVE), 2);
    let mut after = stream("after", &short);
    begun(&server, HELD + 2);
    // Now they get their turn.
    drop(held);
    read_until(&mut before, "data: [DONE]");
    read_until(&mut after, "data: [DONE]");
    // Nobody holds the first one any more.
    server.reaches(LIVE, 1);
    server.stop();

    let records = records(&server.read("json.log"));
    let requests = by_request(&records);
    let of = |prompt: &str| -> &[Value] {
        let found = requests.values().find(|records| {
            records.iter().any(|it| it["attributes"]["bucksaw.prompt.text"] == prompt)
        });
        found.unwrap_or_else(|| panic!("no request {prompt:?}"))
    };
    for (prompt, by, revision) in [("before", "first", 1), ("after", "second", 2)] {
        assert_eq!(terminals(of(prompt)), ["request.finished"]);
        for it in of(prompt) {
            assert_eq!(it["resource"]["by"], by, "{it}");
            assert_eq!(it["revision"], revision, "{it}");
        }
    }
    // The earlier one was under way when the log was changed.
    let changed = records.iter().position(|it| it["event_name"] == "chain.revised").unwrap();
    let ended = of("before").last().unwrap();
    let ended = records.iter().position(|it| it == ended).unwrap();
    assert!(changed < ended, "{changed} {ended}");
}

const THREADS: usize = 4;
/// At least so many requests by each thread, and at most so many while the changes take their time.
const REQUESTS: std::ops::Range<usize> = 50..2_000;
const CHANGES: usize = 20;
/// Answers between two changes.
const BETWEEN: usize = 10;

#[test]
fn changes_under_load_lose_nothing() {
    let admin = Admin::new();
    let config = |format: &str| {
        Config::default()
            .plugin("flat", "source = \"builtin:json\"\nconfig = { flatten = true }")
            .plugin("json", "")
            .file("app", format, "")
            .log("watch = false")
            .more(&admin.lines())
    };
    let mut server = Server::start(&config("json"));
    let body = chat_body("Hello!", &json!({"max_tokens": 2})).to_string();
    let (answered, changed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ids: Vec<String> = thread::scope(|scope| {
        let ask = || {
            let mut ids = Vec::new();
            while ids.len() < REQUESTS.start || (!changed.load(Relaxed) && ids.len() < REQUESTS.end)
            {
                let answer = server.send("POST", CHAT, &[], body.as_bytes());
                assert_eq!(answer.status, 200, "{}", answer.text);
                ids.push(answer.id());
                answered.fetch_add(1, Relaxed);
            }
            ids
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        for change in 1..=CHANGES {
            eventually("some load", || (answered.load(Relaxed) >= change * BETWEEN).then_some(()));
            // Odd revisions write attributes in an object of their own, even ones don't.
            let format = if change % 2 == 1 { "flat" } else { "json" };
            server.configure(&config(format).text());
            assert_eq!(admin.reload(), change as u64 + 1);
        }
        changed.store(true, Relaxed);
        threads.into_iter().flat_map(|it| it.join().unwrap()).collect()
    });
    server.stop();

    let records = records(&server.read("app.log"));
    let requests = by_request(&records);
    assert!(ids.len() >= THREADS * REQUESTS.start, "{}", ids.len());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>(), requests.keys().collect());
    let mut revisions = BTreeSet::new();
    for (id, records) in &requests {
        assert_eq!(terminals(records), ["request.finished"], "{id}");
        assert_eq!(records.last().unwrap()["event_name"], "request.summary", "{id}");
        let revision = records[0]["revision"].as_u64().unwrap();
        revisions.insert(revision);
        for it in records {
            assert_eq!(it["revision"], revision, "{it}");
            assert_eq!(it.get("attributes").is_some(), revision % 2 == 1, "{it}");
        }
    }
    assert!(revisions.len() > CHANGES / 2, "{revisions:?}");
    let told = records.iter().filter(|it| it["event_name"] == "chain.revised").count();
    assert_eq!(told, CHANGES);
}
