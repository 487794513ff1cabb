//! A handler that makes requests: to hosts that are granted, of what was released, and beside the log.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::support::{Config, Server, eventually, program, repository};

const CANARY: &str = "kim.minsu@example.com";

/// A server that takes posts; to `/never` it gives no answer.
struct Endpoint {
    address: String,
    posts: Receiver<(String, String)>,
}

impl Endpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, posts) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || {
                    let (path, body, mut stream) = read(stream);
                    let never = path == "/never";
                    // The test may have ended.
                    let _ = sender.send((path, body));
                    if never {
                        // Until the other side gives up.
                        let _ = stream.read(&mut [0]);
                    } else {
                        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                        let _ = stream.write_all(answer);
                    }
                });
            }
        });
        Self { address, posts }
    }

    /// The next post to a path.
    fn next(&self, wanted: &str) -> String {
        loop {
            let (path, body) = self.posts.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(!body.contains(CANARY), "{body}");
            if path == wanted {
                return body;
            }
        }
    }

    fn config(&self, config: &str) -> Config {
        let path = repository("tests/fixtures/components/caller.wasm");
        let address = &self.address;
        Config::json()
            .edit(&["redact"])
            .handle("caller")
            .plugin("caller", &format!("source = {path:?}\nconfig = {{ {config} }}"))
            .plugin("caller", &format!("grants = {{ http = [{address:?}] }}"))
    }
}

fn read(stream: TcpStream) -> (String, String, TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
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
    let path = first.split(' ').nth(1).unwrap().to_owned();
    (path, String::from_utf8(body).unwrap(), reader.into_inner())
}

#[test]
fn what_was_released_is_sent_and_no_secret() {
    let endpoint = Endpoint::start();
    let config = endpoint.config(&format!("url = \"http://{}/ok\"", endpoint.address));
    let mut server = Server::start(&config);
    let answer = server.chat(&format!("write to {CANARY}, please"), &json!({"max_tokens": 1}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let prompt = loop {
        let body = endpoint.next("/ok");
        if body.starts_with("request.prompt ") {
            break body;
        }
    };
    assert!(prompt.contains("write to [EMAIL], please"), "{prompt}");
    server.stop();
    assert!(!server.read("json.log").contains("plugin.denied"), "{}", server.read("json.log"));
}

#[test]
fn an_ungranted_host_is_refused_counted_and_told() {
    let (endpoint, other) = (Endpoint::start(), TcpListener::bind("127.0.0.1:0").unwrap());
    other.set_nonblocking(true).unwrap();
    let elsewhere = other.local_addr().unwrap();
    let config = endpoint.config(&format!(
        "url = \"http://{elsewhere}/s3cret\", report = \"http://{}/report\"",
        endpoint.address
    ));
    let mut server = Server::start(&config);
    assert_eq!(server.chat("hush", &json!({"max_tokens": 1})).status, 200);
    assert_eq!(endpoint.next("/report"), "Denied");
    let series = "bucksaw_plugin_denials_total{chain=\"default\",plugin=\"caller\",role=\"handler\",what=\"http_host\"}";
    eventually("the denial to be counted", || {
        server.get("/metrics").text.contains(series).then_some(())
    });
    server.stop();
    assert_eq!(other.accept().map(|_| ()).unwrap_err().kind(), ErrorKind::WouldBlock);
    let log = server.read("json.log");
    assert!(log.contains("plugin.denied") && log.contains("http_host"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn an_endpoint_that_never_answers_holds_up_no_line() {
    let endpoint = Endpoint::start();
    let config = endpoint
        .config(&format!("url = \"http://{}/never\"", endpoint.address))
        .server("grace_seconds = 2");
    let mut server = Server::start(&config);
    assert_eq!(server.chat("hush", &json!({"max_tokens": 1})).status, 200);
    endpoint.next("/never");
    for _ in 0..5 {
        assert_eq!(server.chat("hush", &json!({"max_tokens": 1})).status, 200);
    }
    let ended = || server.read("json.log").matches("\"request.finished\"").count();
    eventually("six requests to be logged", || (ended() == 6).then_some(()));
    server.stop();
    let log = server.read("json.log");
    assert!(log.contains("log.dropped") && log.contains("\"caller\""), "{log}");
}

#[test]
fn a_plugin_without_its_grant_does_not_start() {
    let path = repository("tests/fixtures/components/caller.wasm");
    let config = Config::json()
        .handle("caller")
        .plugin("caller", &format!("source = {path:?}\nconfig = {{}}"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.toml"), config.text()).unwrap();
    let output = program(folder.path()).args(["check", "--config", "test.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("it imports wasi:http/") && said.contains("grants = { http = ["),
        "{said}"
    );
}
