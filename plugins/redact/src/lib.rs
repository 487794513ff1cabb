//! Takes personal data and secrets out of what people wrote and models said, before anything else may see it.
//!
//! | kind | what it finds | label |
//! |---|---|---|
//! | `email` | addresses, also right beside Korean text | `[EMAIL]` |
//! | `phone` | Korean numbers (mobile, area, +82), international `+NN …`, North American with separators | `[PHONE]` |
//! | `card` | 13 to 19 digits, with an issuer's prefix and a valid check digit | `[CARD]` |
//! | `ip` | IPv4 and IPv6 addresses | `[IP]` |
//! | `iban` | bank accounts, with the country's length and valid check digits | `[IBAN]` |
//! | `krn` | Korean resident registration numbers, with a plausible date | `[KRN]` |
//! | `secret` | API keys, tokens, JSON web tokens, private keys, `password=…` and the like | `[SECRET]` |
//!
//! # Configuration
//! ```toml
//! kinds = ["email", "phone", "secret"]      # default: all
//! mode = "label"                            # or "pseudonym": equal values get equal, keyed pseudonyms
//! modes = { email = "pseudonym" }           # for one kind or pattern
//! allow = ["noreply@example.com"]           # never taken out; whole values, letter for letter
//! patterns = [{ name = "employee", regex = "E-[0-9]{6}" }]   # becomes [EMPLOYEE]
//! ```
//! The host scans for `patterns` natively, and this plugin turns the matches into edits; there is no regex engine inside.
//!
//! # How it works
//! One pass, 64 bytes at a time, looks for bytes that any of the kinds must contain where something else that it needs stands beside
//! them: an `@`, eight digits in one run or joined by gaps, four groups of them, digits behind a letter, a `:` with a letter, a digit
//! or another one behind it, and for secrets any `:` and `=`, and `- _ .`, `A`, `B`, `b` in their places. Only there does a matcher
//! look around. Each matcher looks back a bounded distance, and forward only over what it then consumes or remembers, so time grows with
//! the length of the text whatever the text is.
//!
//! # Layout
//! - [`config`]: the configuration. [`kind`]: the kinds and their labels.
//! - [`mod@scan`]: the pass over a text. [`trigger`]: where it stops. [`number`], [`email`], [`ip`], [`iban`], [`secret`]: the matchers.
//! - [`guard`]: what the host looks for before it shows a text to this plugin.
//! - [`fold`]: full-width forms, as Korean and Japanese keyboards write them.

pub mod config;
pub mod email;
pub mod fold;
pub mod guard;
pub mod iban;
pub mod ip;
pub mod kind;
pub mod number;
pub mod redact;
pub mod scan;
pub mod secret;
#[cfg(test)]
mod tests;
pub mod trigger;

pub use self::{
    config::Config,
    kind::{Kind, Kinds},
    redact::Redact,
    scan::{Match, scan},
};

sdk::export_editor!(Redact);
