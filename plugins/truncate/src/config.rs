//! The configuration: limits by field and level.

use std::collections::BTreeMap;

use sdk::{Diagnostic, plugin::diagnostic, severity};
use serde::Deserialize;

pub const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "keep": {
      "description": "Which part stays: the beginning, or two thirds from the beginning and one from the end.",
      "enum": ["head", "head-tail"],
      "default": "head"
    },
    "limits": {
      "description": "Characters that stay, by field and level; `content` is any other content field.",
      "type": "object",
      "additionalProperties": {
        "type": "object",
        "additionalProperties": false,
        "properties": {
          "DEBUG": { "type": "integer", "minimum": 0, "maximum": 4294967295 },
          "INFO": { "type": "integer", "minimum": 0, "maximum": 4294967295 },
          "WARNING": { "type": "integer", "minimum": 0, "maximum": 4294967295 },
          "ERROR": { "type": "integer", "minimum": 0, "maximum": 4294967295 },
          "CRITICAL": { "type": "integer", "minimum": 0, "maximum": 4294967295 },
          "default": { "type": "integer", "minimum": 0, "maximum": 4294967295 }
        }
      },
      "default": {
        "bucksaw.prompt.text": { "default": 100, "DEBUG": 500 },
        "bucksaw.response.text": { "default": 100, "DEBUG": 500 },
        "exception.message": { "default": 500 },
        "exception.stacktrace": { "default": 4000 },
        "content": { "default": 1000 }
      }
    }
  }
}"#;

/// What stands for every content field that has no limit of its own.
pub const CONTENT: &str = "content";
const CONTENT_LIMIT: u32 = 1000;
/// A record is asked about each of them.
const MAX_FIELDS: usize = 64;

/// The defaults: a field, its limit, and its limit at DEBUG.
const DEFAULTS: [(&str, u32, u32); 4] = [
    ("bucksaw.prompt.text", 100, 500),
    ("bucksaw.response.text", 100, 500),
    ("exception.message", 500, 500),
    ("exception.stacktrace", 4000, 4000),
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub keep: Keep,
    pub limits: BTreeMap<String, Levels>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    #[default]
    Head,
    HeadTail,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "UPPERCASE")]
pub struct Levels {
    pub debug: Option<u32>,
    pub info: Option<u32>,
    pub warning: Option<u32>,
    pub error: Option<u32>,
    pub critical: Option<u32>,
    #[serde(rename = "default")]
    pub default: Option<u32>,
}

/// The limit of each of the five levels, in their order.
pub type Limits = [u32; severity::NAMES.len()];

impl Config {
    /// The limits of each named field, and those of every other content field.
    pub fn limits(&self) -> Result<(Vec<(String, Limits)>, Limits), Vec<Diagnostic>> {
        if self.limits.len() > MAX_FIELDS {
            let message = format!("more than {MAX_FIELDS} fields, set a limit for `content`");
            return Err(vec![diagnostic("limits", message)]);
        }
        let content =
            self.limits.get(CONTENT).map_or([CONTENT_LIMIT; 5], |it| it.limits([CONTENT_LIMIT; 5]));
        let defaults = DEFAULTS.iter().filter(|(name, ..)| !self.limits.contains_key(*name)).map(
            |(name, limit, debug)| ((*name).to_owned(), [*debug, *limit, *limit, *limit, *limit]),
        );
        let named = self
            .limits
            .iter()
            .filter(|(name, _)| *name != CONTENT)
            .map(|(name, levels)| (name.clone(), levels.limits(content)));
        Ok((defaults.chain(named).collect(), content))
    }
}

impl Levels {
    fn limits(&self, otherwise: Limits) -> Limits {
        let named = [self.debug, self.info, self.warning, self.error, self.critical];
        let mut out = otherwise;
        for (limit, named) in out.iter_mut().zip(named) {
            *limit = named.or(self.default).unwrap_or(*limit);
        }
        out
    }
}
