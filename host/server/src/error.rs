//! Every answer that is not a success: its text, its HTTP status, and the OpenAI error object's `type`, `param` and `code`.
//! The code is also the `error.type` of the log, so it comes from a closed set and never from a request.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::{AdapterChangeError, EmbedError, EngineError, ServedModel, SubmitError};
use serde_json::{Value, json};
use upstream::Failure;

use crate::{admin::Refusal, image::ImageError, keep::StoreError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The parser's text, which ends with the line and the column.
    #[error("the request body is not valid json: {0}")]
    BadJson(String),
    #[error("the request body must be a json object, not {0}")]
    NotAnObject(&'static str),
    #[error("the query string is not valid: {0}")]
    BadQuery(String),
    #[error("the form is not valid: {0}")]
    BadForm(String),
    #[error("the request body is larger than {limit} bytes: send less, or smaller images")]
    BodyTooLarge { limit: usize },
    #[error("the headers are more than 100, or larger than {limit} bytes: send less")]
    HeadTooLarge { limit: usize },
    #[error("the headers did not arrive within {seconds} s: send them at once")]
    HeadTooSlow { seconds: u64 },
    #[error("the address is too long: send what it says in a body")]
    UriTooLong,
    #[error("what arrived is no request of HTTP/1.1: TLS and HTTP/2 need a proxy in front")]
    NotHttp,
    #[error("the request body did not arrive within {seconds} s: send it again")]
    BodyTooSlow { seconds: u64 },
    #[error("the connection ended before the request body did")]
    BodyAborted,
    #[error("{param} is missing: {hint}")]
    Missing { param: String, hint: &'static str },
    #[error("{param} {reason}")]
    Invalid { param: String, reason: String },
    #[error("{param} is not supported: {reason}")]
    Unsupported { param: String, reason: &'static str },
    #[error("{param}: {source}")]
    Image { param: String, source: ImageError },
    #[error("no {param} is called {name:?}; there is {known}")]
    UnknownModel { param: &'static str, name: String, known: String },
    #[error("model {model:?} cannot see images: ask for one with vision, or send none")]
    NoVision { model: String },
    #[error("there is no {method} {path} here: see {known}")]
    UnknownRoute { method: String, path: String, known: &'static str },
    #[error("{path} does not take {method}: see the allow header")]
    WrongMethod { method: String, path: String },
    #[error("model {model:?} makes no embeddings: ask a server that has a model for them")]
    NoEmbeddings { model: String },
    /// Says the same of no key and of a wrong one.
    #[error("the API key is missing or wrong: send the header authorization: Bearer KEY")]
    WrongApiKey,
    /// Says the same of no key and of a wrong one.
    #[error("the admin key is missing or wrong: send the header authorization: Bearer KEY")]
    WrongKey,
    #[error("{0}")]
    ChangeRefused(Refusal),
    #[error("there is no store of completions here: add [store] to the server's configuration")]
    NoStore,
    #[error(
        "no stored completion has this id: it was not to be stored, is not written yet, or is gone"
    )]
    NotStored,
    #[error("{0}")]
    Store(StoreError),
    #[error(
        "nothing was changed: an editor of the log's chain failed ({0}), so the metadata cannot be stored"
    )]
    ChangeWithheld(&'static str),
    #[error("the queue of {capacity} requests is full: try again shortly")]
    QueueFull { capacity: usize },
    #[error("the server is shutting down: try another one, or this one shortly")]
    ShuttingDown,
    #[error("{0}")]
    Adapter(AdapterChangeError),
    #[error("{0}")]
    Engine(EngineError),
    #[error("the engine stopped before the answer was complete: see the log of the server")]
    EngineGone,
    #[error("{0}")]
    Upstream(Failure),
    /// An upstream's own error, which the client is sent as it came. `said` may hold what a person wrote.
    #[error("the upstream answered {status}: {said}")]
    UpstreamSaid { status: StatusCode, said: String },
    #[error("the upstream {upstream:?} answered with something that is no answer")]
    UpstreamGarbage { upstream: String },
    #[error("the server failed while it handled the request: see its log")]
    Panic,
}

/// Which terminal record an error ends a request with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The client's, or the server refused before it began: `request.rejected`.
    Refused,
    /// The server's: `request.failed`.
    Failed,
    /// Nobody is there to hear of it: `request.cancelled`.
    Left,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl ApiError {
    pub(crate) fn invalid(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { param: param.into(), reason: reason.into() }
    }

    /// `param` is `model` or `adapter`.
    pub(crate) fn unknown_model(
        param: &'static str,
        name: impl Into<String>,
        models: &[ServedModel],
    ) -> Self {
        let wanted = models.iter().filter(|it| param != "adapter" || it.parent.is_some());
        let known: Vec<_> = wanted.map(|it| it.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Self::UnknownModel { param, name: name.into(), known }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.class().0
    }

    /// `error.type` of the log and `code` of the answer.
    pub(crate) fn code(&self) -> &'static str {
        self.class().2
    }

    /// Whether it needs a person at once: the log gives it CRITICAL.
    pub(crate) fn is_critical(&self) -> bool {
        matches!(self, Self::Engine(EngineError::OutOfMemory(_)))
    }

    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::BodyAborted => Blame::Left,
            // An orderly end is no failure, and must not alert anybody.
            Self::ShuttingDown => Blame::Refused,
            _ if self.status().is_client_error() => Blame::Refused,
            _ => Blame::Failed,
        }
    }

    /// Status, `type` and `code`.
    fn class(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadJson(_) | Self::NotAnObject(_) => (S::BAD_REQUEST, INVALID, "invalid_json"),
            Self::BadQuery(_) => (S::BAD_REQUEST, INVALID, "invalid_query"),
            Self::BadForm(_) => (S::BAD_REQUEST, INVALID, "invalid_form"),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, INVALID, "body_too_large"),
            Self::HeadTooLarge { .. } => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID, "headers_too_large")
            }
            Self::HeadTooSlow { .. } => (S::REQUEST_TIMEOUT, INVALID, "headers_too_slow"),
            Self::UriTooLong => (S::URI_TOO_LONG, INVALID, "uri_too_long"),
            Self::NotHttp => (S::BAD_REQUEST, INVALID, "not_http"),
            Self::BodyTooSlow { .. } => (S::REQUEST_TIMEOUT, INVALID, "body_too_slow"),
            Self::BodyAborted => (S::BAD_REQUEST, INVALID, "body_aborted"),
            Self::Missing { .. } => (S::BAD_REQUEST, INVALID, "missing_required_parameter"),
            Self::Invalid { .. } => (S::BAD_REQUEST, INVALID, "invalid_value"),
            Self::Unsupported { .. } => (S::BAD_REQUEST, INVALID, "unsupported_parameter"),
            Self::Image { source, .. } => (S::BAD_REQUEST, INVALID, source.code()),
            Self::UnknownModel { .. } => (S::NOT_FOUND, INVALID, "model_not_found"),
            Self::NoVision { .. } => (S::BAD_REQUEST, INVALID, "no_vision"),
            Self::UnknownRoute { .. } => (S::NOT_FOUND, INVALID, "unknown_route"),
            Self::WrongMethod { .. } => (S::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed"),
            Self::NoEmbeddings { .. } => (S::BAD_REQUEST, INVALID, "no_embeddings"),
            Self::WrongApiKey => (S::UNAUTHORIZED, INVALID, "invalid_api_key"),
            Self::WrongKey => (S::UNAUTHORIZED, INVALID, "invalid_api_key"),
            Self::ChangeRefused(_) => (S::CONFLICT, INVALID, "change_refused"),
            Self::NoStore => (S::NOT_FOUND, INVALID, "no_store"),
            Self::NotStored => (S::NOT_FOUND, INVALID, "completion_not_found"),
            Self::Store(StoreError::UnknownCursor) => (S::BAD_REQUEST, INVALID, "invalid_value"),
            Self::Store(StoreError::Busy) => (S::SERVICE_UNAVAILABLE, SERVER, "store_busy"),
            Self::Store(StoreError::Failed(_)) => {
                (S::INTERNAL_SERVER_ERROR, SERVER, "store_failed")
            }
            Self::ChangeWithheld(_) => (S::INTERNAL_SERVER_ERROR, SERVER, "change_withheld"),
            Self::Adapter(it) => adapter_class(it),
            Self::QueueFull { .. } => (S::TOO_MANY_REQUESTS, "rate_limit_error", "queue_full"),
            Self::ShuttingDown => (S::SERVICE_UNAVAILABLE, SERVER, "shutting_down"),
            Self::Engine(it) if it.is_client_error() => (S::BAD_REQUEST, INVALID, it.error_type()),
            Self::Engine(it @ EngineError::CacheFull) => {
                (S::TOO_MANY_REQUESTS, "rate_limit_error", it.error_type())
            }
            Self::Engine(it @ EngineError::OutOfMemory(_)) => {
                (S::SERVICE_UNAVAILABLE, SERVER, it.error_type())
            }
            Self::Engine(it @ EngineError::DeadlineExceeded) => {
                (S::GATEWAY_TIMEOUT, SERVER, it.error_type())
            }
            Self::Engine(it) => (S::INTERNAL_SERVER_ERROR, SERVER, it.error_type()),
            Self::EngineGone => (S::INTERNAL_SERVER_ERROR, SERVER, "engine_gone"),
            Self::Upstream(it) => match it {
                Failure::UnknownModel { .. } => (S::NOT_FOUND, INVALID, "model_not_found"),
                Failure::NoneUsable { .. } => {
                    (S::SERVICE_UNAVAILABLE, SERVER, "upstream_unavailable")
                }
                Failure::Busy => (S::TOO_MANY_REQUESTS, "rate_limit_error", "upstream_busy"),
                Failure::Unreachable { .. } => (S::BAD_GATEWAY, SERVER, "upstream_unreachable"),
                Failure::Broken { .. } => (S::BAD_GATEWAY, SERVER, "upstream_broken"),
                Failure::Late { .. } => (S::GATEWAY_TIMEOUT, SERVER, "upstream_timeout"),
            },
            Self::UpstreamSaid { status, .. } if status.is_client_error() => {
                (*status, INVALID, "upstream_refused")
            }
            Self::UpstreamSaid { status, .. } if status.is_server_error() => {
                (*status, SERVER, "upstream_error")
            }
            // In the middle of a stream, or where no answer of the API is.
            Self::UpstreamSaid { .. } => (S::BAD_GATEWAY, SERVER, "upstream_error"),
            Self::UpstreamGarbage { .. } => (S::BAD_GATEWAY, SERVER, "upstream_garbage"),
            Self::Panic => (S::INTERNAL_SERVER_ERROR, SERVER, "panic"),
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Missing { param, .. }
            | Self::Invalid { param, .. }
            | Self::Unsupported { param, .. }
            | Self::Image { param, .. } => Some(param),
            Self::UnknownModel { param, .. } => Some(param),
            Self::NoVision { .. }
            | Self::NoEmbeddings { .. }
            | Self::Upstream(Failure::UnknownModel { .. }) => Some("model"),
            Self::NotStored => Some("completion_id"),
            Self::Store(StoreError::UnknownCursor) => Some("after"),
            _ => None,
        }
    }

    /// What the client is told. What a library, a driver or a disk said is for the log alone: a step computes several people's
    /// texts, and it may quote any of them.
    fn said(&self) -> String {
        match self {
            Self::Engine(EngineError::Internal(_) | EngineError::Panicked(_)) => {
                "the engine failed while it computed the answer: see the log of the server".into()
            }
            Self::Engine(EngineError::OutOfMemory(_)) => {
                "out of memory: shorten the prompt, or try again later".into()
            }
            Self::Store(StoreError::Failed(_)) => {
                "the store failed: see the log of the server".into()
            }
            _ => self.to_string(),
        }
    }

    /// The OpenAI error object: a whole answer, or one event of a stream.
    pub(crate) fn body(&self) -> Value {
        let (_, kind, code) = self.class();
        let mut body = json!({
            "error": {
                "message": self.said(),
                "type": kind,
                "param": self.param(),
                "code": code,
            }
        });
        if let Self::ChangeRefused(refusal) = self {
            body["error"]["problems"] = json!(refusal.problems);
        }
        body
    }
}

