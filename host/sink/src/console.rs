//! Standard output or standard error, with colours by level on a terminal.

use std::io::{self, IsTerminal, Write};

use chain::{Line, Sink};
use record::Severity;

/// Which of the process's two consoles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    #[default]
    Stdout,
    Stderr,
}

/// When lines are coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether to colour what goes to `target`. `no_color`: whether the variable NO_COLOR is set and not empty
    /// (<https://no-color.org>).
    fn is_on(self, target: Target, no_color: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if no_color => false,
            Self::Auto => match target {
                Target::Stdout => io::stdout().is_terminal(),
                Target::Stderr => io::stderr().is_terminal(),
            },
        }
    }
}

/// A console sink.
pub struct Console {
    target: Target,
    color: bool,
    buffer: String,
}

impl Console {
    pub fn new(target: Target, color: Color, no_color: bool) -> Self {
        Self { target, color: color.is_on(target, no_color), buffer: String::new() }
    }
}

impl Sink for Console {
    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        self.buffer.clear();
        for line in lines {
            if self.color {
                self.buffer.push_str(paint(line.severity()));
                self.buffer.push_str(line.text());
                self.buffer.push_str("\x1b[0m\n");
            } else {
                self.buffer.push_str(line.text());
                self.buffer.push('\n');
            }
        }
        // One write for a batch, so that lines of other writers of the console don't land inside ours.
        let write = |mut to: Box<dyn Write>| {
            to.write_all(self.buffer.as_bytes())?;
            to.flush()
        };
        match self.target {
            Target::Stdout => write(Box::new(io::stdout().lock())),
            Target::Stderr => write(Box::new(io::stderr().lock())),
        }
    }
}

/// The guide's colours: cyan, green, yellow, red, magenta (ECMA-48 SGR 36, 32, 33, 31, 35).
fn paint(severity: Severity) -> &'static str {
    match severity.name() {
        "DEBUG" => "\x1b[36m",
        "INFO" => "\x1b[32m",
        "WARNING" => "\x1b[33m",
        "ERROR" => "\x1b[31m",
        _ => "\x1b[35m",
    }
}
