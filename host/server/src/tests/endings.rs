//! Every way in which a request can end, at every endpoint that the engine works for: one terminal record each, and what the
//! client was sent agrees with it.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::select_all;
use record::{event, field};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{Client, Step, Steps, engine_with, wait};
use crate::{
    Config, Limits, Patience,
    request_log::tests::{Seen, chain_for, seen_of},
    router, serve,
};

/// A place to send a request to, and the request. Its answer takes several steps, except for vectors.
struct Asks {
    path: &'static str,
    body: &'static str,
}

impl Asks {
    fn streams(&self) -> bool {
        self.body.contains("\"stream\": true")
    }
}

const CHAT: &str = "/v1/chat/completions";
const ONE_PIXEL: &str = r#"{"prompt": "Hello!", "max_tokens": 4, "image": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="}"#;

const ENDPOINTS: [Asks; 7] = [
    Asks {
        path: CHAT,
        body: r#"{"messages": [{"role": "user", "content": "Hello!"}], "temperature": 0, "max_tokens": 4}"#,
    },
    Asks {
        path: CHAT,
        body: r#"{"messages": [{"role": "user", "content": "Hello!"}], "temperature": 0, "max_tokens": 4, "stream": true}"#,
    },
    Asks {
        path: CHAT,
        body: r#"{"messages": [{"role": "user", "content": "Hello!"}], "temperature": 0, "max_tokens": 4, "n": 3, "stream": true}"#,
    },
    Asks {
        path: "/v1/completions",
        body: r#"{"prompt": "Hello", "temperature": 0, "max_tokens": 4}"#,
    },
    Asks {
        path: "/v1/completions",
        body: r#"{"prompt": "Hello", "temperature": 0, "max_tokens": 4, "stream": true}"#,
    },
    Asks { path: "/vision", body: ONE_PIXEL },
    Asks { path: "/v1/embeddings", body: r#"{"input": "Hello"}"# },
];

/// A server of its own, for one request or a few.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start(engine: &engine::Engine, limits: Limits, grace: Duration) -> Self {
        let config = Config { limits, ..Config::default() };
        let router = router(engine.handle(), config, chain_for());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let patience = Patience { head: Duration::from_secs(30), grace };
        let served = tokio::spawn(serve(listener, router, shutdown, patience));
        Self { address, stop, served }
    }

    async fn send(&self, asks: &Asks) -> Client {
        Client::send(self.address, asks.path, asks.body).await
    }

    /// Until nothing is under way.
    async fn end(self) {
        let _ = self.stop.send(());
        self.served.await.unwrap().unwrap();
    }
}

/// Long enough for whatever ends by itself.
const GRACE: Duration = Duration::from_secs(60);

/// What the log says of the requests of a server on which `work` is done.
fn terminals(work: impl Future<Output = ()>) -> Vec<String> {
    let seen = seen_of(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work);
    });
    let count = |name: &str| seen.iter().filter(|it| it.name == name).count();
    let ends: Vec<&Seen> =
        seen.iter().filter(|it| event::TERMINAL.contains(&it.name.as_str())).collect();
    for name in [event::REQUEST_RECEIVED, event::REQUEST_TOTAL, event::REQUEST_SUMMARY] {
        assert_eq!(count(name), ends.len(), "{name}: {ends:?}");
    }
    let line = |it: &&Seen| {
        let [status, error] = [field::HTTP_RESPONSE_STATUS_CODE, field::ERROR_TYPE]
            .map(|name| it.get(name).unwrap_or("-").trim_matches('"').to_owned());
        // OpenTelemetry's number of CRITICAL, which is for what needs a person.
        let critical = it.get("severity.number") == Some("21");
        assert_eq!(critical, error == "out_of_memory", "{it:?}");
        format!("{} {status} {error}", it.name)
    };
    ends.iter().map(line).collect()
}

/// The walk: what is planned for the engine, what the client does, and what it and the log say in the end.
fn walk(name: &str, check: impl Fn(&engine::Engine, &Steps, &Asks) -> (Vec<String>, Vec<String>)) {
    let steps = Steps::default();
    let engine = engine_with(&steps, 8);
    for asks in &ENDPOINTS {
        steps.lock().unwrap().clear();
        let (found, expected) = check(&engine, &steps, asks);
        assert_eq!(found, expected, "{name}: {} {}", asks.path, asks.body);
    }
}

fn one(text: impl Into<String>) -> Vec<String> {
    vec![text.into()]
}

fn assert_status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
}

/// How many steps a request may take before something of its answer has been sent.
fn steps_before(asks: &Asks) -> usize {
    usize::from(asks.streams())
}

/// A client whose request waits in the engine: before there is anything of its answer, or after the first piece of a stream.
async fn waiting(
    steps: &Steps,
    server: &Running,
    asks: &Asks,
) -> (Client, std::sync::mpsc::Sender<()>) {
    let (step, mut entered, release) = wait();
    let passes = std::iter::repeat_with(|| Step::Pass).take(steps_before(asks));
    steps.lock().unwrap().extend(passes.chain([step]));
    let mut client = server.send(asks).await;
    entered.recv().await.unwrap();
    if asks.streams() {
        let piece = if asks.path == CHAT { "\"content\":\"" } else { "\"text\":\"" };
        let first = client.read_until(Some(piece)).await;
        assert_status(&first, 200);
    }
    (client, release)
}

#[test]
fn an_answer_ends_once() {
    walk("answered", |engine, _, asks| {
        let found = terminals(async {
            let server = Running::start(engine, Limits::default(), GRACE).await;
            assert_status(&server.send(asks).await.read_until(None).await, 200);
            server.end().await;
        });
        (found, one("request.finished 200 -"))
    });
}

