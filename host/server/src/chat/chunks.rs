//! The chunks of a streamed chat answer: the role of each choice, pieces of text and of calls, an empty delta with the reason.

use engine::{Finished, Piece, ToolFormat};
use serde_json::{Value, json};

use super::{
    Head,
    calls::{CallParser, Said},
    message::{Reading, finish_reason, logprobs},
};
use crate::stream::Writer;

pub(super) struct Chunks {
    head: Head,
    format: Option<ToolFormat>,
    choices: Vec<CallParser>,
}

impl Chunks {
    /// `format`: how calls are written, if there are tools.
    pub(super) fn new(head: Head, choices: usize, format: Option<ToolFormat>) -> Self {
        let choices = (0..choices).map(|_| CallParser::new(format)).collect();
        Self { head, format, choices }
    }

    fn chunk(&self, choice: usize, delta: Value, logprobs: Value, reason: Option<&str>) -> Value {
        let mut chunk = self.empty();
        chunk["choices"] = json!([{
            "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason,
        }]);
        chunk
    }

    fn deltas(&self, choice: usize, before: usize, said: Vec<Said>) -> Vec<Value> {
        let reading = Reading { format: self.format, response_id: &self.head.id, index: choice };
        let mut calls = before;
        let mut deltas = Vec::with_capacity(said.len());
        for it in said {
            deltas.push(match it {
                Said::Text(text) => json!({"content": text}),
                Said::Call { name } => {
                    calls += 1;
                    json!({"tool_calls": [{
                        "index": calls - 1,
                        "id": reading.call_id(calls - 1),
                        "type": "function",
                        "function": {"name": name, "arguments": ""},
                    }]})
                }
                Said::Arguments(text) => json!({"tool_calls": [{
                    "index": calls.saturating_sub(1), "function": {"arguments": text},
                }]}),
            });
        }
        deltas
    }
}

impl Writer for Chunks {
    fn begin(&mut self) -> Vec<Value> {
        let role = json!({"role": "assistant", "content": ""});
        (0..self.choices.len()).map(|at| self.chunk(at, role.clone(), Value::Null, None)).collect()
    }

    fn piece(&mut self, choice: usize, piece: &Piece) -> Vec<Value> {
        let before = self.choices[choice].calls();
        let said = self.choices[choice].push(&piece.text);
        let mut deltas = self.deltas(choice, before, said);
        let mut told = logprobs(&piece.logprobs);
        if deltas.is_empty() && !told.is_null() {
            deltas.push(json!({"content": ""}));
        }
        deltas.into_iter().map(|it| self.chunk(choice, it, told.take(), None)).collect()
    }

    fn finish(&mut self, choice: usize, finished: &Finished) -> Vec<Value> {
        let before = self.choices[choice].calls();
        let said = self.choices[choice].finish();
        let deltas = self.deltas(choice, before, said);
        let reason = finish_reason(finished, self.choices[choice].calls());
        let mut chunks: Vec<_> =
            deltas.into_iter().map(|it| self.chunk(choice, it, Value::Null, None)).collect();
        chunks.push(self.chunk(choice, json!({}), Value::Null, Some(reason)));
        chunks
    }

    fn empty(&self) -> Value {
        json!({
            "id": self.head.id,
            "object": "chat.completion.chunk",
            "created": self.head.created,
            "model": self.head.model,
            "choices": [],
        })
    }

    fn is_call(&self, choice: usize) -> bool {
        self.choices[choice].calls() > 0
    }
}
