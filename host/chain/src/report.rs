//! What failed and what was dropped since the log was last told, and the records that tell it: numbers and configured names.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use record::{Field, Name, Record, Severity, Stream, event, field};

use crate::stage::StageError;

/// How often dropped records, and records that met an open breaker, are told: a line a batch would be noise.
const EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Reports {
    /// By plugin and error: one record each, whatever their number.
    failures: BTreeMap<(String, StageError), u64>,
    /// Records that met an open breaker, by plugin, and when they were last told.
    open: BTreeMap<String, u64>,
    open_told: Option<Instant>,
    /// What the host denied, by plugin and word, and when it was last told.
    denials: BTreeMap<(String, &'static str), u64>,
    denials_told: Option<Instant>,
    /// By plugin and reason.
    drops: BTreeMap<(String, Arc<str>), u64>,
    drops_told: Instant,
    /// Records that each editor failed for when it was called, since somebody asked.
    pub(crate) editor_failures: BTreeMap<String, u64>,
}

impl Reports {
    pub(crate) fn new() -> Self {
        Self {
            failures: BTreeMap::new(),
            open: BTreeMap::new(),
            open_told: None,
            denials: BTreeMap::new(),
            denials_told: None,
            drops: BTreeMap::new(),
            drops_told: Instant::now(),
            editor_failures: BTreeMap::new(),
        }
    }

    pub(crate) fn failed(&mut self, plugin: &str, error: StageError) {
        self.failed_times(plugin, error, 1);
    }

    pub(crate) fn failed_times(&mut self, plugin: &str, error: StageError, times: u64) {
        let count = match error {
            StageError::BreakerOpen => self.open.entry(plugin.to_owned()).or_default(),
            _ => self.failures.entry((plugin.to_owned(), error)).or_default(),
        };
        *count += times;
    }

    pub(crate) fn denied(&mut self, plugin: &str, what: &'static str, times: u64) {
        *self.denials.entry((plugin.to_owned(), what)).or_default() += times;
    }

    /// Counts against the editor, unless it was not even called.
    pub(crate) fn editor_failed(&mut self, plugin: &str, error: StageError) {
        if error != StageError::BreakerOpen {
            *self.editor_failures.entry(plugin.to_owned()).or_default() += 1;
        }
    }

    pub(crate) fn dropped(&mut self, plugin: &str, reason: Arc<str>, records: u64) {
        *self.drops.entry((plugin.to_owned(), reason)).or_default() += records;
    }

    /// Records about what failed. An open breaker is told at once, and then now and then, or when it is the `last` chance.
    pub(crate) fn take_failures(&mut self, now: (i64, i32), last: bool) -> Vec<Record> {
        if last || self.open_told.is_none_or(|it| it.elapsed() >= EVERY) {
            let open = std::mem::take(&mut self.open);
            if !open.is_empty() {
                self.open_told = Some(Instant::now());
            }
            let open = open.into_iter().map(|(plugin, it)| ((plugin, StageError::BreakerOpen), it));
            self.failures.extend(open);
        }
        let tell = |((plugin, error), times): ((String, StageError), u64)| {
            let event = match error {
                StageError::BreakerOpen => event::PLUGIN_OPENED,
                it if it.is_trap() => event::PLUGIN_TRAPPED,
                _ => event::PLUGIN_FAILED,
            };
            let fields = vec![
                Field::new(field::PLUGIN, plugin),
                Field::new(field::PLUGIN_ERROR, error.name()),
                Field::new(field::RECORDS, number(times)),
            ];
            internal(now, Severity::ERROR, event, fields)
        };
        std::mem::take(&mut self.failures).into_iter().map(tell).collect()
    }

    /// Records about what the host denied: at once, and then now and then, or when it is the `last` chance.
    pub(crate) fn take_denials(&mut self, now: (i64, i32), last: bool) -> Vec<Record> {
        let due = last || self.denials_told.is_none_or(|it| it.elapsed() >= EVERY);
        if !due || self.denials.is_empty() {
            return Vec::new();
        }
        self.denials_told = Some(Instant::now());
        let tell = |((plugin, what), times): ((String, &'static str), u64)| {
            let fields = vec![
                Field::new(field::PLUGIN, plugin),
                Field::new(field::PLUGIN_ERROR, what),
                Field::new(field::DENIED, number(times)),
            ];
            internal(now, Severity::WARNING, event::PLUGIN_DENIED, fields)
        };
        std::mem::take(&mut self.denials).into_iter().map(tell).collect()
    }

    /// What failed while failures were told is not told: that would have no end.
    pub(crate) fn forget_failures(&mut self) {
        self.failures.clear();
    }

    pub(crate) fn are_drops_due(&self) -> bool {
        self.drops_told.elapsed() >= EVERY
    }

    /// Records about what editors dropped.
    pub(crate) fn take_drops(&mut self, now: (i64, i32)) -> Vec<Record> {
        self.drops_told = Instant::now();
        let tell = |((plugin, reason), times): ((String, Arc<str>), u64)| {
            let fields = vec![
                Field::new(field::PLUGIN, plugin),
                Field::new(field::PLUGIN_ERROR, &*reason),
                Field::new(field::DROPPED, number(times)),
            ];
            internal(now, Severity::INFO, event::LOG_DROPPED, fields)
        };
        std::mem::take(&mut self.drops).into_iter().map(tell).collect()
    }
}

/// A count as a field holds it.
pub(crate) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A record of the server's own, outside any request.
pub(crate) fn internal(
    (time, utc_offset): (i64, i32),
    severity: Severity,
    event: &'static str,
    fields: Vec<Field>,
) -> Record {
    Record {
        time,
        utc_offset,
        severity,
        event: Name::Borrowed(event),
        stream: Stream::App,
        context: None,
        seq: 0,
        stub: None,
        fields,
    }
}
