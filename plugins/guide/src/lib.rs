//! The logging guide's lines, byte for byte.
//!
//! ```text
//! 2025-01-09 14:30:25 - INFO - 🎯 [a1b2c3d4] ===== 요청 시작: /vision =====
//! 2025-01-09 14:30:25 - INFO - ⚙️ [a1b2c3d4] 생성 파라미터:
//!    - max_tokens: 512
//! ```
//! Time is the host's local time, the id is the first eight digits of the request's. Lines that continue a record belong to
//! it. A record whose content was withheld says so where the content would stand: `[내용 보류: redact (trap)]`.
//!
//! What a person wrote can't pass for the server's own words: in content, `❌` is written `\u274c`, and the hyphen of
//! ` - ERROR - ` is written `\u002d`. Line feeds and other control characters in values are escaped by the host.
//!
//! # Configuration
//! ```toml
//! locale = "ko"       # or "en"
//! lines = "full"      # or "sample": at INFO the lines of the guide's sample, and what a client asked for beyond it
//! metrics = "lines"   # or "line": metrics and parameters on the line of their title, so that grep finds them
//! ```
//!
//! # Layout
//! - [`config`]: the configuration. `words`: the two languages.
//! - [`guide`]: the plugin, and which event has which lines. `writer`: how a line is written.
//! - `request`: lines of a request. `server`: lines of the server and of everything unknown.

pub mod config;
pub mod guide;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod words;
mod writer;

pub use self::{
    config::{Config, LineSet, Locale, Metrics},
    guide::Guide,
};

sdk::export_formatter!(Guide);
