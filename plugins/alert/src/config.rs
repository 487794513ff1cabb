//! The configuration, and the rules that it makes.

use sdk::{Diagnostic, plugin::diagnostic, severity};
use serde::Deserialize;

use crate::{rule::Rule, title::Title};

pub const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "channel": {
      "description": "The channel of rules that name none; without rules, everything from ERROR on goes there.",
      "type": "string",
      "minLength": 1
    },
    "rules": {
      "type": "array",
      "maxItems": 64,
      "items": {
        "type": "object",
        "additionalProperties": false,
        "required": ["name"],
        "properties": {
          "name": { "type": "string", "minLength": 1 },
          "channel": { "type": "string", "minLength": 1 },
          "when": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
              "severity": { "enum": ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] },
              "events": { "type": "array", "items": { "type": "string", "minLength": 1 } }
            }
          },
          "title": {
            "description": "May hold {rule}, {event}, {severity}, {error}, {route}, {status}, {plugin} and {request}.",
            "type": "string",
            "default": "{severity} {event} {error}"
          }
        }
      },
      "default": []
    }
  }
}"#;

/// Every record is held against every rule.
const MAX_RULES: usize = 64;
const DEFAULT_TITLE: &str = "{severity} {event} {error}";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub channel: Option<String>,
    pub rules: Vec<RuleConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    pub name: String,
    #[serde(default)]
    pub channel: Option<String>,
    #[serde(default)]
    pub when: When,
    #[serde(default)]
    pub title: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    pub severity: Option<String>,
    pub events: Vec<String>,
}

impl Config {
    /// The rules, or everything that is wrong with them.
    pub fn into_rules(self) -> Result<Vec<Rule>, Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        if self.rules.is_empty() && self.channel.is_none() {
            let message = "name a channel for everything from ERROR on, or write rules";
            wrong.push(diagnostic("channel", message));
        }
        if self.rules.len() > MAX_RULES {
            wrong.push(diagnostic("rules", format!("more than {MAX_RULES} rules, join some")));
        }
        if self.channel.as_deref() == Some("") {
            wrong.push(diagnostic("channel", "an empty name is no channel"));
        }
        let mut rules = Vec::with_capacity(self.rules.len().max(1));
        for (at, rule) in self.rules.into_iter().enumerate() {
            match rule.into_rule(self.channel.as_deref()) {
                Ok(rule) => rules.push(rule),
                Err(all) => wrong.extend(
                    all.into_iter()
                        .map(|it| diagnostic(format!("rules[{at}].{}", it.key), it.message)),
                ),
            }
        }
        if let (true, Some(channel)) = (rules.is_empty(), self.channel) {
            rules.push(Rule {
                name: "errors".to_owned(),
                channel,
                severity: severity::ERROR,
                events: Vec::new(),
                title: Title::parse(DEFAULT_TITLE).unwrap_or_default(),
            });
        }
        if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
    }
}

impl RuleConfig {
    fn into_rule(self, default_channel: Option<&str>) -> Result<Rule, Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        if self.name.is_empty() {
            wrong.push(diagnostic("name", "a rule needs a name"));
        }
        let channel = self.channel.as_deref().or(default_channel).unwrap_or_default().to_owned();
        if channel.is_empty() {
            wrong.push(diagnostic("channel", "name a channel here or for all rules"));
        }
        // A rule that names events means them, however grave they are.
        let least = if self.when.events.is_empty() { severity::ERROR } else { 0 };
        let number = match self.when.severity.as_deref() {
            None => least,
            Some(name) => severity::parse(name).unwrap_or_else(|| {
                let names = "write DEBUG, INFO, WARNING, ERROR or CRITICAL";
                let message = format!("{name:?} is not a log level, {names}");
                wrong.push(diagnostic("when.severity", message));
                least
            }),
        };
        let title = Title::parse(self.title.as_deref().unwrap_or(DEFAULT_TITLE));
        let title = title.unwrap_or_else(|message| {
            wrong.push(diagnostic("title", message));
            Title::default()
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let events = self.when.events;
        Ok(Rule { name: self.name, channel, severity: number, events, title })
    }
}
