//! The running log: a queue, its workers, the revision of the chains that they run, and the outputs.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Instant,
};

use crossbeam_channel::bounded;
use record::{Field, Record, Severity, event, field};
use tracing_subscriber::{Layer, filter::Filtered, registry::LookupSpan};

use crate::{
    chain::{Chain, Tools},
    clock::Clock,
    layer::{RecordFilter, RecordLayer, follow_level},
    levels::Levels,
    output::Output,
    queue::{Entry, Queue},
    report::{internal, number},
    revision::{Chains, NoEarlier, Reason, Revised, Revisions},
    stats::Stats,
    worker::Worker,
};

/// What a log is started with.
pub struct Plan {
    pub chains: Chains,
    pub clock: Arc<dyn Clock>,
    /// Worker threads, at least one.
    pub workers: usize,
    /// Records that each worker's queue holds.
    pub queue: usize,
}

/// The running log.
pub struct Pipeline {
    pub(crate) shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    worker_count: usize,
}

/// What the workers share with whoever holds the log.
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    pub(crate) revisions: Arc<Revisions>,
    levels: Arc<Levels>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) outputs: Outputs,
    /// When it has to have ended, as soon as it is shut down.
    pub(crate) ends: OnceLock<Instant>,
}

/// What became of the records when the log was shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Whether workers and outputs came to their end before the deadline.
    pub in_time: bool,
    /// Records that the queue took.
    pub accepted: u64,
    /// Records that the queue had no room for.
    pub dropped: u64,
    /// Lines that outputs could not write.
    pub lost_lines: u64,
}

impl Drained {
    /// Whether every record that was made ran through its chain, and every line of it was written.
    pub fn is_complete(&self) -> bool {
        self.in_time && self.dropped == 0 && self.lost_lines == 0
    }
}

impl Pipeline {
    /// Opens an instance of every plugin for every worker and starts the workers.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(plan: Plan) -> io::Result<Self> {
        let (queue, receivers) = Queue::new(plan.workers, plan.queue);
        let stats = Arc::new(Stats::default());
        let worker_count = receivers.len();
        let ready = warm(&plan.chains, &plan.clock, &stats, worker_count);
        let shared = Arc::new(Shared {
            outputs: Outputs::new(&plan.chains.outputs),
            queue: Arc::new(queue),
            revisions: Arc::new(Revisions::new(plan.chains, ready)),
            levels: Arc::default(),
            clock: plan.clock,
            stats,
            ends: OnceLock::new(),
        });
        let mut workers = Vec::with_capacity(worker_count);
        for (index, receiver) in receivers.into_iter().enumerate() {
            let worker = Worker::new(shared.clone(), index == 0);
            let name = format!("log-{index}");
            workers.push(thread::Builder::new().name(name).spawn(move || worker.run(&receiver))?);
        }
        Ok(Self { shared, workers: Mutex::new(workers), worker_count })
    }

    /// The `tracing` layer that feeds the log, with the filter that belongs to it.
    pub fn layer<S>(&self) -> Filtered<RecordLayer, RecordFilter, S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        let it = &self.shared;
        let filter = RecordFilter::new(it.revisions.clone(), it.levels.clone());
        let (queue, clock) = (it.queue.clone(), it.clock.clone());
        RecordLayer::new(queue, clock, it.revisions.clone(), it.levels.clone()).with_filter(filter)
    }

    /// Where records wait.
    pub fn queue(&self) -> &Queue {
        &self.shared.queue
    }

    pub fn revisions(&self) -> &Arc<Revisions> {
        &self.shared.revisions
    }

    /// Levels that win over the revisions'.
    pub fn levels(&self) -> &Levels {
        &self.shared.levels
    }

    pub fn stats(&self) -> &Arc<Stats> {
        &self.shared.stats
    }

    /// Pushes a record that belongs to no request into the present revision.
    pub fn push(&self, record: Record) {
        let revision = self.shared.revisions.current();
        self.shared.queue.push(Entry { record, revision, own: false });
    }

    /// Logs that a change of the chains was refused; `notice` says why, in the host's own words.
    pub fn refuse(&self, notice: &str) {
        self.shared.stats.refusals.fetch_add(1, Relaxed);
        let fields = vec![Field::new(field::NOTICE, notice)];
        self.shared.push_own(Severity::ERROR, event::CHAIN_REFUSED, fields);
    }

    /// Replaces the chains between two batches. Instances of every plugin are opened first, on this thread. Requests in flight
    /// end with the revision that they began with.
    pub fn install(&self, chains: Chains) -> Revised {
        let shared = &self.shared;
        let ready = warm(&chains, &shared.clock, &shared.stats, self.worker_count);
        shared.outputs.add(&chains.outputs);
        let revised = shared.revisions.install(Arc::new(chains), ready);
        shared.tell(revised);
        revised
    }

    /// Goes back to the revision before the present one, under a new number.
    ///
    /// # Errors
    /// When there is none.
    pub fn rollback(&self) -> Result<Revised, NoEarlier> {
        let revised = self.shared.revisions.rollback()?;
        self.shared.tell(revised);
        Ok(revised)
    }

    /// Every open output, to be opened anew on SIGHUP or counted.
    pub fn outputs(&self) -> Vec<Arc<Output>> {
        self.shared.outputs.open()
    }

    /// Lines written and lines lost, by the output's name; those of outputs that are gone are in it.
    pub fn output_counts(&self) -> BTreeMap<String, (u64, u64)> {
        self.shared.outputs.counts()
    }

    /// Lines that outputs could not write, those of outputs that are gone included.
    pub fn lost_lines(&self) -> u64 {
        self.shared.outputs.lost()
    }

    /// Takes no more records, runs those that were taken through their chains, and empties every output, all before the
    /// deadline.
    pub fn shutdown(&self, deadline: Instant) -> Drained {
        // Shut down twice, the first deadline holds for handlers.
        let _ = self.shared.ends.set(deadline);
        // Closing waits for room in a full queue, so it has a thread that a stuck worker cannot make us wait for.
        let queue = self.shared.queue.clone();
        let closed =
            thread::Builder::new().name("log-close".to_owned()).spawn(move || queue.close());
        let mut in_time = closed.is_ok_and(|it| join_until(it, deadline));
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            in_time &= join_until(worker, deadline);
        }
        for output in self.outputs() {
            in_time &= output.close(deadline);
        }
        let (accepted, dropped) = self.shared.queue.counts();
        Drained { in_time, accepted, dropped, lost_lines: self.lost_lines() }
    }
}

