//! The role that takes parts out of records.

use crate::{
    Answer, Batch, Edits, Plugin, RecordView, Records,
    bindings::editor::exports::bucksaw::plugin::editor::Verdict as WireVerdict,
    plugin::UNCONFIGURED,
};

/// Redaction, truncation, dropping: what happens to a record before anything else may see it.
pub trait Editor: Plugin {
    /// Looks at one record. What it pushes into `edits` counts only with [`Verdict::Keep`].
    fn edit(&self, record: RecordView<'_>, edits: &mut Edits) -> Verdict;
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, with the edits made.
    Keep,
    /// It goes no further. The number is the index of the reason in `Setup::labels`.
    Drop(u32),
    /// It could not be judged, so the host withholds its content. The number is the plugin's own.
    Fail(u32),
}

/// Runs an editor over a batch.
pub fn edit_batch<P: Editor>(plugin: &P, batch: &Batch) -> Answer {
    let records = Records::new(batch);
    let mut edits = Edits::default();
    let mut verdicts = Vec::with_capacity(batch.records.len());
    for record in records.iter() {
        let mark = edits.len();
        let verdict = plugin.edit(record, &mut edits);
        if verdict != Verdict::Keep {
            edits.truncate(mark);
        }
        verdicts.push(wire(verdict));
    }
    Answer { verdicts, edits: edits.into_vec() }
}

/// The answer of an editor that was given work before it was configured: it judged nothing.
#[doc(hidden)]
pub fn unconfigured(batch: &Batch) -> Answer {
    let verdicts = vec![wire(Verdict::Fail(UNCONFIGURED)); batch.records.len()];
    Answer { verdicts, edits: Vec::new() }
}

#[doc(hidden)]
pub fn check<P: Editor>() {}

fn wire(verdict: Verdict) -> WireVerdict {
    let (code, detail) = match verdict {
        Verdict::Keep => (0, 0),
        Verdict::Drop(reason) => (1, reason),
        Verdict::Fail(number) => (2, number),
    };
    WireVerdict { code, detail }
}
