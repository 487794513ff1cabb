//! The bounded queue between whoever makes records and the log workers. Pushing never waits.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use record::{Record, event};

use crate::revision::Revision;

/// One part in this many of the queue is kept for terminal records: under overload the detail of a request is lost first,
/// its outcome last.
const RESERVE: usize = 8;

/// The near end: one bounded channel a worker. Records of one request always go to the same worker, which keeps their order.
pub struct Queue {
    shards: Vec<Sender<Message>>,
    closed: AtomicBool,
    accepted: AtomicU64,
    dropped: AtomicU64,
}

pub(crate) enum Message {
    Record(Box<Entry>),
    /// Nothing comes after this.
    Close,
}

pub(crate) struct Entry {
    pub(crate) record: Record,
    /// The revision that it runs through: the one its request began with.
    pub(crate) revision: Arc<Revision>,
    /// Made by the log itself, without content: no editor has to see it.
    pub(crate) own: bool,
}

impl Queue {
    /// A queue of `capacity` records for each of `shards` workers, and the workers' ends.
    pub(crate) fn new(shards: usize, capacity: usize) -> (Self, Vec<Receiver<Message>>) {
        let (senders, receivers) =
            (0..shards.max(1)).map(|_| bounded(capacity.max(RESERVE))).unzip();
        let queue = Self {
            shards: senders,
            closed: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        (queue, receivers)
    }

    /// Takes a record, or drops and counts it when its worker's queue is full.
    pub(crate) fn push(&self, entry: Entry) {
        let record = &entry.record;
        let shard = &self.shards[self.shard(record)];
        let capacity = shard.capacity().unwrap_or(usize::MAX);
        let of_text = record.event == event::RESPONSE_DELTA;
        let delta = record.context.clone().filter(|_| of_text);
        let terminal = event::TERMINAL.contains(&record.event.as_ref());
        let room = terminal || shard.len() < capacity - capacity / RESERVE;
        let taken = room
            && !self.closed.load(Ordering::Acquire)
            && shard.try_send(Message::Record(Box::new(entry))).is_ok();
        if let Some(it) = delta.filter(|_| !taken) {
            it.tear();
        }
        let counter = if taken { &self.accepted } else { &self.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts records that were taken and then lost.
    pub(crate) fn count_dropped(&self, records: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
    }

    /// Records that wait for the workers.
    pub fn waiting(&self) -> usize {
        self.shards.iter().map(Sender::len).sum()
    }

    /// Records taken and records dropped since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.accepted.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }

    /// Takes no more records; each worker ends after those that it already has. Waits for room in a full queue.
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        for shard in &self.shards {
            // A worker that is gone needs no message.
            let _ = shard.send(Message::Close);
        }
    }

    fn shard(&self, record: &Record) -> usize {
        let Some(context) = &record.context else { return 0 };
        // Ids are UUIDs: any few of their characters are spread evenly.
        let sum = context.short_id.bytes().fold(0_usize, |sum, it| sum * 31 + usize::from(it));
        sum % self.shards.len()
    }
}
