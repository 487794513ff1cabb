//! A chain: ordered editors, then release, then handlers, then outputs.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use record::{Record, Stream, event};

use crate::{
    aside::Aside,
    clock::Clock,
    draft::{Draft, Drafts},
    edit::Replacer,
    editors::Editors,
    fallback,
    keeper::Keeper,
    output::Output,
    released::Released,
    report::Reports,
    session::Sessions,
    shadow::{Shadow, ShadowSpec},
    sink::Line,
    slot::Slot,
    stage::{Editor, Formatted, Formatter, Handler, Source, StageError},
    stats::{StageKey, Stats},
};

/// A formatter, and the outputs that take its lines: one formatting serves them all.
pub type Formats = (Arc<dyn Source<dyn Formatter>>, Vec<Arc<Output>>);

/// What a chain is made of; shared by all workers.
pub struct Spec {
    pub name: Arc<str>,
    pub editors: Vec<Arc<dyn Source<dyn Editor>>>,
    pub handlers: Vec<Arc<dyn Source<dyn Handler>>>,
    pub outputs: Vec<Formats>,
    /// Editors that see the same records beside those of the chain, and whose work is compared and thrown away.
    pub shadow: Option<ShadowSpec>,
}

/// What a chain works with besides its plugins.
#[derive(Clone)]
pub struct Tools {
    pub replacer: Replacer,
    pub clock: Arc<dyn Clock>,
    pub stats: Arc<Stats>,
}

/// One worker's instance of a chain.
pub struct Chain {
    editors: Editors,
    handlers: Vec<Handling>,
    outputs: Vec<Formatting>,
    keeper: Option<Arc<dyn Keeper>>,
    shadow: Option<Shadow>,
    sessions: Sessions,
    reports: Reports,
    /// Of handlers with threads of their own. Such a handler is not told of them: it might fail again, without end.
    aside_reports: Reports,
    tools: Tools,
}

/// A handler that runs here, or one on a thread of its own.
enum Handling {
    Here(Slot<dyn Handler>),
    Aside(Aside),
}

/// What handlers on threads of their own have when a chain ends and nobody says how long it may take.
const FINISH: Duration = Duration::from_secs(10);

type Formatting = (Slot<dyn Formatter>, Vec<Arc<Output>>);

impl Chain {
    pub fn new(spec: &Spec, tools: Tools) -> Self {
        let stats = &tools.stats;
        let counted = |plugin: &str, role| {
            let (chain, plugin) = (spec.name.clone(), plugin.to_owned());
            stats.stage(StageKey { chain, plugin, role })
        };
        let replacer = &tools.replacer;
        let handler = |it: &Arc<dyn Source<dyn Handler>>| {
            let stats = counted(it.name(), "handler");
            match it.waits() {
                true => Handling::Aside(Aside::start(it, stats)),
                false => Handling::Here(Slot::new(it.clone(), stats)),
            }
        };
        let formatting = |(formatter, outputs): &Formats| {
            let counters = counted(formatter.name(), "formatter");
            (Slot::new(formatter.clone(), counters), outputs.clone())
        };
        Self {
            editors: Editors::new(&spec.editors, (&spec.name, "editor"), replacer.clone(), stats),
            handlers: spec.handlers.iter().map(handler).collect(),
            outputs: spec.outputs.iter().map(formatting).collect(),
            keeper: None,
            shadow: spec.shadow.as_ref().map(|it| Shadow::new(it, &spec.name, &tools)),
            sessions: Sessions::default(),
            reports: Reports::new(),
            aside_reports: Reports::new(),
            tools,
        }
    }

    /// Hands what is to be stored to a keeper; without one it goes nowhere.
    #[must_use]
    pub fn with_keeper(self, keeper: Arc<dyn Keeper>) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// Opens an instance of every plugin ahead of the first record.
    pub fn warm(&mut self) {
        self.editors.warm();
        for handling in &mut self.handlers {
            // One on a thread of its own is opened there.
            if let Handling::Here(it) = handling {
                it.warm();
            }
        }
        self.outputs.iter_mut().for_each(|(it, _)| it.warm());
        self.shadow.iter_mut().for_each(Shadow::warm);
    }

    /// Takes a batch from the first editor to the outputs.
    pub fn run(&mut self, batch: Vec<Record>) {
        let mut released = self.edit(batch);
        let kept: Vec<Released> =
            released.extract_if(.., |it| it.stream == Stream::Store).collect();
        if let Some(keeper) = self.keeper.as_ref().filter(|_| !kept.is_empty()) {
            keeper.keep(&kept);
        }
        self.emit(&released, true);
        self.report(false);
    }

    /// Reports what is left to report; nothing is run after it.
    pub fn finish(&mut self) {
        self.close();
        self.finish_by(Instant::now() + FINISH);
    }

    /// Takes no more records. Handlers on threads of their own handle those that they have.
    pub(crate) fn close(&mut self) {
        let (editors, shadow) = (&mut self.editors, self.shadow.as_mut());
        let unfinished = self.sessions.finish_all(editors, &mut self.reports, shadow);
        self.emit(&unfinished, true);
        self.report(true);
        let now = self.tools.clock.now();
        let mut records = self.reports.take_drops(now);
        records.extend(self.shadow.iter_mut().filter_map(|it| it.report(now)));
        self.run_internal(records);
        self.asides().for_each(Aside::close);
    }

    /// Whether every handler has handled what it was given before the chain was closed.
    pub(crate) fn is_done(&mut self) -> bool {
        self.asides().all(|it| it.is_done())
    }

