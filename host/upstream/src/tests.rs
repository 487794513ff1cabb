//! A pool in front of servers on real sockets that do what they are told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::{ApiKey, BaseUrl, Call, Config, Failure, Pool, Upstream};

/// Nothing is waited for as long as this.
const LONG: Duration = Duration::from_secs(600);
const CHAT: &str = "/v1/chat/completions";

/// What a server does with a POST.
#[derive(Clone, Copy)]
enum Deed {
    /// Sends this and ends the connection.
    Say(&'static str),
    /// Sends this and waits for the client to leave.
    Hold(&'static str),
    /// Sends this, waits until it is let go, and sends that.
    Later(&'static str, &'static str),
}

const OK: Deed = Deed::Say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}");
const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const FIRST: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";

/// A server that answers looks at its health, and does one deed for every POST; the last one again and again.
struct Fake {
    url: String,
    deeds: Mutex<Vec<Deed>>,
    /// Heads of the POSTs that came.
    seen: Mutex<Vec<String>>,
    posts: AtomicUsize,
    /// Clients that left while they were held.
    left: Notify,
    go: Notify,
}

impl Fake {
    async fn start(deeds: &[Deed], models: &'static str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            deeds: Mutex::new(deeds.to_vec()),
            seen: Mutex::default(),
            posts: AtomicUsize::new(0),
            left: Notify::new(),
            go: Notify::new(),
        });
        let shared = Arc::clone(&fake);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).serve(stream, models));
            }
        });
        fake
    }

    /// One request a connection.
    async fn serve(self: Arc<Self>, mut stream: TcpStream, models: &'static str) {
        let mut bytes = Vec::new();
        let is_whole = |it: &[u8]| match it.starts_with(b"GET") {
            true => it.ends_with(b"\r\n\r\n"),
            false => it.ends_with(b"{}"),
        };
        while !is_whole(&bytes) {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8(bytes).unwrap();
        if head.starts_with("GET") {
            let body = if head.contains("/v1/models") { models } else { "{}" };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            return;
        }
        self.seen.lock().unwrap().push(head);
        let at = self.posts.fetch_add(1, SeqCst);
        let deed = {
            let deeds = self.deeds.lock().unwrap();
            deeds[at.min(deeds.len() - 1)]
        };
        match deed {
            Deed::Say(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
            }
            Deed::Hold(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                while stream.read_u8().await.is_ok() {}
                self.left.notify_one();
            }
            Deed::Later(first, then) => {
                let _ = stream.write_all(first.as_bytes()).await;
                self.go.notified().await;
                let _ = stream.write_all(then.as_bytes()).await;
            }
        }
    }

    fn posts(&self) -> usize {
        self.posts.load(SeqCst)
    }
}

fn upstream(name: &str, url: &str) -> Upstream {
    Upstream {
        name: name.to_owned(),
        url: BaseUrl::parse(url).unwrap(),
        api_key: None,
        models: Vec::new(),
        max_in_flight: 8,
        connect: LONG,
        answer: LONG,
        idle: LONG,
    }
}

async fn pool(upstreams: Vec<Upstream>) -> Pool {
    Pool::start(Config { upstreams, check: LONG }).await.unwrap()
}

/// A pool of two servers that do these deeds; the first one is asked first.
async fn two(first: &[Deed], second: &[Deed]) -> (Pool, Arc<Fake>, Arc<Fake>) {
    let (a, b) = (Fake::start(first, "{}").await, Fake::start(second, "{}").await);
    let pool = pool(vec![upstream("a", &a.url), upstream("b", &b.url)]).await;
    (pool, a, b)
}

fn call() -> Call {
    Call::new(CHAT, &HeaderMap::new(), Bytes::from_static(b"{}"))
}

