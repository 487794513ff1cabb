//! `POST /admin/level`: which level an operator wants while the server runs, and of what.

use axum::http::{HeaderName, HeaderValue, header};
use record::{Severity, Stream};

use crate::{error::ApiError, fields::Fields};

/// Longer than any name of a tenant or a trace.
const VALUE_CHARS: usize = 256;

/// A level that is wanted from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelWish {
    /// None: as it is configured again.
    pub level: Option<Severity>,
    pub of: LevelOf,
}

/// What a level is set of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelOf {
    /// Both streams of the log.
    Streams,
    Stream(Stream),
    /// Requests that come with this header.
    Header {
        name: HeaderName,
        value: String,
    },
}

impl LevelWish {
    pub(super) fn take(mut fields: Fields) -> Result<Self, ApiError> {
        if !fields.has("level") {
            let hint = "send a level, or null for the configured one";
            return Err(ApiError::Missing { param: "level".to_owned(), hint });
        }
        let level = match fields.text("level")? {
            Some(name) => {
                let level = name.parse::<Severity>();
                Some(level.map_err(|error| ApiError::invalid("level", error.to_string()))?)
            }
            None => None,
        };
        let stream = match fields.text("stream")?.as_deref() {
            None => None,
            Some("app") => Some(Stream::App),
            Some("engine") => Some(Stream::Engine),
            Some(_) => return Err(ApiError::invalid("stream", "must be app or engine")),
        };
        let of = match (stream, fields.object("header")?) {
            (None, None) => LevelOf::Streams,
            (Some(stream), None) => LevelOf::Stream(stream),
            (None, Some(it)) => named(it)?,
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("header", "must not come with stream"));
            }
        };
        Ok(Self { level, of })
    }
}

fn named(mut fields: Fields) -> Result<LevelOf, ApiError> {
    let missing = |param, hint| ApiError::Missing { param, hint };
    let param = fields.param("name");
    let name = fields.text("name")?;
    let name = name.ok_or_else(|| missing(param.clone(), "send the name of a header"))?;
    let name: HeaderName =
        name.parse().map_err(|_| ApiError::invalid(&param, "must be the name of a header"))?;
    if [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(&name) {
        return Err(ApiError::invalid(param, "must not be one that holds secrets"));
    }
    let param = fields.param("value");
    let value = fields.text("value")?;
    let value = value.ok_or_else(|| missing(param.clone(), "send its whole value"))?;
    if value.is_empty() || value.chars().count() > VALUE_CHARS {
        let reason = format!("must have 1 to {VALUE_CHARS} characters");
        return Err(ApiError::invalid(param, reason));
    }
    if HeaderValue::from_bytes(value.as_bytes()).is_err() {
        return Err(ApiError::invalid(
            param,
            "must be what a header can hold: no control characters",
        ));
    }
    Ok(LevelOf::Header { name, value })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn take(value: Value) -> Result<LevelWish, ApiError> {
        LevelWish::take(Fields::inner(String::new(), value)?)
    }

    #[test]
    fn a_level_is_of_streams_or_of_requests() {
        let check = |value: Value, level: Option<Severity>, of: LevelOf| {
            assert_eq!(take(value.clone()).unwrap(), LevelWish { level, of }, "{value}");
        };
        check(json!({"level": "debug"}), Some(Severity::DEBUG), LevelOf::Streams);
        check(json!({"level": null}), None, LevelOf::Streams);
        let engine = LevelOf::Stream(Stream::Engine);
        check(json!({"level": "ERROR", "stream": "engine"}), Some(Severity::ERROR), engine);
        let acme =
            LevelOf::Header { name: HeaderName::from_static("x-tenant"), value: "acme".into() };
        let header = json!({"name": "X-Tenant", "value": "acme"});
        check(json!({"level": "DEBUG", "header": header}), Some(Severity::DEBUG), acme);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |value: Value, param: &str| {
            let error = take(value.clone()).unwrap_err();
            assert_eq!(error.body()["error"]["param"], param, "{value}");
        };
        check(json!({}), "level");
        check(json!({"level": "LOUD"}), "level");
        check(json!({"level": 5}), "level");
        check(json!({"level": "INFO", "stream": "store"}), "stream");
        let header = |name: &str, value: &str| json!({"level": "INFO", "header": {"name": name, "value": value}});
        check(header("a b", "x"), "header.name");
        check(header("Authorization", "Bearer x"), "header.name");
        check(header("x-a", ""), "header.value");
        check(header("x-a", "a\nb"), "header.value");
        check(header("x-a", "\u{1b}[31m"), "header.value");
        check(header("x-a", &"x".repeat(257)), "header.value");
        check(json!({"level": "INFO", "header": {"name": "x-a"}}), "header.value");
        check(json!({"level": "INFO", "header": {}}), "header.name");
        check(json!({"level": "INFO", "stream": "app", "header": {}}), "header");
    }
}
