//! Keeps what a person wrote from becoming special tokens.
//!
//! A chat template puts messages and special tokens such as `<|im_end|>` into one text, which is then cut into tokens.
//! A message that holds the text `<|im_end|>` would end its own turn and could begin another one in the system's name,
//! and one that holds `<image>` would claim an image that isn't there. So a [`MARK`] goes into every special token of
//! a message, and where a message begins or ends with part of one; the tokenizer cuts the text at marks and drops
//! them. Text without special tokens gets no marks, so its tokens are exactly the ones the model was trained on.
//!
//! Which tokens are meant depends on who wrote a text:
//! - *Special* ones (those that tokenizer.json calls so, the ends and beginnings of text, the image token) come out of nobody's
//!   text.
//! - *Controls* are tokens that tokenizer.json adds without calling them special, and that a template speaks with all the same:
//!   `<tool_call>`, `<tool_response>`, `<think>` of Qwen, `<｜User｜>` of DeepSeek. A user or a tool that writes one could claim
//!   a call or its result, so they come out of neither's text ([`Guard::neutralize`]). The model itself writes them, a client
//!   sends its answer back with them, and templates look for them there; an operator may describe them to the model. So they
//!   stay what they are in the assistant's and the system's messages, and in a prompt that is no conversation
//!   ([`Guard::neutralize_own`]).
//! - Other added tokens (runs of spaces, words of a trade) are text like any other.

use std::collections::BTreeSet;

use serde_json::Value;

/// Cuts a text before it becomes tokens. A noncharacter of Unicode: no text has one, and those that do lose it.
pub(crate) const MARK: char = '\u{FDD0}';

/// The special tokens and the controls of one tokenizer.
pub(crate) struct Guard {
    specials: Vec<String>,
    /// Both.
    all: Vec<String>,
}

impl Guard {
    /// The texts of tokens; the empty one is ignored.
    pub(crate) fn new(
        specials: impl IntoIterator<Item = String>,
        controls: impl IntoIterator<Item = String>,
    ) -> Self {
        let specials: Vec<String> = specials.into_iter().collect();
        let all = specials.iter().cloned().chain(controls).collect();
        Self { specials: distinct(specials), all: distinct(all) }
    }

    /// As [`Self::neutralize`], for every text in a value, names included.
    pub(crate) fn neutralize_json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.neutralize(text)),
            Value::Array(values) => {
                Value::Array(values.iter().map(|it| self.neutralize_json(it)).collect())
            }
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(name, it)| (self.neutralize(name), self.neutralize_json(it)))
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    /// `text`, which anyone may have written, with marks where a special token or a control would come out of it, alone or
    /// together with what stands beside it.
    pub(crate) fn neutralize(&self, text: &str) -> String {
        marked(text, &self.all)
    }

    /// As [`Self::neutralize`], for special tokens only: for what the model or the operator wrote.
    pub(crate) fn neutralize_own(&self, text: &str) -> String {
        marked(text, &self.specials)
    }
}

fn distinct(mut texts: Vec<String>) -> Vec<String> {
    texts.retain(|it| !it.is_empty());
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// `text` with marks in `specials`.
fn marked(text: &str, specials: &[String]) -> String {
    let mut text = text.replace(MARK, "");
    // A token of one character can't be cut in two.
    for special in specials.iter().filter(|special| special.chars().count() == 1) {
        text = text.replace(special.as_str(), "");
    }

    let mut cuts = BTreeSet::new();
    for special in specials {
        let first = special.chars().next().map_or(0, char::len_utf8);
        let mut from = 0;
        while let Some(found) = text[from..].find(special.as_str()) {
            // Only past its first character, so that overlapping ones are found as well.
            from += found + first;
            cuts.insert(from);
        }
    }
    // Templates trim messages, so the ends that matter are those of the trimmed text.
    let start = text.len() - text.trim_start().len();
    let end = text.trim_end().len();
    if start < end {
        let core = &text[start..end];
        if specials.iter().any(|special| begins_with_end_of(core, special)) {
            cuts.insert(start);
        }
        if specials.iter().any(|special| ends_with_start_of(core, special)) {
            cuts.insert(end);
        }
    }

    let mut marked = String::with_capacity(text.len() + cuts.len() * MARK.len_utf8());
    let mut from = 0;
    for cut in cuts {
        marked.push_str(&text[from..cut]);
        marked.push(MARK);
        from = cut;
    }
    marked.push_str(&text[from..]);
    marked
}

/// Whether `text` begins with some end of `special`, short of all of it.
fn begins_with_end_of(text: &str, special: &str) -> bool {
    special.char_indices().skip(1).any(|(at, _)| text.starts_with(&special[at..]))
}

/// Whether `text` ends with some start of `special`, short of all of it.
fn ends_with_start_of(text: &str, special: &str) -> bool {
    special.char_indices().skip(1).any(|(at, _)| text.ends_with(&special[..at]))
}