/// An address where nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn what_is_safe_to_try_again_is_tried_elsewhere_once() {
    // What the first one does; status of the answer, attempts, and POSTs at the second one.
    let check = async |deed: Deed, repeatable: bool, status: u16, attempts: u32| {
        let (pool, a, b) = two(&[deed], &[OK]).await;
        let answer = pool.send(&Call { repeatable, ..call() }).await;
        let answer = answer.unwrap_or_else(|it| panic!("{it:?}"));
        assert_eq!((answer.status.as_u16(), answer.attempts), (status, attempts));
        assert_eq!((a.posts(), b.posts()), (1, attempts as usize - 1));
        assert_eq!(&*answer.upstream, if attempts == 1 { "a" } else { "b" });
    };
    let status = |it: &'static str| Deed::Say(it);
    check(OK, true, 200, 1).await;
    check(Deed::Say(""), true, 200, 2).await;
    check(Deed::Say("HTTP/1.1 200 OK\r\ncontent-le"), true, 200, 2).await;
    check(Deed::Say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), true, 200, 2).await;
    check(Deed::Say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\":"), true, 200, 2).await;
    check(Deed::Say(HEAD), true, 200, 2).await;
    check(Deed::Say("nonsense\r\n\r\n"), true, 200, 2).await;
    for repeatable in [true, false] {
        check(status("HTTP/1.1 502 x\r\ncontent-length: 0\r\n\r\n"), repeatable, 200, 2).await;
        check(status("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n"), repeatable, 200, 2).await;
        check(status("HTTP/1.1 504 x\r\ncontent-length: 0\r\n\r\n"), repeatable, 200, 2).await;
        check(status("HTTP/1.1 429 x\r\ncontent-length: 0\r\n\r\n"), repeatable, 200, 2).await;
        check(status("HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n"), repeatable, 500, 1).await;
        check(status("HTTP/1.1 400 x\r\ncontent-length: 0\r\n\r\n"), repeatable, 400, 1).await;
        // A prompt goes where the configuration says.
        let moved = "HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        check(status(moved), repeatable, 307, 1).await;
        check(Deed::Say(FIRST), repeatable, 200, 1).await;
    }
}