#[test]
fn a_client_that_leaves_ends_its_request_once() {
    walk("left", |engine, steps, asks| {
        let found = terminals(async {
            let server = Running::start(engine, Limits::default(), GRACE).await;
            let (client, release) = waiting(steps, &server, asks).await;
            drop(client);
            // The engine still waits: nobody needs it to know that the client is gone.
            server.end().await;
            drop(release);
        });
        let status = if asks.streams() { 200 } else { 499 };
        (found, one(format!("request.cancelled {status} -")))
    });
}

#[test]
fn a_request_whose_time_is_over_ends_once() {
    walk("late", |engine, steps, asks| {
        let found = terminals(async {
            // The engine itself ends jobs, which it does before the first step; vectors are not waited for.
            let (step, _entered, _release) = wait();
            if asks.path == "/v1/embeddings" {
                steps.lock().unwrap().push_back(step);
            }
            let limits = Limits { request_time: Some(Duration::ZERO), ..Limits::default() };
            let server = Running::start(engine, limits, GRACE).await;
            assert_status(&server.send(asks).await.read_until(None).await, 504);
            server.end().await;
        });
        (found, one("request.failed 504 deadline_exceeded"))
    });
}

#[test]
fn a_panic_of_the_engine_ends_its_requests_once() {
    walk("panicked", |engine, steps, asks| {
        let found = terminals(async {
            let server = Running::start(engine, Limits::default(), GRACE).await;
            // At the first step, and where there is a second one, at that.
            let has_second = asks.path != "/v1/embeddings";
            for passes in 0..=usize::from(has_second) {
                let planned = std::iter::repeat_with(|| Step::Pass).take(passes);
                steps.lock().unwrap().extend(planned.chain([Step::Panic]));
                let answer = server.send(asks).await.read_until(None).await;
                assert_status(&answer, if asks.streams() && passes > 0 { 200 } else { 500 });
                assert!(answer.contains("\"code\":\"panicked\""), "{answer}");
                assert!(!answer.contains("[DONE]") && !answer.contains("kernel"), "{answer}");
            }
            // It costs nobody else anything.
            assert_status(&server.send(asks).await.read_until(None).await, 200);
            server.end().await;
        });
        let first = "request.failed 500 panicked".to_owned();
        let second = if asks.streams() { "request.failed 200 panicked" } else { &first }.to_owned();
        let last = "request.finished 200 -".to_owned();
        let has_second = asks.path != "/v1/embeddings";
        (found, [first].into_iter().chain(has_second.then_some(second)).chain([last]).collect())
    });
}

#[test]
fn a_device_without_memory_ends_a_request_once_and_serves_the_next() {
    walk("out of memory", |engine, steps, asks| {
        let found = terminals(async {
            let server = Running::start(engine, Limits::default(), GRACE).await;
            steps.lock().unwrap().push_back(Step::OutOfMemory);
            let answer = server.send(asks).await.read_until(None).await;
            // Of several answers one is given up, and the request with it.
            assert_status(&answer, 503);
            assert!(answer.contains("\"code\":\"out_of_memory\""), "{answer}");
            assert!(!answer.contains("CUDA"), "{answer}");
            assert_status(&server.send(asks).await.read_until(None).await, 200);
            server.end().await;
        });
        (found, vec!["request.failed 503 out_of_memory".into(), "request.finished 200 -".into()])
    });
}

#[test]
fn what_the_end_of_the_server_cuts_off_ends_once() {
    walk("cut off", |engine, steps, asks| {
        let found = terminals(async {
            let server = Running::start(engine, Limits::default(), Duration::ZERO).await;
            let (mut client, release) = waiting(steps, &server, asks).await;
            server.end().await;
            let answer = client.read_until(None).await;
            if asks.streams() {
                // The mark of a complete body.
                assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
            } else {
                assert_status(&answer, 503);
            }
            drop(release);
        });
        let status = if asks.streams() { 200 } else { 503 };
        (found, one(format!("request.cancelled {status} -")))
    });
}

#[test]
fn what_finds_no_place_ends_once() {
    const PLACES: usize = 3;
    /// Of requests for vectors, which have a queue of their own.
    const VECTORS: usize = 64;
    for asks in &ENDPOINTS {
        let steps = Steps::default();
        let engine = engine_with(&steps, PLACES);
        // A job has its place until it runs, vectors until they are there; and several answers are several jobs.
        let queued = match asks.path {
            "/v1/embeddings" => VECTORS - 1,
            _ if asks.body.contains("\"n\": 3") => 1,
            _ => PLACES,
        };
        let refused = 4;
        let found = terminals(async {
            let server = Running::start(&engine, Limits::default(), GRACE).await;
            let (first, release) = waiting(&steps, &server, asks).await;
            let mut others = Vec::new();
            for _ in 0..queued + refused {
                others.push(server.send(asks).await);
            }
            let mut answers: Vec<_> =
                others.iter_mut().map(|it| Box::pin(it.read_until(None))).collect();
            for _ in 0..refused {
                // Those that wait say nothing.
                let (answer, _, rest) = select_all(answers).await;
                assert_status(&answer, 429);
                assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
                answers = rest;
            }
            drop(answers);
            drop((first, others));
            server.end().await;
            drop(release);
        });
        let count = |what: &str| found.iter().filter(|it| it.starts_with(what)).count();
        let counts = [count("request.rejected 429 queue_full"), count("request.cancelled")];
        assert_eq!(counts, [refused, 1 + queued], "{} {found:?}", asks.path);
    }
}
