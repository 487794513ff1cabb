//! The same API in front of other servers: a request is passed on byte for byte, its answer comes back as it is made, and the
//! log is told everything that can be seen from outside.
//!
//! What a request may ask for is the upstream's business: nothing is checked here but that the body is a JSON object. The one
//! endpoint that is translated is `/vision`, which other servers don't have.
//!
//! # Layout
//! - `relay`: requests that make records, and those that only pass. `stream`: an answer in parts.
//! - `asked`: what a request says, for the log. `heard`: what an answer says. `sse`: server-sent events in bounded memory.
//! - `vision`: the guide's endpoint as a chat. `info`: health and models.

mod asked;
mod heard;
mod info;
mod relay;
mod sse;
mod stream;
mod vision;

use std::sync::Arc;

use axum::{
    Router, middleware,
    response::Response,
    routing::{get, post},
};
use tokio::sync::Semaphore;
use upstream::Pool;

use crate::{
    access,
    gate::{self, Gate},
    health, metrics, openapi,
    state::{ChainFor, Config},
};

/// All routes in front of a pool of upstreams. `chain_for` as in [`crate::router`].
pub fn front_router(pool: Pool, config: Config, chain_for: ChainFor) -> Router {
    let gate = Gate::new(&config.api_keys, &chain_for);
    let decoders = Arc::new(Semaphore::new(config.limits.image_decoders.max(1)));
    let front = Front(Arc::new(Inner { pool, config, chain_for, decoders }));
    Router::new()
        .route(relay::CHAT, post(relay::chat))
        .route(relay::COMPLETIONS, post(relay::completions))
        .route(relay::EMBEDDINGS, post(relay::embeddings))
        .route(crate::vision::ROUTE, post(vision::vision))
        .route(relay::TOKENIZE, post(relay::tokenize))
        .route(relay::DETOKENIZE, post(relay::detokenize))
        .route("/v1/models", get(info::models))
        .route("/v1/models/{*id}", get(info::model))
        .route("/health", get(info::health))
        .route("/ping", get(info::health))
        .route("/version", get(health::version))
        .route(metrics::ROUTE, get(scrape))
        .route(openapi::ROUTE, get(openapi::front))
        .fallback(access::unknown_route)
        .method_not_allowed_fallback(access::wrong_method)
        .layer(middleware::from_fn_with_state(gate, gate::check))
        .layer(middleware::from_fn(access::access))
        .with_state(front)
}

async fn scrape(axum::extract::State(front): axum::extract::State<Front>) -> Response {
    metrics::answer((front.0.config.metrics)())
}

/// What handlers share.
#[derive(Clone)]
struct Front(Arc<Inner>);

struct Inner {
    pool: Pool,
    config: Config,
    chain_for: ChainFor,
    /// Permits to look into an image.
    decoders: Arc<Semaphore>,
}
