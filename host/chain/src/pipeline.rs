//! Worker threads: each takes batches from its part of the queue and runs them through its own instances of the chains.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use record::{Field, Record, Severity, event, field};

use crate::{
    chain::{Chain, Spec, internal},
    clock::Clock,
    edit::Replacer,
    output::Output,
    queue::{Message, Queue},
};

/// Records that run through a chain together: enough to spread the cost of entering a plugin (measured: a batch of 512 is
/// no cheaper a record), few enough that a poison record holds up little.
const BATCH_MAX: usize = 64;
/// How often losses are reported while an output fails.
const WHILE_FAILING: Duration = Duration::from_secs(60);
/// How often an idle worker looks whether records were dropped.
const TICK: Duration = Duration::from_secs(1);

/// All chains of a configuration, and everything that they share.
pub struct Plan {
    /// By name. A record whose chain is not here runs through the default.
    pub chains: BTreeMap<Arc<str>, Spec>,
    pub default: Arc<str>,
    /// Every output of every chain, in the order of the configuration.
    pub outputs: Vec<Arc<Output>>,
    pub replacer: Replacer,
    pub clock: Arc<dyn Clock>,
    /// Worker threads, at least one.
    pub workers: usize,
    /// Records that each worker's queue holds.
    pub queue: usize,
}

/// The running log.
pub struct Pipeline {
    queue: Arc<Queue>,
    plan: Arc<Plan>,
    workers: Mutex<Vec<JoinHandle<()>>>,
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
    /// Starts the workers.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(plan: Plan) -> io::Result<Self> {
        let plan = Arc::new(plan);
        let (queue, receivers) = Queue::new(plan.workers, plan.queue);
        let queue = Arc::new(queue);
        let mut workers = Vec::with_capacity(receivers.len());
        for (index, receiver) in receivers.into_iter().enumerate() {
            let worker = Worker {
                chains: BTreeMap::new(),
                plan: plan.clone(),
                queue: queue.clone(),
                reports: index == 0,
                reported: 0,
                reported_at: None,
            };
            let name = format!("log-{index}");
            workers.push(thread::Builder::new().name(name).spawn(move || worker.run(&receiver))?);
        }
        Ok(Self { queue, plan, workers: Mutex::new(workers) })
    }

    /// Where records go in.
    pub fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    pub fn clock(&self) -> Arc<dyn Clock> {
        self.plan.clock.clone()
    }

    pub fn default_chain(&self) -> Arc<str> {
        self.plan.default.clone()
    }

    /// Every output, to be opened anew on SIGHUP or counted.
    pub fn outputs(&self) -> Vec<Arc<Output>> {
        self.plan.outputs.clone()
    }

    /// Takes no more records, runs those that were taken through their chains, and empties every output, all before the
    /// deadline.
    pub fn shutdown(&self, deadline: Instant) -> Drained {
        // Closing waits for room in a full queue, so it has a thread that a stuck worker cannot make us wait for.
        let queue = self.queue.clone();
        let closed =
            thread::Builder::new().name("log-close".to_owned()).spawn(move || queue.close());
        let mut in_time = closed.is_ok_and(|it| join_until(it, deadline));
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(|it| it.into_inner()));
        for worker in workers {
            in_time &= join_until(worker, deadline);
        }
        for output in &self.plan.outputs {
            in_time &= output.close(deadline);
        }
        let (accepted, dropped) = self.queue.counts();
        let lost_lines = self.plan.outputs.iter().map(|it| it.counts().1).sum();
        Drained { in_time, accepted, dropped, lost_lines }
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

struct Worker {
    /// Opened when the first record comes for them.
    chains: BTreeMap<Arc<str>, Chain>,
    plan: Arc<Plan>,
    queue: Arc<Queue>,
    /// One of the workers reports what was dropped, and this is how much it has.
    reports: bool,
    reported: u64,
    reported_at: Option<Instant>,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Message>) {
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
                self.queue.count_dropped(records);
            }
            self.report_drops();
        }
        self.chains.values_mut().for_each(Chain::finish);
    }

    /// Runs neighbours of one chain together; the order of the batch stays.
    fn dispatch(&mut self, batch: Vec<Record>) {
        let mut group: Vec<Record> = Vec::new();
        let mut of: Option<Arc<str>> = None;
        for record in batch {
            let name = self.chain_of(&record);
            if of.as_ref().is_some_and(|it| *it != name) {
                self.chain(&of.take().unwrap_or_default()).run(std::mem::take(&mut group));
            }
            of = Some(name);
            group.push(record);
        }
        if let Some(name) = of {
            self.chain(&name).run(group);
        }
    }

    fn chain_of(&self, record: &Record) -> Arc<str> {
        let wanted = record.context.as_ref().map(|it| &it.chain);
        wanted.filter(|it| self.plan.chains.contains_key(*it)).unwrap_or(&self.plan.default).clone()
    }

    fn chain(&mut self, name: &Arc<str>) -> &mut Chain {
        let plan = &self.plan;
        self.chains.entry(name.clone()).or_insert_with(|| {
            Chain::new(&plan.chains[name], plan.replacer.clone(), plan.clock.clone())
        })
    }

    fn report_drops(&mut self) {
        if !self.reports {
            return;
        }
        let lost: u64 = self.plan.outputs.iter().map(|it| it.counts().1).sum();
        let total = self.queue.counts().1 + lost;
        let dropped = total - self.reported;
        // While an output fails, each report is a loss of its own there: the other outputs get one now and then.
        let failing = self.plan.outputs.iter().any(|it| it.is_failing());
        let lately = self.reported_at.is_some_and(|it| it.elapsed() < WHILE_FAILING);
        if dropped == 0 || (failing && lately) {
            return;
        }
        self.reported = total;
        self.reported_at = Some(Instant::now());
        let fields = vec![Field::new(field::DROPPED, i64::try_from(dropped).unwrap_or(i64::MAX))];
        let record = internal(self.plan.clock.now(), Severity::WARNING, event::LOG_DROPPED, fields);
        let default = self.plan.default.clone();
        self.chain(&default).run_internal(record);
    }
}

/// Puts a record into the batch; the answer says whether more may come.
fn take(message: Message, batch: &mut Vec<Record>) -> bool {
    match message {
        Message::Record(record) => {
            batch.push(*record);
            true
        }
        Message::Close => false,
    }
}
