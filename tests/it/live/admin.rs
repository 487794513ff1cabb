//! `bucksaw state`, `reload` and `rollback`, as an operator types them, and who may.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Output,
    time::Duration,
};

use serde_json::{Value, json};

use super::{ADDRESS, REVISION, prompts};
use crate::support::{Config, Server, program};

const KEY: &str = "open-sesame-0123456789";
/// An address of this machine that no other test listens on or connects from, so that a port which is free stays free.
const HOST: &str = "127.77.0.1:0";
/// A change takes milliseconds; this is for machines that do much else.
const SILENCE: Duration = Duration::from_secs(60);

/// The admin address of a server that is about to start.
pub(super) struct Admin {
    address: String,
}

impl Admin {
    pub(super) fn new() -> Self {
        let address = TcpListener::bind(HOST).unwrap().local_addr().unwrap();
        Self { address: address.to_string() }
    }

    /// The configuration's table.
    pub(super) fn table(&self, key: &str) -> String {
        format!("[admin]\nlisten = {:?}\nkey = {key:?}", self.address)
    }

    /// The same with the key that [`Self::reload`] knows.
    pub(super) fn lines(&self) -> String {
        self.table(KEY)
    }

    /// Has the configuration read again; the answer is the number of the new revision.
    pub(super) fn reload(&self) -> u64 {
        let answer = self.ask("POST /admin/reload", KEY);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["changed"], true, "{body}");
        body["revision"].as_u64().unwrap()
    }

    /// Asks by hand, and gives the whole answer.
    fn ask(&self, what: &str, key: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let head = format!(
            "{what} HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {key}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// What a command said, by its exit code: on standard output when it went well, else on standard error.
pub(super) fn said(output: &Output, code: i32) -> String {
    let text = |it: &[u8]| String::from_utf8(it.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    let (told, silent) = if code == 0 { (out, err) } else { (err, out) };
    assert!(silent.is_empty(), "{silent}");
    told
}

#[test]
fn an_operator_sees_changes_and_takes_back() {
    let admin = Admin::new();
    let config = Config::json().log("watch = false").more(&admin.lines());
    let redacting = config.clone().edit(&["redact"]);
    let mut server = Server::start(&config);
    let check = |command: &str, code: i32, expected: &str| {
        let told = said(&server.command(command), code);
        assert_eq!(told, expected, "{command}");
    };
    let chains = |revision: u64, chain: &str| {
        let state: Value = serde_json::from_str(&said(&server.command("state"), 0)).unwrap();
        assert_eq!(state["revision"], revision, "{state}");
        assert_eq!(state["chains"], json!([chain]), "{state}");
        assert_eq!(state["levels"]["app"], "INFO");
        server.chat(ADDRESS, &json!({"max_tokens": 1}));
    };
    chains(1, "default: json");

    server.configure(&redacting.text());
    // Nobody looks at the file before somebody asks for it.
    assert_eq!(server.metric(REVISION), 1);
    check("reload", 0, "revision 2 is in force (before: 1)\n");
    check("reload", 0, "nothing has changed\n");
    chains(2, "default: redact > json");

    // What the server cannot change while it runs is said.
    server.configure(&redacting.clone().engine("queue = 3").text());
    check("reload", 0, "revision 3 is in force (before: 2)\nat the next start: engine.queue\n");

    server.configure(&config.clone().plugin("own", "source = \"nowhere.wasm\"").text());
    check(
        "reload",
        1,
        "bucksaw: nothing was changed:\n  plugins.own.source: nowhere.wasm cannot be read: No such file or \
         directory (os error 2): build it, or write builtin:NAME for one that ships\n",
    );
    chains(3, "default: redact > json");

    // The commands need nothing of the file but its admin table: going back works while the rest is wrong.
    server.configure(&config.clone().log("levl = \"DEBUG\"").text());
    let told = said(&server.command("reload"), 1);
    assert!(told.contains("log.levl: unknown key; did you mean \"level\"?"), "{told}");
    check("rollback", 0, "revision 4 is in force (before: 3)\n");
    server.configure(&config.text());
    check("rollback", 0, "revision 5 is in force (before: 4)\n");
    chains(5, "default: json");
    let told = said(&server.command("rollback"), 1);
    let expected = "bucksaw: nothing was changed:\n  there is no earlier revision: ";
    assert!(told.starts_with(expected), "{told}");
    assert_eq!(server.metric(REVISION), 5);
    server.stop();

    let told = said(&server.command("state"), 1);
    assert!(told.starts_with("bucksaw: no answer from http://127.77.0.1:"), "{told}");
    assert_eq!(prompts(&server, "json.log"), [ADDRESS, "[EMAIL]", "[EMAIL]", ADDRESS]);
    let log = server.read("json.log");
    assert!(log.contains(&format!("admin API on http://{}", admin.address)), "{log}");
    assert!(log.contains("engine.queue will change at the next start"), "{log}");
    for file in ["json.log", "stdout", "stderr"] {
        assert!(!server.read(file).contains(KEY), "the key is in {file}");
    }
}

#[test]
fn without_the_key_nobody_sees_or_changes_anything() {
    let admin = Admin::new();
    let mut server = Server::start(&Config::json().more(&admin.lines()));
    let wrong = "open-sesame-9876543210";
    for what in [
        "GET /admin/state",
        "GET /metrics",
        "POST /admin/reload",
        "POST /admin/rollback",
        "POST /admin/level",
    ] {
        let answer = admin.ask(what, wrong);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{what}: {answer}");
        assert!(!answer.contains(REVISION), "{what}: {answer}");
    }
    assert!(admin.ask("GET /metrics", KEY).contains("\nbucksaw_log_revision 1\n"));
    // The same for who has another key in the configuration.
    let other = Config::json().more(&admin.table(wrong)).text();
    fs::write(server.path("other.toml"), other).unwrap();
    for command in ["state", "reload", "rollback"] {
        let output =
            program(&server.path("")).args([command, "--config", "other.toml"]).output().unwrap();
        let told = said(&output, 1);
        assert!(told.contains("has another key: "), "{told}");
    }
    // And for who has none.
    let told = said(&program(&server.path("")).args(["state"]).output().unwrap(), 78);
    assert!(told.contains("admin: missing, "), "{told}");
    assert_eq!(server.metric(REVISION), 1);
    server.stop();
}
