//! Records between the first editor and their release: those that go on lie side by side, and those that an editor stopped wait for
//! their place in the batch. What stops a record is not known here.

use std::mem;

use record::{Record, Stub};

use crate::{released::Released, trace::Trace};

/// Records on their way through the editors.
#[derive(Debug)]
pub(crate) struct Drafts {
    /// Those that go on, side by side, as editors are shown them. They stay where they are as long as no editor stops one.
    open: Vec<Record>,
    /// Where each of them stands in the batch.
    places: Vec<usize>,
    /// Those that an editor stopped, by their places.
    stopped: Vec<(usize, State)>,
    /// By place, if somebody wants to know what was taken out.
    traces: Option<Vec<Trace>>,
}

/// What became of one record.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) state: State,
    /// What was taken out, if somebody wanted to know.
    pub(crate) trace: Option<Trace>,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    Open(Record),
    Stub(Record, Stub),
    Dropped,
}

/// How an editor stopped a record.
#[derive(Debug)]
pub(crate) enum Stop {
    Stub(Stub),
    Drop,
}

impl Drafts {
    pub(crate) fn new(batch: Vec<Record>, traced: bool) -> Self {
        let places = (0..batch.len()).collect();
        let traces = traced.then(|| vec![Trace::default(); batch.len()]);
        Self { open: batch, places, stopped: Vec::new(), traces }
    }

    /// What became of each record, in the order of the batch.
    pub(crate) fn finish(self) -> Vec<Draft> {
        let open = self.places.into_iter().zip(self.open.into_iter().map(State::Open));
        let mut states: Vec<(usize, State)> = open.chain(self.stopped).collect();
        states.sort_unstable_by_key(|(place, _)| *place);
        let mut traces = self.traces.into_iter().flatten();
        let drafts = states.into_iter().map(|(_, state)| Draft { state, trace: traces.next() });
        drafts.collect()
    }

    pub(crate) fn release(self) -> Vec<Released> {
        if self.stopped.is_empty() {
            return self.open.into_iter().map(Released::edited).collect();
        }
        self.finish().into_iter().filter_map(Draft::release).collect()
    }

    /// Those that go on.
    pub(crate) fn open(&self) -> &[Record] {
        &self.open
    }

    /// Treats each of those that go on, in order, and takes out what is stopped by it.
    pub(crate) fn treat(
        &mut self,
        mut treat: impl FnMut(&mut Record, Option<&mut Trace>) -> Option<Stop>,
    ) {
        let mut stops = Vec::new();
        for (at, (record, place)) in self.open.iter_mut().zip(&self.places).enumerate() {
            let trace = self.traces.as_mut().and_then(|it| it.get_mut(*place));
            stops.extend(treat(record, trace).map(|it| (at, it)));
        }
        if !stops.is_empty() {
            self.stop(stops);
        }
    }

    /// Takes out what is named by its index among those that go on, in order.
    fn stop(&mut self, stops: Vec<(usize, Stop)>) {
        let mut stops = stops.into_iter().peekable();
        let (records, places) = (mem::take(&mut self.open), mem::take(&mut self.places));
        for (at, (record, place)) in records.into_iter().zip(places).enumerate() {
            match stops.next_if(|(stopped, _)| *stopped == at) {
                Some((_, Stop::Stub(stub))) => {
                    self.stopped.push((place, State::Stub(record, stub)));
                }
                Some((_, Stop::Drop)) => self.stopped.push((place, State::Dropped)),
                None => {
                    self.open.push(record);
                    self.places.push(place);
                }
            }
        }
    }
}

impl Draft {
    pub(crate) fn release(self) -> Option<Released> {
        match self.state {
            State::Open(record) => Some(Released::edited(record)),
            State::Stub(record, stub) => Some(Released::stub(record, stub)),
            State::Dropped => None,
        }
    }
}
