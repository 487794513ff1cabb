//! What comes over a connection and is no request: it is answered and recorded once as well, unless nothing came.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::json;

use crate::support::{Config, Server, by_request, http::read_until, records, terminals};

/// Everything that still comes. A server that closes with something unread may break the connection behind its answer.
fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

/// Method, path, status and code of each request that was rejected.
fn rejected(server: &Server) -> Vec<String> {
    let all = records(&server.read("json.log"));
    let mut lines: Vec<String> = by_request(&all)
        .into_values()
        .filter_map(|records| {
            let names = terminals(&records);
            assert_eq!(names.len(), 1, "{records:#?}");
            let [first, end] = ["request.received", "request.rejected"]
                .map(|name| records.iter().find(|it| it["event_name"] == name));
            let (first, end) = (&first?["attributes"], &end?["attributes"]);
            let text = |it: &serde_json::Value| it.as_str().unwrap_or("-").to_owned();
            Some(format!(
                "{} {} {} {} {}",
                text(&first["http.request.method"]),
                text(&first["url.path"]),
                text(&end["http.route"]),
                end["http.response.status_code"],
                text(&end["error.type"]),
            ))
        })
        .collect();
    lines.sort_unstable();
    lines
}

const CHAT: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\n";

#[test]
fn a_head_that_does_not_arrive_is_refused_and_recorded_once() {
    let mut server = Server::start(&Config::json().server("receive_seconds = 1"));
    let get = "GET /health HTTP/1.1\r\nhost: test\r\n\r\n";
    let body = format!("{CHAT}content-length: 100\r\n\r\n{{");
    // All at once, since each takes a second.
    let mut table = [
        (CHAT.to_owned(), "408", "headers_too_slow"),
        ("POST /v1/ch".to_owned(), "408", "headers_too_slow"),
        (body, "408", "body_too_slow"),
        // Nothing was begun.
        (String::new(), "", ""),
        (get.to_owned(), "", ""),
        (format!("{get}\r\n"), "", ""),
    ]
    .map(|(sent, status, code)| (server.open_raw(sent.as_bytes()), sent, status, code));
    // A second request on a connection.
    let mut second = server.open_raw(get.as_bytes());
    read_until(&mut second, "\"models\":1}");
    second.write_all(CHAT.as_bytes()).unwrap();
    let answer = rest(&mut second);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    for (stream, sent, status, code) in &mut table {
        let answer = rest(stream);
        let answer = match answer.split_once("\"models\":1}") {
            Some((_, after)) if sent.starts_with("GET") => after,
            _ => answer.as_str(),
        };
        if status.is_empty() {
            assert_eq!(answer, "", "{sent}");
            continue;
        }
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{sent}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{sent}: {answer}");
        assert!(answer.contains("\r\nx-request-id: "), "{sent}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{sent}: {answer}");
    }
    // Nobody's slowness keeps others out.
    assert_eq!(server.chat("Hello!", &json!({"max_tokens": 1})).status, 200);
    server.stop();
    let chat = "POST /v1/chat/completions /v1/chat/completions 408";
    assert_eq!(
        rejected(&server),
        [
            format!("{chat} body_too_slow"),
            format!("{chat} headers_too_slow"),
            format!("{chat} headers_too_slow"),
            "_OTHER / - 408 headers_too_slow".to_owned(),
        ]
    );
}

#[test]
fn what_is_no_request_is_refused_and_recorded_once() {
    let mut server = Server::start(&Config::json());
    let large = format!("{CHAT}x-a: {}", "a".repeat(3 << 20));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let table: [(&[u8], &str); 5] = [
        // The hello of TLS, and the one of HTTP/2.
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        (b"POST /vision HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        (large.as_bytes(), "431"),
        (long.as_bytes(), "414"),
    ];
    for (sent, status) in table {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        // It may be over before all is sent.
        let _ = stream.write_all(sent);
        let answer = rest(&mut stream);
        // Of what is too large, something is still unread when the connection ends, and the answer may be lost with it.
        if answer.is_empty() && sent.len() > 1_000 {
            continue;
        }
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nx-request-id: "), "{answer}");
    }
    assert_eq!(server.chat("Hello!", &json!({"max_tokens": 1})).status, 200);
    server.stop();
    assert_eq!(
        rejected(&server),
        [
            "POST /v1/chat/completions /v1/chat/completions 431 headers_too_large",
            "POST /vision /vision 400 not_http",
            "_OTHER / - 400 not_http",
            "_OTHER / - 400 not_http",
            "_OTHER / - 414 uri_too_long",
        ]
    );
}

#[test]
fn a_body_that_nobody_read_is_no_head() {
    let keys = "api_keys = [\"0123456789abcdef\"]\nreceive_seconds = 1";
    let mut server = Server::start(&Config::json().server(keys));
    // It begins like a request, and comes when that is answered.
    let body = "X /p HTTP/1.1\r\nhost: test\r\n";
    let head = format!("{CHAT}content-length: {}\r\n\r\n", body.len());
    let mut stream = server.open_raw(head.as_bytes());
    let answer = read_until(&mut stream, "\"code\":\"invalid_api_key\"}}");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(rest(&mut stream), "");
    server.stop();
    assert_eq!(
        rejected(&server),
        ["POST /v1/chat/completions /v1/chat/completions 401 invalid_api_key"]
    );
}

#[test]
fn garbage_behind_a_request_is_not_called_by_its_name() {
    let mut server = Server::start(&Config::json());
    // In one piece, so that it is read together with the request.
    let both = format!("{CHAT}content-length: 1\r\n\r\n{{\x16\x03\x01 /q HTTP/1.1\r\n\r\n");
    let answers = rest(&mut server.open_raw(both.as_bytes()));
    assert!(answers.contains("\"code\":\"invalid_json\""), "{answers}");
    // The library's own, which has no body.
    let (_, second) = answers.rsplit_once("HTTP/1.1 400 ").unwrap();
    assert!(second.contains("\r\ncontent-length: 0\r\n"), "{answers}");
    server.stop();
    assert_eq!(
        rejected(&server),
        [
            "POST /v1/chat/completions /v1/chat/completions 400 invalid_json",
            "_OTHER / - 400 not_http",
        ]
    );
}
