//! What all handlers share.

use std::sync::Arc;

use axum::{extract::FromRef, http::HeaderMap};
use engine::EngineHandle;
use record::Severity;
use tokio::sync::Semaphore;

use crate::{Key, Limits, keep::CompletionStore, meters::Meters, stored::Storage};

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
    /// Other names for the first model; `*` stands for every name.
    pub served_model_names: Vec<String>,
    /// Keys that open the API; with none it is open.
    pub api_keys: Vec<Key>,
    /// Whether adapters can be loaded and unloaded through the API, from folders of this machine.
    pub runtime_adapters: bool,
    /// Whether what the model cannot do (`suffix`) is ignored rather than refused.
    pub ignore_unsupported: bool,
    /// Whether vectors go out in base64 when a client asks for it; else numbers do, which all clients read as well.
    pub base64_embeddings: bool,
}

/// Where completions are stored, and which.
#[derive(Clone)]
pub struct Storing {
    pub store: Arc<dyn CompletionStore>,
    /// Those of all chat requests, and not only of those that ask for it.
    pub all: bool,
}

impl Default for Config {
    /// No metrics, no deltas, no store, no keys, no other names.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            metrics: Arc::new(String::new),
            log_deltas: false,
            storing: None,
            served_model_names: Vec::new(),
            api_keys: Vec::new(),
            runtime_adapters: false,
            ignore_unsupported: false,
            base64_embeddings: true,
        }
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
    /// From where on the request has records; none: as the rest of the log.
    pub level: Option<Severity>,
}

/// Chooses the chain of a request. Must be quick and must not panic: it runs on the request path, also for requests that fail.
pub type ChainFor = Arc<dyn Fn(&RouteRequest<'_>) -> Chosen + Send + Sync>;

#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    engine: EngineHandle,
    config: Config,
    chain_for: ChainFor,
    storage: Storage,
    decoders: Arc<Semaphore>,
    compilers: Arc<Semaphore>,
    fetchers: Arc<Semaphore>,
    meters: Arc<Meters>,
}

impl App {
    pub(crate) fn new(engine: EngineHandle, config: Config, chain_for: ChainFor) -> Self {
        let permits = |it: usize| Arc::new(Semaphore::new(it.max(1)));
        let decoders = permits(config.limits.image_decoders);
        let compilers = permits(config.limits.compilers);
        let fetchers = permits(config.limits.image_fetchers);
        Self(Arc::new(Inner {
            storage: Storage::new(&config, &chain_for),
            meters: Arc::default(),
            engine,
            config,
            chain_for,
            decoders,
            compilers,
            fetchers,
        }))
    }

    pub(crate) fn engine(&self) -> &EngineHandle {
        &self.0.engine
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.config.limits
    }

    pub(crate) fn metrics(&self) -> String {
        (self.0.config.metrics)()
    }

    pub(crate) fn log_deltas(&self) -> bool {
        self.0.config.log_deltas
    }

    pub(crate) fn storing(&self) -> Option<&Storing> {
        self.0.storage.storing()
    }

    pub(crate) fn chain_for(&self) -> &ChainFor {
        &self.0.chain_for
    }

    /// Other names for the first model.
    pub(crate) fn aliases(&self) -> &[String] {
        &self.0.config.served_model_names
    }

    pub(crate) fn ignore_unsupported(&self) -> bool {
        self.0.config.ignore_unsupported
    }

    pub(crate) fn base64_embeddings(&self) -> bool {
        self.0.config.base64_embeddings
    }

    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.0.meters
    }

    /// Permits to compile a constraint.
    pub(crate) fn compilers(&self) -> &Arc<Semaphore> {
        &self.0.compilers
    }

    /// Permits to fetch an image.
    pub(crate) fn fetchers(&self) -> &Arc<Semaphore> {
        &self.0.fetchers
    }

    /// Permits to decode an image.
    pub(crate) fn decoders(&self) -> &Arc<Semaphore> {
        &self.0.decoders
    }
}

impl FromRef<App> for Storage {
    fn from_ref(app: &App) -> Self {
        app.0.storage.clone()
    }
}
