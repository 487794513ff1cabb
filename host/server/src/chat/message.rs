//! The parts that whole and streamed chat answers have in common, and the whole choice.

use engine::{Finished, Logprob, TokenLogprob, ToolFormat};
use serde_json::{Value, json};

use super::calls::{CallParser, Said};
use crate::generate::Answer;

/// JSON has no word for minus infinity; vLLM writes this.
const LEAST: f32 = -9999.0;

/// A choice, and whether it calls tools.
pub(super) fn choice(index: usize, answer: &Answer, format: Option<ToolFormat>) -> (Value, bool) {
    let mut parser = CallParser::new(format);
    let mut said = parser.push(&answer.text);
    said.extend(parser.finish());
    let mut text = String::new();
    let mut calls: Vec<(String, String)> = Vec::new();
    for it in said {
        match it {
            Said::Text(it) => text.push_str(&it),
            Said::Call { name } => calls.push((name, String::new())),
            Said::Arguments(it) => {
                if let Some((_, arguments)) = calls.last_mut() {
                    arguments.push_str(&it);
                }
            }
        }
    }
    let content =
        if calls.is_empty() || !text.is_empty() { Value::from(text) } else { Value::Null };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !calls.is_empty() {
        let call = |(name, arguments): &(String, String)| {
            json!({
                "id": call_id(format),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            })
        };
        message["tool_calls"] = calls.iter().map(call).collect();
    }
    let choice = json!({
        "index": index,
        "message": message,
        "logprobs": logprobs(&answer.logprobs),
        "finish_reason": finish_reason(&answer.finished, calls.len()),
    });
    (choice, !calls.is_empty())
}

pub(super) fn finish_reason(finished: &Finished, calls: usize) -> &'static str {
    match finished.reason.as_str() {
        "stop" if calls > 0 => "tool_calls",
        other => other,
    }
}

/// Mistral's templates refuse ids of another length.
pub(super) fn call_id(format: Option<ToolFormat>) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    match format {
        Some(ToolFormat::Mistral) => id[..9].to_owned(),
        _ => format!("call_{}", &id[..24]),
    }
}

/// `logprobs` of a choice; null where none were asked for.
pub(super) fn logprobs(tokens: &[TokenLogprob]) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let content: Vec<_> = tokens
        .iter()
        .map(|it| {
            let mut told = logprob(&it.token);
            told["top_logprobs"] = it.top.iter().map(logprob).collect();
            told
        })
        .collect();
    json!({"content": content, "refusal": null})
}

fn logprob(it: &Logprob) -> Value {
    json!({
        "token": String::from_utf8_lossy(&it.bytes),
        "logprob": finite(it.logprob),
        "bytes": it.bytes,
    })
}

pub(crate) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob.max(LEAST) } else { LEAST }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::tests::finished;

    fn answer(text: &str) -> Answer {
        Answer { text: text.to_owned(), logprobs: Vec::new(), finished: finished(3, 2, 10) }
    }

    #[test]
    fn calls_stand_beside_the_text() {
        let text = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>";
        let (called, is_call) = choice(1, &answer(text), Some(ToolFormat::Hermes));
        assert!(is_call);
        assert_eq!(called["index"], 1);
        assert_eq!(called["finish_reason"], "tool_calls");
        assert!(called["message"]["content"].is_null());
        let call = &called["message"]["tool_calls"][0];
        assert_eq!(call["function"], json!({"name": "f", "arguments": "{\"a\": 1}"}));
        assert!(call["id"].as_str().unwrap().starts_with("call_"));

        let (said, is_call) = choice(0, &answer(text), None);
        assert!(!is_call);
        assert_eq!(said["message"]["content"], text);
        assert_eq!(said["finish_reason"], "stop");
        assert!(said["message"].get("tool_calls").is_none());
    }

    #[test]
    fn log_probabilities_have_the_bytes_of_half_characters() {
        let half = |logprob| Logprob { id: 1, logprob, bytes: vec![0xea] };
        let told =
            logprobs(&[TokenLogprob { token: half(-0.5), top: vec![half(f32::NEG_INFINITY)] }]);
        let first = &told["content"][0];
        assert_eq!(first["token"], "\u{fffd}");
        assert_eq!(first["bytes"], json!([0xea]));
        assert_eq!(first["logprob"], -0.5);
        assert_eq!(first["top_logprobs"][0]["logprob"], -9999.0);
        assert!(logprobs(&[]).is_null());
    }
}
