//! Parameters of a generation, common to all endpoints.

use engine::{Constraint, Sampling};
use serde_json::Value;

use crate::{
    Limits,
    error::ApiError,
    fields::{Fields, wrong},
    output::{Form, Output},
};

/// More tokens than any sensible bias is about; OpenAI's limit is 300.
const BIASES_MAX: usize = 1024;

/// A step is half a minute of waiting: nobody is overtaken for longer than ten.
const PRIORITY_MAX: i64 = 20;

/// As the client set them; what it left out is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Params {
    pub(crate) max_tokens: Option<usize>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<usize>,
    pub(crate) min_p: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) logit_bias: Vec<(u32, f32)>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Vec<String>,
    pub(crate) ignore_eos: bool,
    pub(crate) priority: i32,
    /// How many answers; 1 when the client says nothing.
    pub(crate) choices: Option<usize>,
    /// See [`Sampling::logprobs`]; endpoints ask for it in different ways.
    pub(crate) logprobs: Option<usize>,
    pub(crate) output: Option<Output>,
    /// What the answer is kept to.
    pub(crate) form: Option<Form>,
}

impl Params {
    pub(crate) fn take(fields: &mut Fields, limits: &Limits) -> Result<Self, ApiError> {
        let most = i64::try_from(limits.max_tokens).unwrap_or(i64::MAX);
        // 0 is a prompt that is only read: it warms the cache, and counts tokens.
        let old = fields.integer("max_tokens", 0..=most)?;
        // The newer name wins: a client that sends both keeps the old one for old servers.
        let new = fields.integer("max_completion_tokens", 0..=most)?;
        let top_p = fields.number("top_p", 0.0..=1.0)?;
        if top_p == Some(0.0) {
            return Err(ApiError::invalid("top_p", "must be above 0: send temperature 0 instead"));
        }
        let repetition_penalty = fields.number("repetition_penalty", 0.0..=100.0)?;
        if repetition_penalty == Some(0.0) {
            return Err(ApiError::invalid(
                "repetition_penalty",
                "must be above 0: 1 changes nothing",
            ));
        }
        let choices = i64::try_from(limits.choices).unwrap_or(i64::MAX);
        let (output, form) = crate::output::take(fields)?;
        Ok(Self {
            max_tokens: new.or(old).and_then(|it| usize::try_from(it).ok()),
            temperature: fields.number("temperature", 0.0..=2.0)?,
            top_p,
            // -1 and 0 mean all tokens, by custom.
            top_k: fields
                .integer("top_k", -1..=i64::from(u32::MAX))?
                .and_then(|it| usize::try_from(it).ok())
                .filter(|it| *it > 0),
            min_p: fields.number("min_p", 0.0..=1.0)?,
            presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
            frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
            repetition_penalty,
            logit_bias: logit_bias(fields)?,
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
            stop: stop(fields, limits)?,
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
            priority: fields
                .integer("priority", -PRIORITY_MAX..=PRIORITY_MAX)?
                .and_then(|it| i32::try_from(it).ok())
                .unwrap_or(0),
            choices: fields.integer("n", 1..=choices)?.and_then(|it| usize::try_from(it).ok()),
            logprobs: None,
            output,
            form,
        })
    }

    /// What the engine is asked for; `max_tokens` and `temperature` as they hold, whoever set them.
    pub(crate) fn sampling(
        &self,
        max_tokens: Option<usize>,
        temperature: f64,
        seed: u64,
    ) -> Sampling {
        Sampling {
            max_tokens,
            temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty,
            logit_bias: self.logit_bias.clone(),
            seed,
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            logprobs: self.logprobs,
        }
    }

    pub(crate) fn constraint(&self) -> Option<&Constraint> {
        self.form.as_ref().map(|it| &it.constraint)
    }
}

/// `{"50256": -100}`: tokens by their number, as text.
fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let map = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("logit_bias", "an object", &other)),
    };
    if map.len() > BIASES_MAX {
        let reason = format!("may hold {BIASES_MAX} tokens, not {}", map.len());
        return Err(ApiError::invalid("logit_bias", reason));
    }
    let mut biases = Vec::with_capacity(map.len());
    for (token, bias) in map {
        let Some(bias) = bias.as_f64().filter(|it| (-100.0..=100.0).contains(it)) else {
            return Err(wrong("logit_bias", "an object of numbers from -100 to 100", &bias));
        };
        // Nothing is what 0 does, whatever it is said of.
        if bias == 0.0 {
            continue;
        }
        let Ok(token) = token.parse() else {
            return Err(ApiError::invalid("logit_bias", "must have numbers of tokens as its keys"));
        };
        biases.push((token, bias as f32));
    }
    Ok(biases)
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
            json!({"n": 2, "min_p": 0.1, "logit_bias": {"7": -100, "word": 0}, "priority": -1}),
            Params {
                choices: Some(2),
                min_p: Some(0.1),
                logit_bias: vec![(7, -100.0)],
                priority: -1,
                ..Params::default()
            },
        );
        check(
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
            Params {
                output: Some(Output::Schema),
                form: Some(Form {
                    constraint: Constraint::JsonObject,
                    param: "response_format.json_schema",
                }),
                ..Params::default()
            },
        );
    }

    #[test]
    fn a_bad_parameter_is_named_with_what_to_send() {
        let check = |value: Value, expected: &str| {
            assert_eq!(take(value).unwrap_err().to_string(), expected);
        };
        check(json!({"max_tokens": -1}), "max_tokens must be an integer from 0 to 131072, not -1");
        check(json!({"n": 0}), "n must be an integer from 1 to 128, not 0");
        check(
            json!({"presence_penalty": 3}),
            "presence_penalty must be a number from -2 to 2, not 3",
        );
        check(
            json!({"repetition_penalty": 0}),
            "repetition_penalty must be above 0: 1 changes nothing",
        );
        check(
            json!({"logit_bias": {"7": 101}}),
            "logit_bias must be an object of numbers from -100 to 100, not 101",
        );
        check(
            json!({"logit_bias": {"word": 1}}),
            "logit_bias must have numbers of tokens as its keys",
        );
        check(
            json!({"max_tokens": "9"}),
            "max_tokens must be an integer from 0 to 131072, not a string",
        );
        check(
            json!({"max_tokens": 1.5}),
            "max_tokens must be an integer from 0 to 131072, not 1.5",
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
