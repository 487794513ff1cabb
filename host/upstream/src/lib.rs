//! A pool of OpenAI-compatible servers: which one gets a request, what becomes of it, and which ones are left alone.
//!
//! It sends bytes and gives bytes back, whatever they mean; only lists of models are read. It knows no log, no record and no
//! HTTP server: what happens to an upstream is told by `tracing` events, and what a failure means to a client is decided by
//! who asked. It runs on the tokio runtime that it was started in.
//!
//! # Layout
//! - [`config`]: what can run: addresses, keys, limits. [`error`]: why there is no answer.
//! - [`pool`]: the choice, and what is tried again. `board`: what is known of each upstream at this moment.
//! - `breaker`: when an upstream is left alone, and when it is tried again. `probe`: looks at health and models.
//! - [`answer`]: the answer as it comes in. `headers`: what may pass. `events`: what is told.

pub mod answer;
mod board;
mod breaker;
pub mod config;
pub mod error;
mod events;
mod headers;
pub mod pool;
mod probe;
#[cfg(test)]
mod tests;

pub use self::{
    answer::{Answer, Body},
    config::{ApiKey, BaseUrl, Config, Upstream, UrlError},
    error::{Failed, Failure},
    pool::{Call, Counts, Pool, StartError},
};
pub use reqwest::{Method, StatusCode, header};
