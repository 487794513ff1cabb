//! `POST /v1/embeddings`: vectors of texts, as numbers or in base64.

use std::time::Instant;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{EmbedError, EmbedInput, EmbedRequest, Embeddings, EngineError, SubmitError};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant as Clock, timeout_at};

use crate::{
    Limits, body,
    completions::tokens,
    error::ApiError,
    fields::{Fields, wrong},
    generate::has_vision_tag,
    meters::Answered,
    models::{self, Wanted},
    request_log::{Arrival, PromptFacts, Relayed, RequestLog},
    state::App,
    tokens::aside,
};

pub(crate) const ROUTE: &str = "/v1/embeddings";

/// OpenAI's limit.
const INPUTS_MAX: usize = 2048;

pub(crate) async fn embeddings(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut log = RequestLog::new(Arrival::new(app.chain_for(), &parts, ROUTE));
    match answer(&app, &mut log, &parts.headers, body).await {
        Ok(json) => {
            log.finish(StatusCode::OK);
            ([(header::CONTENT_TYPE, "application/json")], json).into_response()
        }
        Err(error) => {
            log.refuse(&error);
            error.into_response()
        }
    }
}

/// What a request asks for.
struct Asked {
    model: Option<String>,
    adapter: Option<String>,
    inputs: Vec<EmbedInput>,
    dimensions: Option<usize>,
    in_base64: bool,
}

async fn answer(
    app: &App,
    log: &mut RequestLog,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, ApiError> {
    let limits = app.limits();
    let bytes = body::read(headers, body, limits).await?;
    log.body(bytes.len());
    let mut fields = body::parse(bytes).await?;
    log.received(fields.peek_text("model"), false);

    let asked = Asked::take(&mut fields, limits, app.engine().embedding_size())?;
    let Asked { adapter, dimensions, .. } = asked;
    let in_base64 = asked.in_base64 && app.base64_embeddings();
    let wanted =
        Wanted { model: asked.model.as_deref(), adapter: adapter.as_deref(), images: false };
    let model = models::resolve(app, wanted)?;
    if app.engine().embedding_size() == 0 {
        return Err(ApiError::NoEmbeddings { model: model.name });
    }
    let name = models::name_for(app, &model, asked.model.as_deref());
    log.serving(&model.name);
    let (inputs, text) = with_text(app, &model.name, asked.inputs).await?;
    log.prompt(&PromptFacts {
        text: &text,
        messages: inputs.len(),
        images: 0,
        vision_tag: has_vision_tag(&text),
    });
    drop(text);

    let began = Instant::now();
    let mut watch = app.meters().watch(&model.name, log.operation());
    let work = app.engine().embed(EmbedRequest {
        model: model.name.clone(),
        adapter_requested: adapter.clone(),
        inputs,
        dimensions,
        span: log.span().clone(),
    });
    let made = match limits.request_time {
        None => work.await,
        // Whoever is late is given up, and the engine computes no more of it.
        Some(time) => timeout_at(Clock::from_std(log.started() + time), work)
            .await
            .unwrap_or(Err(EmbedError::Failed(EngineError::DeadlineExceeded))),
    };
    let made = made.map_err(|error| match (error, &adapter) {
        (EmbedError::Refused(SubmitError::UnknownModel(_)), Some(adapter)) => {
            models::adapter_refused(&app.engine().models(), adapter, &model.name)
        }
        (other, _) => other.into(),
    });
    let made = made.inspect_err(|error| watch.ended_by(error))?;
    let input_tokens = Some(made.input_tokens as u64);
    watch.answered(&Answered { input_tokens, ..Answered::default() });
    // It says what there is to say where no token is made.
    log.relayed(&Relayed { input_tokens, total: began.elapsed(), ..Relayed::default() });
    // Thousands of vectors are millions of numbers.
    let json = move || serde_json::to_vec(&List::new(&name, &made, in_base64));
    match tokio::task::spawn_blocking(json).await {
        Ok(Ok(json)) => Ok(json),
        _ => Err(ApiError::Panic),
    }
}

impl Asked {
    /// `size` is how many numbers a vector has.
    fn take(fields: &mut Fields, limits: &Limits, size: usize) -> Result<Self, ApiError> {
        let model = fields.text("model")?.filter(|it| !it.is_empty());
        let in_base64 = match fields.text("encoding_format")?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                return Err(ApiError::invalid("encoding_format", "must be float or base64"));
            }
        };
        let most = i64::try_from(size).unwrap_or(i64::MAX).max(1);
        let dimensions = fields.integer("dimensions", 1..=most)?;
        let dimensions = dimensions.and_then(|it| usize::try_from(it).ok());
        let inputs = inputs(fields)?;
        // A token stands for a character at least.
        let chars: usize = inputs
            .iter()
            .map(|it| match it {
                EmbedInput::Text(text) => text.chars().count(),
                EmbedInput::Tokens(tokens) => tokens.len(),
            })
            .sum();
        if chars > limits.prompt_chars {
            let reason = format!("may hold {} characters, not {chars}", limits.prompt_chars);
            return Err(ApiError::invalid("input", reason));
        }
        let adapter = fields.text("adapter")?.filter(|it| !it.is_empty());
        Ok(Self { model, adapter, inputs, dimensions, in_base64 })
    }
}

