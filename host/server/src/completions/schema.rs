//! The body of a completion request, and the choices of its answer.

use serde_json::{Value, json};

use crate::{
    Limits,
    chat::{message::finite, schema::check_size},
    error::ApiError,
    fields::{Fields, wrong},
    generate::{Answer, Draft, DraftPrompt},
    params::Params,
};

/// vLLM's default limit; OpenAI's is 5.
const LOGPROBS_MAX: i64 = 20;
/// OpenAI's limit.
const BEST_OF_MAX: i64 = 20;

#[derive(Debug)]
pub(super) struct CompletionRequest {
    pub(super) model: Option<String>,
    pub(super) draft: Draft,
    pub(super) echo: bool,
    /// How many answers go out of those that are made; none: all.
    pub(super) keep: Option<usize>,
    /// Whether the client asked for them.
    pub(super) logprobs: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) include_metrics: bool,
}

impl CompletionRequest {
    pub(super) fn take(
        fields: &mut Fields,
        limits: &Limits,
        ignore_unsupported: bool,
    ) -> Result<Self, ApiError> {
        let refuse =
            |param: &str, reason| Err(ApiError::Unsupported { param: param.to_owned(), reason });
        let suffix = fields.text("suffix")?.filter(|it| !it.is_empty());
        if suffix.is_some() && !ignore_unsupported {
            return refuse("suffix", "no model here fills gaps: send the prompt alone");
        }
        let model = fields.text("model")?.filter(|it| !it.is_empty());
        let stream = fields.flag("stream")?.unwrap_or(false);
        let include_usage = match fields.object("stream_options")? {
            Some(mut options) => options.flag("include_usage")?.unwrap_or(false),
            None => false,
        };
        let include_metrics = fields.flag("include_metrics")?.unwrap_or(false);
        let echo = fields.flag("echo")?.unwrap_or(false);
        let mut params = Params::take(fields, limits)?;
        let logprobs = fields.integer("logprobs", 0..=LOGPROBS_MAX)?;
        params.logprobs = logprobs.and_then(|it| usize::try_from(it).ok());
        if echo && params.logprobs.is_some_and(|it| it > 0) {
            return refuse("logprobs", "those of a prompt are not known: leave echo out");
        }
        let keep = best_of(fields, &mut params, stream)?;
        let prompts = prompts(fields)?;
        let jobs = prompts.len().saturating_mul(params.choices.unwrap_or(1));
        if jobs > limits.choices {
            let reason = format!("may ask for {} answers in all, not {jobs}", limits.choices);
            return Err(ApiError::invalid("prompt", reason));
        }
        let adapter = fields.text("adapter")?.filter(|it| !it.is_empty());
        let draft = Draft { prompts, params, tools: Vec::new(), adapter };
        check_size(&draft, ["prompt", "prompt"], limits)?;
        let logprobs = logprobs.is_some();
        Ok(Self { model, draft, echo, keep, logprobs, stream, include_usage, include_metrics })
    }
}

/// With `best_of` more answers are made than go out.
fn best_of(
    fields: &mut Fields,
    params: &mut Params,
    stream: bool,
) -> Result<Option<usize>, ApiError> {
    let best_of = fields.integer("best_of", 0..=BEST_OF_MAX)?;
    let Some(best_of) = best_of.and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0) else {
        return Ok(None);
    };
    let keep = params.choices.unwrap_or(1);
    if best_of < keep {
        return Err(ApiError::invalid("best_of", format!("must be at least n, which is {keep}")));
    }
    if best_of == keep {
        return Ok(None);
    }
    if stream {
        return Err(ApiError::invalid(
            "best_of",
            "must be n in a stream: the best is known at its end",
        ));
    }
    params.choices = Some(best_of);
    // They are compared by it.
    params.logprobs.get_or_insert(0);
    Ok(Some(keep))
}

/// A text, several, tokens, or several lists of tokens.
fn prompts(fields: &mut Fields) -> Result<Vec<DraftPrompt>, ApiError> {
    const WANTED: &str = "a string, strings, tokens or lists of tokens";
    let missing =
        || ApiError::Missing { param: "prompt".to_owned(), hint: "send the text to go on with" };
    let values = match fields.take("prompt").ok_or_else(missing)? {
        Value::String(text) => return Ok(vec![DraftPrompt::Text(text)]),
        Value::Array(values) => values,
        other => return Err(wrong("prompt", WANTED, &other)),
    };
    match values.first() {
        None => Err(ApiError::invalid("prompt", "must not be empty")),
        Some(Value::Number(_)) => Ok(vec![DraftPrompt::Tokens(tokens("prompt", values)?)]),
        Some(_) => {
            let prompt = |(at, value): (usize, Value)| match value {
                Value::String(text) => Ok(DraftPrompt::Text(text)),
                Value::Array(values) => {
                    tokens(&format!("prompt[{at}]"), values).map(DraftPrompt::Tokens)
                }
                other => Err(wrong(&format!("prompt[{at}]"), WANTED, &other)),
            };
            values.into_iter().enumerate().map(prompt).collect()
        }
    }
}

