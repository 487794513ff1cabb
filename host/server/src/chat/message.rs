//! The parts that whole, streamed and stored chat answers have in common, and the whole choice.

use engine::{Finished, Logprob, TokenLogprob, ToolFormat};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::calls::{CallParser, Said};
use crate::generate::Answer;

/// JSON has no word for minus infinity; vLLM writes this.
const LEAST: f32 = -9999.0;

/// An answer, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// None where there are calls alone.
    pub(crate) content: Option<String>,
    pub(crate) calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// The form in which calls are written, and the answer that they stand in: what it takes to read them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    /// None where no tool may be called.
    pub(crate) format: Option<ToolFormat>,
    pub(crate) response_id: &'a str,
    /// Which choice.
    pub(crate) index: usize,
}

impl Message {
    pub(crate) fn read(text: &str, reading: Reading<'_>) -> Self {
        let mut parser = CallParser::new(reading.format);
        let mut said = parser.push(text);
        said.extend(parser.finish());
        let mut text = String::new();
        let mut calls: Vec<Call> = Vec::new();
        for it in said {
            match it {
                Said::Text(it) => text.push_str(&it),
                Said::Call { name } => {
                    let id = reading.call_id(calls.len());
                    calls.push(Call { id, name, arguments: String::new() });
                }
                Said::Arguments(it) => {
                    if let Some(call) = calls.last_mut() {
                        call.arguments.push_str(&it);
                    }
                }
            }
        }
        let content = (calls.is_empty() || !text.is_empty()).then_some(text);
        Self { content, calls }
    }
}

impl Reading<'_> {
    /// The same for the same call, wherever it is read.
    pub(super) fn call_id(&self, call: usize) -> String {
        let id = Sha256::digest(format!("{} {} {call}", self.response_id, self.index));
        let hex: String = id.iter().take(12).map(|it| format!("{it:02x}")).collect();
        match self.format {
            // Mistral's templates refuse ids of another length.
            Some(ToolFormat::Mistral) => hex[..9].to_owned(),
            _ => format!("call_{hex}"),
        }
    }
}

/// A choice, and whether it calls tools.
pub(super) fn choice(answer: &Answer, reading: Reading<'_>) -> (Value, bool) {
    let Message { content, calls } = Message::read(&answer.text, reading);
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !calls.is_empty() {
        let call = |Call { id, name, arguments }: &Call| {
            json!({
                "id": id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            })
        };
        message["tool_calls"] = calls.iter().map(call).collect();
    }
    let choice = json!({
        "index": reading.index,
        "message": message,
        "logprobs": logprobs(&answer.logprobs),
        "finish_reason": finish_reason(&answer.finished, calls.len()),
    });
    (choice, !calls.is_empty())
}

pub(crate) fn finish_reason(finished: &Finished, calls: usize) -> &'static str {
    match finished.reason.as_str() {
        "stop" if calls > 0 => "tool_calls",
        other => other,
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
        let reading = |index, format| Reading { format, response_id: "chatcmpl-1", index };
        let hermes = reading(1, Some(ToolFormat::Hermes));
        let (called, is_call) = choice(&answer(text), hermes);
        assert!(is_call);
        assert_eq!(called["index"], 1);
        assert_eq!(called["finish_reason"], "tool_calls");
        assert!(called["message"]["content"].is_null());
        let call = &called["message"]["tool_calls"][0];
        assert_eq!(call["function"], json!({"name": "f", "arguments": "{\"a\": 1}"}));
        assert_eq!(call["id"], hermes.call_id(0));
        assert_eq!(hermes.call_id(0).len(), "call_".len() + 24);
        assert_ne!(hermes.call_id(0), hermes.call_id(1));
        assert_ne!(hermes.call_id(0), reading(0, hermes.format).call_id(0));
        assert_eq!(reading(1, Some(ToolFormat::Mistral)).call_id(0).len(), 9);

        let (said, is_call) = choice(&answer(text), reading(0, None));
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
