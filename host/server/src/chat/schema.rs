//! The body of a chat request: which parts of the OpenAI API are understood, ignored and refused.
//!
//! Ignored is what changes nothing that a client could miss (`user`, `verbosity`, …). Refused is what would
//! make the answer another one than was asked for: audio, functions of the time before tools.

use serde_json::Value;

use crate::{
    Limits,
    error::ApiError,
    fields::{Fields, wrong},
    generate::{Draft, DraftPrompt, ImageSource, Piece, Turn},
    image::Encoded,
    params::Params,
};

use super::tools::Tools;

/// OpenAI's limit.
const TOP_LOGPROBS_MAX: i64 = 20;

#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) model: Option<String>,
    pub(crate) draft: Draft,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// Whether the client wants the completion stored.
    pub(crate) store: Option<bool>,
    /// Unchecked: it matters only to the store.
    pub(crate) metadata: Option<Value>,
    /// vLLM's timings of the request, beside the usage.
    pub(crate) include_metrics: bool,
    pub(crate) tools: Tools,
}

impl ChatRequest {
    pub(crate) fn take(fields: &mut Fields, limits: &Limits) -> Result<Self, ApiError> {
        refuse_other_modalities(fields)?;
        let tools = Tools::take(fields, limits)?;
        let model = fields.text("model")?.filter(|it| !it.is_empty());
        let stream = fields.flag("stream")?.unwrap_or(false);
        // Without `stream` it is ignored, since some clients always send it.
        let include_usage = match fields.object("stream_options")? {
            Some(mut options) => options.flag("include_usage")?.unwrap_or(false),
            None => false,
        };
        let include_metrics = fields.flag("include_metrics")?.unwrap_or(false);
        let mut params = Params::take(fields, limits)?;
        params.logprobs = logprobs(fields)?;
        let messages = fields.array("messages")?.ok_or_else(|| ApiError::Missing {
            param: "messages".to_owned(),
            hint: "send an array of messages with role and content",
        })?;
        let prompts = vec![DraftPrompt::Turns(turns(messages, limits)?)];
        let adapter = fields.text("adapter")?.filter(|it| !it.is_empty());
        let draft = Draft { prompts, params, tools: Vec::new(), adapter };
        check_size(&draft, ["messages", "messages"], limits)?;
        let chars: usize = tools.list.iter().map(|it| it.to_string().len()).sum();
        if chars > limits.prompt_chars {
            let reason = format!("may hold {} characters, not {chars}", limits.prompt_chars);
            return Err(ApiError::invalid("tools", reason));
        }
        let (store, metadata) = (fields.flag("store")?, fields.take("metadata"));
        Ok(Self { model, draft, stream, include_usage, include_metrics, tools, store, metadata })
    }
}

/// How much a request may hold. `params` are where its text and its images are.
pub(crate) fn check_size(
    draft: &Draft,
    params: [&str; 2],
    limits: &Limits,
) -> Result<(), ApiError> {
    let images = draft.images();
    if images > limits.images {
        let reason = format!("may hold {} images, not {images}", limits.images);
        return Err(ApiError::invalid(params[1], reason));
    }
    // A token stands for a character at least.
    let chars = draft.text().chars().count().saturating_add(draft.tokens());
    if chars > limits.prompt_chars {
        let reason = format!("may hold {} characters, not {chars}", limits.prompt_chars);
        return Err(ApiError::invalid(params[0], reason));
    }
    Ok(())
}

/// `logprobs` says whether, `top_logprobs` how many of the likeliest.
fn logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=TOP_LOGPROBS_MAX)?;
    match (wanted, top) {
        (false, Some(it)) if it > 0 => {
            Err(ApiError::invalid("top_logprobs", "needs logprobs: send true"))
        }
        (false, _) => Ok(None),
        (true, top) => Ok(Some(top.and_then(|it| usize::try_from(it).ok()).unwrap_or(0))),
    }
}

fn refuse_other_modalities(fields: &mut Fields) -> Result<(), ApiError> {
    let modalities = fields.array("modalities")?.unwrap_or_default();
    if modalities.iter().any(|it| it != "text") {
        return Err(ApiError::Unsupported {
            param: "modalities".to_owned(),
            reason: "answers are text: send [\"text\"] or leave it out",
        });
    }
    Ok(())
}

fn turns(messages: Vec<Value>, limits: &Limits) -> Result<Vec<Turn>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "must hold at least one message"));
    }
    if messages.len() > limits.messages {
        let reason = format!("may hold {} messages, not {}", limits.messages, messages.len());
        return Err(ApiError::invalid("messages", reason));
    }
    messages.into_iter().enumerate().map(|(index, it)| turn(index, it, limits)).collect()
}

