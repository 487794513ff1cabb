//! The configuration.

use serde::Deserialize;

pub const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "locale": {
      "description": "The language of the lines.",
      "enum": ["ko", "en"],
      "default": "ko"
    },
    "lines": {
      "description": "Everything that the guide lists, or at INFO only the lines of its sample.",
      "enum": ["full", "sample"],
      "default": "full"
    },
    "metrics": {
      "description": "Metrics and parameters on lines of their own, or on the line of their title.",
      "enum": ["lines", "line"],
      "default": "lines"
    }
  }
}"#;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub locale: Locale,
    pub lines: LineSet,
    pub metrics: Metrics,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Locale {
    #[default]
    Ko,
    En,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineSet {
    #[default]
    Full,
    Sample,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metrics {
    #[default]
    Lines,
    Line,
}
