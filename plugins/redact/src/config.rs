//! The configuration: what it may hold, and what is wrong with it.

use std::collections::BTreeMap;

use sdk::{Diagnostic, plugin::diagnostic};
use serde::Deserialize;

use crate::Kind;

/// As many as the host takes of one plugin.
const MAX_PATTERNS: usize = 256;
/// What a person can write and read; the host's engine has its own limit on the compiled size.
const MAX_REGEX: usize = 1024;

pub const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "kinds": {
      "description": "What is taken out.",
      "type": "array",
      "items": { "enum": ["email", "phone", "card", "ip", "iban", "krn", "secret"] },
      "default": ["email", "phone", "card", "ip", "iban", "krn", "secret"]
    },
    "mode": {
      "description": "What stands there instead: the label, or the label and a keyed pseudonym.",
      "enum": ["label", "pseudonym"],
      "default": "label"
    },
    "modes": {
      "description": "The mode of one kind or pattern.",
      "type": "object",
      "additionalProperties": { "enum": ["label", "pseudonym"] },
      "default": {}
    },
    "allow": {
      "description": "Whole values that are never taken out.",
      "type": "array",
      "items": { "type": "string", "minLength": 1 },
      "default": []
    },
    "patterns": {
      "description": "Regular expressions (Rust's regex syntax) that the host scans for; the label is the name in capitals.",
      "type": "array",
      "maxItems": 256,
      "items": {
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "regex"],
        "properties": {
          "name": { "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]*$" },
          "regex": { "type": "string", "minLength": 1, "maxLength": 1024 }
        }
      },
      "default": []
    }
  }
}"#;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// All of them when none is named.
    pub kinds: Option<Vec<Kind>>,
    pub mode: Mode,
    pub modes: BTreeMap<String, Mode>,
    pub allow: Vec<String>,
    pub patterns: Vec<PatternConfig>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Label,
    Pseudonym,
}

impl Mode {
    /// The number that an edit carries.
    pub fn number(self) -> u32 {
        match self {
            Self::Label => sdk::edits::LABEL,
            Self::Pseudonym => sdk::edits::PSEUDONYM,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternConfig {
    pub name: String,
    pub regex: String,
}

impl Config {
    /// Everything that is wrong and that the types don't say.
    pub fn check(&self) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        if self.patterns.len() > MAX_PATTERNS {
            let message = format!("more than {MAX_PATTERNS} patterns, join some with |");
            out.push(diagnostic("patterns", message));
        }
        for (at, pattern) in self.patterns.iter().enumerate() {
            let mut wrong = |key: &str, message: &str| {
                out.push(diagnostic(format!("patterns[{at}].{key}"), message));
            };
            let name = pattern.name.as_bytes();
            let is_name = name.first().is_some_and(u8::is_ascii_alphabetic)
                && name.iter().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(it));
            if !is_name {
                wrong("name", "a name is letters, digits, - and _, and starts with a letter");
            }
            let earlier = self.patterns.get(..at).unwrap_or_default();
            let same = |it: &str| it.eq_ignore_ascii_case(&pattern.name);
            if earlier.iter().any(|it| same(&it.name)) || Kind::ALL.iter().any(|it| same(it.name()))
            {
                wrong("name", "this name is taken, choose another");
            }
            if pattern.regex.is_empty() || pattern.regex.len() > MAX_REGEX {
                wrong("regex", "write a regular expression of 1 to 1024 bytes");
            }
        }
        for key in self.modes.keys() {
            let known = Kind::ALL.iter().any(|it| it.name() == key)
                || self.patterns.iter().any(|it| it.name == *key);
            if !known {
                let message = "no kind and no pattern has this name, write one of email, phone, \
                               card, ip, iban, krn, secret or the name of a pattern";
                out.push(diagnostic(format!("modes.{key}"), message));
            }
        }
        for (at, value) in self.allow.iter().enumerate() {
            if value.is_empty() {
                out.push(diagnostic(format!("allow[{at}]"), "an empty value allows nothing"));
            }
        }
        out
    }

    pub fn mode_of(&self, name: &str) -> Mode {
        self.modes.get(name).copied().unwrap_or(self.mode)
    }
}
