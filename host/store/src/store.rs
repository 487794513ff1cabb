//! The store as others see it: released records come in from the log's workers, questions from whoever serves them.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chain::{Keeper, Released};
use crossbeam_channel::{Sender, bounded};

use crate::{
    collect::{Collected, Collector},
    counts::Counts,
    error::{OpenError, StoreError},
    file,
    read::{self, Listing, Page, Paging, Readers, Stored},
    schema,
    settings::Settings,
    writer::{Op, Shared, Writer},
};

/// Changes that wait for the writer: some seconds of a busy server.
const QUEUE: usize = 1024;
/// Bytes of them. Prompts may have a megabyte, so their number alone is no bound.
const QUEUE_BYTES: usize = 64 << 20;
/// Changes that somebody waits to hear of: as many as there are slow clients, within reason.
const WAITING_MAX: usize = 1024;
/// How long a deletion may wait for the changes before it.
const DELETE_TIME: Duration = Duration::from_secs(5);

/// What became of a change of metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Done,
    /// The completion is not there any more.
    Gone,
    /// An editor failed, or a record was lost on the way: the metadata are as they were. The word says what it was.
    Withheld(&'static str),
    /// It could not be written.
    Failed,
}

/// Unix seconds.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;
pub(crate) type Told = Box<dyn FnOnce(Changed) + Send>;

/// Stored completions. Give it to a chain as its [`Keeper`].
pub struct Store {
    collector: Mutex<Collector>,
    /// None after the end.
    queue: Mutex<Option<Sender<Op>>>,
    shared: Arc<Shared>,
    readers: Readers,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the database, or makes it, and starts the thread that writes.
    ///
    /// # Errors
    /// When the file cannot be used, is damaged, or is something else.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
        Self::open_at(settings, Arc::new(move || i64::try_from(seconds()).unwrap_or(i64::MAX)))
    }

    pub(crate) fn open_at(settings: Settings, clock: Clock) -> Result<Self, OpenError> {
        let path = file::prepare(&settings.path)
            .map_err(|source| OpenError::File { path: settings.path.clone(), source })?;
        let connection = schema::open(&path)?;
        let readers = Readers::open(&path)?;
        let shared = Arc::new(Shared::default());
        let (queue, ops) = bounded(QUEUE);
        let writer = Writer::new(connection, settings, clock, shared.clone());
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&ops))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            collector: Mutex::default(),
            queue: Mutex::new(Some(queue)),
            shared,
            readers,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// # Errors
    /// As for every question: when the database fails, or too many ask at once.
    pub fn get(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        self.readers.ask(|it| read::one(it, id))
    }

    /// # Errors
    /// When the page should begin after a completion that is not there.
    pub fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        self.readers.ask(|it| read::list(it, listing))
    }

    /// The messages of a request; none when there is no such completion.
    ///
    /// # Errors
    /// When the page should begin after a message that is not there.
    pub fn messages(&self, id: &str, paging: &Paging) -> Result<Option<Page>, StoreError> {
        self.readers.ask(|it| read::messages(it, id, paging))
    }

    /// Removes a completion. The answer says whether there was one. When it is given, nothing of it is on the disk, unless
    /// others were reading all the while: then its pages stay in the write-ahead log until that is next emptied.
    ///
    /// # Errors
    /// When it could not be removed in time.
    pub fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let (reply, answer) = bounded(1);
        let deadline = Instant::now() + DELETE_TIME;
        self.ask_writer(Op::Delete { id: id.to_owned(), reply }, deadline)?;
        answer.recv_deadline(deadline).map_err(|_| StoreError::Busy)?
    }

    /// Says whom to tell what becomes of the change of this number, whose records are still to come.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn expect(
        &self,
        batch: i64,
        told: impl FnOnce(Changed) + Send + 'static,
    ) -> Result<(), StoreError> {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            return Err(StoreError::Busy);
        }
        waiting.insert(batch, Box::new(told));
        Ok(())
    }

    /// Nobody waits for this change any more.
    pub fn forget(&self, batch: i64) {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&batch);
    }

    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    /// Waits until all that came is written, and all is gone that is too old or too much.
    ///
    /// # Errors
    /// When the deadline comes first.
    pub fn settle(&self, deadline: Instant) -> Result<(), StoreError> {
        let (reply, answer) = bounded(1);
        self.ask_writer(Op::Settle(reply), deadline)?;
        answer.recv_deadline(deadline).map_err(|_| StoreError::Busy)
    }

    /// Takes nothing more, and waits until what was taken is written. The answer says whether it was, before the deadline.
    pub fn close(&self, deadline: Instant) -> bool {
        let written = self.settle(deadline).is_ok();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return true };
        // A disk that hangs is not waited for.
        if written {
            return thread.join().is_ok();
        }
        false
    }

    fn ask_writer(&self, op: Op, deadline: Instant) -> Result<(), StoreError> {
        let queue = self.sender().ok_or(StoreError::Closed)?;
        queue.send_deadline(op, deadline).map_err(|_| StoreError::Busy)
    }

    /// Gives the writer work, or says that there is no room.
    fn push(&self, op: Op) -> bool {
        let bytes = op.bytes();
        let waiting = &self.shared.bytes;
        let Some(queue) = self.sender() else { return false };
        if waiting.fetch_add(bytes, Relaxed) + bytes <= QUEUE_BYTES && queue.try_send(op).is_ok() {
            return true;
        }
        waiting.fetch_sub(bytes, Relaxed);
        false
    }

    fn sender(&self) -> Option<Sender<Op>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, collected: Collected) {
        let shared = &self.shared;
        let lose = |count| shared.counters.lost.fetch_add(count, Relaxed);
        match collected {
            Collected::Completion(it) => {
                if !self.push(Op::Insert(it)) {
                    lose(1);
                }
            }
            Collected::Update { batch, metadata: Err(why), .. } => {
                shared.tell(batch, Changed::Withheld(why.reason()));
            }
            Collected::Update { batch, row, metadata: Ok(metadata) } => {
                if !self.push(Op::Update { batch, row, metadata }) {
                    shared.lost_updates.fetch_add(1, Relaxed);
                    shared.tell(batch, Changed::Failed);
                }
            }
            Collected::Lost(count) => {
                lose(count);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn with_writer(&self, call: impl FnOnce(&rusqlite::Connection) + Send + 'static) {
        let deadline = Instant::now() + DELETE_TIME;
        self.ask_writer(Op::Run(Box::new(call)), deadline).unwrap();
        self.settle(deadline).unwrap();
    }
}

impl Keeper for Store {
    fn keep(&self, records: &[Released]) {
        // Between two workers; held for as long as it takes to copy the texts.
        let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
        let collected: Vec<Collected> =
            records.iter().filter_map(|it| collector.take(it)).collect();
        drop(collector);
        collected.into_iter().for_each(|it| self.take(it));
    }
}