/// A text, several, tokens, or several lists of tokens.
fn inputs(fields: &mut Fields) -> Result<Vec<EmbedInput>, ApiError> {
    let missing = || ApiError::Missing {
        param: "input".to_owned(),
        hint: "send the text that the vector is to be of",
    };
    match fields.take("input").ok_or_else(missing)? {
        Value::Array(values) if !matches!(values.first(), None | Some(Value::Number(_))) => {
            if values.len() > INPUTS_MAX {
                let reason = format!("may hold {INPUTS_MAX} texts, not {}", values.len());
                return Err(ApiError::invalid("input", reason));
            }
            let one = |(at, value): (usize, Value)| input(&format!("input[{at}]"), value);
            values.into_iter().enumerate().map(one).collect()
        }
        single => Ok(vec![input("input", single)?]),
    }
}

fn input(param: &str, value: Value) -> Result<EmbedInput, ApiError> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(EmbedInput::Text(text)),
        Value::Array(values) if !values.is_empty() => {
            Ok(EmbedInput::Tokens(tokens(param, values)?))
        }
        Value::String(_) | Value::Array(_) => Err(ApiError::invalid(param, "must not be empty")),
        other => Err(wrong(param, "a string, strings, tokens or lists of tokens", &other)),
    }
}

/// The inputs, and all their text, joined by line ends, for the log.
async fn with_text(
    app: &App,
    model: &str,
    inputs: Vec<EmbedInput>,
) -> Result<(Vec<EmbedInput>, String), ApiError> {
    let (engine, model) = (app.engine().clone(), model.to_owned());
    let joined = move || {
        let text = |it: &EmbedInput| match it {
            EmbedInput::Text(text) => text.clone(),
            // Tokens that are none are refused by the engine.
            EmbedInput::Tokens(tokens) => engine.detokenize(&model, tokens).unwrap_or_default(),
        };
        let text = inputs.iter().map(text).collect::<Vec<_>>().join("\n");
        Ok((inputs, text))
    };
    aside(app, joined).await
}

/// The answer in OpenAI's form.
#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Vector<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Vector<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Plain(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl<'a> List<'a> {
    fn new(model: &'a str, made: &'a Embeddings, in_base64: bool) -> Self {
        let one = |(index, vector): (usize, &'a Vec<f32>)| {
            let embedding =
                if in_base64 { Numbers::Base64(encoded(vector)) } else { Numbers::Plain(vector) };
            Vector { object: "embedding", index, embedding }
        };
        let data = made.vectors.iter().enumerate().map(one).collect();
        let tokens = made.input_tokens;
        let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
        Self { object: "list", data, model, usage }
    }
}

