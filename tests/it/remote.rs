//! Pictures that are elsewhere: only from hosts that the operator named, and never from an address inside.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
};

use serde_json::{Value, json};

use crate::support::{Config, Server, by_request, http::Answer, records, terminals};

const PARAM: &str = "messages[0].content[0].image_url.url";

/// A port of this machine where somebody listens, and the listeners: of both families, if there are two.
fn inside() -> (u16, Vec<TcpListener>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
    let listeners: Vec<_> = std::iter::once(listener).chain(other).collect();
    for it in &listeners {
        it.set_nonblocking(true).unwrap();
    }
    (port, listeners)
}

fn ask(server: &Server, url: &str) -> Answer {
    let content = json!([
        {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"},
    ]);
    let message = json!({"role": "user", "content": content});
    server.post("/v1/chat/completions", &json!({"messages": [message], "max_tokens": 2}))
}

fn check(answer: &Answer, code: &str, part: &str) {
    assert_eq!(answer.status, 400, "{}", answer.text);
    let error = &answer.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(PARAM)), "{error}");
    assert!(error["message"].as_str().unwrap().contains(part), "{error}");
}

#[test]
fn only_named_hosts_are_asked_and_none_that_is_inside() {
    let (port, listeners) = inside();
    let config = Config::json().server("image_hosts = [\"images.example.com\", \"localhost\"]");
    let mut server = Server::start(&config);
    let secret = "token-7f3a";
    let other = ask(&server, &format!("http://127.0.0.1:{port}/a.png?key={secret}"));
    check(&other, "image_remote", "not fetched from this host");
    let disguised = ask(&server, &format!("http://images.example.com@127.0.0.1:{port}/a.png"));
    check(&disguised, "image_remote", "");
    let file = ask(&server, "file:///etc/passwd");
    check(&file, "image_remote", "");
    let named = ask(&server, &format!("http://localhost:{port}/a.png?key={secret}"));
    check(&named, "image_not_fetched", "no public address");
    server.stop();

    for it in &listeners {
        let nobody = it.accept().err().map(|it| it.kind());
        assert_eq!(nobody, Some(ErrorKind::WouldBlock), "somebody connected");
    }
    let log = server.read("json.log");
    let requests = by_request(&records(&log));
    assert_eq!(requests.len(), 4);
    for (answer, code) in [
        (&other, "image_remote"),
        (&disguised, "image_remote"),
        (&file, "image_remote"),
        (&named, "image_not_fetched"),
    ] {
        let records: &Vec<Value> = &requests[&answer.id()];
        assert_eq!(terminals(records), ["request.rejected"], "{records:#?}");
        let rejected = records.iter().find(|it| it["event_name"] == "request.rejected").unwrap();
        assert_eq!(rejected["attributes"]["error.type"], code, "{rejected}");
    }
    // An address may hold a key.
    assert!(!log.contains(secret), "{log}");
}
