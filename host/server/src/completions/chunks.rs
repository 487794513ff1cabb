//! The chunks of a streamed completion: the prompt where it is repeated, pieces of text, an empty text with the reason.

use engine::{Finished, Piece};
use serde_json::{Value, json};

use super::schema::logprobs;
use crate::{chat::Head, stream::Writer};

pub(super) struct Chunks {
    head: Head,
    /// Characters that each choice has sent.
    sent: Vec<usize>,
    per_prompt: usize,
    /// Text of each prompt, to be repeated; empty where none is.
    echoed: Vec<String>,
}

impl Chunks {
    pub(super) fn new(head: Head, choices: usize, per_prompt: usize, echoed: Vec<String>) -> Self {
        Self { head, sent: vec![0; choices], per_prompt: per_prompt.max(1), echoed }
    }

    fn chunk(&self, choice: usize, text: &str, logprobs: Value, reason: Option<&str>) -> Value {
        let mut chunk = self.empty();
        chunk["choices"] = json!([{
            "index": choice, "text": text, "logprobs": logprobs, "finish_reason": reason,
        }]);
        chunk
    }
}

impl Writer for Chunks {
    fn begin(&mut self) -> Vec<Value> {
        let mut chunks = Vec::new();
        for choice in 0..self.sent.len() {
            if let Some(text) = self.echoed.get(choice / self.per_prompt) {
                self.sent[choice] = text.chars().count();
                chunks.push(self.chunk(choice, text, Value::Null, None));
            }
        }
        chunks
    }

    fn piece(&mut self, choice: usize, piece: &Piece) -> Vec<Value> {
        let logprobs = logprobs(&piece.logprobs, self.sent[choice]);
        if piece.text.is_empty() && logprobs.is_null() {
            return Vec::new();
        }
        self.sent[choice] += piece.text.chars().count();
        vec![self.chunk(choice, &piece.text, logprobs, None)]
    }

    fn finish(&mut self, choice: usize, finished: &Finished) -> Vec<Value> {
        vec![self.chunk(choice, "", Value::Null, Some(finished.reason.as_str()))]
    }

    fn empty(&self) -> Value {
        json!({
            "id": self.head.id,
            "object": "text_completion",
            "created": self.head.created,
            "model": self.head.model,
            "choices": [],
        })
    }
}
