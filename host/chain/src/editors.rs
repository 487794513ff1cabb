//! Editors in order: what each says of a record is checked and applied, and a record that one of them could not judge goes on as
//! a stub. Guarantee G1, fail closed, is decided here.

use std::sync::Arc;

use record::{Record, Stub, event};

use crate::{
    draft::{Drafts, Stop},
    edit::{Replacer, check},
    report::Reports,
    slot::Slot,
    stage::{Editor, Source, StageError, Verdict},
    stats::{StageKey, Stats},
    trace::Trace,
};

/// One worker's instances of a chain's editors.
pub(crate) struct Editors {
    slots: Vec<Slot<dyn Editor>>,
    replacer: Replacer,
}

impl Editors {
    /// `role`: under which word they are counted.
    pub(crate) fn new(
        sources: &[Arc<dyn Source<dyn Editor>>],
        (chain, role): (&Arc<str>, &'static str),
        replacer: Replacer,
        stats: &Stats,
    ) -> Self {
        let slot = |it: &Arc<dyn Source<dyn Editor>>| {
            let key = StageKey { chain: chain.clone(), plugin: it.name().to_owned(), role };
            Slot::new(it.clone(), stats.stage(key))
        };
        Self { slots: sources.iter().map(slot).collect(), replacer }
    }

    pub(crate) fn warm(&mut self) {
        self.slots.iter_mut().for_each(Slot::warm);
    }

    /// Takes records through every editor, in place.
    pub(crate) fn edit(&mut self, drafts: &mut Drafts, reports: &mut Reports) {
        for slot in &mut self.slots {
            OneStage { slot, replacer: &self.replacer, reports: &mut *reports }.edit(drafts);
        }
    }

    /// Runs a part of a text, of which more is to come unless it is `whole`, through every editor.
    ///
    /// The answer is how the edited text will begin, whatever comes: see [`Editor::longest_match`]. None when an editor dropped
    /// it. What was taken out is noted in `trace`, if somebody wants to know.
    ///
    /// # Errors
    /// When an editor failed, with its name: nothing of the text may go on.
    pub(crate) fn edit_part(
        &mut self,
        mut record: Record,
        field: usize,
        whole: bool,
        mut trace: Option<&mut Trace>,
    ) -> Result<Option<Record>, Stub> {
        for slot in &mut self.slots {
            let stub = |error: StageError, plugin: &str| Stub {
                plugin: plugin.to_owned(),
                error: error.name(),
            };
            let name = slot.name().to_owned();
            let answer = call(slot, std::slice::from_ref(&record), |it| it.longest_match());
            let (mut verdicts, longest) = answer.map_err(|it| stub(it, &name))?;
            let edits = match verdicts.pop() {
                Some(Verdict::Keep(edits)) => edits,
                Some(Verdict::Drop(_)) => return Ok(None),
                _ => return Err(stub(StageError::Refused, &name)),
            };
            let edits = if whole {
                edits
            } else {
                crate::session::settle(&mut record, field, edits, longest)
            };
            self.replacer.apply_checked(&mut record, edits, trace.as_deref_mut());
        }
        Ok(Some(record))
    }
}

/// One editor at work on a batch.
struct OneStage<'a> {
    slot: &'a mut Slot<dyn Editor>,
    replacer: &'a Replacer,
    reports: &'a mut Reports,
}

impl OneStage<'_> {
    fn edit(&mut self, drafts: &mut Drafts) {
        if drafts.open().is_empty() {
            return;
        }
        let mut answers = self.ask(drafts.open()).into_iter();
        drafts.treat(|record, trace| {
            let answer = answers.next().unwrap_or(Err(StageError::BadAnswer));
            self.apply(record, answer, trace)
        });
    }

    /// What the editor says of each record. When it fails for all of them at once, it is shown one record at a time, so that only
    /// the poison record loses its content.
    fn ask(&mut self, records: &[Record]) -> Vec<Result<Verdict, StageError>> {
        if records.len() > 1
            && !self.slot.on_trial()
            && let Ok((verdicts, ())) = call(self.slot, records, |_| ())
        {
            return verdicts.into_iter().map(Ok).collect();
        }
        let alone = |record| {
            let (mut verdicts, ()) = call(self.slot, std::slice::from_ref(record), |_| ())?;
            verdicts.pop().ok_or(StageError::BadAnswer)
        };
        records.iter().map(alone).collect()
    }

    /// Does to a record what was said of it, and tells how it was stopped, if it was.
    fn apply(
        &mut self,
        record: &mut Record,
        answer: Result<Verdict, StageError>,
        trace: Option<&mut Trace>,
    ) -> Option<Stop> {
        let error = match answer {
            Ok(Verdict::Keep(edits)) => {
                self.replacer.apply_checked(record, edits, trace);
                return None;
            }
            // A terminal record is a guarantee of the server: it can be emptied, never dropped.
            Ok(Verdict::Drop(_)) if event::TERMINAL.contains(&record.event.as_ref()) => {
                StageError::Refused
            }
            Ok(Verdict::Drop(reason)) => {
                self.reports.dropped(self.slot.name(), reason, 1);
                return Some(Stop::Drop);
            }
            Ok(Verdict::Fail(_)) => StageError::Refused,
            Err(error) => error,
        };
        let plugin = self.slot.name().to_owned();
        self.reports.failed(&plugin, error);
        self.reports.editor_failed(&plugin, error);
        Some(Stop::Stub(Stub { plugin, error: error.name() }))
    }
}

/// Calls an editor, believes no answer that does not fit, and asks `more` of the instance.
fn call<T>(
    slot: &mut Slot<dyn Editor>,
    records: &[Record],
    more: impl FnOnce(&dyn Editor) -> T,
) -> Result<(Vec<Verdict>, T), StageError> {
    slot.call(records.len(), |it| {
        let verdicts = it.edit(records)?;
        if verdicts.len() != records.len() {
            return Err(StageError::BadAnswer);
        }
        // An answer that is nonsense for one record is not believed for the others.
        for (record, verdict) in records.iter().zip(&verdicts) {
            if let Verdict::Keep(edits) = verdict {
                check(record, edits)?;
            }
        }
        Ok((verdicts, more(it)))
    })
}
