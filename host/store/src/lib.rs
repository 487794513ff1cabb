//! Completions that were released by a chain, in an embedded SQLite database that is bounded by age and size.
//!
//! What comes in are [`Released`](chain::Released) records and nothing else, so what an editor took out of a record is not in
//! the file. What goes out has the shape of the OpenAI API. This crate knows no HTTP and no configuration.
//!
//! # Layout
//! - [`store`]: the store as others see it. [`settings`]: its bounds. [`error`]: what can go wrong. [`counts`]: what is counted.
//! - `collect`: from records to completions. `writer`: the one thread that writes, and prunes. `read`: what is asked for.
//! - `completion`: what is kept. `shape`: its form in the API. `schema`, `file`: the database, and the file that it is in.

mod collect;
mod completion;
pub mod counts;
pub mod error;
mod file;
mod read;
mod schema;
pub mod settings;
mod shape;
pub mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    counts::Counts,
    error::{OpenError, StoreError},
    read::{Listing, Order, Page, Paging, Stored},
    settings::Settings,
    store::{Changed, Store},
};
