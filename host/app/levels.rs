//! Levels that an operator sets while the server runs: of a stream, or of the requests that come with a header. They are of this
//! run alone, and no client can set one.

use std::sync::{PoisonError, RwLock};

use axum::http::{HeaderMap, HeaderName};
use chain::Pipeline;
use record::{Severity, Stream};
use serde_json::{Value, json};
use server::{LevelOf, LevelWish};

/// Every request is compared with all of them.
const RULES_MAX: usize = 16;

/// Levels of requests by their headers.
#[derive(Default)]
pub struct Levels(RwLock<Vec<Rule>>);

struct Rule {
    name: HeaderName,
    value: String,
    level: Severity,
}

/// No further level by a header can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header: {RULES_MAX} have a level already: set the level of one of them to null first")]
pub struct TooMany;

impl Levels {
    /// What a request is logged from, if one of its headers says so: the lowest level of all that do.
    pub fn of(&self, headers: &HeaderMap) -> Option<Severity> {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let meant = |it: &&Rule| {
            headers.get_all(&it.name).iter().any(|value| value.as_bytes() == it.value.as_bytes())
        };
        rules.iter().filter(meant).map(|it| it.level).min()
    }

    /// Puts a level in force.
    ///
    /// # Errors
    /// When there are too many already.
    pub fn set(&self, pipeline: &Pipeline, wish: LevelWish) -> Result<(), TooMany> {
        let LevelWish { level, of } = wish;
        let levels = pipeline.levels();
        match of {
            LevelOf::Streams => {
                levels.set(Stream::App, level);
                levels.set(Stream::Engine, level);
            }
            LevelOf::Stream(stream) => levels.set(stream, level),
            LevelOf::Header { name, value } => {
                let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
                let old = rules.iter().position(|it| it.name == name && it.value == value);
                match (level, old) {
                    (Some(level), Some(at)) => rules[at].level = level,
                    (Some(_), None) if rules.len() == RULES_MAX => return Err(TooMany),
                    (Some(level), None) => rules.push(Rule { name, value, level }),
                    (None, Some(at)) => drop(rules.remove(at)),
                    (None, None) => {}
                }
                levels.allow(rules.iter().map(|it| it.level).min());
            }
        }
        Ok(())
    }

    /// All levels in force, for an operator.
    pub fn told(&self, pipeline: &Pipeline, configured: Severity) -> Value {
        let of = |stream| pipeline.levels().get(stream).unwrap_or(configured).name();
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let rules: Vec<Value> = rules
            .iter()
            .map(
                |it| json!({"name": it.name.as_str(), "value": it.value, "level": it.level.name()}),
            )
            .collect();
        json!({
            "configured": configured.name(),
            "app": of(Stream::App),
            "engine": of(Stream::Engine),
            "headers": rules,
        })
    }
}
