//! A worker thread of the log: takes batches from its part of the queue and runs them through its own instances of the chains.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use record::{Field, Record, Severity, Stream, event, field};

use crate::{
    chain::Chain,
    layer::follow_level,
    pipeline::Shared,
    queue::{Entry, Message},
    report::{internal, number},
    revision::Revision,
};

/// Records that run through a chain together: enough to spread the cost of entering a plugin (measured: a batch of 512 is
/// no cheaper a record), few enough that a poison record holds up little.
const BATCH_MAX: usize = 64;
/// How often losses are reported while an output fails.
const WHILE_FAILING: Duration = Duration::from_secs(60);
/// How often an idle worker looks whether records were dropped, and whether revisions have ended.
const TICK: Duration = Duration::from_secs(1);

pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// By revision and name; opened when the first record comes for them.
    chains: BTreeMap<Key, Chain>,
    /// Of revisions that have ended: their handlers still have records.
    ending: Vec<Chain>,
    /// The present revision when chains of ended ones were last looked for, and when that was.
    seen: u64,
    looked: Instant,
    /// One of the workers reports what was dropped, and this is how much it has.
    reports: bool,
    reported: u64,
    reported_at: Option<Instant>,
}

type Key = (u64, Arc<str>);

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, reports: bool) -> Self {
        Self {
            shared,
            chains: BTreeMap::new(),
            ending: Vec::new(),
            seen: 0,
            looked: Instant::now(),
            reports,
            reported: 0,
            reported_at: None,
        }
    }

    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self, queue: &Receiver<Message>) {
        let mut open = true;
        while open {
            let mut batch = Vec::new();
            match queue.recv_timeout(TICK) {
                Ok(message) => open = take(message, &mut batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            while open && batch.len() < BATCH_MAX {
                let Ok(message) = queue.try_recv() else { break };
                open = take(message, &mut batch);
            }
            let records = batch.len() as u64;
            // A bug of ours costs a batch, which is counted, and not the worker with all that would follow.
            if catch_unwind(AssertUnwindSafe(|| self.dispatch(batch))).is_err() {
                self.chains.clear();
                self.shared.queue.count_dropped(records);
            }
            let upkeep = || {
                if records == 0 {
                    self.chains.values_mut().for_each(Chain::tick);
                }
                self.retire();
                self.report_drops();
            };
            if catch_unwind(AssertUnwindSafe(upkeep)).is_err() {
                self.chains.clear();
            }
        }
        // Whoever pushed while the queue closed came behind its end.
        self.shared.queue.count_dropped(queue.try_iter().count() as u64);
        // All handlers end at the same time, and leave time for the outputs.
        self.chains.values_mut().for_each(Chain::close);
        let now = Instant::now();
        let ends = self.shared.ends.get().map_or(now, |it| now + it.duration_since(now) / 2);
        for chain in self.chains.values_mut().chain(&mut self.ending) {
            // What one chain still holds is no reason to lose what the next one does.
            let _ = catch_unwind(AssertUnwindSafe(|| chain.finish_by(ends)));
        }
    }

    /// Runs neighbours of one chain together; the order of the batch stays.
    fn dispatch(&mut self, batch: Vec<Entry>) {
        let mut group: Vec<Record> = Vec::new();
        let mut of: Option<(Key, Arc<Revision>)> = None;
        for Entry { record, revision, own } in batch {
            let key = key(&record, &revision);
            if own || of.as_ref().is_some_and(|(it, _)| *it != key) {
                self.run_group(&mut of, &mut group);
            }
            if own {
                self.chain(key, &revision).run_internal(vec![record]);
                continue;
            }
            of = Some((key, revision));
            group.push(record);
        }
        self.run_group(&mut of, &mut group);
    }

    fn run_group(&mut self, of: &mut Option<(Key, Arc<Revision>)>, group: &mut Vec<Record>) {
        let Some((key, revision)) = of.take() else { return };
        let number = key.0;
        let chain = self.chain(key, &revision);
        chain.run(std::mem::take(group));
        let taken_over = &revision.chains().taken_over;
        let failures = chain.take_editor_failures();
        let new = failures.iter().filter(|(plugin, _)| !taken_over.contains(*plugin));
        let failures = new.map(|(_, it)| it).sum();
        if failures == 0 {
            return;
        }
        if let Some(revised) = self.shared.revisions.failed(number, failures) {
            self.shared.tell(revised);
        }
    }

    fn chain(&mut self, key: Key, revision: &Revision) -> &mut Chain {
        let shared = &self.shared;
        let name = key.1.clone();
        self.chains
            .entry(key)
            .or_insert_with(|| revision.open(&name, shared.tools(revision.chains())))
    }

    /// Ends chains of revisions that no record can come for.
    fn retire(&mut self) {
        for mut chain in self.ending.extract_if(.., |it| it.is_done()) {
            chain.finish_by(Instant::now());
        }
        let revisions = &self.shared.revisions;
        let current = revisions.current().number();
        let old = self.chains.keys().any(|(number, _)| *number != current);
        if current == self.seen && !((old || self.reports) && self.looked.elapsed() >= TICK) {
            return;
        }
        self.seen = current;
        self.looked = Instant::now();
        let ended = |(number, _): &Key| *number != current && !revisions.is_live(*number);
        for (_, mut chain) in self.chains.extract_if(.., |key, _| ended(key)) {
            chain.close();
            if chain.is_done() {
                chain.finish_by(Instant::now());
            } else {
                self.ending.push(chain);
            }
        }
        if self.reports {
            if revisions.settle_level() {
                follow_level();
            }
            self.shared.outputs.sweep();
        }
    }

    fn report_drops(&mut self) {
        if !self.reports {
            return;
        }
        let total = self.shared.queue.counts().1 + self.shared.outputs.lost();
        let dropped = total.saturating_sub(self.reported);
        // While an output fails, each report is a loss of its own there: the other outputs get one now and then.
        let lately = self.reported_at.is_some_and(|it| it.elapsed() < WHILE_FAILING);
        if dropped == 0 || (lately && self.shared.outputs.is_failing()) {
            return;
        }
        self.reported = total;
        self.reported_at = Some(Instant::now());
        let fields = vec![Field::new(field::DROPPED, number(dropped))];
        let now = self.shared.clock.now();
        let record = internal(now, Severity::WARNING, event::LOG_DROPPED, fields);
        let revision = self.shared.revisions.current();
        let key = (revision.number(), revision.default_chain());
        self.chain(key, &revision).run_internal(vec![record]);
    }
}

/// The chain of a record: the one of its request, or the default one. What is to be stored may have a chain of its own.
fn key(record: &Record, revision: &Revision) -> Key {
    let chains = revision.chains();
    let keeping = chains.keeping.as_ref().filter(|_| record.stream == Stream::Store);
    let of_store = keeping.and_then(|it| it.chain.as_ref());
    let wanted = of_store.or_else(|| record.context.as_ref().map(|it| &it.chain));
    let known = wanted.filter(|it| chains.chains.contains_key(*it));
    (revision.number(), known.unwrap_or(&chains.default).clone())
}

/// Puts a record into the batch; the answer says whether more may come.
fn take(message: Message, batch: &mut Vec<Entry>) -> bool {
    match message {
        Message::Record(entry) => {
            batch.push(*entry);
            true
        }
        Message::Close => false,
    }
}