pub(crate) fn tokens(param: &str, values: Vec<Value>) -> Result<Vec<u32>, ApiError> {
    let token = |value: Value| {
        let number = value.as_u64().and_then(|it| u32::try_from(it).ok());
        number.ok_or_else(|| wrong(param, "a list of tokens", &value))
    };
    values.into_iter().map(token).collect()
}

/// A choice behind `before`, which the client asked to have repeated.
pub(super) fn choice(index: usize, before: &str, answer: &Answer) -> Value {
    json!({
        "index": index,
        "text": format!("{before}{}", answer.text),
        "logprobs": logprobs(&answer.logprobs, before.chars().count()),
        "finish_reason": answer.finished.reason.as_str(),
    })
}

/// As the API had them before chat; `offset` is where the first token's text begins.
pub(super) fn logprobs(tokens: &[engine::TokenLogprob], offset: usize) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let text = |it: &engine::Logprob| String::from_utf8_lossy(&it.bytes).into_owned();
    let mut at = offset;
    let mut offsets = Vec::with_capacity(tokens.len());
    for it in tokens {
        offsets.push(at);
        at += text(&it.token).chars().count();
    }
    let top = |it: &engine::TokenLogprob| -> Value {
        let mut map = serde_json::Map::new();
        for it in it.top.iter().chain([&it.token]) {
            map.entry(text(it)).or_insert_with(|| json!(finite(it.logprob)));
        }
        Value::Object(map)
    };
    json!({
        "tokens": tokens.iter().map(|it| text(&it.token)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|it| finite(it.token.logprob)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use engine::{Logprob, TokenLogprob};

    use super::*;

    fn take(value: Value) -> Result<CompletionRequest, ApiError> {
        let mut fields = Fields::inner(String::new(), value)?;
        CompletionRequest::take(&mut fields, &Limits::default(), false)
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let check = |prompt: Value, prompts: usize, tokens: usize, text: &str| {
            let draft = take(json!({"prompt": prompt})).unwrap().draft;
            assert_eq!((draft.prompts.len(), draft.tokens()), (prompts, tokens), "{prompt}");
            assert_eq!(draft.text().trim(), text, "{prompt}");
        };
        check(json!("once"), 1, 0, "once");
        check(json!(["once", "more"]), 2, 0, "once\nmore");
        check(json!([1, 2, 3]), 1, 3, "");
        check(json!([[1, 2], [3]]), 2, 3, "");
    }

    #[test]
    fn more_answers_are_made_than_kept() {
        let request = take(json!({"prompt": "x", "n": 2, "best_of": 5})).unwrap();
        assert_eq!((request.keep, request.draft.params.choices), (Some(2), Some(5)));
        assert_eq!(request.draft.params.logprobs, Some(0));
        assert!(!request.logprobs);
        assert_eq!(take(json!({"prompt": "x", "best_of": 0})).unwrap().keep, None);
    }

    #[test]
    fn a_bad_request_names_its_parameter() {
        let check = |value: Value, param: &str, code: &str| {
            let body = take(value.clone()).unwrap_err().body();
            assert_eq!(body["error"]["param"], param, "{value}");
            assert_eq!(body["error"]["code"], code, "{value}");
        };
        let bad = "invalid_value";
        check(json!({}), "prompt", "missing_required_parameter");
        check(json!({"prompt": []}), "prompt", bad);
        check(json!({"prompt": {}}), "prompt", bad);
        check(json!({"prompt": ["a", {}]}), "prompt[1]", bad);
        check(json!({"prompt": [1, -2]}), "prompt", bad);
        check(json!({"prompt": "x", "suffix": "y"}), "suffix", "unsupported_parameter");
        check(json!({"prompt": "x", "logprobs": 21}), "logprobs", bad);
        check(
            json!({"prompt": "x", "logprobs": 1, "echo": true}),
            "logprobs",
            "unsupported_parameter",
        );
        check(json!({"prompt": "x", "n": 3, "best_of": 2}), "best_of", bad);
        check(json!({"prompt": "x", "best_of": 2, "stream": true}), "best_of", bad);
        check(json!({"prompt": ["x", "y"], "n": 65}), "prompt", bad);
    }

    #[test]
    fn log_probabilities_have_the_old_form() {
        let token = |text: &str, logprob| Logprob { id: 1, logprob, bytes: text.into() };
        let told = logprobs(
            &[
                TokenLogprob { token: token("안", -0.5), top: vec![token("a", -0.1)] },
                TokenLogprob { token: token("b", -1.0), top: vec![token("b", -1.0)] },
            ],
            4,
        );
        assert_eq!(told["tokens"], json!(["안", "b"]));
        assert_eq!(told["token_logprobs"], json!([-0.5, -1.0]));
        assert_eq!(told["text_offset"], json!([4, 5]));
        assert_eq!(told["top_logprobs"][0].as_object().unwrap().len(), 2);
        assert_eq!(told["top_logprobs"][1], json!({"b": -1.0}));
    }
}
