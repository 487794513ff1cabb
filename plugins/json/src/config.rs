//! The configuration.

use std::collections::BTreeMap;

use sdk::{Diagnostic, plugin::diagnostic};
use serde::Deserialize;

pub const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "flatten": {
      "description": "Attributes at the top of the object rather than in `attributes`.",
      "type": "boolean",
      "default": false
    },
    "resource": {
      "description": "What goes with every record.",
      "type": "object",
      "maxProperties": 64,
      "additionalProperties": { "type": "string" },
      "default": {}
    }
  }
}"#;

/// It is repeated in every line.
const MAX_RESOURCE: usize = 64;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub flatten: bool,
    pub resource: BTreeMap<String, String>,
}

impl Config {
    /// Everything that is wrong and that the types don't say.
    pub fn check(&self) -> Vec<Diagnostic> {
        if self.resource.len() <= MAX_RESOURCE {
            return Vec::new();
        }
        let message =
            format!("more than {MAX_RESOURCE} entries, leave out what readers can look up");
        vec![diagnostic("resource", message)]
    }
}
