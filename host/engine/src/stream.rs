//! Tokens to text that can be sent piece by piece: never half a character, never the beginning of a stop text.

mod pieces;
#[cfg(test)]
mod tests;

use std::mem;

pub(crate) use self::pieces::Pieces;
use crate::error::EngineError;

/// A character has at most four bytes, and a token at least one: more tokens than that are more than one character.
const MAX_BROKEN_TOKENS: usize = 4;
/// Every token is decoded together with those that are held, so they must not become many.
const MAX_HELD_TOKENS: usize = 16;

/// Turns tokens into text as they come.
pub(crate) struct Detokenizer<F> {
    decode: F,
    /// Tokens that the next ones are decoded with, so that spaces between words come out, then those that hold part of
    /// a character.
    ids: Vec<u32>,
    /// How many of `ids` have been sent.
    sent: usize,
}

impl<F: Fn(&[u32]) -> Result<String, EngineError>> Detokenizer<F> {
    /// `decode` gives the text of tokens, with U+FFFD for what is no character.
    pub(crate) fn new(decode: F) -> Self {
        Self { decode, ids: Vec::new(), sent: 0 }
    }

    /// The text that `id` completes.
    pub(crate) fn push(&mut self, id: u32) -> Result<String, EngineError> {
        self.ids.push(id);
        let before = (self.decode)(&self.ids[..self.sent])?;
        let all = (self.decode)(&self.ids)?;
        if !all.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(self.send(self.ids.len(), &before, &all));
        }
        let broken = self.ids.len() - self.sent;
        if broken <= MAX_BROKEN_TOKENS {
            return Ok(String::new());
        }
        // More than one character: what comes before the last one, which may yet be completed, is broken for good.
        for end in (self.sent + 1..self.ids.len()).rev() {
            let text = (self.decode)(&self.ids[..end])?;
            if all.strip_prefix(text.as_str()) == Some((self.decode)(&self.ids[end..])?.as_str()) {
                return Ok(self.send(end, &before, &text));
            }
        }
        if broken <= MAX_HELD_TOKENS {
            return Ok(String::new());
        }
        Ok(self.send(self.ids.len(), &before, &all))
    }

    /// What is left when no more tokens come.
    pub(crate) fn finish(&mut self) -> Result<String, EngineError> {
        let before = (self.decode)(&self.ids[..self.sent])?;
        let all = (self.decode)(&self.ids)?;
        Ok(self.send(self.ids.len(), &before, &all))
    }

    /// Takes the tokens up to `end` as sent; `before` is the text of those that were, `after` of those that are now.
    fn send(&mut self, end: usize, before: &str, after: &str) -> String {
        let new = after
            .strip_prefix(before)
            .unwrap_or_else(|| after.get(before.len()..).unwrap_or_default())
            .to_owned();
        if end > self.sent {
            self.ids.drain(..self.sent);
            self.sent = end - self.sent;
        }
        new
    }
}

/// Holds text back while it could be the beginning of a stop text.
pub(crate) struct StopTexts {
    stops: Vec<String>,
    held: String,
}

/// What may be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) text: String,
    /// A stop text came; `text` is what was before it, and nothing comes after it.
    pub(crate) stopped: bool,
}

impl StopTexts {
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new() }
    }

    pub(crate) fn push(&mut self, text: &str) -> Released {
        self.held.push_str(text);
        // The one that is complete first, however the text is cut into pieces; of those that end together the longest.
        let first = self
            .stops
            .iter()
            .filter_map(|stop| {
                self.held.find(stop.as_str()).map(|start| (start + stop.len(), start))
            })
            .min();
        if let Some((_, start)) = first {
            let mut text = mem::take(&mut self.held);
            text.truncate(start);
            return Released { text, stopped: true };
        }
        let longest =
            self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or_default();
        let held = self.held.split_off(self.held.len() - longest);
        Released { text: mem::replace(&mut self.held, held), stopped: false }
    }

    /// What is left when no more text comes.
    pub(crate) fn finish(&mut self) -> String {
        mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that `stop` begins with, short of all of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(at, _)| at)
        .rev()
        .find(|length| text.ends_with(&stop[..*length]))
        .unwrap_or_default()
}
