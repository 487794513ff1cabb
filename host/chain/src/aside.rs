//! A handler that may wait for something outside: it has a thread of its own, behind a bounded queue of released records. What
//! it waits for costs its own records, which are counted, and never a line of the log.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use record::Value;

use crate::{
    released::Released,
    report::Reports,
    slot::Slot,
    stage::{Handler, Source, StageError},
    stats::StageStats,
};

/// Records that wait for one handler: seconds of a busy server.
const RECORDS_MAX: usize = 4096;
/// The same in bytes, roughly: a record may hold a long prompt.
const BYTES_MAX: usize = 16 << 20;
/// Records of one call: as many as a log worker's batch has.
const BATCH_MAX: usize = 64;
/// What a record and each of its fields take beside their text, roughly.
const OVERHEAD: usize = 256;

/// The near end of a handler's own thread.
pub(crate) struct Aside {
    plugin: String,
    /// None when it takes no more, or when its thread could not be started.
    queue: Option<Sender<Released>>,
    /// Held to count what is left behind at the end.
    rest: Receiver<Released>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    waiting: Arc<Waiting>,
    stats: Arc<StageStats>,
}

/// What both ends share.
#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// Records that the handler was given in its present call.
    in_hand: AtomicUsize,
    /// Records that were lost since they were last told.
    lost: AtomicU64,
    news: Mutex<News>,
}

/// What happened since it was last told.
#[derive(Default)]
struct News {
    failures: BTreeMap<StageError, u64>,
    denials: BTreeMap<&'static str, u64>,
}

impl Aside {
    /// Starts the thread, which opens an instance at once. Without a thread, every record is lost and counted.
    pub(crate) fn start(source: &Arc<dyn Source<dyn Handler>>, stats: Arc<StageStats>) -> Self {
        let (queue, rest) = bounded(RECORDS_MAX);
        let (alive, ended) = bounded(0);
        let waiting = Arc::new(Waiting::default());
        let slot = Slot::new(source.clone(), stats.clone());
        let work = Work { queue: rest.clone(), waiting: waiting.clone(), slot, _alive: alive };
        let name = format!("plugin-{}", source.name());
        let thread = thread::Builder::new().name(name).spawn(move || work.run());
        let queue = thread.is_ok().then_some(queue);
        Self { plugin: source.name().to_owned(), queue, rest, ended, waiting, stats }
    }

    /// Queues what there is room for. Never waits.
    pub(crate) fn push(&self, records: &[Released]) {
        let mut lost = 0;
        for record in records {
            let bytes = bytes(record);
            let fits = self.waiting.bytes.fetch_add(bytes, Relaxed) + bytes <= BYTES_MAX;
            let sent =
                fits && self.queue.as_ref().is_some_and(|it| it.try_send(record.clone()).is_ok());
            if !sent {
                self.waiting.bytes.fetch_sub(bytes, Relaxed);
                lost += 1;
            }
        }
        self.lose(lost);
    }

    /// Takes no more records; those that it has are still handled.
    pub(crate) fn close(&mut self) {
        self.queue = None;
    }

    /// Whether its thread has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.ended.try_recv().is_err_and(|it| it.is_disconnected())
    }

    /// Takes no more records, and waits until those that it has are handled, or until the deadline: the rest is lost then.
    pub(crate) fn end_by(&mut self, deadline: Instant) {
        self.close();
        if self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout) {
            let left = self.rest.try_iter().count() + self.waiting.in_hand.load(Relaxed);
            self.lose(left as u64);
        }
    }

    /// Hands over what happened since the last time.
    pub(crate) fn report(&self, reports: &mut Reports) {
        let news = std::mem::take(&mut *lock(&self.waiting.news));
        for (error, times) in news.failures {
            reports.failed_times(&self.plugin, error, times);
        }
        for (what, times) in news.denials {
            reports.denied(&self.plugin, what, times);
        }
        let lost = self.waiting.lost.swap(0, Relaxed);
        if lost > 0 {
            reports.dropped(&self.plugin, "not_handled".into(), lost);
        }
    }

    fn lose(&self, records: u64) {
        self.waiting.lost.fetch_add(records, Relaxed);
        self.stats.lost.fetch_add(records, Relaxed);
    }
}

/// The far end.
struct Work {
    queue: Receiver<Released>,
    waiting: Arc<Waiting>,
    slot: Slot<dyn Handler>,
    _alive: Sender<()>,
}

impl Work {
    fn run(mut self) {
        self.slot.warm();
        while let Ok(first) = self.queue.recv() {
            let mut batch = vec![first];
            batch.extend(self.queue.try_iter().take(BATCH_MAX - 1));
            self.waiting.bytes.fetch_sub(batch.iter().map(bytes).sum(), Relaxed);
            self.waiting.in_hand.store(batch.len(), Relaxed);
            let slot = &mut self.slot;
            let handled =
                catch_unwind(AssertUnwindSafe(|| slot.call(batch.len(), |it| it.handle(&batch))));
            // A bug of ours costs a batch, and not the thread with all that would follow.
            let error = handled.unwrap_or(Err(StageError::Trap)).err();
            let denials = self.slot.take_denials();
            let mut news = lock(&self.waiting.news);
            error.into_iter().for_each(|it| *news.failures.entry(it).or_default() += 1);
            for (what, times) in denials {
                *news.denials.entry(what).or_default() += times;
            }
            self.waiting.in_hand.store(0, Relaxed);
        }
    }
}

fn bytes(record: &Released) -> usize {
    let field = |value: &Value| match value {
        Value::Text(it) => it.len() + OVERHEAD,
        _ => OVERHEAD,
    };
    record.fields.iter().map(|it| field(&it.value)).sum::<usize>() + OVERHEAD
}

fn lock(news: &Mutex<News>) -> std::sync::MutexGuard<'_, News> {
    news.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
