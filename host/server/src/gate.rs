//! What a request has to have before anybody looks at it: a key, if the server has keys, and headers of a sensible size. Who has no
//! key is answered 401, whatever was asked for; probes, scrapes and readers of the specification need none.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    Key, access,
    error::ApiError,
    metrics, openapi,
    request_log::{Arrival, RequestLog},
    state::ChainFor,
};

const OPEN: [&str; 5] = ["/health", "/ping", "/version", metrics::ROUTE, openapi::ROUTE];

/// 64 KiB: eight times what proxies take by default.
const HEAD_BYTES_MAX: usize = 64 << 10;

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
    let error = if head_bytes(request.headers()) > HEAD_BYTES_MAX {
        ApiError::HeadTooLarge { limit: HEAD_BYTES_MAX }
    } else if OPEN.contains(&path) || has_key(&gate.keys, request.headers()) {
        return next.run(request).await;
    } else {
        ApiError::WrongApiKey
    };
    if let Some(route) = access::recorded(request.method(), path) {
        let (parts, _) = request.into_parts();
        RequestLog::new(Arrival::new(&gate.chain_for, &parts, route)).refuse(&error);
    }
    error.into_response()
}

fn has_key(keys: &[Key], headers: &HeaderMap) -> bool {
    // Every key is compared, so that the time says nothing of which one it was.
    keys.is_empty() || keys.iter().filter(|it| it.is_in(headers)).count() > 0
}

fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}
