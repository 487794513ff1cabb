//! What all handlers share.

use std::sync::Arc;

use axum::http::HeaderMap;
use engine::EngineHandle;
use tokio::sync::Semaphore;

use crate::{Limits, keep::CompletionStore};

#[derive(Clone)]
pub struct Config {
    pub limits: Limits,
    /// What `GET /metrics` answers, in Prometheus text format 0.0.4. Asked at each scrape, on the thread that answers: must be
    /// quick.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether a stream logs each piece of text that it sends (`response.delta`), and not only the whole at its end. Off by
    /// default: there are as many records as pieces, so about one a token.
    pub log_deltas: bool,
    /// None: nothing is stored, and requests that ask for it are answered all the same.
    pub storing: Option<Storing>,
}

/// Where completions are stored, and which.
#[derive(Clone)]
pub struct Storing {
    pub store: Arc<dyn CompletionStore>,
    /// Those of all chat requests, and not only of those that ask for it.
    pub all: bool,
}

impl Default for Config {
    /// No metrics, no deltas, no store.
    fn default() -> Self {
        let metrics = Arc::new(String::new);
        Self { limits: Limits::default(), metrics, log_deltas: false, storing: None }
    }
}

/// What the choice of a chain may look at.
#[derive(Debug)]
pub struct RouteRequest<'a> {
    /// A UUID in lower case with hyphens, the id in the log: what to sample by. A client may have picked it.
    pub request_id: &'a str,
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// As the client wrote it; none when the body named none or could not be read.
    pub model: Option<&'a str>,
}

/// The chain that a request's records run through, from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The chain's name.
    pub chain: Arc<str>,
    /// Which revision of the log's configuration it was chosen in. The request keeps it, whatever is installed meanwhile.
    pub revision: u64,
}

/// Chooses the chain of a request. Must be quick and must not panic: it runs on the request path, also for requests that fail.
pub type ChainFor = Arc<dyn Fn(&RouteRequest<'_>) -> Chosen + Send + Sync>;

#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    engine: EngineHandle,
    limits: Limits,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    log_deltas: bool,
    storing: Option<Storing>,
    chain_for: ChainFor,
    decoders: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(engine: EngineHandle, config: Config, chain_for: ChainFor) -> Self {
        let Config { limits, metrics, log_deltas, storing } = config;
        let decoders = Arc::new(Semaphore::new(limits.image_decoders.max(1)));
        Self(Arc::new(Inner { engine, limits, metrics, log_deltas, storing, chain_for, decoders }))
    }

    pub(crate) fn engine(&self) -> &EngineHandle {
        &self.0.engine
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn metrics(&self) -> String {
        (self.0.metrics)()
    }

    pub(crate) fn log_deltas(&self) -> bool {
        self.0.log_deltas
    }

    pub(crate) fn storing(&self) -> Option<&Storing> {
        self.0.storing.as_ref()
    }

    pub(crate) fn chain_for(&self) -> &ChainFor {
        &self.0.chain_for
    }

    /// Permits to decode an image.
    pub(crate) fn decoders(&self) -> &Arc<Semaphore> {
        &self.0.decoders
    }
}
