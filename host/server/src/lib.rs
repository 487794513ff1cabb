//! The HTTP face of the server: the OpenAI chat API, `/vision`, models, health and metrics; and the admin API.
//!
//! It turns a request into a checked [`engine::Job`], hands the engine's events to the client, and tells the log what
//! happened through `tracing`. It knows no wasm, no chain of plugins and no tensor: who reads the events is not its business.
//!
//! # Layout
//! - `state`: what handlers share, and how a request is given its chain.
//! - `limits`: every limit with its reason.
//! - `access`: ids and panics of every request; `body`, `fields`, `params`: from bytes to checked values.
//! - `chat`, `completions`, `vision`: the endpoints that generate; `generate`, `choices`, `stream`: what they share. `output`: the
//!   form of an answer. `embeddings`, `tokens`, `models`, `adapters`, `health`: the others. `gate`, `key`: who may ask.
//! - `stored`: completions that were stored, and the wish to have one stored; `keep`: what it asks of a store.
//! - `image`: from base64 to pixels, with the facts that the log wants.
//! - `front`: the same API in front of other servers. `openapi`: the specification of both.
//! - `request_log`: the records of one request, with exactly one terminal record.
//! - `error`: every answer that is not a success.
//! - `meters`, `metrics`: for Prometheus, by `operation`. `admin`: what an operator sees and changes, behind a key; [`Control`] is what it asks.
//! - [`serve()`]: the listener and its orderly end. HTTP/1 only: HTTP/2 and TLS are a proxy's job.

mod access;
mod adapters;
mod admin;
mod body;
mod chat;
mod choices;
mod compile;
mod completions;
mod embeddings;
mod error;
mod fields;
mod front;
mod gate;
mod generate;
mod health;
mod image;
mod json_verdict;
mod keep;
mod key;
mod limits;
mod meters;
mod metrics;
mod models;
mod openapi;
mod operation;
mod output;
mod params;
mod request_id;
mod request_log;
mod serve;
mod state;
mod stored;
mod stream;
mod tokens;
mod trace;
mod vision;

#[cfg(test)]
mod tests;

use axum::{
    Router, middleware,
    routing::{get, post},
};
use engine::EngineHandle;

pub use self::{
    admin::{Control, LevelOf, LevelWish, Refusal, admin_router},
    front::front_router,
    keep::{Changed, CompletionStore, Listing, Page, Paging, StoreError, StoredCompletion},
    key::Key,
    limits::Limits,
    serve::{Patience, serve},
    state::{ChainFor, Chosen, Config, RouteRequest, Storing},
};
use self::{gate::Gate, state::App};

/// All routes over one engine. `chain_for` names the chain of plugins that a request's records run through; it is asked
/// once a request.
pub fn router(engine: EngineHandle, config: Config, chain_for: ChainFor) -> Router {
    let runtime_adapters = config.runtime_adapters;
    let gate = Gate::new(&config.api_keys, &chain_for);
    let app = App::new(engine, config, chain_for);
    let adapters = Router::new()
        .route(adapters::LOAD, post(adapters::load))
        .route(adapters::UNLOAD, post(adapters::unload));
    Router::new()
        .merge(if runtime_adapters { adapters } else { Router::new() })
        .route(chat::ROUTE, post(chat::completions).get(stored::list))
        .route(stored::ONE, get(stored::get).post(stored::change).delete(stored::delete))
        .route(stored::MESSAGES, get(stored::messages))
        .route(completions::ROUTE, post(completions::completions))
        .route(embeddings::ROUTE, post(embeddings::embeddings))
        .route(vision::ROUTE, post(vision::vision))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/v1/models", get(models::list))
        // A model's name may hold slashes, as hub ids do.
        .route("/v1/models/{*id}", get(models::one).delete(models::delete))
        .route("/health", get(health::health))
        .route("/ping", get(health::health))
        .route("/version", get(health::version))
        .route(metrics::ROUTE, get(metrics::metrics))
        .route(openapi::ROUTE, get(openapi::engine))
        .fallback(access::unknown_route)
        .method_not_allowed_fallback(access::wrong_method)
        .layer(middleware::from_fn_with_state(gate, gate::check))
        .layer(middleware::from_fn(access::access))
        .with_state(app)
}
