//! A chain: ordered editors, then release, then handlers, then outputs.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use record::{Field, Name, Record, Severity, Stream, Stub, event, field};

use crate::{
    clock::Clock,
    edit::{Replacer, check as check_edits},
    fallback,
    output::Output,
    released::Released,
    sink::Line,
    slot::Slot,
    stage::{Editor, Formatted, Formatter, Handler, Source, StageError, Verdict},
};

/// A formatter, and the outputs that take its lines: one formatting serves them all.
pub type Formats = (Arc<dyn Source<dyn Formatter>>, Vec<Arc<Output>>);

/// What a chain is made of; shared by all workers.
pub struct Spec {
    pub name: Arc<str>,
    pub editors: Vec<Arc<dyn Source<dyn Editor>>>,
    pub handlers: Vec<Arc<dyn Source<dyn Handler>>>,
    pub outputs: Vec<Formats>,
}

/// One worker's instance of a chain.
pub struct Chain {
    editors: Vec<Slot<dyn Editor>>,
    handlers: Vec<Slot<dyn Handler>>,
    outputs: Vec<Formatting>,
    replacer: Replacer,
    clock: Arc<dyn Clock>,
    /// Failures since the last report, by plugin and error: one record each, whatever their number.
    failures: BTreeMap<(String, &'static str), u64>,
    /// Records that editors dropped since the last report, by plugin and reason.
    drops: BTreeMap<(String, Arc<str>), u64>,
    drops_reported: Instant,
}

/// How often dropped records are reported: dropping is what such a plugin is for, so a line a batch would be noise.
const DROPS_EVERY: Duration = Duration::from_secs(10);

type Formatting = (Slot<dyn Formatter>, Vec<Arc<Output>>);

/// A record on its way through the editors.
enum Draft {
    Open(Record),
    Stub(Record, Stub),
}

impl Chain {
    pub fn new(spec: &Spec, replacer: Replacer, clock: Arc<dyn Clock>) -> Self {
        Self {
            editors: spec.editors.iter().cloned().map(Slot::new).collect(),
            handlers: spec.handlers.iter().cloned().map(Slot::new).collect(),
            outputs: spec
                .outputs
                .iter()
                .map(|(formatter, outputs)| (Slot::new(formatter.clone()), outputs.clone()))
                .collect(),
            replacer,
            clock,
            failures: BTreeMap::new(),
            drops: BTreeMap::new(),
            drops_reported: Instant::now(),
        }
    }

    /// Takes a batch from the first editor to the outputs.
    pub fn run(&mut self, batch: Vec<Record>) {
        let released = self.edit(batch);
        self.emit(&released);
        self.report();
        if self.drops_reported.elapsed() >= DROPS_EVERY {
            self.report_drops();
        }
    }

    /// Reports what is left to report; nothing is run after it.
    pub fn finish(&mut self) {
        self.report_drops();
    }

    fn report_drops(&mut self) {
        self.drops_reported = Instant::now();
        for ((plugin, reason), times) in std::mem::take(&mut self.drops) {
            let fields = vec![
                Field::new(field::PLUGIN, plugin),
                Field::new(field::PLUGIN_ERROR, &*reason),
                Field::new(field::DROPPED, i64::try_from(times).unwrap_or(i64::MAX)),
            ];
            self.run_internal(internal(
                self.clock.now(),
                Severity::INFO,
                event::LOG_DROPPED,
                fields,
            ));
        }
    }

    /// Hands records that the chain itself made to the outputs.
    pub(crate) fn run_internal(&mut self, record: Record) {
        self.emit(&[Released::internal(record)]);
    }

    /// The editors in order, then release. Guarantee G1 is decided here: a record comes out edited by all, or as a stub.
    pub fn edit(&mut self, batch: Vec<Record>) -> Vec<Released> {
        let mut drafts: Vec<Draft> = batch.into_iter().map(Draft::Open).collect();
        for index in 0..self.editors.len() {
            drafts = self.edit_once(index, drafts);
        }
        drafts
            .into_iter()
            .map(|it| match it {
                Draft::Open(record) => Released::edited(record),
                Draft::Stub(record, stub) => Released::stub(record, stub),
            })
            .collect()
    }

    fn edit_once(&mut self, index: usize, drafts: Vec<Draft>) -> Vec<Draft> {
        let mut order = Vec::with_capacity(drafts.len());
        let mut open = Vec::with_capacity(drafts.len());
        for draft in drafts {
            match draft {
                Draft::Open(record) => {
                    order.push(None);
                    open.push(record);
                }
                stub @ Draft::Stub(..) => order.push(Some(stub)),
            }
        }
        let mut edited = self.edit_records(index, open).into_iter();
        // A stub keeps its place; an open record's place is taken by what became of it, if anything did.
        order.into_iter().filter_map(|it| it.or_else(|| edited.next().flatten())).collect()
    }

