//! Alerts about records: which ones, on which of the host's channels.
//!
//! It replaces a script that follows the log and mails each line with ERROR in it: the host's channels hold the addresses and
//! secrets, send equal alerts once with a count, and limit how many go out. It reads metadata only, never what a person wrote,
//! and needs a grant for its channels: `grants = { alert = ["ops"] }`.
//!
//! # Configuration
//! ```toml
//! channel = "ops"                  # alone: everything from ERROR on goes there
//!
//! [[rules]]                        # or rules; every rule that fits sends
//! name = "failures"
//! channel = "ops"                  # the one above when left out
//! when = { severity = "WARNING", events = ["request.failed", "plugin.failed"] }
//! title = "{event}: {error}"
//! ```
//! A rule without `events` fits every event. Without `severity` it asks for ERROR, or for nothing when it names events.
//! Titles may hold `{rule}`, `{event}`, `{severity}`, `{error}`, `{route}`, `{status}`, `{plugin}` and `{request}`.
//!
//! Alerts of one rule, event and kind of error have the same key: the channel sends them once within its window.
//!
//! # Layout
//! - [`config`]: the configuration. [`rule`]: whom a rule fits. [`title`]: titles with placeholders. [`alert`]: the plugin.

pub mod alert;
pub mod config;
pub mod rule;
#[cfg(test)]
mod tests;
pub mod title;

pub use self::{alert::Alert, config::Config};

sdk::export_handler!(Alert);
