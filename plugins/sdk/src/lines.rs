//! What a formatter answers with: one text, and where its lines end.

use std::fmt;

use crate::{Formatted, Line};

/// Collects the lines of a batch. A line feed *inside* a line is data, which the host escapes: end lines with [`Lines::end`].
///
/// Append to a line through [`Lines::text`] or `write!`.
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
    lines: Vec<Line>,
    record: u32,
    /// Where the line that is being written starts.
    start: usize,
}

impl Lines {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ..Self::default() }
    }

    /// The text so far; what is appended to it belongs to the current line.
    pub fn text(&mut self) -> &mut String {
        &mut self.text
    }

    /// Ends the current line, even when it is empty.
    pub fn end(&mut self) {
        self.lines.push(Line { record: self.record, end: self.text.len() as u32 });
        self.start = self.text.len();
    }

    /// A whole line.
    pub fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.end();
    }

    pub(crate) fn begin(&mut self, record: u32) {
        self.record = record;
    }

    /// Ends the line that a formatter left open: the host takes no text that belongs to no line.
    pub(crate) fn end_if_open(&mut self) {
        if self.start < self.text.len() {
            self.end();
        }
    }

    pub(crate) fn into_formatted(self) -> Formatted {
        Formatted { text: self.text, lines: self.lines }
    }
}

impl fmt::Write for Lines {
    fn write_str(&mut self, it: &str) -> fmt::Result {
        self.text.push_str(it);
        Ok(())
    }
}