    /// One answer for each record: edited, stub, or none when it was dropped.
    fn edit_records(&mut self, index: usize, records: Vec<Record>) -> Vec<Option<Draft>> {
        if records.is_empty() {
            return Vec::new();
        }
        let slot = &mut self.editors[index];
        if records.len() == 1 || !slot.on_trial() {
            match call_editor(slot, &records) {
                Ok(verdicts) => {
                    return records
                        .into_iter()
                        .zip(verdicts)
                        .map(|(record, verdict)| self.apply(index, record, verdict))
                        .collect();
                }
                Err(error) if records.len() == 1 => {
                    return records
                        .into_iter()
                        .map(|it| Some(self.stub(index, it, error)))
                        .collect();
                }
                Err(_) => {}
            }
        }
        // The batch failed: one record at a time, so that only the poison record loses its content.
        records.into_iter().flat_map(|it| self.edit_records(index, vec![it])).collect()
    }

    fn apply(&mut self, index: usize, mut record: Record, verdict: Verdict) -> Option<Draft> {
        let result = match verdict {
            Verdict::Keep(edits) => self.replacer.apply(&mut record, edits),
            // A terminal record is a guarantee of the server: it can be emptied, never dropped.
            Verdict::Drop(_) if event::TERMINAL.contains(&record.event.as_ref()) => {
                Err(StageError::Refused)
            }
            Verdict::Drop(reason) => {
                let plugin = self.editors[index].name().to_owned();
                *self.drops.entry((plugin, reason)).or_default() += 1;
                return None;
            }
            Verdict::Fail(_) => Err(StageError::Refused),
        };
        match result {
            Ok(()) => Some(Draft::Open(record)),
            Err(error) => Some(self.stub(index, record, error)),
        }
    }

    fn stub(&mut self, index: usize, record: Record, error: StageError) -> Draft {
        let plugin = self.editors[index].name().to_owned();
        *self.failures.entry((plugin.clone(), error.name())).or_default() += 1;
        Draft::Stub(record, Stub { plugin, error: error.name() })
    }

    /// Handlers and outputs: these fail open, on records that are already released.
    fn emit(&mut self, released: &[Released]) {
        if released.is_empty() {
            return;
        }
        for slot in &mut self.handlers {
            if let Err(error) = slot.call(|it| it.handle(released)) {
                *self.failures.entry((slot.name().to_owned(), error.name())).or_default() += 1;
            }
        }
        for (slot, outputs) in &mut self.outputs {
            let wanted: Vec<Released> = released
                .iter()
                .filter(|record| outputs.iter().any(|it| it.filter().accepts(record)))
                .cloned()
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let formatted = slot.call(|it| {
                let formatted = it.format(&wanted)?;
                check(&formatted, wanted.len())?;
                Ok(formatted)
            });
            let formatted = formatted.unwrap_or_else(|error| {
                *self.failures.entry((slot.name().to_owned(), error.name())).or_default() += 1;
                fallback::format(&wanted)
            });
            write(&formatted, &wanted, outputs);
        }
    }

    /// Says what failed, once a batch, as records of the chain's own.
    fn report(&mut self) {
        let (time, utc_offset) = self.clock.now();
        for ((plugin, error), times) in std::mem::take(&mut self.failures) {
            let opened = error == StageError::BreakerOpen.name();
            let name = if opened { event::PLUGIN_OPENED } else { event::PLUGIN_FAILED };
            let fields = vec![
                Field::new(field::PLUGIN, plugin),
                Field::new(field::PLUGIN_ERROR, error),
                Field::new("bucksaw.records", i64::try_from(times).unwrap_or(i64::MAX)),
            ];
            let record = internal((time, utc_offset), Severity::ERROR, name, fields);
            self.emit(&[Released::internal(record)]);
        }
        // What failed while reporting is not reported: that would have no end.
        self.failures.clear();
    }
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

fn call_editor(
    slot: &mut Slot<dyn Editor>,
    records: &[Record],
) -> Result<Vec<Verdict>, StageError> {
    slot.call(|it| {
        let verdicts = it.edit(records)?;
        if verdicts.len() != records.len() {
            return Err(StageError::BadAnswer);
        }
        // An answer that is nonsense for one record is not believed for the others.
        for (record, verdict) in records.iter().zip(&verdicts) {
            if let Verdict::Keep(edits) = verdict {
                check_edits(record, edits)?;
            }
        }
        Ok(verdicts)
    })
}

/// Whether a formatter's lines are in order and inside its text.
fn check(formatted: &Formatted, records: usize) -> Result<(), StageError> {
    let mut at = (0, 0);
    for &(record, end) in &formatted.lines {
        let ordered = record >= at.0 && record < records && end >= at.1;
        if !ordered || !formatted.text.is_char_boundary(end) {
            return Err(StageError::BadAnswer);
        }
        at = (record, end);
    }
    if at.1 == formatted.text.len() { Ok(()) } else { Err(StageError::BadAnswer) }
}

/// Cuts checked text into lines and gives each output those of the records that it takes.
fn write(formatted: &Formatted, records: &[Released], outputs: &[Arc<Output>]) {
    let mut start = 0;
    let lines: Vec<(usize, Line)> = formatted
        .lines
        .iter()
        .map(|&(record, end)| {
            let line = Line::new(
                records[record].severity,
                crate::escape::escape(&formatted.text[start..end]),
            );
            start = end;
            (record, line)
        })
        .collect();
    for output in outputs {
        let wanted: Vec<Line> = lines
            .iter()
            .filter(|(record, _)| output.filter().accepts(&records[*record]))
            .map(|(_, line)| line.clone())
            .collect();
        if !wanted.is_empty() {
            output.push(wanted);
        }
    }
}
