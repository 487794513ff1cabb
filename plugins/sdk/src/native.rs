//! Building batches and running plugins without a host: for tests, and for benchmarks that compare a component with the
//! same code compiled natively.

use std::{collections::HashMap, ops::Range};

use crate::{Alert, Alerts, Batch, Edit, Head, Hit, Sent, Span, edits};

#[cfg(not(target_family = "wasm"))]
pub mod state;

pub use crate::{
    editor::edit_batch as edit, formatter::format_batch as format, handler::handle_batch as handle,
    plugin::configure,
};

/// Packs records into a batch, the way the host does.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: Batch,
    names: HashMap<String, u32>,
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a record; what follows belongs to it.
    #[must_use]
    pub fn record(mut self, event: &str, severity: u32) -> Self {
        let event = self.name(event);
        let values_end = self.batch.values.bits.len() as u32;
        self.batch.records.push(Head { severity, event, values_end, ..Head::default() });
        self
    }

    /// Unix time in nanoseconds, and seconds east of UTC.
    #[must_use]
    pub fn time(self, nanos: i64, utc_offset: i32) -> Self {
        self.head(|it| {
            it.time = nanos;
            it.utc_offset = utc_offset;
        })
    }

    #[must_use]
    pub fn request(mut self, id: &str, short_id: &str, seq: u32) -> Self {
        let request_id = self.push(id);
        let short_id = self.push(short_id);
        self.head(|it| {
            it.request_id = request_id;
            it.short_id = short_id;
            it.seq = seq;
        })
    }

    /// The revision of the chains that the request began with.
    #[must_use]
    pub fn revision(self, revision: u32) -> Self {
        self.head(|it| it.revision = revision)
    }

    /// The record is about the engine.
    #[must_use]
    pub fn engine(self) -> Self {
        self.head(|it| it.stream = 1)
    }

    /// The record's content was withheld.
    #[must_use]
    pub fn stub(self) -> Self {
        self.head(|it| it.flags |= 1)
    }

    /// A text that is metadata.
    #[must_use]
    pub fn text(self, name: &str, text: &str) -> Self {
        self.text_with(name, text, 0)
    }

    /// A text that a person wrote or the model said.
    #[must_use]
    pub fn content(self, name: &str, text: &str) -> Self {
        self.text_with(name, text, 1)
    }

    #[must_use]
    pub fn int(self, name: &str, value: i64) -> Self {
        self.value(name, 1, value as u64, 0)
    }

    #[must_use]
    pub fn float(self, name: &str, value: f64) -> Self {
        self.value(name, 2, value.to_bits(), 0)
    }

    #[must_use]
    pub fn bool(self, name: &str, value: bool) -> Self {
        self.value(name, 3, u64::from(value), 0)
    }

    /// A match of a pattern in the value that was added last.
    #[must_use]
    pub fn hit(mut self, pattern: u32, range: Range<usize>) -> Self {
        let value = self.batch.values.bits.len().saturating_sub(1) as u32;
        let (start, end) = (range.start as u32, range.end as u32);
        self.batch.hits.push(Hit { value, pattern, start, end });
        self
    }

    pub fn build(self) -> Batch {
        self.batch
    }

    fn text_with(mut self, name: &str, text: &str, flags: u8) -> Self {
        let span = self.push(text);
        self.value(name, 0, u64::from(span.start) | (u64::from(span.end) << 32), flags)
    }

    fn value(mut self, name: &str, kind: u8, bits: u64, flags: u8) -> Self {
        let name = self.name(name);
        let values = &mut self.batch.values;
        values.names.push(name);
        values.kinds.push(kind);
        values.flags.push(flags);
        values.bits.push(bits);
        let values_end = self.batch.values.bits.len() as u32;
        self.head(|it| it.values_end = values_end)
    }

    fn head(mut self, change: impl FnOnce(&mut Head)) -> Self {
        if let Some(it) = self.batch.records.last_mut() {
            change(it);
        }
        self
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(it) = self.names.get(name) {
            return *it;
        }
        let span = self.push(name);
        let index = self.batch.names.len() as u32;
        self.batch.names.push(span);
        self.names.insert(name.to_owned(), index);
        index
    }

    fn push(&mut self, text: &str) -> Span {
        let start = self.batch.text.len() as u32;
        self.batch.text.push_str(text);
        Span { start, end: self.batch.text.len() as u32 }
    }
}

/// The text of a value after its edits, with `[LABEL]`, `[LABEL:n]` (n is the length of what a host would make a pseudonym
/// of) or `…(+n)` in place of what was taken out. Edits that lie wrongly show as `[BAD EDIT]`: a host refuses them.
pub fn apply(batch: &Batch, value: u32, edits: &[Edit], labels: &[String]) -> String {
    let bits = batch.values.bits.get(value as usize).copied().unwrap_or_default();
    let text = batch.text.get(bits as u32 as usize..(bits >> 32) as usize).unwrap_or_default();
    let mut out = String::new();
    let mut at = 0;
    for edit in edits.iter().filter(|it| it.value == value) {
        let (start, end) = (edit.start as usize, edit.end as usize);
        let (Some(kept), Some(taken)) = (text.get(at..start), text.get(start..end)) else {
            out.push_str("[BAD EDIT]");
            continue;
        };
        out.push_str(kept);
        let label = labels.get(edit.label as usize).map_or("?", String::as_str);
        let count = taken.chars().count();
        out.push_str(&match edit.mode {
            edits::ELLIPSIS => format!("…(+{count})"),
            edits::PSEUDONYM => format!("[{label}:{count}]"),
            _ => format!("[{label}]"),
        });
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// The lines of a formatted batch.
pub fn lines(formatted: &crate::Formatted) -> Vec<&str> {
    let mut start = 0;
    let mut out = Vec::with_capacity(formatted.lines.len());
    for line in &formatted.lines {
        let end = line.end as usize;
        out.push(formatted.text.get(start..end).unwrap_or("[BAD LINE]"));
        start = end;
    }
    out
}

/// Alert channels that only remember.
#[derive(Debug, Default)]
pub struct Recorded {
    pub alerts: Vec<(String, Alert)>,
    /// What `send` answers; accepted when none.
    pub answer: Option<Sent>,
}

impl Alerts for Recorded {
    fn send(&mut self, channel: &str, alert: Alert) -> Sent {
        self.alerts.push((channel.to_owned(), alert));
        self.answer.unwrap_or(Sent::Accepted)
    }
}
