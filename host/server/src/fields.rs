//! The fields of a JSON object, taken out one by one with their types and ranges checked, so that an error names its
//! parameter. What nobody takes is ignored: clients of the OpenAI API send many fields that a server has no use for.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::ApiError;

pub(crate) struct Fields {
    /// Path of the object in the request: empty, or `messages[0]`.
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    pub(crate) fn new(map: Map<String, Value>) -> Self {
        Self { path: String::new(), map }
    }

    /// An object inside another.
    pub(crate) fn inner(path: String, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => Err(wrong(&path, "an object", &other)),
        }
    }

    /// Full name of a field.
    pub(crate) fn param(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A look at a text that may be anything, before it is checked: for the log.
    pub(crate) fn peek_text(&self, name: &str) -> Option<&str> {
        self.map.get(name).and_then(Value::as_str)
    }

    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }

    pub(crate) fn peek_flag(&self, name: &str) -> bool {
        self.map.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether it is there at all, as anything: where `null` is not as good as absent.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// `null` is as good as absent: clients send both.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|it| !it.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(it)) => Ok(Some(it)),
            Some(other) => Err(wrong(&self.param(name), "a string", &other)),
        }
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(it)) => Ok(Some(it)),
            Some(other) => Err(wrong(&self.param(name), "true or false", &other)),
        }
    }

    pub(crate) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_i64() {
            Some(it) if range.contains(&it) => Ok(Some(it)),
            _ => {
                let wanted = format!("an integer from {} to {}", range.start(), range.end());
                Err(wrong(&self.param(name), &wanted, &value))
            }
        }
    }

    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(it) if range.contains(&it) => Ok(Some(it)),
            _ => {
                let wanted = format!("a number from {} to {}", range.start(), range.end());
                Err(wrong(&self.param(name), &wanted, &value))
            }
        }
    }

    pub(crate) fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(it)) => Ok(Some(it)),
            Some(other) => Err(wrong(&self.param(name), "an array", &other)),
        }
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        let path = self.param(name);
        self.take(name).map(|it| Self::inner(path, it)).transpose()
    }
}

/// What was wanted and what came: the number itself, since a range is often the problem, but never a text.
pub(crate) fn wrong(param: &str, wanted: &str, got: &Value) -> ApiError {
    let got = match got {
        Value::Number(number) => number.to_string(),
        other => kind(other).to_owned(),
    };
    ApiError::invalid(param, format!("must be {wanted}, not {got}"))
}

pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
