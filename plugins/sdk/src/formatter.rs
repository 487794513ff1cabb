//! The role that turns records into lines.

use crate::{Batch, Formatted, Lines, Plugin, RecordView, Records};

/// Records to text: what a line of an output looks like.
pub trait Formatter: Plugin {
    /// Writes no line, one, or several for a record.
    fn format(&self, record: RecordView<'_>, lines: &mut Lines);
}

/// Runs a formatter over a batch.
pub fn format_batch<P: Formatter>(plugin: &P, batch: &Batch) -> Formatted {
    let records = Records::new(batch);
    // All values once, and a time stamp and names for each record: a guess that saves most of the growing.
    let mut lines = Lines::with_capacity(batch.text.len() + 160 * batch.records.len());
    for record in records.iter() {
        lines.begin(record.index());
        plugin.format(record, &mut lines);
        lines.end_if_open();
    }
    lines.into_formatted()
}

/// The answer of a formatter that was given work before it was configured: a line a record, so that nothing is lost in
/// silence.
#[doc(hidden)]
pub fn unconfigured(batch: &Batch) -> Formatted {
    let records = Records::new(batch);
    let mut lines = Lines::with_capacity(64 * batch.records.len());
    for record in records.iter() {
        lines.begin(record.index());
        lines.line("this formatter was given a record before it was configured");
    }
    lines.into_formatted()
}

#[doc(hidden)]
pub fn check<P: Formatter>() {}
