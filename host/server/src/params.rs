//! Parameters of a generation, common to all endpoints.

use serde_json::Value;

use crate::{
    Limits,
    error::ApiError,
    fields::{Fields, wrong},
};

/// As the client set them; what it left out is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Params {
    pub(crate) max_tokens: Option<usize>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<usize>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Vec<String>,
    pub(crate) output: Option<Output>,
}

/// What `response_format` asks for. It is not enforced while tokens are chosen: the log's JSON verdict says whether the
/// model kept to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Text,
    Object,
    Schema,
}

impl Output {
    /// Value of `gen_ai.output.type`.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Object | Self::Schema => "json",
        }
    }

    /// Value of `bucksaw.json.expected`.
    pub(crate) fn expected(output: Option<Self>) -> &'static str {
        match output {
            Some(Self::Object) => "object",
            Some(Self::Schema) => "schema",
            Some(Self::Text) | None => "none",
        }
    }
}

impl Params {
    pub(crate) fn take(fields: &mut Fields, limits: &Limits) -> Result<Self, ApiError> {
        let most = i64::try_from(limits.max_tokens).unwrap_or(i64::MAX);
        let old = fields.integer("max_tokens", 1..=most)?;
        // The newer name wins: a client that sends both keeps the old one for old servers.
        let new = fields.integer("max_completion_tokens", 1..=most)?;
        let top_p = fields.number("top_p", 0.0..=1.0)?;
        if top_p == Some(0.0) {
            return Err(ApiError::invalid("top_p", "must be above 0: send temperature 0 instead"));
        }
        Ok(Self {
            max_tokens: new.or(old).and_then(|it| usize::try_from(it).ok()),
            temperature: fields.number("temperature", 0.0..=2.0)?,
            top_p,
            // -1 and 0 mean all tokens, by custom.
            top_k: fields
                .integer("top_k", -1..=i64::from(u32::MAX))?
                .and_then(|it| usize::try_from(it).ok())
                .filter(|it| *it > 0),
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
            stop: stop(fields, limits)?,
            output: output(fields)?,
        })
    }
}

fn stop(fields: &mut Fields, limits: &Limits) -> Result<Vec<String>, ApiError> {
    let values = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(text @ Value::String(_)) => vec![text],
        Some(other) => return Err(wrong("stop", "a string or an array of strings", &other)),
    };
    if values.len() > limits.stop_sequences {
        let reason = format!("may hold {} strings, not {}", limits.stop_sequences, values.len());
        return Err(ApiError::invalid("stop", reason));
    }
    let check = |(index, value): (usize, Value)| {
        let param = format!("stop[{index}]");
        match value {
            Value::String(it) if it.is_empty() => {
                Err(ApiError::invalid(param, "must not be empty"))
            }
            Value::String(it) if it.chars().count() > limits.stop_chars => {
                Err(ApiError::invalid(param, format!("may hold {} characters", limits.stop_chars)))
            }
            Value::String(it) => Ok(it),
            other => Err(wrong(&param, "a string", &other)),
        }
    };
    values.into_iter().enumerate().map(check).collect()
}

fn output(fields: &mut Fields) -> Result<Option<Output>, ApiError> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(None) };
    let param = format.param("type");
    match format.text("type")?.as_deref() {
        Some("text") => Ok(Some(Output::Text)),
        Some("json_object") => Ok(Some(Output::Object)),
        Some("json_schema") => match format.object("json_schema")? {
            Some(_) => Ok(Some(Output::Schema)),
            None => Err(ApiError::Missing {
                param: format.param("json_schema"),
                hint: "send an object with name and schema",
            }),
        },
        Some(_) => Err(ApiError::invalid(param, "must be text, json_object or json_schema")),
        None => Err(ApiError::Missing { param, hint: "send text, json_object or json_schema" }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(value: Value) -> Result<Params, ApiError> {
        Params::take(&mut Fields::inner(String::new(), value)?, &Limits::default())
    }

    #[test]
    fn good_parameters_are_taken_as_sent() {
        let check = |value: Value, expected: Params| assert_eq!(take(value).unwrap(), expected);
        check(json!({}), Params::default());
        check(json!({"top_k": -1, "seed": null, "user": 7}), Params::default());
        check(
            json!({"max_tokens": 5, "max_completion_tokens": 7, "seed": -3, "stop": "a"}),
            Params {
                max_tokens: Some(7),
                seed: Some(-3),
                stop: vec!["a".to_owned()],
                ..Params::default()
            },
        );
        check(
            json!({"temperature": 2, "top_p": 0.5, "top_k": 4, "stop": ["a", "b"]}),
            Params {
                temperature: Some(2.0),
                top_p: Some(0.5),
                top_k: Some(4),
                stop: vec!["a".to_owned(), "b".to_owned()],
                ..Params::default()
            },
        );
        check(
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
            Params { output: Some(Output::Schema), ..Params::default() },
        );
    }

    #[test]
    fn a_bad_parameter_is_named_with_what_to_send() {
        let check = |value: Value, expected: &str| {
            assert_eq!(take(value).unwrap_err().to_string(), expected);
        };
        check(json!({"max_tokens": 0}), "max_tokens must be an integer from 1 to 131072, not 0");
        check(
            json!({"max_tokens": "9"}),
            "max_tokens must be an integer from 1 to 131072, not a string",
        );
        check(
            json!({"max_tokens": 1.5}),
            "max_tokens must be an integer from 1 to 131072, not 1.5",
        );
        check(json!({"temperature": 2.5}), "temperature must be a number from 0 to 2, not 2.5");
        check(json!({"top_p": 0}), "top_p must be above 0: send temperature 0 instead");
        check(json!({"stop": 1}), "stop must be a string or an array of strings, not 1");
        check(json!({"stop": [""]}), "stop[0] must not be empty");
        check(json!({"stop": ["a", 2]}), "stop[1] must be a string, not 2");
        check(json!({"stop": vec!["a"; 17]}), "stop may hold 16 strings, not 17");
        check(
            json!({"response_format": "json"}),
            "response_format must be an object, not a string",
        );
        check(
            json!({"response_format": {"type": "xml"}}),
            "response_format.type must be text, json_object or json_schema",
        );
        check(
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.json_schema is missing: send an object with name and schema",
        );
    }
}
