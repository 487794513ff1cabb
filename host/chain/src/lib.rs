//! What happens to a record between the place where it was made and the sinks: queue, editors, release, handlers,
//! formatters, outputs.
//!
//! Invariants: this crate knows no wasm, no HTTP and no file. A [`Released`] record, the only kind that a handler or a
//! formatter can be given, is made here and nowhere else, after every editor of its chain has returned for it (or as a stub
//! without content). No request waits for anything in here: the front door is one `try_send`.
//!
//! # Layout
//! - [`layer`]: the front door, a `tracing` layer, with [`levels`]; [`queue`]: the bounded queue behind it.
//! - [`pipeline`]: worker threads that take batches from the queue and run them through their chains.
//! - [`revision`]: the chains of one configuration, numbered, and their change while records flow.
//! - [`chain`]: editors in order, release, handlers, outputs. [`stage`]: the traits that plugins implement.
//! - [`draft`], [`editors`], [`edit`]: records between editors, and applying what those answered. [`released`], [`escape`]: the guarantees about what leaves.
//! - [`session`]: text that arrives in parts. [`shadow`], [`compare`], [`trace`]: two sets of editors for the same records.
//! - [`aside`]: handlers that may wait, on threads of their own. [`keeper`]: the way to the store.
//! - [`slot`], [`breaker`]: what a failing stage does to the next call. [`stats`], [`report`]: what is counted and told.
//! - [`output`], [`sink`]: buffers and threads in front of the sinks.

pub mod alert;
mod aside;
pub mod breaker;
pub mod chain;
pub mod clock;
pub mod compare;
mod draft;
pub mod edit;
mod editors;
pub mod escape;
mod fallback;
pub mod keeper;
pub mod layer;
pub mod levels;
pub mod output;
pub mod pipeline;
pub mod queue;
pub mod released;
mod report;
pub mod revision;
mod session;
pub mod shadow;
pub mod sink;
mod slot;
pub mod stage;
pub mod stats;
pub mod trace;
mod worker;

pub use self::{
    alert::{Alert, AlertError, Alerts},
    chain::{Chain, Spec, Tools},
    clock::Clock,
    compare::{Comparison, Difference},
    edit::{Ellipsis, Replacer},
    keeper::{Keeper, Keeping},
    layer::{RecordFilter, RecordLayer, STORE_TARGET, TARGET},
    levels::Levels,
    output::{Filter, Output, Overflow},
    pipeline::{Drained, Pipeline, Plan},
    released::Released,
    revision::{Chains, NoEarlier, Reason, Revised, Revision, Revisions},
    shadow::ShadowSpec,
    sink::{Line, Sink},
    stage::{
        Edit, Editor, Formatted, Formatter, Handler, Mode, Source, Stage, StageError, Verdict,
    },
    stats::Stats,
};

#[cfg(test)]
mod tests;
