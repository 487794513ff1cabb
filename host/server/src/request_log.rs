//! The records of one request, from `request.received` to `request.summary`.
//!
//! **Exactly one terminal record a request**: whoever holds the [`RequestLog`] ends it by [`RequestLog::finish`] or
//! [`RequestLog::refuse`]; if it is dropped before that, the client left or the server cut it off at its own end
//! (`request.cancelled`), or the code that held it panicked (`request.failed`). For a stream it moves into the
//! stream. It knows no HTTP body and no engine.

mod content;
mod relayed;
mod stored;
#[cfg(test)]
pub(crate) mod tests;

use std::{backtrace::Backtrace, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use record::{event, field};
use tracing::Span;

pub(crate) use self::{
    content::PromptFacts,
    relayed::{Relayed, SentParams, Spoken},
    stored::{Answer, Counted, StoredChoice},
};
use crate::{
    completions, embeddings,
    error::{ApiError, Blame},
    generate::milliseconds,
    operation::Operation,
    request_id::RequestIds,
    serve::Cut,
    state::{ChainFor, RouteRequest},
    stored::{self as stored_routes, wish::Wish},
    trace::Trace,
};

/// Target of every event and span that is meant for the log.
pub(crate) const TARGET: &str = "bucksaw";

/// What access logs by custom call a request whose client left before there was an answer.
const CLIENT_LEFT: u16 = 499;

/// Browsers send up to some 300 characters.
const USER_AGENT_CHARS: usize = 512;

/// What is known of a request before its body is read.
pub(crate) struct Arrival {
    pub(crate) started: Instant,
    pub(crate) ids: RequestIds,
    pub(crate) method: String,
    /// None: the request was none that anybody could read.
    pub(crate) route: Option<&'static str>,
    pub(crate) path: String,
    pub(crate) client: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) trace: Option<Trace>,
    pub(crate) chain_for: ChainFor,
    pub(crate) cut: Option<Cut>,
}

impl Arrival {
    pub(crate) fn new(
        chain_for: &ChainFor,
        parts: &Parts,
        route: impl Into<Option<&'static str>>,
    ) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Self {
            started: Instant::now(),
            ids: RequestIds::of(&parts.extensions, &parts.headers),
            method: parts.method.to_string(),
            route: route.into(),
            path: crate::access::decoded(parts.uri.path()),
            client: peer.map(|it| it.0.ip().to_string()),
            headers: parts.headers.clone(),
            trace: Trace::of(&parts.headers),
            chain_for: Arc::clone(chain_for),
            cut: parts.extensions.get().cloned(),
        }
    }

    /// None for questions about what is stored.
    fn operation(&self) -> Option<Operation> {
        match self.route? {
            completions::ROUTE => Some(Operation::Completion),
            embeddings::ROUTE => Some(Operation::Embeddings),
            stored_routes::ONE | stored_routes::MESSAGES => None,
            _ => (self.method == "POST").then_some(Operation::Chat),
        }
    }

    /// The status of a request that was dropped before there was an answer.
    fn status_when_dropped(&self) -> u16 {
        let is_cut = self.cut.as_ref().is_some_and(Cut::is_made);
        if is_cut { ApiError::ShuttingDown.status().as_u16() } else { CLIENT_LEFT }
    }
}

pub(crate) struct RequestLog {
    arrival: Arrival,
    /// None until the chain is known, which may depend on the model that the body names.
    span: Option<Span>,
    ended: bool,
    body_bytes: Option<usize>,
    /// What is to be stored when there is an answer.
    wish: Option<Box<Wish>>,
    facts: Facts,
}

/// What the summary tells at the end.
#[derive(Debug, Default)]
struct Facts {
    model: Option<String>,
    stream: bool,
    served: Option<String>,
    response_id: Option<String>,
    finish_reason: Option<String>,
    images: Option<u64>,
    prompt_chars: Option<u64>,
    response_chars: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    generation_ms: Option<u64>,
    tokens_per_second: Option<f64>,
    queue_ms: Option<f64>,
    prefill_ms: Option<f64>,
    decode_ms: Option<f64>,
    store: Option<&'static str>,
    /// The upstream that a request was passed on to.
    upstream: Option<Arc<str>>,
    attempts: Option<u64>,
    /// Set when the head of the answer went out before its end was known.
    status: Option<StatusCode>,
}

impl RequestLog {
    pub(crate) fn new(arrival: Arrival) -> Self {
        let announced = arrival.headers.get(header::CONTENT_LENGTH);
        let body_bytes = announced.and_then(|it| it.to_str().ok()).and_then(|it| it.parse().ok());
        let (span, wish, facts) = (None, None, Facts::default());
        Self { arrival, span, ended: false, body_bytes, wish, facts }
    }

