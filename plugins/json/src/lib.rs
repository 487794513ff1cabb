//! One JSON object a line, in the terms of the OpenTelemetry log data model.
//!
//! ```json
//! {"timestamp":"2025-01-09T05:30:25.123456789Z","severity_number":9,"severity_text":"INFO","event_name":"request.prompt",
//!  "stream":"app","request_id":"…","seq":1,"revision":1,"attributes":{"bucksaw.prompt.chars":250},"resource":{"service.name":"bucksaw"}}
//! ```
//! Records of the server itself have no `request_id` and no `seq`; those whose content was withheld have `"stub":true`.
//! Numbers are numbers (`null` when they are not finite), and of fields with the same name the last one stands.
//!
//! # Configuration
//! ```toml
//! flatten = false                              # true: attributes beside `timestamp` rather than in `attributes`
//! resource = { "service.name" = "bucksaw" }    # goes with every record
//! ```
//! With `flatten`, a field that is named like one of the keys above becomes `attributes.timestamp`.
//!
//! # Layout
//! - [`config`]: the configuration. [`escape`]: strings of JSON. [`json`]: the plugin.

pub mod config;
pub mod escape;
pub mod json;
#[cfg(test)]
mod tests;

pub use self::{config::Config, json::Json};

sdk::export_formatter!(Json);
