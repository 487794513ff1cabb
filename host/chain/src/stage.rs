//! What a plugin is to the chain: one of three roles, behind a trait. Implementations live in other crates.

use std::sync::Arc;

use record::Record;

use crate::Released;

/// Makes instances of a stage. Each worker thread opens its own, and a new one after a failure.
pub trait Source<S: ?Sized>: Send + Sync {
    /// The plugin's name in the configuration.
    fn name(&self) -> &str;

    /// A configured instance.
    ///
    /// # Errors
    /// When the plugin cannot be instantiated or refuses its configuration.
    fn open(&self) -> Result<Box<S>, StageError>;

    /// Whether its instances may wait for something outside the process. A handler that does is given a thread of its own.
    fn waits(&self) -> bool {
        false
    }
}

/// What instances of all roles have in common.
pub trait Stage: Send {
    /// Whether the instance has grown or worked so much that a fresh one should take its place before the next call.
    fn is_worn(&self) -> bool {
        false
    }

    /// What the host denied the instance since this was last asked: words of a closed set, and how often each.
    fn take_denials(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Redacts, truncates, drops: sees records before they are released.
pub trait Editor: Stage {
    /// One verdict for each record, in order.
    ///
    /// # Errors
    /// When the whole call failed; the instance is then discarded.
    fn edit(&mut self, batch: &[Record]) -> Result<Vec<Verdict>, StageError>;

    /// Bytes of text after which a place cannot become part of an edit any more: an edit that starts at `at` depends on what
    /// lies before `at + longest_match()` and on nothing behind it. None when there is no such number; text that arrives in
    /// parts is then held back until its end.
    fn longest_match(&self) -> Option<usize> {
        None
    }
}

/// Turns released records into lines.
pub trait Formatter: Stage {
    /// # Errors
    /// When the whole call failed; the instance is then discarded.
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError>;
}

/// Reacts to released records.
pub trait Handler: Stage {
    /// # Errors
    /// When the whole call failed; the instance is then discarded.
    fn handle(&mut self, batch: &[Released]) -> Result<(), StageError>;
}

/// What an editor says about one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep(Vec<Edit>),
    /// Not to be logged, and why; one of the plugin's declared labels.
    Drop(Arc<str>),
    /// The plugin could not judge this record: its own error number.
    Fail(u32),
}

/// Take bytes `start..end` of a text field out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Index into [`Record::fields`].
    pub field: usize,
    pub start: usize,
    pub end: usize,
    /// One of the labels that the plugin declared.
    pub label: Arc<str>,
    pub mode: Mode,
}

/// What is written in place of what was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// `[EMAIL]`.
    Label,
    /// `[EMAIL:5f3a9c02]`: the same text gives the same pseudonym, under a key that only the host has.
    Pseudonym,
    /// `…(+150자)`.
    Ellipsis,
}

/// Text of a batch: `text` holds no line ends of its own; a line feed in it is somebody's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formatted {
    pub text: String,
    /// For each line, in the order of the records: index of its record, and where it ends in `text`, in bytes.
    pub lines: Vec<(usize, usize)>,
}

/// What went wrong with a stage, of a closed set: a plugin that failed may have been holding a secret, so nothing that it
/// said is ever repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{}", self.name())]
pub enum StageError {
    Trap,
    Deadline,
    Memory,
    Stack,
    /// An answer that breaks the contract: wrong length, bad range, unknown label.
    BadAnswer,
    /// The plugin refused the record.
    Refused,
    Instantiate,
    Configure,
    /// The circuit breaker is open: the stage failed several times and is not called for a while.
    BreakerOpen,
}

impl StageError {
    /// Every kind, in the order of its number (`it as usize`).
    pub const ALL: [Self; 9] = [
        Self::Trap,
        Self::Deadline,
        Self::Memory,
        Self::Stack,
        Self::BadAnswer,
        Self::Refused,
        Self::Instantiate,
        Self::Configure,
        Self::BreakerOpen,
    ];

    /// The kind of this name; every name is one of [`StageError::name`].
    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|it| it.name() == name).unwrap_or(Self::Trap)
    }

    /// Whether the guest was stopped in the middle of its work.
    pub fn is_trap(self) -> bool {
        matches!(self, Self::Trap | Self::Deadline | Self::Memory | Self::Stack)
    }

    /// The word that records and metrics show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::BadAnswer => "bad_answer",
            Self::Refused => "refused",
            Self::Instantiate => "instantiate",
            Self::Configure => "configure",
            Self::BreakerOpen => "breaker_open",
        }
    }
}
