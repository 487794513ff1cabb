//! Pieces of an answer: text that can be sent, with the log probabilities of the tokens that it is made of.
//!
//! A token whose text is held back, because it may be part of a character or of a stop text, keeps its log probability
//! until the text goes. Tokens of a stop text tell none.

use std::collections::VecDeque;

use super::{Detokenizer, StopTexts};
use crate::{
    error::EngineError,
    job::{Piece, TokenLogprob},
};

type Decode = Box<dyn Fn(&[u32]) -> Result<String, EngineError> + Send>;

pub(crate) struct Pieces {
    text: Detokenizer<Decode>,
    stops: StopTexts,
    /// Bytes that all tokens so far have made.
    made: usize,
    /// Bytes of them that were sent.
    sent: usize,
    held: VecDeque<Held>,
}

struct Held {
    /// Where the token's text begins and ends; the end is not known before its last character is complete.
    start: usize,
    end: Option<usize>,
    logprob: TokenLogprob,
}

/// What a token brought.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Next {
    /// Nothing where all of it is held back.
    pub(crate) piece: Option<Piece>,
    /// A stop text came; nothing comes after it.
    pub(crate) stopped: bool,
}

impl Pieces {
    pub(crate) fn new(decode: Decode, stops: &[String]) -> Self {
        Self {
            text: Detokenizer::new(decode),
            stops: StopTexts::new(stops),
            made: 0,
            sent: 0,
            held: VecDeque::new(),
        }
    }

    pub(crate) fn push(
        &mut self,
        token: u32,
        logprob: Option<TokenLogprob>,
    ) -> Result<Next, EngineError> {
        if let Some(logprob) = logprob {
            self.held.push_back(Held { start: self.made, end: None, logprob });
        }
        let text = self.text.push(token)?;
        Ok(self.pass(&text))
    }

    /// What is left when no more tokens come.
    pub(crate) fn finish(&mut self) -> Result<Next, EngineError> {
        let text = self.text.finish()?;
        let mut next = self.pass(&text);
        if !next.stopped {
            let piece = next.piece.get_or_insert_default();
            piece.text.push_str(&self.stops.finish());
            piece.logprobs.extend(self.held.drain(..).map(|it| it.logprob));
            next.piece = next.piece.filter(|it| !it.text.is_empty() || !it.logprobs.is_empty());
        }
        Ok(next)
    }

    fn pass(&mut self, text: &str) -> Next {
        if !text.is_empty() {
            self.made += text.len();
            for held in self.held.iter_mut().filter(|it| it.end.is_none()) {
                held.end = Some(self.made);
            }
        }
        let released = self.stops.push(text);
        self.sent += released.text.len();
        let mut logprobs = Vec::new();
        while let Some(held) = self.held.front() {
            // Of a token that is half in a stop text, half was sent.
            let goes = held.end.is_some_and(|end| end <= self.sent)
                || released.stopped && held.start < self.sent;
            if !goes {
                break;
            }
            logprobs.extend(self.held.pop_front().map(|it| it.logprob));
        }
        let piece = Piece { text: released.text, logprobs };
        let is_something = !piece.text.is_empty() || !piece.logprobs.is_empty();
        Next { piece: is_something.then_some(piece), stopped: released.stopped }
    }
}
