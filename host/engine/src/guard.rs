//! Keeps what a person wrote from becoming special tokens.
//!
//! A chat template puts messages and special tokens such as `<|im_end|>` into one text, which is then cut into tokens.
//! A message that holds the text `<|im_end|>` would end its own turn and could begin another one in the system's name,
//! and one that holds `<image>` would claim an image that isn't there. So a [`MARK`] goes into every special token of
//! a message, and where a message begins or ends with part of one; the tokenizer cuts the text at marks and drops
//! them. Text without special tokens gets no marks, so its tokens are exactly the ones the model was trained on.

use std::collections::BTreeSet;

use serde_json::Value;

/// Cuts a text before it becomes tokens. A noncharacter of Unicode: no text has one, and those that do lose it.
pub(crate) const MARK: char = '\u{FDD0}';

/// The special tokens of one tokenizer.
pub(crate) struct Guard {
    specials: Vec<String>,
}

impl Guard {
    /// `specials` are the texts of the special tokens; the empty one is ignored.
    pub(crate) fn new(specials: impl IntoIterator<Item = String>) -> Self {
        let mut specials: Vec<String> = specials.into_iter().filter(|s| !s.is_empty()).collect();
        specials.sort_unstable();
        specials.dedup();
        Self { specials }
    }

    /// The same for every text in a value, names included.
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

    /// `text` with marks where a special token would come out of it, alone or together with what stands beside it.
    pub(crate) fn neutralize(&self, text: &str) -> String {
        let mut text = text.replace(MARK, "");
        // A token of one character can't be cut in two.
        for special in self.specials.iter().filter(|special| special.chars().count() == 1) {
            text = text.replace(special.as_str(), "");
        }

        let mut cuts = BTreeSet::new();
        for special in &self.specials {
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
            if self.specials.iter().any(|special| begins_with_end_of(core, special)) {
                cuts.insert(start);
            }
            if self.specials.iter().any(|special| ends_with_start_of(core, special)) {
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
}

/// Whether `text` begins with some end of `special`, short of all of it.
fn begins_with_end_of(text: &str, special: &str) -> bool {
    special.char_indices().skip(1).any(|(at, _)| text.starts_with(&special[at..]))
}

/// Whether `text` ends with some start of `special`, short of all of it.
fn ends_with_start_of(text: &str, special: &str) -> bool {
    special.char_indices().skip(1).any(|(at, _)| text.ends_with(&special[..at]))
}