    /// Reports what is left to report of a closed chain, after its handlers came to their end or the deadline has come.
    pub(crate) fn finish_by(&mut self, deadline: Instant) {
        self.asides().for_each(|it| it.end_by(deadline));
        self.report_asides(true);
    }

    /// What is to be done now and then while no records come.
    pub(crate) fn tick(&mut self) {
        self.report_asides(false);
    }

    fn asides(&mut self) -> impl Iterator<Item = &mut Aside> {
        self.handlers.iter_mut().filter_map(|it| match it {
            Handling::Here(_) => None,
            Handling::Aside(it) => Some(it),
        })
    }

    /// Hands records that the chain itself made to the outputs.
    pub(crate) fn run_internal(&mut self, records: Vec<Record>) {
        let released: Vec<Released> = records.into_iter().map(Released::internal).collect();
        self.emit(&released, true);
    }

    /// Records that each editor failed for since this was last asked.
    pub(crate) fn take_editor_failures(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.reports.editor_failures)
    }

    /// The editors in order, then release. Guarantee G1 is decided here: a record comes out edited by all, or as a stub.
    pub fn edit(&mut self, batch: Vec<Record>) -> Vec<Released> {
        let released = self.edit_all(batch);
        let withheld = released.iter().filter(|it| it.stub.is_some()).count() as u64;
        self.tools.stats.withheld.fetch_add(withheld, Relaxed);
        self.tools.stats.released.fetch_add(released.len() as u64 - withheld, Relaxed);
        released
    }

    fn edit_all(&mut self, batch: Vec<Record>) -> Vec<Released> {
        if batch.iter().any(|it| it.event == event::RESPONSE_DELTA) || !self.sessions.is_empty() {
            return self.edit_with_sessions(batch);
        }
        self.edit_whole(batch)
    }

    /// A batch that may hold parts of texts that are still being made.
    fn edit_with_sessions(&mut self, batch: Vec<Record>) -> Vec<Released> {
        let mut released = Vec::with_capacity(batch.len());
        let mut whole = Vec::new();
        for record in batch {
            let is_delta = record.event == event::RESPONSE_DELTA;
            // The whole comes after its parts.
            let ends = record.event == event::RESPONSE_CONTENT
                || event::TERMINAL.contains(&record.event.as_ref());
            if !is_delta && !ends {
                whole.push(record);
                continue;
            }
            // What came before is released before: the order of a request stays.
            released.extend(self.edit_whole(std::mem::take(&mut whole)));
            let (editors, reports) = (&mut self.editors, &mut self.reports);
            let shadow = self.shadow.as_mut();
            if is_delta {
                released.extend(self.sessions.push(record, editors, reports, shadow));
            } else {
                released.extend(self.sessions.finish(&record, editors, reports, shadow));
                whole.push(record);
            }
        }
        released.extend(self.edit_whole(whole));
        released
    }

    fn edit_whole(&mut self, batch: Vec<Record>) -> Vec<Released> {
        if batch.is_empty() {
            return Vec::new();
        }
        let size = batch.len();
        let compared = self.shadow.as_mut().and_then(|it| it.wants(size).then_some(it));
        let beside = compared.is_some().then(|| batch.clone());
        let mut drafts = Drafts::new(batch, beside.is_some());
        let start = Instant::now();
        self.editors.edit(&mut drafts, &mut self.reports);
        let (Some(shadow), Some(batch)) = (compared, beside) else { return drafts.release() };
        let took = start.elapsed();
        let drafts = drafts.finish();
        shadow.compare(batch, &drafts, took);
        drafts.into_iter().filter_map(Draft::release).collect()
    }

    /// Handlers and outputs: these fail open, on records that are already released.
    fn emit(&mut self, released: &[Released], to_asides: bool) {
        if released.is_empty() {
            return;
        }
        for handling in &mut self.handlers {
            let slot = match handling {
                Handling::Here(it) => it,
                Handling::Aside(it) if to_asides => {
                    it.push(released);
                    continue;
                }
                Handling::Aside(_) => continue,
            };
            if let Err(error) = slot.call(released.len(), |it| it.handle(released)) {
                self.reports.failed(slot.name(), error);
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
            let formatted = slot.call(wanted.len(), |it| {
                let formatted = it.format(&wanted)?;
                check(&formatted, wanted.len())?;
                Ok(formatted)
            });
            let formatted = formatted.unwrap_or_else(|error| {
                self.reports.failed(slot.name(), error);
                fallback::format(&wanted)
            });
            write(&formatted, &wanted, outputs);
        }
    }

    /// Says what happened, as records of the chain's own: what failed once a batch, the rest now and then.
    fn report(&mut self, last: bool) {
        let now = self.tools.clock.now();
        let mut records = self.reports.take_failures(now, last);
        if self.reports.are_drops_due() {
            records.extend(self.reports.take_drops(now));
        }
        if let Some(shadow) = &mut self.shadow {
            records.extend(shadow.due(now));
        }
        if !records.is_empty() {
            self.run_internal(records);
            self.reports.forget_failures();
        }
        self.report_asides(last);
    }

    /// Says what happened on the handlers' own threads.
    fn report_asides(&mut self, last: bool) {
        let (now, reports) = (self.tools.clock.now(), &mut self.aside_reports);
        for handling in &self.handlers {
            if let Handling::Aside(it) = handling {
                it.report(reports);
            }
        }
        let mut records = reports.take_failures(now, last);
        records.extend(reports.take_denials(now, last));
        if last || reports.are_drops_due() {
            records.extend(reports.take_drops(now));
        }
        let released: Vec<Released> = records.into_iter().map(Released::internal).collect();
        self.emit(&released, false);
    }
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
