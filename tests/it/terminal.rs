//! Exactly one terminal record a request, and no hole before it, however the request ends.

use std::{net::TcpStream, thread};

use serde_json::{Value, json};

use crate::support::{
    Config, Server, by_request, eventually,
    http::{chat_body, read_until},
    model::Model,
    records, terminals,
};

const CHAT: &str = "/v1/chat/completions";

/// The id of the request that was answered on a plain connection.
fn id_of(answer: &str) -> String {
    let (_, rest) = answer.split_once("x-bucksaw-request-id: ").unwrap();
    rest[..36].to_owned()
}

/// Waits until an event of a request is in the log.
fn logged(server: &Server, event: &str, times: usize) {
    let part = format!("\"event_name\":\"{event}\"");
    eventually(event, || {
        std::fs::read_to_string(server.path("json.log"))
            .ok()
            .filter(|it| it.matches(&part).count() >= times)
    });
}

/// Of each request in the log: its terminal record, its total and its summary, once each and at its end.
fn outcomes(server: &Server) -> Vec<(String, String)> {
    by_request(&records(&server.read("json.log")))
        .into_iter()
        .map(|(id, records)| {
            let terminal = terminals(&records);
            assert_eq!(terminal.len(), 1, "{records:#?}");
            let names: Vec<&str> =
                records.iter().filter_map(|it| it["event_name"].as_str()).collect();
            let [first, .., before, total, summary] = names.as_slice() else { panic!("{names:?}") };
            assert_eq!(*first, "request.received", "{names:?}");
            assert_eq!(
                [*before, *total, *summary],
                [terminal[0].as_str(), "request.total", "request.summary"]
            );
            let told = records.last().unwrap()["attributes"]["bucksaw.outcome"].as_str().unwrap();
            assert_eq!(terminal[0], format!("request.{told}"));
            (id, told.to_owned())
        })
        .collect()
}

fn outcome<'a>(outcomes: &'a [(String, String)], id: &str) -> &'a str {
    let found = outcomes.iter().find(|(it, _)| it == id);
    found.map_or("none", |(_, outcome)| outcome.as_str())
}

#[test]
fn success_rejection_and_failure_end_once() {
    let model = Model::faulty();
    let mut server = Server::start(&Config::json().engine(&model.lines()).log("level = \"DEBUG\""));
    let stream = json!({"stream": true});
    let table = [
        (server.chat("Hello!", &json!({})), 200, "finished"),
        (server.chat("Hello!", &stream), 200, "finished"),
        (server.chat("x", &json!({"model": "nobody"})), 404, "rejected"),
        (server.chat("x", &json!({"model": "nobody", "stream": true})), 404, "rejected"),
        (server.send("POST", CHAT, &[], b"{"), 400, "rejected"),
        (server.post("/vision", &json!({"prompt": "x", "image": "@"})), 400, "rejected"),
        (server.post("/vision", &json!({"prompt": "x", "adapter": "nobody"})), 404, "rejected"),
        (server.chat(&"word ".repeat(3000), &json!({})), 400, "rejected"),
        (server.chat("~", &json!({})), 500, "failed"),
        (server.post("/vision", &json!({"prompt": "~"})), 500, "failed"),
    ];
    // Inside a stream the status went out before the error was known.
    let late = server.chat("~", &stream);
    assert!(late.text.contains("\"code\":\"internal\""), "{}", late.text);
    assert!(!late.text.contains("[DONE]"), "{}", late.text);
    // These make no records.
    server.get("/v1/models");
    server.get("/nowhere");
    server.stop();

    let outcomes = outcomes(&server);
    assert_eq!(outcomes.len(), table.len() + 1, "{outcomes:?}");
    for (answer, status, expected) in &table {
        assert_eq!(answer.status, *status, "{}", answer.text);
        assert_eq!(outcome(&outcomes, &answer.id()), *expected, "{}", answer.text);
    }
    assert_eq!(outcome(&outcomes, &late.id()), "failed");
}

