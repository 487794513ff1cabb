//! Cuts long texts, and says how much was cut: the guide's 100 characters at INFO and 500 at DEBUG.
//!
//! Length is counted in Unicode scalar values, as Python's `len` counts, and a cut lies between grapheme clusters, so that no
//! accent, no Hangul syllable and no family of emoji is torn apart. What is left is never longer than the limit. The host
//! writes `…(+150자)` where something was taken out.
//!
//! # Configuration
//! ```toml
//! keep = "head"                    # or "head-tail": two thirds from the beginning, one from the end
//! [limits]                         # by field; `content` is any other content field
//! "bucksaw.prompt.text" = { INFO = 100, DEBUG = 500, default = 100 }
//! content = { default = 1000 }
//! ```
//! Without it: prompts and responses 100 characters and 500 at DEBUG, messages of exceptions 500, stack traces 4000, other
//! content 1000. A field that is named replaces what stands here for it.
//!
//! # Layout
//! - [`config`]: the configuration and its defaults. [`cut`]: where a text is cut. [`truncate`]: the plugin.

pub mod config;
pub mod cut;
#[cfg(test)]
mod tests;
pub mod truncate;

pub use self::{
    config::{Config, Keep},
    truncate::Truncate,
};

sdk::export_editor!(Truncate);