/// Numbers of four bytes, the lowest first, as OpenAI's clients read them.
fn encoded(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|it| it.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(value: Value) -> Result<Asked, ApiError> {
        let limits = Limits { prompt_chars: 5000, ..Limits::default() };
        Asked::take(&mut Fields::inner(String::new(), value)?, &limits, 8)
    }

    #[test]
    fn inputs_come_in_four_forms() {
        let check = |input: Value, expected: &[&str]| {
            let asked = take(json!({"input": input})).unwrap();
            let shown = |it: &EmbedInput| match it {
                EmbedInput::Text(text) => text.clone(),
                EmbedInput::Tokens(tokens) => format!("{tokens:?}"),
            };
            assert_eq!(asked.inputs.iter().map(shown).collect::<Vec<_>>(), expected, "{input}");
        };
        check(json!("once"), &["once"]);
        check(json!(["once", "more"]), &["once", "more"]);
        check(json!([1, 2, 3]), &["[1, 2, 3]"]);
        check(json!([[1, 2], [3]]), &["[1, 2]", "[3]"]);
        check(json!(["once", [3]]), &["once", "[3]"]);
    }

    #[test]
    fn the_form_is_the_clients_choice() {
        let check = |more: Value, dimensions: Option<usize>, in_base64: bool| {
            let mut value = json!({"input": "x", "user": "ada"});
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let asked = take(value).unwrap();
            assert_eq!((asked.dimensions, asked.in_base64), (dimensions, in_base64), "{more}");
        };
        check(json!({}), None, false);
        check(json!({"encoding_format": "float", "dimensions": 8}), Some(8), false);
        check(json!({"encoding_format": "base64", "dimensions": 1}), Some(1), true);
        check(json!({"encoding_format": null, "dimensions": null}), None, false);
    }

    #[test]
    fn a_bad_request_names_its_parameter() {
        let check = |value: Value, param: &str, code: &str| {
            let Err(error) = take(value.clone()) else { panic!("it was taken: {value}") };
            let body = error.body();
            assert_eq!(body["error"]["param"], param, "{value}");
            assert_eq!(body["error"]["code"], code, "{value}");
        };
        let bad = "invalid_value";
        check(json!({}), "input", "missing_required_parameter");
        check(json!({"input": null}), "input", "missing_required_parameter");
        check(json!({"input": ""}), "input", bad);
        check(json!({"input": []}), "input", bad);
        check(json!({"input": {}}), "input", bad);
        check(json!({"input": ["a", ""]}), "input[1]", bad);
        check(json!({"input": ["a", 1]}), "input[1]", bad);
        check(json!({"input": [[1], []]}), "input[1]", bad);
        check(json!({"input": [1, -2]}), "input", bad);
        check(json!({"input": vec!["a"; 2049]}), "input", bad);
        check(json!({"input": vec!["abc"; 2000]}), "input", bad);
        check(json!({"input": "x", "dimensions": 0}), "dimensions", bad);
        check(json!({"input": "x", "dimensions": 9}), "dimensions", bad);
        check(json!({"input": "x", "encoding_format": "int8"}), "encoding_format", bad);
        check(json!({"input": "x", "model": 1}), "model", bad);
    }

    #[test]
    fn numbers_and_base64_are_the_same() {
        let made = Embeddings { vectors: vec![vec![1.0, -0.5], vec![0.1, 2.0]], input_tokens: 7 };
        let told = |in_base64| {
            let text = serde_json::to_string(&List::new("m", &made, in_base64)).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let numbers = told(false);
        assert_eq!(numbers["object"], "list");
        assert_eq!(numbers["model"], "m");
        assert_eq!(numbers["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));
        let texts = told(true);
        for (index, vector) in made.vectors.iter().enumerate() {
            let (number, text) = (&numbers["data"][index], &texts["data"][index]);
            assert_eq!((&number["object"], &number["index"]), (&json!("embedding"), &json!(index)));
            let read: Vec<f32> = serde_json::from_value(number["embedding"].clone()).unwrap();
            assert_eq!(read, *vector);
            let bytes = STANDARD.decode(text["embedding"].as_str().unwrap()).unwrap();
            let back: Vec<f32> = bytes
                .chunks_exact(4)
                .map(|it| f32::from_le_bytes(it.try_into().unwrap()))
                .collect();
            assert_eq!(back, *vector);
        }
    }
}
