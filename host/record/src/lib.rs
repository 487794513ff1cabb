//! The record model: what one log event is, whichever part of the server it came from.
//!
//! Everybody shares this crate, so it depends on `serde` only and knows no queue, no plugin, no sink and no HTTP.
//!
//! # Layout
//! - [`record`]: [`Record`], its [`Field`]s and [`Value`]s.
//! - [`severity`]: the five levels and their OpenTelemetry numbers.
//! - [`context`]: the request that a record belongs to.
//! - [`event`]: names of the events of a request, in order.
//! - [`field`]: names of fields, and which of them are content.

pub mod context;
pub mod event;
pub mod field;
pub mod record;
pub mod severity;

pub use self::{
    context::RequestContext,
    record::{Field, Name, Record, Stream, Stub, Value},
    severity::{ParseSeverityError, Severity},
};