fn turn(index: usize, message: Value, limits: &Limits) -> Result<Turn, ApiError> {
    let mut message = Fields::inner(format!("messages[{index}]"), message)?;
    let param = message.param("role");
    let role = message.text("role")?.ok_or(ApiError::Missing {
        param: param.clone(),
        hint: "send user, assistant or system",
    })?;
    if !matches!(role.as_str(), "system" | "developer" | "user" | "assistant" | "tool") {
        return Err(ApiError::invalid(param, "must be system, developer, user, assistant or tool"));
    }
    let param = message.param("content");
    let pieces = match message.take("content") {
        Some(Value::String(text)) => vec![Piece::Text(text)],
        Some(Value::Array(parts)) => parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| piece(format!("{param}[{index}]"), part, limits))
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong(&param, "a string or an array of parts", &other)),
        // An assistant that called a tool said nothing.
        None if role == "assistant" => Vec::new(),
        None => {
            return Err(ApiError::Missing { param, hint: "send a string or an array of parts" });
        }
    };
    Ok(Turn {
        pieces,
        tool_calls: calls(&mut message)?,
        tool_call_id: message.text("tool_call_id")?,
        name: message.text("name")?,
        role,
    })
}

/// Calls that an assistant made, back from a client: a template prints them, so their form matters.
fn calls(message: &mut Fields) -> Result<Vec<Value>, ApiError> {
    let param = message.param("tool_calls");
    let calls = message.array("tool_calls")?.unwrap_or_default();
    for (at, call) in calls.iter().enumerate() {
        let function = call.get("function");
        let has = |name: &str| function.and_then(|it| it.get(name)).is_some_and(Value::is_string);
        if !has("name") || !has("arguments") {
            let param = format!("{param}[{at}].function");
            return Err(ApiError::invalid(param, "must have name and arguments, both strings"));
        }
    }
    Ok(calls)
}

