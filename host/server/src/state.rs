//! What all handlers share.

use std::sync::Arc;

use axum::http::HeaderMap;
use engine::EngineHandle;
use tokio::sync::Semaphore;

use crate::Limits;

#[derive(Clone, Debug, Default)]
pub struct Config {
    pub limits: Limits,
}

/// What the choice of a chain may look at.
#[derive(Debug)]
pub struct RouteRequest<'a> {
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// As the client wrote it; none when the body named none or could not be read.
    pub model: Option<&'a str>,
}

/// Names the chain of a request. Must be quick and must not panic: it runs on the request path, also for requests that fail.
pub type ChainFor = Arc<dyn Fn(&RouteRequest<'_>) -> Arc<str> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    engine: EngineHandle,
    limits: Limits,
    chain_for: ChainFor,
    decoders: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(engine: EngineHandle, config: Config, chain_for: ChainFor) -> Self {
        let limits = config.limits;
        let decoders = Arc::new(Semaphore::new(limits.image_decoders.max(1)));
        Self(Arc::new(Inner { engine, limits, chain_for, decoders }))
    }

    pub(crate) fn engine(&self) -> &EngineHandle {
        &self.0.engine
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn chain_for(&self) -> &ChainFor {
        &self.0.chain_for
    }

    /// Permits to decode an image.
    pub(crate) fn decoders(&self) -> &Arc<Semaphore> {
        &self.0.decoders
    }
}
