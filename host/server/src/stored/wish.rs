//! The wish of a chat request to be stored: what of it would be, kept until there is an answer.

use std::sync::atomic::{AtomicI64, Ordering};

use engine::ToolFormat;
use serde_json::Value;

use crate::{
    chat::{Head, message::Call, schema::ChatRequest},
    error::ApiError,
    fields::wrong,
    generate::{DraftPrompt, Piece, Turn},
    params::Params,
    state::{App, Storing},
};

/// As the OpenAI API has them.
const PAIRS_MAX: usize = 16;
const KEY_CHARS_MAX: usize = 64;
const VALUE_CHARS_MAX: usize = 512;

/// A request that is to be stored when it has been answered.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) id: String,
    /// Unix seconds, as in the answer.
    pub(crate) created: u64,
    pub(crate) model: String,
    /// How the answer writes calls of tools, if it may.
    pub(crate) format: Option<ToolFormat>,
    pub(crate) messages: Vec<Kept>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) seed: Option<i64>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
}

/// One message of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) role: String,
    /// No text is a picture.
    pub(crate) parts: Vec<Option<String>>,
    /// Calls of tools that an assistant made.
    pub(crate) calls: Vec<Call>,
    /// The call that a tool answers, by its id.
    pub(crate) call_id: Option<String>,
}

/// What the request asks for, and what becomes of it.
#[derive(Debug)]
pub(crate) enum Wished {
    Nothing,
    /// There is no store: the request is answered all the same, as clients expect.
    NoStore,
    /// More texts than are stored.
    TooLong,
    Store(Box<Wish>),
}

impl Wished {
    /// # Errors
    /// When the request asks for more metadata than can be stored.
    pub(crate) fn of(
        app: &App,
        request: &mut ChatRequest,
        head: &Head,
        format: Option<ToolFormat>,
    ) -> Result<Self, ApiError> {
        let asked = request.store;
        let Some(storing) = app.storing() else {
            return Ok(if asked == Some(true) { Self::NoStore } else { Self::Nothing });
        };
        let Some(metadata) = wanted(storing, asked, request.metadata.take())? else {
            return Ok(Self::Nothing);
        };
        let Params { seed, temperature, top_p, .. } = &request.draft.params;
        let turns = request.draft.prompts.iter().flat_map(|it| match it {
            DraftPrompt::Turns(turns) => turns.as_slice(),
            DraftPrompt::Text(_) | DraftPrompt::Tokens(_) => &[],
        });
        Ok(Self::Store(Box::new(Wish {
            id: head.id.clone(),
            created: head.created,
            model: head.model.clone(),
            format,
            messages: turns.map(message).collect(),
            metadata,
            seed: *seed,
            temperature: *temperature,
            top_p: *top_p,
        })))
    }
}

/// The metadata of a request that is to be stored; none of one that is not. `asked` is what it says itself.
///
/// # Errors
/// When it asks for more than can be stored.
pub(crate) fn wanted(
    storing: &Storing,
    asked: Option<bool>,
    metadata: Option<Value>,
) -> Result<Option<Vec<(String, String)>>, ApiError> {
    if asked == Some(true) {
        checked_metadata(metadata).map(Some)
    } else {
        // Who never heard of the store cannot do wrong by it.
        Ok(storing.all.then(|| fitting_metadata(metadata)))
    }
}

/// A number for what goes to the store together, the same in no two cases.
pub(crate) fn next_batch() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn message(turn: &Turn) -> Kept {
    let part = |it: &Piece| match it {
        Piece::Text(text) => Some(text.clone()),
        Piece::Image(_) => None,
    };
    Kept {
        role: turn.role.clone(),
        parts: turn.pieces.iter().map(part).collect(),
        calls: turn.tool_calls.iter().filter_map(call).collect(),
        call_id: turn.tool_call_id.clone(),
    }
}

/// A call of a tool, in OpenAI's form.
pub(crate) fn call(value: &Value) -> Option<Call> {
    let text = |it: &str| value.pointer(it).and_then(Value::as_str).map(str::to_owned);
    Some(Call {
        id: text("/id").unwrap_or_default(),
        name: text("/function/name")?,
        arguments: text("/function/arguments").unwrap_or_default(),
    })
}

/// Metadata of somebody who wants them stored.
///
/// # Errors
/// When they are more than the API allows.
pub(crate) fn checked_metadata(value: Option<Value>) -> Result<Vec<(String, String)>, ApiError> {
    let map = match value {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("metadata", "an object of strings", &other)),
    };
    if map.len() > PAIRS_MAX {
        let reason = format!("may hold {PAIRS_MAX} pairs, not {}", map.len());
        return Err(ApiError::invalid("metadata", reason));
    }
    let pair = |(key, value): (String, Value)| match value {
        Value::String(value) if fits(&key, &value) => Ok((key, value)),
        Value::String(_) => {
            let reason = format!(
                "may have keys of {KEY_CHARS_MAX} characters and values of {VALUE_CHARS_MAX}"
            );
            Err(ApiError::invalid("metadata", reason))
        }
        other => Err(wrong("metadata", "an object of strings", &other)),
    };
    map.into_iter().map(pair).collect()
}

/// Those that can be stored.
fn fitting_metadata(value: Option<Value>) -> Vec<(String, String)> {
    let Some(Value::Object(map)) = value else { return Vec::new() };
    let pair = |(key, value): (String, Value)| match value {
        Value::String(value) if fits(&key, &value) => Some((key, value)),
        _ => None,
    };
    map.into_iter().filter_map(pair).take(PAIRS_MAX).collect()
}

fn fits(key: &str, value: &str) -> bool {
    key.chars().count() <= KEY_CHARS_MAX && value.chars().count() <= VALUE_CHARS_MAX
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_are_a_few_short_strings() {
        let check = |value: Value, checked: Option<usize>, fitting: usize| {
            assert_eq!(checked_metadata(Some(value.clone())).map(|it| it.len()).ok(), checked);
            assert_eq!(fitting_metadata(Some(value)).len(), fitting);
        };
        let many = |count: usize| (0..count).map(|it| (it.to_string(), json!("v"))).collect();
        check(json!({}), Some(0), 0);
        check(json!({"k": "v", "l": ""}), Some(2), 2);
        check(json!({"k": "v", "l": 1}), None, 1);
        check(json!([]), None, 0);
        check(Value::Object(many(16)), Some(16), 16);
        check(Value::Object(many(17)), None, 16);
        check(json!({"가".repeat(64): "나".repeat(512)}), Some(1), 1);
        check(json!({"가".repeat(65): "v"}), None, 0);
        check(json!({"k": "나".repeat(513)}), None, 0);
        assert!(checked_metadata(None).unwrap().is_empty());
    }
}