#[test]
fn a_client_that_leaves_is_told_from_one_that_was_answered() {
    let model = Model::endless();
    let mut server = Server::start(&Config::json().engine(&model.lines()));
    let long = |more: Value| server.open(CHAT, &chat_body("Hello!", &more));
    // In the middle of a stream.
    let mut stream = long(json!({"stream": true}));
    let streamed = id_of(&read_until(&mut stream, "\"delta\":{\"content\":\""));
    drop(stream);
    logged(&server, "request.cancelled", 1);
    // Before there is an answer.
    let whole: TcpStream = long(json!({}));
    logged(&server, "request.params", 2);
    drop(whole);
    logged(&server, "request.cancelled", 2);
    // Before there is a whole request.
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n{{\"messages\": [{{\"role\": \"us"
    );
    drop(server.open_raw(head.as_bytes()));
    logged(&server, "request.cancelled", 3);
    // Nobody's departure keeps the engine from the next one.
    let after = server.chat("Hello!", &json!({"max_tokens": 3}));
    assert_eq!(after.status, 200, "{}", after.text);
    server.stop();

    let outcomes = outcomes(&server);
    let count = |what: &str| outcomes.iter().filter(|(_, it)| it == what).count();
    assert_eq!((count("cancelled"), count("finished")), (3, 1), "{outcomes:?}");
    assert_eq!(outcome(&outcomes, &streamed), "cancelled");
    assert_eq!(outcome(&outcomes, &after.id()), "finished");
    let statuses: Vec<Value> = records(&server.read("json.log"))
        .iter()
        .filter(|it| it["event_name"] == "request.cancelled")
        .map(|it| it["attributes"]["http.response.status_code"].clone())
        .collect();
    assert_eq!(statuses[..2], [json!(200), json!(499)]);
}

#[test]
fn a_full_queue_rejects_and_says_when_to_come_back() {
    let model = Model::endless();
    let config = Config::json().engine(&model.lines()).engine("queue = 1");
    let mut server = Server::start(&config);
    let body = chat_body("Hello!", &json!({"max_tokens": 400}));
    let body = body.to_string();
    let answers: Vec<_> = thread::scope(|scope| {
        let ask = || server.send("POST", CHAT, &[], body.as_bytes());
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    server.stop();

    let outcomes = outcomes(&server);
    assert_eq!(outcomes.len(), answers.len());
    let (served, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.status == 200);
    assert!(!served.is_empty() && !refused.is_empty(), "{} served", served.len());
    assert!(served.iter().all(|it| outcome(&outcomes, &it.id()) == "finished"));
    for answer in refused {
        assert_eq!(answer.status, 429, "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.json()["error"]["code"], "queue_full");
        assert_eq!(outcome(&outcomes, &answer.id()), "rejected");
    }
}

#[test]
fn requests_in_flight_end_before_the_server_does() {
    let model = Model::endless();
    let mut server = Server::start(&Config::json().engine(&model.lines()));
    let mut stream =
        server.open(CHAT, &chat_body("Hello!", &json!({"stream": true, "max_tokens": 300})));
    let streamed = id_of(&read_until(&mut stream, "\"delta\":{\"content\":\""));
    let mut whole = server.open(CHAT, &chat_body("Hello!", &json!({"max_tokens": 300})));
    logged(&server, "request.params", 2);
    server.stop();

    // Both were answered to the end.
    read_until(&mut stream, "data: [DONE]");
    let answer = read_until(&mut whole, "\"finish_reason\":\"length\"");
    let outcomes = outcomes(&server);
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    assert_eq!(outcome(&outcomes, &streamed), "finished");
    assert_eq!(outcome(&outcomes, &id_of(&answer)), "finished");
}

#[test]
fn what_the_grace_period_cuts_off_is_logged_as_cut_off() {
    let model = Model::endless();
    let config = Config::json().engine(&model.lines()).server("grace_seconds = 1");
    let mut server = Server::start(&config);
    let mut stream = server.open(CHAT, &chat_body("Hello!", &json!({"stream": true})));
    read_until(&mut stream, "\"delta\":{\"content\":\"");
    let waiting: Vec<TcpStream> =
        (0..3).map(|_| server.open(CHAT, &chat_body("Hello!", &json!({})))).collect();
    logged(&server, "request.params", 4);
    server.stop();

    let outcomes = outcomes(&server);
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    let cut = outcomes.iter().filter(|(_, it)| it != "finished").count();
    assert!(cut >= 2, "two seconds of work each, and one second: {outcomes:?}");
    drop(waiting);
}
