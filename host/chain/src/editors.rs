//! Editors in order: what each says of a record is checked and applied, and a record that one of them could not judge goes on as
//! a stub. Guarantee G1, fail closed, is decided here.

use std::sync::Arc;

use record::{Record, Stub, event};

use crate::{
    edit::{Replacer, check},
    released::Released,
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

/// A record on its way through the editors.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) state: State,
    /// What was taken out, if somebody wants to know.
    pub(crate) trace: Option<Trace>,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    Open(Record),
    Stub(Record, Stub),
    Dropped,
}

impl Draft {
    pub(crate) fn new(record: Record, traced: bool) -> Self {
        Self { state: State::Open(record), trace: traced.then(Trace::default) }
    }

    pub(crate) fn release(self) -> Option<Released> {
        match self.state {
            State::Open(record) => Some(Released::edited(record)),
            State::Stub(record, stub) => Some(Released::stub(record, stub)),
            State::Dropped => None,
        }
    }
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
    pub(crate) fn edit(&mut self, drafts: &mut [Draft], reports: &mut Reports) {
        for at in 0..self.slots.len() {
            let mut places = Vec::with_capacity(drafts.len());
            let mut records = Vec::with_capacity(drafts.len());
            for (place, draft) in drafts.iter_mut().enumerate() {
                match std::mem::replace(&mut draft.state, State::Dropped) {
                    State::Open(record) => {
                        places.push(place);
                        records.push(record);
                    }
                    other => draft.state = other,
                }
            }
            let mut stage = OneStage {
                slot: &mut self.slots[at],
                replacer: &self.replacer,
                reports: &mut *reports,
            };
            stage.edit(records, &places, drafts);
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
    /// Edits records and puts what became of them into their places.
    fn edit(&mut self, records: Vec<Record>, places: &[usize], drafts: &mut [Draft]) {
        if records.is_empty() {
            return;
        }
        if records.len() == 1 || !self.slot.on_trial() {
            match call(self.slot, &records, |_| ()) {
                Ok((verdicts, ())) => {
                    for ((record, verdict), &place) in records.into_iter().zip(verdicts).zip(places)
                    {
                        self.apply(record, verdict, &mut drafts[place]);
                    }
                    return;
                }
                Err(error) if records.len() == 1 => {
                    for (record, &place) in records.into_iter().zip(places) {
                        drafts[place].state = self.stub(record, error);
                    }
                    return;
                }
                Err(_) => {}
            }
        }
        // The batch failed: one record at a time, so that only the poison record loses its content.
        for (record, place) in records.into_iter().zip(places) {
            self.edit(vec![record], std::slice::from_ref(place), drafts);
        }
    }

    fn apply(&mut self, mut record: Record, verdict: Verdict, draft: &mut Draft) {
        let result = match verdict {
            Verdict::Keep(edits) => {
                self.replacer.apply_checked(&mut record, edits, draft.trace.as_mut());
                Ok(())
            }
            // A terminal record is a guarantee of the server: it can be emptied, never dropped.
            Verdict::Drop(_) if event::TERMINAL.contains(&record.event.as_ref()) => {
                Err(StageError::Refused)
            }
            Verdict::Drop(reason) => {
                self.reports.dropped(self.slot.name(), reason, 1);
                draft.state = State::Dropped;
                return;
            }
            Verdict::Fail(_) => Err(StageError::Refused),
        };
        draft.state = match result {
            Ok(()) => State::Open(record),
            Err(error) => self.stub(record, error),
        };
    }

    fn stub(&mut self, record: Record, error: StageError) -> State {
        let plugin = self.slot.name().to_owned();
        self.reports.failed(&plugin, error);
        self.reports.editor_failed(&plugin, error);
        State::Stub(record, Stub { plugin, error: error.name() })
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
