//! The alert plugin: what it posts, how often, and that no content goes with it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Config, Server, model::Model, repository};

const CANARY: &str = "kim.minsu@example.com";

/// A webhook on this machine. It takes what is posted for as long as the tests run.
struct Webhook {
    url: String,
    posts: Receiver<String>,
}

impl Webhook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook/s3cret", listener.local_addr().unwrap());
        let (sender, posts) = channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if let Some(it) = line.to_lowercase().strip_prefix("content-length:") {
                        length = it.trim().parse().unwrap();
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                reader.get_mut().write_all(answer).unwrap();
                if sender.send(String::from_utf8(body).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { url, posts }
    }

    /// The next post, and that it holds nothing of what a person wrote.
    fn next(&self) -> Value {
        let body = self.posts.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(!body.contains(CANARY) && !body.contains("hush"), "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn config(&self, rules: &str) -> Config {
        let url = &self.url;
        Config::json()
            .handle("alert")
            .plugin("alert", &format!("config = {{ channel = \"ops\", rules = [{rules}] }}"))
            .plugin("alert", "grants = { alert = [\"ops\"] }")
            .more(&format!("[alerts.ops]\nwebhook = {url:?}\nwindow_seconds = 3600"))
    }
}

#[test]
fn failures_are_posted_once_and_counted() {
    let (hook, model) = (Webhook::start(), Model::faulty());
    let rules = "{ name = \"failures\", when = { events = [\"request.failed\"] }, title = \"{event}: {error}\" }, \
                 { name = \"refusals\", when = { events = [\"request.rejected\"] }, title = \"{status}\" }";
    let mut server = Server::start(&hook.config(rules).engine(&model.lines()));
    server.chat("Hello!", &json!({"max_tokens": 1}));
    let failed = server.chat(&format!("~ hush {CANARY}"), &json!({}));
    assert_eq!(failed.status, 500, "{}", failed.text);
    let first = hook.next();
    assert_eq!(first["source"], "bucksaw");
    assert_eq!(first["channel"], "ops");
    assert_eq!(first["severity"], "ERROR");
    assert_eq!(first["title"], "request.failed: internal");
    assert_eq!(first["count"], 1);
    let body = first["body"].as_str().unwrap();
    assert!(body.contains(&format!("request: {}\n", failed.id())), "{body}");
    assert!(body.contains("error: internal\nstatus: 500\n"), "{body}");

    // Another rule, another key.
    assert_eq!(server.chat("hush", &json!({"model": CANARY})).status, 404);
    assert_eq!(hook.next()["title"], "404");

    // The same again: held back while the window is open, and told when the server ends.
    for _ in 0..3 {
        assert_eq!(server.chat("~ hush", &json!({})).status, 500);
    }
    server.stop();
    let held = hook.next();
    assert_eq!((&held["title"], &held["count"]), (&json!("request.failed: internal"), &json!(3)));
    assert!(hook.posts.try_recv().is_err());
    // The address may hold a secret.
    let said = server.stderr() + &server.read("json.log");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn a_plugin_that_fails_is_worth_an_alert() {
    let hook = Webhook::start();
    let path = repository("tests/fixtures/components/hostile.wasm");
    // Without rules: everything from ERROR on.
    let config = hook
        .config("")
        .edit(&["hostile"])
        .plugin("hostile", &format!("source = {path:?}\nconfig = {{ do = \"trap\" }}"));
    let mut server = Server::start(&config);
    assert_eq!(server.chat(&format!("hush {CANARY}"), &json!({"max_tokens": 1})).status, 200);
    let post = hook.next();
    assert_eq!(post["title"], "ERROR plugin.trapped trap");
    let body = post["body"].as_str().unwrap();
    assert!(body.contains("plugin: hostile\nplugin error: trap\n"), "{body}");
    server.stop();
}

#[test]
fn a_webhook_that_is_not_there_costs_nothing_but_the_alert() {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mut hook, model) = (Webhook::start(), Model::faulty());
    hook.url = format!("http://{nowhere}/");
    let mut server = Server::start(&hook.config("").engine(&model.lines()));
    assert_eq!(server.chat("~", &json!({})).status, 500);
    assert_eq!(server.chat("Hello!", &json!({"max_tokens": 1})).status, 200);
    server.stop();
    let log = server.read("json.log");
    assert_eq!(log.matches("request.failed").count(), 1, "{log}");
    assert_eq!(log.matches("plugin.trapped").count(), 0, "{log}");
}
