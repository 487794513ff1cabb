//! A real component, real sockets on this machine, and what may go from the one to the others.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use chain::{Chain, Ellipsis, Replacer, Spec, Stats, Tools, stats::StageKey};
use record::{Field, Record, Severity, Stream, field};

use crate::{Grants, Limits, LoadError, Plugin, Runtime, Settings};

const CANARY: &str = "kim.minsu@example.com";

/// A server that answers by path, and tells what it was sent.
struct Server {
    address: String,
    posts: Receiver<(String, String)>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, posts) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || answer(stream, &sender));
            }
        });
        Self { address, posts }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Bodies that were posted to a path so far.
    fn bodies(&self, wanted: &str) -> Vec<String> {
        self.posts.try_iter().filter(|(path, _)| path == wanted).map(|(_, body)| body).collect()
    }
}

/// Reads one request and answers it. A client that goes away is no failure of the server's.
fn answer(stream: TcpStream, posts: &Sender<(String, String)>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    if reader.read_line(&mut first).is_err() {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        if let Some(it) = line.to_lowercase().strip_prefix("content-length:") {
            length = it.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let _ = posts.send((path.clone(), String::from_utf8_lossy(&body).into_owned()));
    let stream = reader.get_mut();
    let head =
        |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}connection: close\r\n\r\n");
    let _ = match path.as_str() {
        "/redirect" => stream.write_all(
            head("302 Found", "location: /elsewhere\r\ncontent-length: 0\r\n").as_bytes(),
        ),
        "/huge" => {
            let _ = stream.write_all(head("200 OK", "").as_bytes());
            stream.write_all(&vec![b'.'; 2 << 20])
        }
        "/headers" => {
            let long = format!("x-long: {}\r\n", "x".repeat(20 << 10));
            stream.write_all(head("200 OK", &long).as_bytes())
        }
        "/endless" => {
            let _ = stream.write_all(head("200 OK", "").as_bytes());
            // A byte now and then, until nobody listens.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
            while stream.write_all(b".").is_ok() {
                match stream.read(&mut [0]) {
                    Err(it) if matches!(it.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    }
                    _ => break,
                }
            }
            Ok(())
        }
        _ => stream.write_all((head("200 OK", "content-length: 5\r\n") + "hello").as_bytes()),
    };
}

fn caller() -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/components/caller.wasm");
    fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run `just plugins`", path.display()))
}

fn load(
    runtime: &Runtime,
    config: &str,
    hosts: &[&str],
    work: Duration,
) -> Result<Plugin, LoadError> {
    let http = hosts.iter().map(|it| (*it).to_owned()).collect();
    let settings = Settings {
        name: "caller".to_owned(),
        config: config.to_owned(),
        limits: Limits { work, ..Limits::default() },
        grants: Grants { http, ..Grants::default() },
    };
    Plugin::load(runtime, &caller(), settings)
}

/// A record through the caller, or through editors and the caller, to its end.
fn run(editors: &[&Plugin], caller: &Plugin, text: &str) -> Arc<Stats> {
    let stats = Arc::<Stats>::default();
    let spec = Spec {
        name: "test".into(),
        editors: editors.iter().map(|it| it.editor().unwrap()).collect(),
        handlers: vec![caller.handler().unwrap()],
        outputs: vec![],
        shadow: None,
    };
    let replacer = Replacer::new(Ellipsis::Korean, b"key");
    let tools = Tools { replacer, clock: Arc::new(|| (0, 0)), stats: stats.clone() };
    let mut chain = Chain::new(&spec, tools);
    chain.run(vec![Record {
        time: 0,
        utc_offset: 0,
        severity: Severity::INFO,
        event: "request.prompt".into(),
        stream: Stream::App,
        context: None,
        seq: 0,
        stub: None,
        fields: vec![Field::new(field::PROMPT_TEXT, text)],
    }]);
    chain.finish();
    stats
}

fn denials(stats: &Stats) -> Vec<(&'static str, u64)> {
    let (chain, plugin) = ("test".into(), "caller".to_owned());
    let key = StageKey { chain, plugin, role: "handler" };
    stats.stage(key).denials().into_iter().collect()
}

