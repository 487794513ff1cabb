//! The same API in front of other servers: a request is passed on byte for byte, its answer comes back as it is made, and the
//! log is told everything that can be seen from outside.
//!
//! What a request may ask for is the upstream's business: nothing is checked here but that the body is a JSON object. The one
//! endpoint that is translated is `/vision`, which other servers don't have. Where there is a store, completions are stored and
//! served here, and the wish for it goes no further: an upstream would keep what was not redacted.
//!
//! # Layout
//! - `relay`: requests that make records, and those that only pass. `stream`: an answer in parts.
//! - `asked`: what a request says, for the log. `heard`: what an answer says. `sse`: server-sent events in bounded memory.
//! - `wish`: what of a chat is to be stored. `without`: a body less that wish.
//! - `vision`: the guide's endpoint as a chat. `info`: health and models.

mod asked;
mod heard;
mod info;
mod relay;
mod sse;
mod stream;
mod vision;
mod wish;
mod without;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, State},
    middleware,
    response::Response,
    routing::{get, post},
};
use tokio::sync::Semaphore;
use upstream::Pool;

use crate::{
    access,
    gate::{self, Gate},
    health,
    meters::Meters,
    metrics, openapi,
    state::{ChainFor, Config},
    stored::{self, Storage},
};

/// All routes in front of a pool of upstreams. `chain_for` as in [`crate::router`].
pub fn front_router(pool: Pool, config: Config, chain_for: ChainFor) -> Router {
    let gate = Gate::new(&config.api_keys, &chain_for);
    let decoders = Arc::new(Semaphore::new(config.limits.image_decoders.max(1)));
    let storage = Storage::new(&config, &chain_for);
    let meters = Meters::default();
    let front = Front(Arc::new(Inner { pool, config, chain_for, storage, decoders, meters }));
    Router::new()
        .route(relay::CHAT, post(relay::chat).get(stored::list))
        .route(stored::ONE, get(stored::get).post(stored::change).delete(stored::delete))
        .route(stored::MESSAGES, get(stored::messages))
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

async fn scrape(State(front): State<Front>) -> Response {
    metrics::answer(front.0.meters.encode([], &[]) + &(front.0.config.metrics)())
}

/// What handlers share.
#[derive(Clone)]
struct Front(Arc<Inner>);

struct Inner {
    pool: Pool,
    config: Config,
    chain_for: ChainFor,
    storage: Storage,
    /// Permits to look into an image.
    decoders: Arc<Semaphore>,
    /// Models of the pool, and one word for all others.
    meters: Meters,
}

impl FromRef<Front> for Storage {
    fn from_ref(front: &Front) -> Self {
        front.0.storage.clone()
    }
}
