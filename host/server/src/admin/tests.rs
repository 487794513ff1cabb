use axum::{
    body::to_bytes,
    http::{header, response::Parts},
};
use serde_json::json;
use tower::ServiceExt as _;

use super::*;
use crate::request_log::tests::{events_of, seen_of};

const KEY: &str = "open-sesame-0123";
const RIGHT: Option<&str> = Some("Bearer open-sesame-0123");

#[derive(Clone, Copy)]
enum Fake {
    Works,
    Refuses,
    Panics,
}

impl Fake {
    fn change(self, revision: u64) -> Result<Value, Refusal> {
        let problem = |it: &str| format!("{it}: is odd");
        match self {
            Self::Works => Ok(json!({"revision": revision})),
            Self::Refuses => {
                Err(Refusal { problems: vec![problem("log.level"), problem("chains.default")] })
            }
            Self::Panics => panic!("a bug"),
        }
    }
}

impl Control for Fake {
    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }

    fn state(&self) -> Value {
        json!({"revision": 1})
    }

    fn reload(&self) -> Result<Value, Refusal> {
        self.change(2)
    }

    fn rollback(&self) -> Result<Value, Refusal> {
        self.change(0)
    }

    fn set_level(&self, wish: LevelWish) -> Result<Value, Refusal> {
        self.change(u64::from(wish.level.map_or(0, record::Severity::number)))
    }
}

async fn ask(
    control: Fake,
    what: &str,
    authorization: Option<&str>,
    body: Vec<u8>,
) -> (Parts, String) {
    let (method, path) = what.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if let Some(it) = authorization {
        request = request.header(header::AUTHORIZATION, it);
    }
    let request = request.body(Body::from(body)).unwrap();
    let router = admin_router(Arc::new(control), Key::new(KEY).unwrap());
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let bytes = to_bytes(body, 1 << 16).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(parts.headers.contains_key("x-request-id"), "{what}");
    assert!(!format!("{parts:?} {text}").contains(KEY), "{what}");
    (parts, text)
}

/// `code`: of the error, or none for a success. Gives the answer as JSON.
async fn check(
    control: Fake,
    what: &str,
    (authorization, bytes): (Option<&str>, usize),
    status: u16,
    code: Option<&str>,
) -> Value {
    let (parts, text) = ask(control, what, authorization, vec![b' '; bytes]).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parts.status.as_u16(), status, "{what}: {text}");
    assert_eq!(value["error"]["code"].as_str(), code, "{what}: {text}");
    let asks = parts.headers.get(header::WWW_AUTHENTICATE).map(|it| it.as_bytes());
    assert_eq!(asks, (status == 401).then_some(b"Bearer".as_slice()), "{what}");
    value
}

#[tokio::test]
async fn without_the_key_there_is_nothing_to_see() {
    let wrong =
        [None, Some("Bearer open-sesame-0124"), Some("open-sesame-0123"), Some("Basic b3Blbg==")];
    let all = [
        "GET /admin/state",
        "POST /admin/reload",
        "POST /admin/rollback",
        "GET /metrics",
        "GET /",
        "GET /admin/nowhere",
        "POST /v1/chat/completions",
        // A wrong method.
        "DELETE /admin/reload",
    ];
    for key in wrong {
        for what in all {
            check(Fake::Panics, what, (key, 0), 401, Some("invalid_api_key")).await;
        }
        // Nothing is read for a stranger.
        let big = (key, BODY_BYTES + 1);
        check(Fake::Panics, "POST /admin/reload", big, 401, Some("invalid_api_key")).await;
    }
}

#[tokio::test]
async fn with_the_key_each_route_does_its_work() {
    let works = Fake::Works;
    assert_eq!(check(works, "GET /admin/state", (RIGHT, 0), 200, None).await["revision"], 1);
    assert_eq!(check(works, "POST /admin/reload", (RIGHT, 0), 200, None).await["revision"], 2);
    assert_eq!(check(works, "POST /admin/rollback", (RIGHT, 0), 200, None).await["revision"], 0);
    let lower = Some("bearer open-sesame-0123");
    check(works, "GET /admin/state", (lower, 0), 200, None).await;

    let nowhere = check(works, "GET /admin/nowhere", (RIGHT, 0), 404, Some("unknown_route")).await;
    assert!(nowhere["error"]["message"].as_str().unwrap().contains("/admin/rollback"));
    check(works, "GET /admin/reload", (RIGHT, 0), 405, Some("method_not_allowed")).await;
    check(Fake::Panics, "POST /admin/reload", (RIGHT, 0), 500, Some("panic")).await;
}

#[tokio::test]
async fn a_refusal_tells_all_problems() {
    for what in ["POST /admin/reload", "POST /admin/rollback"] {
        let value = check(Fake::Refuses, what, (RIGHT, 0), 409, Some("change_refused")).await;
        let problems = ["log.level: is odd", "chains.default: is odd"];
        assert_eq!(value["error"]["problems"], json!(problems));
        let message = value["error"]["message"].as_str().unwrap();
        assert!(problems.iter().all(|it| message.contains(it)), "{message}");
    }
}

#[tokio::test]
async fn a_body_is_small() {
    let reload = "POST /admin/reload";
    check(Fake::Works, reload, (RIGHT, BODY_BYTES), 200, None).await;
    check(Fake::Works, reload, (RIGHT, BODY_BYTES + 1), 413, Some("body_too_large")).await;
}

#[tokio::test]
async fn metrics_are_text() {
    let (parts, text) = ask(Fake::Works, "GET /metrics", RIGHT, Vec::new()).await;
    assert_eq!((parts.status.as_u16(), text.as_str()), (200, "up 1\n"));
    let kind = &parts.headers[header::CONTENT_TYPE];
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
}

#[test]
fn a_change_is_logged_and_the_key_is_not() {
    let run = |what: &str, key: Option<&'static str>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(ask(Fake::Works, what, key, Vec::new()));
    };
    let check = |what: &str, key: Option<&'static str>, expected: &[&str]| {
        assert_eq!(events_of(|| run(what, key)), expected, "{what}");
        let seen = seen_of(|| run(what, key));
        assert!(!format!("{seen:?}").contains("sesame"), "{what}");
    };
    check("POST /admin/reload", RIGHT, &["admin.called", "http.access"]);
    check("POST /admin/rollback", RIGHT, &["admin.called", "http.access"]);
    check("POST /admin/reload", Some("Bearer sesame"), &["http.access"]);
    check("GET /admin/state", RIGHT, &["http.access"]);
    check("GET /metrics", RIGHT, &[]);
}