fn piece(path: String, part: Value, limits: &Limits) -> Result<Piece, ApiError> {
    let mut part = Fields::inner(path, part)?;
    let param = part.param("type");
    let missing = |param, hint| ApiError::Missing { param, hint };
    match part.text("type")?.as_deref() {
        Some("text") => {
            let param = part.param("text");
            let text = part.text("text")?.ok_or_else(|| missing(param, "send the text"))?;
            Ok(Piece::Text(text))
        }
        Some("refusal") => Ok(Piece::Text(part.text("refusal")?.unwrap_or_default())),
        Some("image_url") => {
            let param = part.param("image_url");
            let Some(mut image) = part.object("image_url")? else {
                return Err(missing(param, "send {\"url\": \"data:image/png;base64,…\"}"));
            };
            let param = image.param("url");
            let Some(url) = image.text("url")? else {
                return Err(missing(param, "send data:image/png;base64,…"));
            };
            match Encoded::from_url(url, limits) {
                Ok(encoded) => Ok(Piece::Image(ImageSource { param, encoded })),
                Err(source) => Err(ApiError::Image { param, source }),
            }
        }
        Some(_) => Err(ApiError::Unsupported { param, reason: "send text or image_url" }),
        None => Err(missing(param, "send text or image_url")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(value: Value, limits: &Limits) -> Result<ChatRequest, ApiError> {
        ChatRequest::take(&mut Fields::inner(String::new(), value)?, limits)
    }

    fn message(value: Value) -> Value {
        json!({"messages": [value]})
    }

    #[test]
    fn what_clients_send_is_understood_or_ignored() {
        let check = |value: Value, model: Option<&str>, text: &str, images: usize| {
            let request = take(value.clone(), &Limits::default()).unwrap();
            assert_eq!(request.model.as_deref(), model, "{value}");
            assert_eq!(request.draft.text(), text, "{value}");
            assert_eq!(request.draft.images(), images, "{value}");
        };
        let hello = json!([{"role": "user", "content": "hello"}]);
        check(json!({"model": "m", "messages": hello}), Some("m"), "hello", 0);
        check(json!({"model": "", "messages": hello}), None, "hello", 0);
        check(
            json!({
                "messages": hello, "n": 1, "tools": [], "tool_choice": "auto", "user": "u",
                "store": true, "metadata": {"a": "b"}, "logit_bias": {}, "logprobs": false,
                "frequency_penalty": 0.5, "modalities": ["text"], "stream_options": null,
            }),
            None,
            "hello",
            0,
        );
        check(
            message(json!({"role": "user", "content": [
                {"type": "text", "text": "what"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
                {"type": "text", "text": "is it"},
            ]})),
            None,
            "what\nis it",
            1,
        );
        check(
            message(json!({"role": "assistant", "content": null, "tool_calls": []})),
            None,
            "",
            0,
        );
        check(message(json!({"role": "developer", "content": "be kind"})), None, "be kind", 0);
    }

    #[test]
    fn streaming_options_are_taken_with_and_without_a_stream() {
        let check = |extra: Value, stream: bool, usage: bool| {
            let mut value = message(json!({"role": "user", "content": "x"}));
            value["stream"] = extra["stream"].clone();
            value["stream_options"] = extra["stream_options"].clone();
            let request = take(value, &Limits::default()).unwrap();
            assert_eq!((request.stream, request.include_usage), (stream, usage), "{extra}");
        };
        check(json!({}), false, false);
        check(json!({"stream": true}), true, false);
        check(json!({"stream": true, "stream_options": {"include_usage": true}}), true, true);
        check(json!({"stream": false, "stream_options": {"include_usage": true}}), false, true);
    }

    #[test]
    fn a_bad_request_names_its_parameter() {
        let check = |value: Value, param: &str, code: &str| {
            let error = take(value.clone(), &Limits::default()).unwrap_err();
            let body = error.body();
            assert_eq!(body["error"]["param"], param, "{value}");
            assert_eq!(body["error"]["code"], code, "{value}");
        };
        let with = |name: &str, setting: Value| {
            let mut value = message(json!({"role": "user", "content": "x"}));
            value[name] = setting;
            value
        };
        let part = |part: Value| message(json!({"role": "user", "content": [part]}));
        let (bad, none, not) =
            ("invalid_value", "missing_required_parameter", "unsupported_parameter");
        check(json!({}), "messages", none);
        check(json!({"messages": "hello"}), "messages", bad);
        check(json!({"messages": []}), "messages", bad);
        check(message(json!("hello")), "messages[0]", bad);
        check(message(json!({"content": "x"})), "messages[0].role", none);
        check(message(json!({"role": "robot", "content": "x"})), "messages[0].role", bad);
        check(message(json!({"role": "user"})), "messages[0].content", none);
        check(message(json!({"role": "user", "content": 7})), "messages[0].content", bad);
        check(part(json!({"text": "x"})), "messages[0].content[0].type", none);
        check(part(json!({"type": "text"})), "messages[0].content[0].text", none);
        check(part(json!({"type": "input_audio"})), "messages[0].content[0].type", not);
        check(
            part(json!({"type": "image_url", "image_url": "data:image/png;base64,aGk="})),
            "messages[0].content[0].image_url",
            bad,
        );
        check(
            part(json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})),
            "messages[0].content[0].image_url.url",
            "image_remote",
        );
        check(with("model", json!(7)), "model", bad);
        check(with("stream", json!("yes")), "stream", bad);
        check(
            with("stream_options", json!({"include_usage": 1})),
            "stream_options.include_usage",
            bad,
        );
        check(with("n", json!(0)), "n", bad);
        check(with("n", json!(129)), "n", bad);
        check(with("logprobs", json!(3)), "logprobs", bad);
        check(with("top_logprobs", json!(3)), "top_logprobs", bad);
        check(with("top_logprobs", json!(21)), "top_logprobs", bad);
        check(with("tool_choice", json!("required")), "tool_choice", bad);
        check(with("tools", json!([{"type": "function"}])), "tools[0].function", none);
        check(
            message(json!({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]})),
            "messages[0].tool_calls[0].function",
            bad,
        );
        check(with("modalities", json!(["text", "audio"])), "modalities", not);
        check(with("frequency_penalty", json!(3)), "frequency_penalty", bad);
    }

    #[test]
    fn size_is_limited() {
        let limits = Limits { messages: 2, images: 1, prompt_chars: 5, ..Limits::default() };
        let check = |value: Value, expected: Option<&str>| {
            let error = take(value, &limits).err().map(|it| it.to_string());
            assert_eq!(error.as_deref(), expected);
        };
        let say = |text: &str| json!({"role": "user", "content": text});
        let image = json!({"type": "image_url", "image_url": {"url": "data:;base64,aGk="}});
        check(message(say("다섯글자요")), None);
        check(message(say("여섯글자네요")), Some("messages may hold 5 characters, not 6"));
        check(
            json!({"messages": [say("a"), say("b"), say("c")]}),
            Some("messages may hold 2 messages, not 3"),
        );
        check(
            message(json!({"role": "user", "content": [image, image]})),
            Some("messages may hold 1 images, not 2"),
        );
    }
}
