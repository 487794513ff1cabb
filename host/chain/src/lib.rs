//! What happens to a record between the place where it was made and the sinks: queue, editors, release, handlers,
//! formatters, outputs.
//!
//! Invariants: this crate knows no wasm, no HTTP and no file. A [`Released`] record, the only kind that a handler or a
//! formatter can be given, is made here and nowhere else, after every editor of its chain has returned for it (or as a stub
//! without content). No request waits for anything in here: the front door is one `try_send`.
//!
//! # Layout
//! - [`layer`]: the front door, a `tracing` layer; [`queue`]: the bounded queue behind it.
//! - [`pipeline`]: worker threads that take batches from the queue and run them through their chains.
//! - [`chain`]: editors in order, release, handlers, outputs. [`stage`]: the traits that plugins implement.
//! - [`edit`]: applying what an editor answered. [`released`], [`escape`]: the guarantees about what leaves.
//! - [`slot`], [`breaker`]: what a failing stage does to the next call.
//! - [`output`], [`sink`]: buffers and threads in front of the sinks.

pub mod alert;
pub mod breaker;
pub mod chain;
pub mod clock;
pub mod edit;
pub mod escape;
mod fallback;
pub mod layer;
pub mod output;
pub mod pipeline;
pub mod queue;
pub mod released;
pub mod sink;
pub mod slot;
pub mod stage;

pub use self::{
    alert::{Alert, AlertError, Alerts},
    chain::{Chain, Spec},
    clock::Clock,
    edit::{Ellipsis, Replacer},
    layer::{RecordLayer, TARGET, targets},
    output::{Filter, Output, Overflow},
    pipeline::{Drained, Pipeline, Plan},
    released::Released,
    sink::{Line, Sink},
    stage::{Edit, Editor, Formatted, Formatter, Handler, Mode, Source, StageError, Verdict},
};

#[cfg(test)]
mod tests;
