//! Components as stages of a chain: loading, limits, and the crossing of the boundary.
//!
//! Invariants: types generated from WIT never leave this crate; nothing that a guest says is repeated in an
//! error, except what it says of its own configuration; an instance that failed is never entered again.
//!
//! # Layout
//! - [`runtime`]: the wasmtime engine, the epoch clock and the linker.
//! - [`compile`]: compiling, aside. [`cache`]: compiled components on disk. [`state`]: the stores of the plugins that were granted one.
//! - [`component`]: a loaded, checked and configured component: its role, description and setup.
//! - [`instance`]: one store, one deadline for each entry. [`limits`]: what a guest may use.
//! - [`http`]: what a handler that was granted hosts may ask of the network, and how much.
//! - [`editor`], [`formatter`], [`handler`]: the three roles as stages.
//! - [`pack`]: records to a batch. [`patterns`]: what the host scans for on a guest's behalf; [`prefilter`], [`literals`]: which of
//!   many patterns can match in a text at all.
//! - [`guard`]: which text an editor is not shown, since nothing in it can matter to it; [`lanes`]: looking for that in long texts.

pub mod bindings;
pub mod cache;
mod compile;
pub mod component;
mod editor;
pub mod error;
mod formatter;
mod guard;
mod handler;
mod http;
mod instance;
mod lanes;
pub mod limits;
mod literals;
mod pack;
mod patterns;
mod prefilter;
pub mod runtime;
mod state;

pub use self::{
    cache::{Cache, CacheCounts},
    component::{Description, Grants, Plugin, Role, Settings},
    error::{CacheError, Diagnostic, LoadError},
    limits::Limits,
    runtime::Runtime,
};

#[cfg(test)]
mod tests;