fn adapter_class(error: &AdapterChangeError) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match error {
        AdapterChangeError::Unknown(_) => (S::NOT_FOUND, INVALID, "model_not_found"),
        AdapterChangeError::ShuttingDown => (S::SERVICE_UNAVAILABLE, SERVER, "shutting_down"),
        AdapterChangeError::Taken(_) => (S::BAD_REQUEST, INVALID, "adapter_exists"),
        _ => (S::BAD_REQUEST, INVALID, "adapter_refused"),
    }
}

impl From<AdapterChangeError> for ApiError {
    fn from(it: AdapterChangeError) -> Self {
        Self::Adapter(it)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Upstream(Failure::NoneUsable { retry_after }) => {
                let seconds = upstream::error::seconds(&retry_after);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::QueueFull { .. }
            | Self::ShuttingDown
            | Self::Engine(EngineError::CacheFull)
            | Self::Store(StoreError::Busy)
            | Self::Upstream(Failure::Busy) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::WrongKey | Self::WrongApiKey => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // The rest of the body is still on its way; the next request can't begin behind it.
            Self::BodyTooLarge { .. } | Self::BodyTooSlow { .. } | Self::HeadTooLarge { .. } => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(it: EngineError) -> Self {
        Self::Engine(it)
    }
}

impl From<Failure> for ApiError {
    fn from(it: Failure) -> Self {
        Self::Upstream(it)
    }
}

impl From<EmbedError> for ApiError {
    fn from(it: EmbedError) -> Self {
        match it {
            EmbedError::Refused(error) => error.into(),
            EmbedError::Failed(error) => error.into(),
            EmbedError::Gone => Self::EngineGone,
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(it: SubmitError) -> Self {
        match it {
            SubmitError::QueueFull { capacity } => Self::QueueFull { capacity },
            SubmitError::UnknownModel(name) => Self::UnknownModel {
                param: "model",
                name,
                known: "a list at /v1/models".to_owned(),
            },
            SubmitError::NoVision(model) => Self::NoVision { model },
            SubmitError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status_type_code_param_and_blame() {
        let check = |error: ApiError, status: u16, kind: &str, code: &str, param: Option<&str>| {
            let body = error.body();
            let object = &body["error"];
            assert_eq!(error.status().as_u16(), status, "{error}");
            assert_eq!(object["type"], kind, "{error}");
            assert_eq!(object["code"], code, "{error}");
            assert_eq!(object["param"].as_str(), param, "{error}");
            assert_eq!(object["message"], error.to_string());
            error.blame()
        };
        let refused = [
            check(ApiError::BadJson("x".to_owned()), 400, INVALID, "invalid_json", None),
            check(ApiError::BodyTooLarge { limit: 1 }, 413, INVALID, "body_too_large", None),
            check(
                ApiError::invalid("top_p", "is odd"),
                400,
                INVALID,
                "invalid_value",
                Some("top_p"),
            ),
            check(
                SubmitError::QueueFull { capacity: 4 }.into(),
                429,
                "rate_limit_error",
                "queue_full",
                None,
            ),
            check(EngineError::CacheFull.into(), 429, "rate_limit_error", "cache_full", None),
            check(
                EmbedError::Refused(SubmitError::QueueFull { capacity: 4 }).into(),
                429,
                "rate_limit_error",
                "queue_full",
                None,
            ),
            check(SubmitError::ShuttingDown.into(), 503, SERVER, "shutting_down", None),
            check(
                SubmitError::UnknownModel("m".to_owned()).into(),
                404,
                INVALID,
                "model_not_found",
                Some("model"),
            ),
            check(
                SubmitError::NoVision("m".to_owned()).into(),
                400,
                INVALID,
                "no_vision",
                Some("model"),
            ),
            check(ApiError::NoStore, 404, INVALID, "no_store", None),
            check(ApiError::NotStored, 404, INVALID, "completion_not_found", Some("completion_id")),
            check(
                ApiError::Store(StoreError::UnknownCursor),
                400,
                INVALID,
                "invalid_value",
                Some("after"),
            ),
            check(ApiError::WrongKey, 401, INVALID, "invalid_api_key", None),
            check(
                ApiError::ChangeRefused(Refusal { problems: vec!["a.b: is odd".to_owned()] }),
                409,
                INVALID,
                "change_refused",
                None,
            ),
        ];
        assert!(refused.iter().all(|it| *it == Blame::Refused));
        assert_eq!(check(ApiError::Panic, 500, SERVER, "panic", None), Blame::Failed);
        assert_eq!(check(ApiError::EngineGone, 500, SERVER, "engine_gone", None), Blame::Failed);
        assert_eq!(check(ApiError::BodyAborted, 400, INVALID, "body_aborted", None), Blame::Left);

        let said = |status| ApiError::UpstreamSaid { status, said: "no".to_owned() };
        let name = || "a".into();
        let after = std::time::Duration::from_millis(1500);
        let unknown = Failure::UnknownModel { model: "m".to_owned(), known: "n".to_owned() }.into();
        let refused = [
            check(unknown, 404, INVALID, "model_not_found", Some("model")),
            check(Failure::Busy.into(), 429, "rate_limit_error", "upstream_busy", None),
            check(said(StatusCode::CONFLICT), 409, INVALID, "upstream_refused", None),
        ];
        assert!(refused.iter().all(|it| *it == Blame::Refused));
        let none = Failure::NoneUsable { retry_after: after };
        let late = Failure::Late { upstream: name(), after };
        let garbage = ApiError::UpstreamGarbage { upstream: "a".to_owned() };
        let failed = [
            check(none.into(), 503, SERVER, "upstream_unavailable", None),
            check(
                Failure::Unreachable { upstream: name() }.into(),
                502,
                SERVER,
                "upstream_unreachable",
                None,
            ),
            check(
                Failure::Broken { upstream: name() }.into(),
                502,
                SERVER,
                "upstream_broken",
                None,
            ),
            check(late.into(), 504, SERVER, "upstream_timeout", None),
            check(said(StatusCode::BAD_GATEWAY), 502, SERVER, "upstream_error", None),
            check(said(StatusCode::OK), 502, SERVER, "upstream_error", None),
            check(garbage, 502, SERVER, "upstream_garbage", None),
        ];
        assert!(failed.iter().all(|it| *it == Blame::Failed));

        let memory = ApiError::Engine(EngineError::OutOfMemory("no room".to_owned()));
        assert_eq!((memory.status().as_u16(), memory.blame()), (503, Blame::Failed));
        assert!(memory.is_critical());
    }

    #[test]
    fn headers_tell_a_client_what_to_do_next() {
        let check = |error: ApiError, name: header::HeaderName, value: &str| {
            assert_eq!(error.into_response().headers()[name], value);
        };
        check(ApiError::QueueFull { capacity: 1 }, header::RETRY_AFTER, "1");
        check(ApiError::ShuttingDown, header::RETRY_AFTER, "1");
        check(EngineError::CacheFull.into(), header::RETRY_AFTER, "1");
        check(ApiError::BodyTooLarge { limit: 1 }, header::CONNECTION, "close");
        check(ApiError::WrongKey, header::WWW_AUTHENTICATE, "Bearer");
        let retry_after = std::time::Duration::from_millis(1500);
        check(Failure::NoneUsable { retry_after }.into(), header::RETRY_AFTER, "2");
        check(Failure::Busy.into(), header::RETRY_AFTER, "1");
    }
}
