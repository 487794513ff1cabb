//! Signals: an orderly end under load, and log files that others rotate.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::json;

use crate::support::{Config, Server, by_request, eventually, http::chat_body, records, terminals};

const CHAT: &str = "/v1/chat/completions";
/// Far more than are served before the server has ended.
const REQUESTS_MAX: usize = 5_000;

#[test]
fn under_load_every_answer_has_its_records() {
    let config = Config::json().file("guide", "guide", "").edit(&["redact"]);
    let mut server = Server::start(&config);
    let body = chat_body("Hello!", &json!({"max_tokens": 4})).to_string();
    let answered = AtomicUsize::new(0);
    let ids: Vec<(String, u16)> = thread::scope(|scope| {
        let ask = || {
            let mut ids = Vec::new();
            for _ in 0..REQUESTS_MAX {
                let Some(answer) = server.try_send("POST", CHAT, &[], body.as_bytes()) else {
                    break;
                };
                ids.push((answer.id(), answer.status));
                answered.fetch_add(1, Ordering::Relaxed);
            }
            ids
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        eventually("some load", || (answered.load(Ordering::Relaxed) >= 200).then_some(()));
        server.signal("TERM");
        threads.into_iter().flat_map(|it| it.join().unwrap()).collect()
    });
    server.wait();

    let known = by_request(&records(&server.read("json.log")));
    for (id, status) in &ids {
        let records = known.get(id).unwrap_or_else(|| panic!("{id} ({status}) is not in the log"));
        let expected = if *status == 200 { "request.finished" } else { "request.rejected" };
        assert_eq!(terminals(records), [expected], "{status}: {records:#?}");
    }
    // A request whose answer was lost on its way has its records too.
    assert!(known.values().all(|it| terminals(it).len() == 1));
    let unique: BTreeSet<&String> = ids.iter().map(|(id, _)| id).collect();
    assert_eq!(unique.len(), ids.len());
    // Both outputs of the chain agree.
    let guide = server.read("guide.log");
    assert_eq!(guide.matches(" 총 소요 시간: ").count(), known.len());
}

/// A line of a file, as soon as it is there.
fn appears(server: &Server, file: &str, part: &str) {
    eventually(part, || fs::read_to_string(server.path(file)).ok().filter(|it| it.contains(part)));
}

#[test]
fn a_file_that_is_renamed_is_opened_anew() {
    let mut server = Server::start(&Config::default().file("app", "guide", ""));
    let ask = || {
        let answer = server.chat("Hello!", &json!({"max_tokens": 1}));
        format!("[{}] 총 소요 시간: ", &answer.id()[..8])
    };
    let one = ask();
    appears(&server, "app.log", &one);
    // By rotation alone: the next line goes to the new file.
    fs::rename(server.path("app.log"), server.path("app.log.1")).unwrap();
    let two = ask();
    appears(&server, "app.log", &two);
    // By a signal: the file is there before there is a line for it, as logrotate's users expect.
    fs::rename(server.path("app.log"), server.path("app.log.2")).unwrap();
    server.signal("HUP");
    eventually("a new file", || server.path("app.log").exists().then_some(()));
    let three = ask();
    appears(&server, "app.log", &three);
    // Removed, as some do.
    fs::remove_file(server.path("app.log")).unwrap();
    let four = ask();
    appears(&server, "app.log", &four);
    server.stop();

    let (last, first, second) =
        (server.read("app.log"), server.read("app.log.1"), server.read("app.log.2"));
    assert!(first.contains(&one) && !first.contains(&two), "{first}");
    assert!(second.contains(&two) && !second.contains(&three), "{second}");
    assert!(last.contains(&four) && !last.contains(&three), "{last}");
    // No line was torn: each file begins with a whole one and ends with a line end.
    for text in [first, second, last] {
        assert!(text.starts_with("20") && text.ends_with('\n'), "{text}");
    }
}

#[test]
fn a_second_start_goes_on_where_the_first_one_ended() {
    let mut first = Server::start(&Config::json());
    first.stop();
    let path = first.path("json.log");
    let shared = format!("sink = \"file\"\npath = {path:?}\nformat = \"json\"");
    let mut second = Server::start(&Config::default().output("json", &shared));
    second.stop();
    let records = records(&first.read("json.log"));
    let count = |event: &str| records.iter().filter(|it| it["event_name"] == event).count();
    assert_eq!(count("server.stopped"), 2);
    // One for the address, one for the GPUs.
    assert_eq!(count("server.started"), 4);
}
