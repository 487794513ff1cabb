//! The HTTP face of the server: the OpenAI chat API, `/vision`, models, health and metrics; and the admin API.
//!
//! It turns a request into a checked [`engine::Job`], hands the engine's events to the client, and tells the log what
//! happened through `tracing`. It knows no wasm, no chain of plugins and no tensor: who reads the events is not its business.
//!
//! # Layout
//! - `state`: what handlers share, and how a request is given its chain.
//! - `limits`: every limit with its reason.
//! - `access`: ids and panics of every request; `body`, `fields`, `params`: from bytes to checked values.
//! - `chat`, `vision`: the two endpoints that generate; `generate`: what they share.
//! - `stored`: completions that were stored, and the wish to have one stored; `keep`: what it asks of a store.
//! - `image`: from base64 to pixels, with the facts that the log wants.
//! - `request_log`: the records of one request, with exactly one terminal record.
//! - `error`: every answer that is not a success.
//! - `metrics`: for Prometheus. `admin`: what an operator sees and changes, behind a key; [`Control`] is what it asks.
//! - [`serve()`]: the listener and its orderly end. HTTP/1 only: HTTP/2 and TLS are a proxy's job.

mod access;
mod admin;
mod body;
mod chat;
mod error;
mod fields;
mod generate;
mod health;
mod image;
mod json_verdict;
mod keep;
mod limits;
mod metrics;
mod models;
mod params;
mod request_id;
mod request_log;
mod serve;
mod state;
mod stored;
mod vision;

use axum::{
    Router, middleware,
    routing::{get, post},
};
use engine::EngineHandle;

use self::state::App;
pub use self::{
    admin::{AdminKey, Control, Refusal, admin_router},
    keep::{Changed, CompletionStore, Listing, Page, Paging, StoreError, StoredCompletion},
    limits::Limits,
    serve::serve,
    state::{ChainFor, Chosen, Config, RouteRequest, Storing},
};

/// All routes over one engine. `chain_for` names the chain of plugins that a request's records run through; it is asked
/// once a request.
pub fn router(engine: EngineHandle, config: Config, chain_for: ChainFor) -> Router {
    Router::new()
        .route(chat::ROUTE, post(chat::completions).get(stored::list))
        .route(stored::ONE, get(stored::get).post(stored::change).delete(stored::delete))
        .route(stored::MESSAGES, get(stored::messages))
        .route(vision::ROUTE, post(vision::vision))
        .route("/v1/models", get(models::list))
        // A model's name may hold slashes, as hub ids do.
        .route("/v1/models/{*id}", get(models::one))
        .route("/health", get(health::health))
        .route("/ping", get(health::health))
        .route("/version", get(health::version))
        .route(metrics::ROUTE, get(metrics::metrics))
        .fallback(access::unknown_route)
        .method_not_allowed_fallback(access::wrong_method)
        .layer(middleware::from_fn(access::access))
        .with_state(App::new(engine, config, chain_for))
}
