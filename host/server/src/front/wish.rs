//! What of a chat that is passed on is to be stored when it has been answered, read as the log reads it: whatever makes no sense is
//! skipped, since the upstream will say so itself.

use serde_json::{Map, Value};

use super::{Front, relay::served};
use crate::{
    chat::unix_time,
    error::ApiError,
    request_id::RequestIds,
    request_log::SentParams,
    stored::wish::{Kept, Wish, Wished, call, wanted},
};

/// Four for each message that an engine here would take: each is a record.
const TEXTS_MAX: usize = 4096;

/// Roles are metadata, so they are of a closed set.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// # Errors
/// When the request asks for more metadata than can be stored.
pub(super) fn wished(
    front: &Front,
    map: &Map<String, Value>,
    params: &SentParams,
    ids: &RequestIds,
) -> Result<Wished, ApiError> {
    // Without a store here, the wish is the upstream's to fulfil.
    let Some(storing) = front.0.storage.storing() else { return Ok(Wished::Nothing) };
    let asked = map.get("store").and_then(Value::as_bool);
    let metadata = map.get("metadata").filter(|it| !it.is_null()).cloned();
    let Some(metadata) = wanted(storing, asked, metadata)? else { return Ok(Wished::Nothing) };
    let messages = map.get("messages").and_then(Value::as_array);
    let messages: Vec<Kept> = messages.into_iter().flatten().map(kept).collect();
    let texts: usize = messages.iter().map(|it| it.parts.len().max(1) + it.calls.len()).sum();
    if texts > TEXTS_MAX {
        return Ok(Wished::TooLong);
    }
    let model = map.get("model").and_then(Value::as_str).unwrap_or_default();
    Ok(Wished::Store(Box::new(Wish {
        // Where the upstream's answer has none.
        id: format!("chatcmpl-{}", ids.simple()),
        created: unix_time(),
        model: served(front, model).to_owned(),
        format: None,
        messages,
        metadata,
        seed: params.seed,
        temperature: params.temperature,
        top_p: params.top_p,
    })))
}

fn kept(message: &Value) -> Kept {
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    let role = text("role").unwrap_or_default();
    let role = ROLES.into_iter().find(|it| *it == role).unwrap_or("other");
    let parts = match message.get("content") {
        Some(Value::String(text)) => vec![Some(text.clone())],
        Some(Value::Array(parts)) => parts.iter().filter_map(part).collect(),
        _ => Vec::new(),
    };
    let calls = message.get("tool_calls").and_then(Value::as_array);
    Kept {
        role: role.to_owned(),
        parts,
        calls: calls.into_iter().flatten().filter_map(call).collect(),
        call_id: text("tool_call_id").map(str::to_owned),
    }
}

/// A text, or none for a picture; sounds and films are left out.
fn part(part: &Value) -> Option<Option<String>> {
    let Value::Object(part) = part else { return part.as_str().map(|it| Some(it.to_owned())) };
    if part.contains_key("image_url") {
        return Some(None);
    }
    let text = ["text", "refusal"].iter().find_map(|it| part.get(*it)?.as_str());
    text.map(|it| Some(it.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_kept_as_far_as_it_makes_sense() {
        let check = |message: Value, role: &str, parts: &[Option<&str>], calls: usize| {
            let it = kept(&message);
            let told: Vec<Option<&str>> = it.parts.iter().map(Option::as_deref).collect();
            assert_eq!((it.role.as_str(), told.as_slice()), (role, parts), "{message}");
            assert_eq!(it.calls.len(), calls, "{message}");
        };
        check(json!({"role": "user", "content": "hi"}), "user", &[Some("hi")], 0);
        check(json!({"role": "ada@example.org", "content": null}), "other", &[], 0);
        check(json!(7), "other", &[], 0);
        let content = json!([
            "a", {"type": "text", "text": "b"}, {"image_url": "http://x/"}, {"type": "file"}, 7,
        ]);
        let parts = [Some("a"), Some("b"), None];
        check(json!({"role": "user", "content": content}), "user", &parts, 0);
        let calls = json!([{"id": "c", "function": {"name": "f"}}, {"function": {}}, 7]);
        check(json!({"role": "assistant", "tool_calls": calls}), "assistant", &[], 1);
        let it = kept(&json!({"role": "tool", "tool_call_id": "c", "content": ""}));
        assert_eq!(it.call_id.as_deref(), Some("c"));
    }
}
