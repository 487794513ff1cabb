//! An output: which records it takes, and the bounded buffer and thread in front of its sink.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use record::{Record, Severity, Stream};

use crate::sink::{Line, Sink};

/// Batches of lines that wait for a slow sink. With up to 64 records in each, this is many seconds of a busy server.
const BATCHES_MAX: usize = 1024;

/// Which records an output takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only records of this stream; all when none.
    pub stream: Option<Stream>,
    /// Only records of at least this severity; all when none.
    pub severity: Option<Severity>,
}

impl Filter {
    pub fn accepts(&self, record: &Record) -> bool {
        self.stream.is_none_or(|it| it == record.stream)
            && self.severity.is_none_or(|it| record.severity >= it)
    }
}

/// What happens when the buffer of an output is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The log worker waits; requests never do.
    #[default]
    Block,
    /// The oldest waiting lines go, and are counted.
    DropOldest,
}

/// The near end of a sink: a bounded buffer that a thread of its own empties.
pub struct Output {
    name: String,
    filter: Filter,
    overflow: Overflow,
    queue: Mutex<Option<Sender<Message>>>,
    /// Held to drop the oldest.
    oldest: Receiver<Message>,
    counters: Arc<Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Lines(Vec<Line>),
    Reopen,
}

#[derive(Default)]
struct Counters {
    written: AtomicU64,
    lost: AtomicU64,
    failing: AtomicBool,
}

impl Output {
    /// Starts the thread that owns the sink.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        name: impl Into<String>,
        filter: Filter,
        overflow: Overflow,
        sink: Box<dyn Sink>,
    ) -> io::Result<Arc<Self>> {
        let name = name.into();
        let (sender, receiver) = bounded(BATCHES_MAX);
        let counters = Arc::new(Counters::default());
        let thread = thread::Builder::new().name(format!("sink-{name}")).spawn({
            let (receiver, counters) = (receiver.clone(), counters.clone());
            move || drain(&receiver, sink, &counters)
        })?;
        Ok(Arc::new(Self {
            name,
            filter,
            overflow,
            queue: Mutex::new(Some(sender)),
            oldest: receiver,
            counters,
            thread: Mutex::new(Some(thread)),
        }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn filter(&self) -> Filter {
        self.filter
    }

    /// Lines that reached the sink, and lines that did not.
    pub fn counts(&self) -> (u64, u64) {
        (self.counters.written.load(Ordering::Relaxed), self.counters.lost.load(Ordering::Relaxed))
    }

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.counters.failing.load(Ordering::Relaxed)
    }

    /// Asks the sink to open its destination anew.
    pub fn reopen(&self) {
        if let Some(queue) = self.sender() {
            // A full buffer means that a write is due at once, and a file sink checks its file at each write.
            let _ = queue.try_send(Message::Reopen);
        }
    }

    pub(crate) fn push(&self, lines: Vec<Line>) {
        let count = lines.len() as u64;
        let Some(queue) = self.sender() else {
            self.counters.lost.fetch_add(count, Ordering::Relaxed);
            return;
        };
        let mut message = Message::Lines(lines);
        if self.overflow == Overflow::DropOldest {
            while let Err(TrySendError::Full(it)) = queue.try_send(message) {
                message = it;
                if let Ok(Message::Lines(oldest)) = self.oldest.try_recv() {
                    self.counters.lost.fetch_add(oldest.len() as u64, Ordering::Relaxed);
                }
            }
        } else if queue.send(message).is_err() {
            self.counters.lost.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Takes no more lines; those that were taken are still written.
    pub(crate) fn end(&self) {
        self.queue.lock().unwrap_or_else(|it| it.into_inner()).take();
    }

    /// Whether its thread has come to its end.
    pub(crate) fn is_done(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(|it| it.into_inner());
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Takes no more lines, and waits until those that were taken are written, or until the deadline.
    /// The answer says whether everything was written.
    pub fn close(&self, deadline: Instant) -> bool {
        self.end();
        let Some(thread) = self.thread.lock().unwrap_or_else(|it| it.into_inner()).take() else {
            return true;
        };
        crate::pipeline::join_until(thread, deadline)
    }

    fn sender(&self) -> Option<Sender<Message>> {
        self.queue.lock().unwrap_or_else(|it| it.into_inner()).clone()
    }
}

/// The sink's thread: writes what comes until the near end is closed and the buffer is empty.
fn drain(queue: &Receiver<Message>, mut sink: Box<dyn Sink>, counters: &Counters) {
    for message in queue {
        let result = match &message {
            Message::Lines(lines) => sink.write(lines),
            Message::Reopen => sink.reopen(),
        };
        counters.failing.store(result.is_err(), Ordering::Relaxed);
        if let Message::Lines(lines) = message {
            let counter = if result.is_ok() { &counters.written } else { &counters.lost };
            counter.fetch_add(lines.len() as u64, Ordering::Relaxed);
        }
    }
}
