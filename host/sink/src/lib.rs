//! Destinations of lines and alerts: console, file, webhook.
//!
//! Invariant: a sink takes [`chain::Line`]s, which only the chain can make; none of them knows what a plugin is.

mod console;
mod file;
mod webhook;

pub use self::{
    console::{Color, Console, Target},
    file::File,
    webhook::{Channel, Webhooks},
};
