//! The form that stored completions have in the OpenAI API. A stub says why it has none of its texts in a member of our own,
//! `bucksaw`, which clients of that API pass over.

use serde_json::{Value, json};

use crate::completion::{Call, Choice, Completion, Message, Part, Usage};

/// What stands for a picture, whose bytes are not kept: an empty data URL.
const NO_PICTURE: &str = "data:,";

/// The object `chat.completion` without its metadata, which can change.
pub(crate) fn completion(it: &Completion) -> Value {
    let mut body = json!({
        "id": it.id,
        "object": "chat.completion",
        "created": it.created,
        "model": it.model,
        "request_id": it.request_id,
        "choices": it.choices.iter().map(choice).collect::<Vec<_>>(),
        "usage": it.usage.as_ref().map(usage),
        "seed": null,
        "temperature": null,
        "top_p": null,
        "presence_penalty": null,
        "frequency_penalty": null,
        "service_tier": "default",
        "system_fingerprint": null,
        "input_user": null,
        "response_format": null,
        "tool_choice": null,
        "tools": null,
    });
    for (name, value) in &it.settings {
        body[*name] = value.clone();
    }
    if let Some(why) = &it.withheld {
        body["bucksaw"] = json!({"withheld": {"reason": why.reason(), "plugin": why.plugin()}});
    }
    body
}

fn usage(it: &Usage) -> Value {
    json!({
        "prompt_tokens": it.input,
        "completion_tokens": it.output,
        "total_tokens": it.input.saturating_add(it.output),
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": it.images},
    })
}

fn choice(it: &Choice) -> Value {
    let calls: Vec<_> = it.calls.iter().map(call).collect();
    json!({
        "index": it.index,
        "message": {
            "role": "assistant",
            "content": it.text,
            "refusal": null,
            "tool_calls": (!calls.is_empty()).then_some(calls),
            "function_call": null,
        },
        "logprobs": null,
        "finish_reason": it.finish_reason,
    })
}

fn call(Call { id, function, arguments }: &Call) -> Value {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    json!({
        "id": id,
        "type": "function",
        "function": {"name": text(function), "arguments": text(arguments)},
    })
}

/// One message of the request. `completion` is the id of its completion, which its own begins with.
pub(crate) fn message(completion: &str, position: usize, it: &Message) -> Value {
    let (content, parts) = match it.parts.as_slice() {
        [] => (None, None),
        [Part::Text(text)] => (Some(text.as_str()), None),
        parts => (None, Some(parts.iter().map(part).collect::<Vec<_>>())),
    };
    let mut body = json!({
        "id": format!("{completion}-{position}"),
        "role": it.role,
        "content": content,
        "refusal": null,
        "name": null,
        "content_parts": parts,
    });
    if !it.calls.is_empty() {
        body["tool_calls"] = it.calls.iter().map(call).collect();
    }
    if let Some(id) = &it.call_id {
        body["tool_call_id"] = json!(id);
    }
    body
}

fn part(it: &Part) -> Value {
    match it {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image => json!({"type": "image_url", "image_url": {"url": NO_PICTURE}}),
    }
}
