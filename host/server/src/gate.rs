//! What a request has to have before anybody looks at it: a head that can be read, of a sensible size, and a key, if the server
//! has keys. Who has none is answered 401, whatever was asked for; probes, scrapes and readers of the specification need no key.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    Key,
    access::{self, HasRecords},
    error::ApiError,
    metrics, openapi,
    request_log::{Arrival, RequestLog},
    serve::Unread,
    state::ChainFor,
};

const OPEN: [&str; 5] = ["/health", "/ping", "/version", metrics::ROUTE, openapi::ROUTE];

/// 64 KiB: eight times what proxies take by default.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;

/// Who may come in, and how those are told of who may not.
#[derive(Clone)]
pub(crate) struct Gate {
    keys: Arc<[Key]>,
    chain_for: ChainFor,
}

impl Gate {
    pub(crate) fn new(keys: &[Key], chain_for: &ChainFor) -> Self {
        Self { keys: keys.into(), chain_for: Arc::clone(chain_for) }
    }
}

pub(crate) async fn check(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let unread = request.extensions().get::<Unread>();
    let error = if let Some(unread) = unread {
        unread.error()
    } else if head_bytes(request.headers()) > HEAD_BYTES_MAX {
        ApiError::HeadTooLarge { limit: HEAD_BYTES_MAX }
    } else if OPEN.contains(&path) || has_key(&gate.keys, request.headers()) {
        return next.run(request).await;
    } else {
        ApiError::WrongApiKey
    };
    let route = access::recorded(request.method(), path);
    // Nobody can say what it was to be, and whoever sends many of them should be seen.
    if route.is_none() && unread.is_none() {
        return error.into_response();
    }
    let (parts, _) = request.into_parts();
    RequestLog::new(Arrival::new(&gate.chain_for, &parts, route)).refuse(&error);
    (Extension(HasRecords), error).into_response()
}

fn has_key(keys: &[Key], headers: &HeaderMap) -> bool {
    // Every key is compared, so that the time says nothing of which one it was.
    keys.is_empty() || keys.iter().filter(|it| it.is_in(headers)).count() > 0
}

fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}