    pub(crate) fn ids(&self) -> &RequestIds {
        &self.arrival.ids
    }

    /// What generates nothing is asked by no other log.
    pub(crate) fn operation(&self) -> Operation {
        self.arrival.operation().unwrap_or(Operation::Chat)
    }

    /// When the request arrived.
    pub(crate) fn started(&self) -> Instant {
        self.arrival.started
    }

    pub(crate) fn elapsed_ms(&self) -> f64 {
        milliseconds(self.arrival.started.elapsed())
    }

    /// The body's true size, in place of the one that the client announced.
    pub(crate) fn body(&mut self, bytes: usize) {
        self.body_bytes = Some(bytes);
    }

    /// The request's span; for a request of which nothing is known yet it begins here.
    pub(crate) fn span(&mut self) -> &Span {
        if self.span.is_none() {
            self.received(None, false);
        }
        self.span.get_or_insert_with(Span::none)
    }

    /// The first record. `model` is as the client wrote it. Says nothing the second time.
    pub(crate) fn received(&mut self, model: Option<&str>, stream: bool) {
        if self.span.is_some() {
            return;
        }
        let Arrival { ids, headers, chain_for, .. } = &self.arrival;
        let path = self.arrival.path.as_str();
        let chosen = chain_for(&RouteRequest { request_id: &ids.id, path, headers, model });
        let span = tracing::error_span!(
            target: TARGET,
            "request",
            request_id = %ids.id,
            chain = %chosen.chain,
            revision = chosen.revision,
            level = chosen.level.map(|it| u64::from(it.number())),
        );
        let agent = headers.get(header::USER_AGENT).and_then(|it| it.to_str().ok());
        let agent = agent.map(|it| it.get(..USER_AGENT_CHARS).unwrap_or(it));
        tracing::info!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_RECEIVED,
            { field::HTTP_REQUEST_METHOD } = self.arrival.method.as_str(),
            { field::HTTP_ROUTE } = self.arrival.route,
            { field::URL_PATH } = path,
            { field::CLIENT_ADDRESS } = self.arrival.client.as_deref(),
            { field::USER_AGENT_ORIGINAL } = agent,
            { field::HTTP_REQUEST_BODY_SIZE } = self.body_bytes.map(|it| it as u64),
            { field::CLIENT_REQUEST_ID } = ids.client.as_deref(),
            { field::RETRY_COUNT } = retry_count(headers),
            { field::OPERATION_NAME } = self.arrival.operation().map(Operation::word),
            { field::REQUEST_MODEL } = model,
            { field::REQUEST_STREAM } = stream,
            { field::TRACE_ID } = self.arrival.trace.as_ref().map(Trace::id),
            { field::SPAN_ID } = self.arrival.trace.as_ref().map(Trace::span),
        );
        self.facts.model = model.map(str::to_owned);
        self.facts.stream = stream;
        self.span = Some(span);
    }

    /// The model that answers, by its served name.
    pub(crate) fn serving(&mut self, model: &str) {
        self.facts.served = Some(model.to_owned());
    }

    pub(crate) fn response_id(&mut self, id: &str) {
        self.facts.response_id = Some(id.to_owned());
    }

    /// The head of a stream goes out: whatever happens later, the client saw this status.
    pub(crate) fn began(&mut self, status: StatusCode) {
        self.facts.status = Some(status);
    }

    /// How much text a stream has sent so far, for the case that the client leaves.
    pub(crate) fn sent(&mut self, chars: usize) {
        self.facts.response_chars = Some(chars as u64);
    }

    pub(crate) fn finish(&mut self, status: StatusCode) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let span = self.span().clone();
        tracing::info!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_FINISHED,
            { field::HTTP_ROUTE } = self.arrival.route,
            { field::HTTP_RESPONSE_STATUS_CODE } = u64::from(status.as_u16()),
            { field::RESPONSE_ID } = self.facts.response_id.as_deref(),
            { field::RESPONSE_MODEL } = self.facts.served.as_deref(),
            { field::UPSTREAM_NAME } = self.facts.upstream.as_deref(),
            { field::UPSTREAM_ATTEMPTS } = self.facts.attempts,
        );
        self.sum_up("finished", status.as_u16(), None);
    }

    /// Ends the request with an error: rejected, failed or cancelled, as the error is.
    pub(crate) fn refuse(&mut self, error: &ApiError) {
        match error.blame() {
            Blame::Left => self.cancel(),
            Blame::Refused => self.reject(error),
            Blame::Failed => self.fail(error),
        }
    }

    fn reject(&mut self, error: &ApiError) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let span = self.span().clone();
        let status = self.facts.status.unwrap_or_else(|| error.status()).as_u16();
        let message = error.to_string();
        tracing::warn!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_REJECTED,
            { field::HTTP_ROUTE } = self.arrival.route,
            { field::ERROR_TYPE } = error.code(),
            { field::EXCEPTION_MESSAGE } = message.as_str(),
            { field::HTTP_RESPONSE_STATUS_CODE } = u64::from(status),
        );
        self.sum_up("rejected", status, Some(error.code()));
    }

    fn fail(&mut self, error: &ApiError) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let span = self.span().clone();
        let status = self.facts.status.unwrap_or_else(|| error.status()).as_u16();
        let message = error.to_string();
        let stack = tracing::enabled!(target: TARGET, tracing::Level::DEBUG)
            .then(|| Backtrace::force_capture().to_string());
        tracing::error!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_FAILED,
            { field::HTTP_ROUTE } = self.arrival.route,
            severity.number = error.is_critical().then_some(CRITICAL),
            { field::ERROR_TYPE } = error.code(),
            { field::EXCEPTION_MESSAGE } = message.as_str(),
            { field::HTTP_RESPONSE_STATUS_CODE } = u64::from(status),
            { field::EXCEPTION_STACKTRACE } = stack,
            { field::UPSTREAM_NAME } = self.facts.upstream.as_deref(),
            { field::UPSTREAM_ATTEMPTS } = self.facts.attempts,
        );
        self.sum_up("failed", status, Some(error.code()));
    }

    fn cancel(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let span = self.span().clone();
        let begun = self.facts.status.map(|it| it.as_u16());
        let status = begun.unwrap_or_else(|| self.arrival.status_when_dropped());
        tracing::warn!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_CANCELLED,
            { field::HTTP_ROUTE } = self.arrival.route,
            { field::HTTP_RESPONSE_STATUS_CODE } = u64::from(status),
            { field::RESPONSE_CHARS } = self.facts.response_chars,
        );
        self.sum_up("cancelled", status, Some("cancelled"));
    }

    /// What follows every terminal record.
    fn sum_up(&mut self, outcome: &'static str, status: u16, error: Option<&'static str>) {
        let total = self.elapsed_ms();
        let span = self.span().clone();
        tracing::info!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_TOTAL,
            { field::ENDPOINT_TOTAL_MS } = total,
        );
        let facts = &self.facts;
        tracing::info!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_SUMMARY,
            { field::HTTP_ROUTE } = self.arrival.route,
            { field::HTTP_RESPONSE_STATUS_CODE } = u64::from(status),
            { field::OUTCOME } = outcome,
            { field::ERROR_TYPE } = error,
            { field::OPERATION_NAME } = self.arrival.operation().map(Operation::word),
            { field::REQUEST_MODEL } = facts.model.as_deref(),
            { field::REQUEST_STREAM } = facts.stream,
            { field::RESPONSE_MODEL } = facts.served.as_deref(),
            { field::RESPONSE_ID } = facts.response_id.as_deref(),
            { field::FINISH_REASON } = facts.finish_reason.as_deref(),
            { field::IMAGES } = facts.images,
            { field::PROMPT_CHARS } = facts.prompt_chars,
            { field::RESPONSE_CHARS } = facts.response_chars,
            { field::INPUT_TOKENS } = facts.input_tokens,
            { field::OUTPUT_TOKENS } = facts.output_tokens,
            { field::QUEUE_MS } = facts.queue_ms,
            { field::PREFILL_MS } = facts.prefill_ms,
            { field::DECODE_MS } = facts.decode_ms,
            { field::GENERATION_MS } = facts.generation_ms,
            { field::TOKENS_PER_SECOND } = facts.tokens_per_second,
            { field::ENDPOINT_TOTAL_MS } = total,
            { field::STORE_STATUS } = facts.store,
            { field::CLIENT_REQUEST_ID } = self.arrival.ids.client.as_deref(),
            { field::RETRY_COUNT } = retry_count(&self.arrival.headers),
            { field::TRACE_ID } = self.arrival.trace.as_ref().map(Trace::id),
            { field::SPAN_ID } = self.arrival.trace.as_ref().map(Trace::span),
            { field::UPSTREAM_NAME } = facts.upstream.as_deref(),
            { field::UPSTREAM_ATTEMPTS } = facts.attempts,
        );
    }
}

/// OpenTelemetry's number of the level that `tracing` has no word for.
const CRITICAL: u64 = 21;

impl Drop for RequestLog {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() { self.fail(&ApiError::Panic) } else { self.cancel() }
    }
}

/// What OpenAI's clients count their own retries in; the tries of one call share no id.
fn retry_count(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-stainless-retry-count")?.to_str().ok()?.parse().ok()
}
