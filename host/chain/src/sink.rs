//! Where lines go. Implementations live in the `sink` crate and elsewhere.

use std::io;

use record::Severity;

/// One line of an output, without its line end, already escaped.
///
/// Only this crate can make one, out of a released record.
#[derive(Clone, Debug)]
pub struct Line {
    severity: Severity,
    text: Box<str>,
}

impl Line {
    pub(crate) fn new(severity: Severity, text: impl Into<Box<str>>) -> Self {
        Self { severity, text: text.into() }
    }

    /// Severity of the record that the line belongs to.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A destination. It is called from one thread, its own.
pub trait Sink: Send {
    /// Writes the lines of one or more records; a reader sees them when it returns.
    ///
    /// # Errors
    /// When the lines did not all arrive; they are then counted as lost and the next lines are tried.
    fn write(&mut self, lines: &[Line]) -> io::Result<()>;

    /// Opens the destination anew (SIGHUP).
    ///
    /// # Errors
    /// When it cannot be opened; the sink goes on trying at each write.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}