#[tokio::test]
async fn what_may_be_under_way_is_not_sent_again_when_it_would_be_kept() {
    let (pool, _, b) = two(&[Deed::Say("")], &[OK]).await;
    let failed = pool.send(&Call { repeatable: false, ..call() }).await.err().unwrap();
    assert_eq!(failed.failure, Failure::Broken { upstream: "a".into() });
    assert_eq!((failed.attempts, b.posts()), (1, 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_reason_to_fail() {
    let b = Fake::start(&[OK], "{}").await;
    let pool = pool(vec![upstream("a", &nowhere().await), upstream("b", &b.url)]).await;
    for repeatable in [true, false] {
        let answer = pool.send(&Call { repeatable, ..call() }).await.unwrap();
        assert_eq!(&*answer.upstream, "b");
    }
    // Its health was looked at once: it is not ejected for that, but for three requests.
    for _ in 0..4 {
        pool.send(&call()).await.unwrap();
    }
    let counts = pool.counts();
    assert!(counts[0].ejections >= 1 && counts[0].failures >= 3, "{counts:?}");
    assert_eq!((counts[1].usable, counts[1].attempts, counts[1].failures), (true, 6, 0));
}

#[tokio::test]
async fn the_first_refusal_is_the_answer_when_nobody_does_better() {
    const BUSY: Deed = Deed::Say(
        "HTTP/1.1 429 x\r\nretry-after: 7\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\nbusy",
    );
    let (pool, _, b) = two(&[BUSY], &[Deed::Say("")]).await;
    let mut answer = pool.send(&call()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.attempts, b.posts()), (429, 2, 1));
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!(answer.body.take_whole().unwrap(), "busy");
}

#[tokio::test]
async fn each_upstream_has_its_bound_and_the_emptiest_is_asked() {
    let (a, b) = (Fake::start(&[Deed::Hold(FIRST)], "{}").await, Fake::start(&[OK], "{}").await);
    let limited = |name, url| Upstream { max_in_flight: 1, ..upstream(name, url) };
    let pool = pool(vec![limited("a", &a.url), limited("b", &b.url)]).await;
    let held = pool.send(&call()).await.unwrap();
    assert_eq!(pool.counts()[0].in_flight, 1);
    for _ in 0..3 {
        assert_eq!(&*pool.send(&call()).await.unwrap().upstream, "b");
    }
    *b.deeds.lock().unwrap() = vec![Deed::Hold(FIRST)];
    let second = pool.send(&call()).await.unwrap();
    let failed = pool.send(&call()).await.err().unwrap();
    assert_eq!((failed.failure, failed.attempts), (Failure::Busy, 0));
    // To drop an answer frees its place and ends the upstream's work.
    drop((held, second));
    a.left.notified().await;
    b.left.notified().await;
    assert!(pool.counts().iter().all(|it| it.in_flight == 0));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_upstreams_work() {
    let (pool, a, _) = two(&[Deed::Hold("")], &[OK]).await;
    let shared = pool.clone();
    let asking = tokio::spawn(async move { shared.send(&call()).await.map(|_| ()) });
    while a.posts() == 0 {
        tokio::task::yield_now().await;
    }
    asking.abort();
    a.left.notified().await;
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_eq!(pool.counts()[0].in_flight, 0);
    assert_eq!(pool.counts()[0].failures, 0);
}

#[tokio::test]
async fn a_stream_comes_as_it_is_made() {
    let (pool, a, _) = two(&[Deed::Later(FIRST, "2\r\nde\r\n0\r\n\r\n")], &[OK]).await;
    let mut answer = pool.send(&call()).await.unwrap();
    assert!(answer.is_stream() && answer.body.take_whole().is_none());
    assert!(!answer.headers.contains_key("transfer-encoding"));
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "abc");
    a.go.notify_one();
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "de");
    assert_eq!(answer.body.chunk().await.unwrap(), None);
    assert_eq!(pool.counts()[0].in_flight, 0);
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so_and_is_not_begun_again() {
    let (pool, _, b) = two(&[Deed::Say(FIRST)], &[OK]).await;
    let mut answer = pool.send(&call()).await.unwrap();
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "abc");
    let broken = answer.body.chunk().await.unwrap_err();
    assert_eq!(broken, Failure::Broken { upstream: "a".into() });
    assert_eq!(answer.body.chunk().await.unwrap(), None);
    assert_eq!((b.posts(), pool.counts()[0].failures, pool.counts()[0].in_flight), (0, 1, 0));
}

#[tokio::test]
async fn an_answer_that_fails_twice_is_one_failure() {
    let broken = Deed::Say("HTTP/1.1 502 x\r\ncontent-length: 9\r\n\r\n");
    let a = Fake::start(&[broken], "{}").await;
    let pool = pool(vec![upstream("a", &a.url)]).await;
    for failures in 1..=2 {
        let failed = pool.send(&call()).await.err().unwrap();
        assert_eq!(failed.failure, Failure::Broken { upstream: "a".into() });
        let counts = &pool.counts()[0];
        assert_eq!((counts.failures, counts.ejections, counts.usable), (failures, 0, true));
    }
    assert!(pool.send(&call()).await.is_err());
    assert_eq!((pool.counts()[0].failures, pool.counts()[0].ejections), (3, 1));
}

#[tokio::test]
async fn silence_has_a_limit_before_an_answer_and_inside_it() {
    let limited = async |deed: Deed, answer: Duration, idle: Duration| {
        let a = Fake::start(&[deed], "{}").await;
        pool(vec![Upstream { answer, idle, ..upstream("a", &a.url) }]).await
    };
    let after = Duration::from_secs(1);
    let late = Failure::Late { upstream: "a".into(), after };
    let pool = limited(Deed::Hold(""), after, LONG).await;
    assert_eq!(pool.send(&call()).await.err().unwrap().failure, late);
    let pool = limited(Deed::Hold(FIRST), LONG, after).await;
    let mut begun = pool.send(&call()).await.unwrap();
    assert_eq!(begun.body.chunk().await.unwrap().unwrap(), "abc");
    assert_eq!(begun.body.chunk().await.unwrap_err(), late);
    assert_eq!((pool.counts()[0].failures, pool.counts()[0].in_flight), (1, 0));
}

#[tokio::test]
async fn a_request_goes_where_its_model_is() {
    let a =
        Fake::start(&[OK], r#"{"data":[{"id":"shared"},{"id":"small","max_model_len":7}]}"#).await;
    let b = Fake::start(&[OK], "<html>").await;
    let configured = vec!["shared".to_owned(), "large".to_owned()];
    let b = Upstream { models: configured, ..upstream("b", &b.url) };
    let pool = pool(vec![upstream("a", &a.url), b]).await;
    let asked = async |model: &str| {
        let call = Call { model: Some(model.to_owned()), ..call() };
        pool.send(&call).await.map(|it| it.upstream.to_string())
    };
    for _ in 0..3 {
        assert_eq!(asked("small").await.unwrap(), "a");
        assert_eq!(asked("large").await.unwrap(), "b");
        // The one without a list of its own may have it by now.
        assert_eq!(asked("new").await.unwrap(), "a");
    }
    let both = [asked("shared").await.unwrap(), asked("shared").await.unwrap()];
    assert!(both.contains(&"a".to_owned()) && both.contains(&"b".to_owned()), "{both:?}");

    let models = pool.models();
    let names: Vec<&str> = models.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["shared", "small", "large"]);
    assert_eq!(models[1].1.as_ref().unwrap()["max_model_len"], 7);
    assert!(pool.lists("large") && !pool.lists("new"));
}

#[tokio::test]
async fn a_model_that_nobody_can_have_is_refused_with_those_that_there_are() {
    let a = Fake::start(&[OK], "{}").await;
    let only = Upstream { models: vec!["m".to_owned()], ..upstream("a", &a.url) };
    let pool = pool(vec![only]).await;
    let failed = pool.send(&Call { model: Some("x".to_owned()), ..call() }).await.err().unwrap();
    let unknown = Failure::UnknownModel { model: "x".to_owned(), known: "m".to_owned() };
    assert_eq!((failed.failure, a.posts()), (unknown, 0));
}

#[tokio::test]
async fn keys_go_to_their_upstream_and_a_clients_own_stays_here() {
    let (a, b) = (Fake::start(&[OK], "{}").await, Fake::start(&[OK], "{}").await);
    let with_key = Upstream { api_key: ApiKey::new("sk-a"), ..upstream("a", &a.url) };
    let pool = pool(vec![with_key, upstream("b", &b.url)]).await;
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer sk-client".parse().unwrap());
    headers.insert("x-request-id", "7".parse().unwrap());
    let call = Call::new(CHAT, &headers, Bytes::from_static(b"{}"));
    for _ in 0..2 {
        pool.send(&call).await.unwrap();
    }
    let seen = |it: &Fake| it.seen.lock().unwrap().concat();
    assert!(seen(&a).contains("authorization: Bearer sk-a\r\n"), "{}", seen(&a));
    assert!(seen(&a).starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", seen(&a));
    assert!(!seen(&b).contains("authorization"), "{}", seen(&b));
    assert!(seen(&a).contains("x-request-id: 7") && seen(&b).contains("x-request-id: 7"));
}

#[tokio::test]
async fn a_pool_without_anybody_says_when_to_come_back() {
    let pool = pool(vec![upstream("a", &nowhere().await)]).await;
    for _ in 0..3 {
        let failed = pool.send(&call()).await.err().unwrap();
        assert_eq!(failed.failure, Failure::Unreachable { upstream: "a".into() });
        assert_eq!((failed.attempts, failed.upstream.as_deref()), (1, Some("a")));
    }
    let failed = pool.send(&call()).await.err().unwrap();
    assert!(matches!(failed.failure, Failure::NoneUsable { .. }), "{failed:?}");
    assert_eq!((failed.attempts, pool.usable()), (0, 0));
}
