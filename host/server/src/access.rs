//! What happens around every request: its ids, the end of a panic, and a word at DEBUG for requests that make no records.

use std::{panic::AssertUnwindSafe, time::Instant};

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use record::field;

use crate::{
    chat, completions, embeddings, error::ApiError, generate::milliseconds, metrics,
    request_id::RequestIds, request_log::TARGET, stored, vision,
};

const ROUTES: &str = "/v1/chat/completions, /v1/completions, /v1/embeddings, /vision, /v1/models, /tokenize, /openapi.json";

/// Paths come from anybody; more of one than this explains nothing.
const PATH_CHARS: usize = 512;

/// Among the extensions of an answer: its request has records of its own, wherever it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HasRecords;

pub(crate) async fn access(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let ids = RequestIds::of(request.extensions(), request.headers());
    let method = request.method().clone();
    let path = decoded(request.uri().path());
    request.extensions_mut().insert(ids.clone());

    // A request that makes records is held by its `RequestLog`, which sees the panic too and logs it.
    let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = outcome.unwrap_or_else(|_| ApiError::Panic.into_response());
    ids.write(response.headers_mut());
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        // An upstream may have said nothing of it.
        let headers = response.headers_mut();
        headers.entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
    }

    // Scrapes come every few seconds for ever: only one that fails is worth a word.
    let is_scrape = path == metrics::ROUTE && response.status().is_success();
    let is_told = response.extensions().get::<HasRecords>().is_some();
    if !is_scrape && !is_told && recorded(&method, &path).is_none() {
        visited(&method, &path, response.status(), started);
    }
    response
}

/// A path as a person reads it: what hides behind `%40` is redacted like what stands there plainly.
pub(crate) fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path)
        .decode_utf8_lossy()
        .chars()
        .take(PATH_CHARS)
        .collect()
}

/// The route of a request that makes records, which its [`crate::request_log::RequestLog`] writes.
pub(crate) fn recorded(method: &Method, path: &str) -> Option<&'static str> {
    let writes = [chat::ROUTE, completions::ROUTE, embeddings::ROUTE, vision::ROUTE];
    if *method == Method::POST && writes.contains(&path) {
        return writes.into_iter().find(|it| *it == path);
    }
    let reads = [Method::GET, Method::HEAD].contains(method);
    let below = path.strip_prefix(chat::ROUTE)?;
    if below.is_empty() {
        return reads.then_some(chat::ROUTE);
    }
    let id = below.strip_prefix('/').filter(|it| !it.is_empty())?;
    match id.split_once('/') {
        None => (reads || [Method::POST, Method::DELETE].contains(method)).then_some(stored::ONE),
        Some((_, more)) => (reads && more == "messages").then_some(stored::MESSAGES),
    }
}

/// At DEBUG, so that probes don't drown the log; a panic is never a detail.
fn visited(method: &Method, path: &str, status: StatusCode, started: Instant) {
    let status = u64::from(status.as_u16());
    let total = milliseconds(started.elapsed());
    if status == 500 {
        tracing::error!(
            target: TARGET,
            event = "http.access",
            { field::HTTP_REQUEST_METHOD } = method.as_str(),
            { field::URL_PATH } = path,
            { field::HTTP_RESPONSE_STATUS_CODE } = status,
            { field::ENDPOINT_TOTAL_MS } = total,
        );
    } else {
        tracing::debug!(
            target: TARGET,
            event = "http.access",
            { field::HTTP_REQUEST_METHOD } = method.as_str(),
            { field::URL_PATH } = path,
            { field::HTTP_RESPONSE_STATUS_CODE } = status,
            { field::ENDPOINT_TOTAL_MS } = total,
        );
    }
}

pub(crate) async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    ApiError::UnknownRoute {
        method: method.to_string(),
        path: uri.path().to_owned(),
        known: ROUTES,
    }
}

/// The router adds the `allow` header.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::WrongMethod { method: method.to_string(), path: uri.path().to_owned() }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::{Body, to_bytes},
        http::header,
        middleware,
        routing::get,
    };
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::request_log::tests::events_of;

    fn router() -> Router {
        async fn boom() -> Response {
            panic!("a bug")
        }
        async fn busy() -> StatusCode {
            StatusCode::TOO_MANY_REQUESTS
        }
        async fn text() -> &'static str {
            "up 1\n"
        }
        Router::new()
            .route("/boom", get(boom))
            .route("/busy", get(busy))
            .route(metrics::ROUTE, get(text))
            .fallback(unknown_route)
            .method_not_allowed_fallback(wrong_method)
            .layer(middleware::from_fn(access))
    }

    async fn check(method: &str, path: &str, status: u16, code: &str) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-request-id", "mine")
            .body(Body::empty())
            .unwrap();
        let (parts, body) = router().oneshot(request).await.unwrap().into_parts();
        let bytes = to_bytes(body, 1 << 16).await.unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(parts.status.as_u16(), status, "{method} {path}");
        assert_eq!(value["error"]["code"], code);
        assert_eq!(parts.headers["x-request-id"], "mine");
        assert_eq!(parts.headers["x-bucksaw-request-id"].len(), 36);
        Response::from_parts(parts, Body::empty())
    }

    #[tokio::test]
    async fn what_no_handler_answers_has_ids_and_the_apis_shape() {
        check("GET", "/nowhere", 404, "unknown_route").await;
        check("GET", "/boom", 500, "panic").await;
        let response = check("POST", "/boom", 405, "method_not_allowed").await;
        assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
    }

    #[tokio::test]
    async fn whoever_is_refused_for_now_hears_when_to_come_back() {
        let request = Request::builder().uri("/busy").body(Body::empty()).unwrap();
        let response = router().oneshot(request).await.unwrap();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn requests_of_these_routes_make_records_of_their_own() {
        let check = |method: Method, path: &str, want: bool| {
            assert_eq!(recorded(&method, path).is_some(), want, "{method} {path}");
        };
        check(Method::POST, "/vision", true);
        check(Method::GET, "/vision", false);
        for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::PUT] {
            let reads = [Method::GET, Method::HEAD].contains(&method);
            let (put, deletes) = (method == Method::PUT, method == Method::DELETE);
            check(method.clone(), "/v1/chat/completions", !put && !deletes);
            check(method.clone(), "/v1/chat/completions/chatcmpl-1", !put);
            check(method.clone(), "/v1/chat/completions/chatcmpl-1/messages", reads);
            check(method.clone(), "/v1/chat/completions/chatcmpl-1/more", false);
            check(method.clone(), "/v1/chat/completions/", false);
            check(method.clone(), "/v1/chat/completionsx", false);
            check(method, "/v1/models", false);
        }
    }

    #[test]
    fn a_scrape_says_nothing_unless_it_fails() {
        let check = |method: &str, path: &str, expected: &[&str]| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let names = events_of(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(router().oneshot(request)).unwrap();
            });
            assert_eq!(names, expected, "{method} {path}");
        };
        check("GET", "/metrics", &[]);
        check("POST", "/metrics", &["http.access"]);
        check("GET", "/metrics/more", &["http.access"]);
        check("GET", "/nowhere", &["http.access"]);
    }
}