const LONG: Duration = Duration::from_secs(8);

/// What came of a request: the guest's own words, which it posts to a path of its own, and what the host counted.
fn check(server: &Server, config: &str, want: &str, denied: &[(&'static str, u64)]) {
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let report = server.url("/report");
    let config = format!(r#"{{"report":"{report}",{config}}}"#);
    let plugin = load(&runtime, &config, &[&server.address], LONG).unwrap();
    let stats = run(&[], &plugin, "hello");
    assert_eq!(server.bodies("/report"), [want], "{config}");
    assert_eq!(denials(&stats), denied, "{config}");
}

#[test]
fn a_granted_host_is_sent_what_was_released() {
    let server = Server::start();
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/components/redact.wasm");
    let settings = Settings {
        name: "redact".to_owned(),
        config: "{}".to_owned(),
        limits: Limits::default(),
        grants: Grants::default(),
    };
    let redact = Plugin::load(&runtime, &fs::read(path).unwrap(), settings).unwrap();
    let config = format!(r#"{{"url":"{}"}}"#, server.url("/ok"));
    let plugin = load(&runtime, &config, &[&server.address], LONG).unwrap();
    let stats = run(&[&redact], &plugin, &format!("write to {CANARY}, please"));
    let bodies = server.bodies("/ok");
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(
        bodies[0].starts_with("request.prompt ") && bodies[0].contains("write to [EMAIL], please")
    );
    assert!(!bodies[0].contains(CANARY), "{bodies:?}");
    assert_eq!(denials(&stats), []);
}

#[test]
fn answers_and_refusals_are_what_the_guest_is_told() {
    let server = Server::start();
    let url = |path: &str| format!(r#""url":"{}""#, server.url(path));
    check(&server, &url("/ok"), "200 5", &[]);
    check(&server, &url("/redirect"), "302 0", &[]);
    check(&server, &url("/huge"), "TooLarge", &[("http_response_body", 1)]);
    check(&server, &url("/headers"), "TooLarge", &[("http_response_headers", 1)]);
    let large = format!(r#"{},"bytes":{}"#, url("/ok"), (256 << 10) + 1);
    check(&server, &large, "TooLarge", &[("http_request_body", 1)]);
    let full = format!(r#"{},"bytes":{}"#, url("/ok"), 256 << 10);
    check(&server, &full, "200 5", &[]);
    let headers = format!(r#"{},"headers":{}"#, url("/ok"), 17 << 10);
    check(&server, &headers, "TooLarge", &[("http_request_headers", 1)]);
    check(&server, r#""url":"http://127.0.0.1:1/""#, "Denied", &[("http_host", 1)]);
    check(&server, r#""url":"https://example.com/""#, "Denied", &[("http_host", 1)]);
    assert!(server.bodies("/elsewhere").is_empty(), "no redirect is followed");
}

#[test]
fn an_ungranted_host_is_never_connected_to() {
    let (server, other) = (Server::start(), TcpListener::bind("127.0.0.1:0").unwrap());
    other.set_nonblocking(true).unwrap();
    let port = other.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        let url = format!(r#""url":"http://{host}:{port}/""#);
        check(&server, &url, "Denied", &[("http_host", 1)]);
    }
    let user = format!(r#""url":"http://{}@127.0.0.1:{port}/""#, server.address);
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let plugin = load(&runtime, &format!("{{{user}}}"), &[&server.address], LONG).unwrap();
    run(&[], &plugin, "hello");
    assert_eq!(other.accept().map(|_| ()).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn nothing_goes_out_while_a_plugin_is_set_up() {
    let server = Server::start();
    let config = format!(r#""url":"{}","early":"{}""#, server.url("/ok"), server.url("/early"));
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let config = format!(r#"{{"report":"{}",{config}}}"#, server.url("/report"));
    let plugin = load(&runtime, &config, &[&server.address], LONG).unwrap();
    run(&[], &plugin, "hello");
    let posts: Vec<(String, String)> = server.posts.try_iter().collect();
    assert!(posts.iter().all(|(path, _)| path != "/early"), "{posts:?}");
    let reports = posts.iter().filter(|(path, _)| path == "/report").map(|(_, it)| it.as_str());
    assert_eq!(reports.collect::<Vec<_>>(), ["Denied", "200 5"]);
    // Nor while its fixtures are run.
    let plugin = load(&runtime.aside(), &config, &[&server.address], LONG).unwrap();
    run(&[], &plugin, "hello");
    assert_eq!(server.posts.try_iter().count(), 0);
}

#[test]
fn an_endless_answer_is_cut() {
    let server = Server::start();
    check(
        &server,
        &format!(r#""url":"{}""#, server.url("/endless")),
        "Timeout",
        &[("http_timeout", 1)],
    );
}

#[test]
fn no_wait_goes_beyond_the_deadline_of_the_call() {
    let server = Server::start();
    let endless = format!(r#"{{"url":"{}"}}"#, server.url("/endless"));
    for config in [endless.as_str(), r#"{"sleep":true}"#] {
        let runtime = Runtime::new(Arc::new(()), None).unwrap();
        let work = Duration::from_millis(200);
        let plugin = load(&runtime, config, &[&server.address], work).unwrap();
        let stats = run(&[], &plugin, "hello");
        let (_, stage) = stats.stages().into_iter().next().unwrap();
        let deadline = chain::StageError::Deadline as usize;
        let failures: Vec<u64> =
            stage.failures.iter().map(|it| it.load(std::sync::atomic::Ordering::Relaxed)).collect();
        assert_eq!((failures[deadline], failures.iter().sum()), (1, 1), "{config}");
    }
}

#[test]
fn requests_over_the_rate_are_refused_and_counted() {
    let server = Server::start();
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let config = format!(r#"{{"url":"{}","times":200}}"#, server.url("/ok"));
    let plugin = load(&runtime, &config, &[&server.address], LONG).unwrap();
    let stats = run(&[], &plugin, "hello");
    let sent = server.bodies("/ok").len() as u64;
    let denied = denials(&stats);
    assert!(sent >= 20, "{sent}");
    assert_eq!(denied, [("http_rate", 200 - sent)]);
}

#[test]
fn an_import_without_a_grant_is_refused_and_named() {
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let check = |bytes: &[u8], hosts: &[&str], want: &str| {
        let http = hosts.iter().map(|it| (*it).to_owned()).collect();
        let settings = Settings {
            name: "test".to_owned(),
            config: "{}".to_owned(),
            limits: Limits::default(),
            grants: Grants { http, ..Grants::default() },
        };
        let error = Plugin::load(&runtime, bytes, settings).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    let grant = "which is not granted: add grants = { http = [\"<host>\"] }";
    check(&caller(), &[], grant);
    check(&caller(), &[], "it imports wasi:http/");
    let stage = |role: &str, import: &str| {
        format!(
            r#"(component (import "{import}" (instance)) (component $c) (instance $e (instantiate $c))
                (export "bucksaw:plugin/{role}@0.1.0" (instance $e)))"#
        )
    };
    let http = "wasi:http/outgoing-handler@0.2.3";
    for role in ["editor", "formatter"] {
        let want = format!("its role is {role}, and it imports {http}, which only a handler may");
        check(stage(role, http).as_bytes(), &[], &want);
        check(stage(role, http).as_bytes(), &["example.com"], &want);
    }
    check(stage("handler", http).as_bytes(), &[], &format!("it imports {http}, {grant}"));
    for other in [
        "wasi:cli/environment@0.2.3",
        "wasi:sockets/tcp@0.2.3",
        "wasi:filesystem/types@0.2.3",
        "wasi:random/random@0.2.3",
        "wasi:http/incoming-handler@0.2.3",
        "wasi:http/outgoing-handler@0.3.0",
    ] {
        let want = format!("it imports {other}, which this host does not offer");
        check(stage("handler", other).as_bytes(), &["example.com"], &want);
    }
}