impl Shared {
    pub(crate) fn tools(&self, chains: &Chains) -> Tools {
        Tools {
            replacer: chains.replacer.clone(),
            clock: self.clock.clone(),
            stats: self.stats.clone(),
        }
    }

    /// Counts and logs a change of the chains.
    pub(crate) fn tell(&self, revised: Revised) {
        follow_level();
        let automatic = revised.reason == Reason::AutomaticRollback;
        let counter = match revised.reason {
            Reason::Installed => &self.stats.revisions,
            Reason::Rollback | Reason::AutomaticRollback => &self.stats.rollbacks,
        };
        counter.fetch_add(1, Relaxed);
        let fields = vec![
            Field::new(field::REVISION, number(revised.number)),
            Field::new(field::REVISION_PREVIOUS, number(revised.previous)),
            Field::new(field::REVISION_REASON, revised.reason.name()),
            Field::new(field::NOTICE, revised.to_string()),
        ];
        let severity = if automatic { Severity::ERROR } else { Severity::INFO };
        self.push_own(severity, event::CHAIN_REVISED, fields);
    }

    fn push_own(&self, severity: Severity, event: &'static str, fields: Vec<Field>) {
        let record = internal(self.clock.now(), severity, event, fields);
        self.queue.push(Entry { record, revision: self.revisions.current(), own: true });
    }
}

/// Instances of every chain for every worker.
fn warm(
    chains: &Chains,
    clock: &Arc<dyn Clock>,
    stats: &Arc<Stats>,
    workers: usize,
) -> BTreeMap<Arc<str>, Vec<Chain>> {
    let open = |name: &Arc<str>| {
        let (replacer, clock, stats) = (chains.replacer.clone(), clock.clone(), stats.clone());
        let mut chain = chains.open(name, Tools { replacer, clock, stats });
        chain.warm();
        chain
    };
    let all = |name: &Arc<str>| (name.clone(), (0..workers).map(|_| open(name)).collect());
    chains.chains.keys().map(all).collect()
}

/// Outputs of all revisions that are not gone.
pub(crate) struct Outputs(Mutex<Open>);

struct Open {
    outputs: Vec<Arc<Output>>,
    /// Outputs that take no more lines and still write those that they have.
    ending: Vec<Arc<Output>>,
    /// Lines that outputs which are gone wrote and lost, by name.
    gone: BTreeMap<String, (u64, u64)>,
}

impl Outputs {
    fn new(outputs: &[Arc<Output>]) -> Self {
        Self(Mutex::new(Open {
            outputs: outputs.to_vec(),
            ending: Vec::new(),
            gone: BTreeMap::new(),
        }))
    }

    fn add(&self, outputs: &[Arc<Output>]) {
        let mut it = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for output in outputs {
            if !it.outputs.iter().any(|known| Arc::ptr_eq(known, output)) {
                it.outputs.push(output.clone());
            }
        }
    }

    /// Ends outputs that no revision uses any more.
    pub(crate) fn sweep(&self) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let it = &mut *guard;
        // Held by us alone: every revision with this output is gone.
        it.ending.extend(it.outputs.extract_if(.., |it| Arc::strong_count(it) == 1));
        it.ending.iter().for_each(|it| it.end());
        for done in it.ending.extract_if(.., |it| it.is_done()) {
            let (written, lost) = done.counts();
            let gone = it.gone.entry(done.name().to_owned()).or_default();
            *gone = (gone.0 + written, gone.1 + lost);
        }
    }

    fn open(&self) -> Vec<Arc<Output>> {
        let it = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        it.outputs.iter().chain(&it.ending).cloned().collect()
    }

    fn counts(&self) -> BTreeMap<String, (u64, u64)> {
        let it = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = it.gone.clone();
        for output in it.outputs.iter().chain(&it.ending) {
            let (written, lost) = output.counts();
            let sum = counts.entry(output.name().to_owned()).or_default();
            *sum = (sum.0 + written, sum.1 + lost);
        }
        counts
    }

    pub(crate) fn lost(&self) -> u64 {
        self.counts().values().map(|(_, lost)| lost).sum()
    }

    pub(crate) fn is_failing(&self) -> bool {
        let it = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        it.outputs.iter().any(|it| it.is_failing())
    }
}

/// Joins a thread if it ends before the deadline; a thread that does not is left behind.
pub(crate) fn join_until(thread: JoinHandle<()>, deadline: Instant) -> bool {
    let (sender, receiver) = bounded(1);
    let waiter = thread::Builder::new().name("log-join".to_owned()).spawn(move || {
        // The receiver may have given up.
        let _ = sender.send(thread.join().is_ok());
    });
    waiter.is_ok() && receiver.recv_deadline(deadline).unwrap_or(false)
}
