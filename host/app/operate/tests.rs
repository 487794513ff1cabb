//! What is sent to a server, and what is told of its answer.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    thread,
};

use serde_json::json;

use super::*;
use crate::builtin;

const KEY: &str = "0123456789abcdef";

fn admin(listen: &str) -> Admin {
    Admin { listen: listen.parse().unwrap(), key: KEY.to_owned() }
}

/// Asks a server that answers this, and checks the request and what came of it.
fn check(wish: Wish, (status, body): (&'static str, &'static str), request: &str, want: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = admin(&listener.local_addr().unwrap().to_string());
    let server = thread::spawn(move || {
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        head
    });
    let told = match ask(&admin, &wish) {
        Ok(it) => it.to_string(),
        Err(it) => it.to_string().replace(&address(&admin), "ADDRESS"),
    };
    let head = server.join().unwrap();
    assert_eq!(told, want);
    assert!(head.starts_with(request), "{head}");
    let key = format!("\r\nauthorization: bearer {KEY}\r\n");
    assert!(head.to_lowercase().contains(&key), "{head}");
}

#[test]
fn every_answer_is_told_in_the_servers_words() {
    check(
        Wish::State,
        ("200 OK", "{\"revision\": 3}"),
        "GET /admin/state HTTP/1.1",
        "{\"revision\":3}",
    );
    check(
        Wish::Reload,
        (
            "409 Conflict",
            r#"{"error": {"code": "change_refused", "problems": ["a.b: is odd", "c: is gone"]}}"#,
        ),
        "POST /admin/reload HTTP/1.1",
        "nothing was changed:\n  a.b: is odd\n  c: is gone",
    );
    check(
        Wish::Rollback,
        ("401 Unauthorized", r#"{"error": {"code": "invalid_api_key", "message": "no"}}"#),
        "POST /admin/rollback HTTP/1.1",
        "the server at ADDRESS has another key: admin.key takes effect when the server is started",
    );
    check(
        Wish::Reload,
        (
            "503 Service Unavailable",
            r#"{"error": {"code": "shutting_down", "message": "the server is shutting down"}}"#,
        ),
        "POST /admin/reload",
        "the server at ADDRESS answers 503: the server is shutting down",
    );
    for body in ["<html>", "[]", "{}", "7"] {
        check(
            Wish::State,
            ("404 Not Found", body),
            "GET /admin/state",
            "what answers at ADDRESS (with status 404) is not the admin address of bucksaw: set admin.listen",
        );
    }
}

#[test]
fn where_nobody_listens_the_address_and_the_next_step_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = admin(&listener.local_addr().unwrap().to_string());
    drop(listener);
    let told = ask(&admin, &Wish::State).unwrap_err().to_string();
    assert!(told.starts_with(&format!("no answer from {}: ", address(&admin))), "{told}");
    let next = ": start the server, or set admin.listen to the address that it has";
    assert!(told.ends_with(next) && !told.contains(KEY), "{told}");
}

#[test]
fn a_change_is_one_line_and_what_waits_for_a_start_another() {
    let check = |answer: Value, want: &str| {
        let changed: Changed = serde_json::from_value(answer).unwrap();
        assert_eq!(changed.text(), want);
    };
    check(json!({ "changed": false, "revision": 2, "at_next_start": [] }), "nothing has changed\n");
    check(
        json!({ "changed": true, "revision": 3, "previous": 2, "at_next_start": ["a", "b.c"] }),
        "revision 3 is in force (before: 2)\nat the next start: a, b.c\n",
    );
    check(json!({ "revision": 4, "previous": 3 }), "revision 4 is in force (before: 3)\n");
    check(json!({ "revision": 4 }), "revision 4 is in force\n");
}

#[test]
fn the_address_is_one_that_can_be_reached() {
    let check = |listen: &str, want: &str| assert_eq!(address(&admin(listen)), want);
    check("127.0.0.1:8001", "http://127.0.0.1:8001");
    check("10.0.0.7:1", "http://10.0.0.7:1");
    check("0.0.0.0:1", "http://127.0.0.1:1");
    check("[::]:1", "http://[::1]:1");
}

#[test]
fn without_an_admin_address_the_lines_to_add_are_shown() {
    let of = |added: &str| {
        let text = format!("{}\n{added}", builtin::CONFIG);
        admin_of(Config::parse(&text, Path::new("."), &Vars::default()).unwrap())
    };
    let missing = of("").unwrap_err();
    assert_eq!(missing.key, "admin");
    assert!(missing.message.ends_with("\n\n    [admin]\n    key = \"${ADMIN_KEY}\""));
    let key = format!("[admin]\nkey = \"{KEY}\"\n");
    assert_eq!(of(&key).unwrap().key, KEY);
    assert_eq!(of(&format!("{key}listen = \"127.0.0.1:0\"")).unwrap_err().key, "admin.listen");
}
