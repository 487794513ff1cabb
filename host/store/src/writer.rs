//! The one thread that writes: completions, changes, deletions, and what has to go to make room.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::{
    completion::{Completion, Metadata, Withheld},
    counts::Counters,
    error::StoreError,
    settings::Settings,
    shape,
    store::{Changed, Clock, Told},
};

/// Changes that are written together: one flush to the disk serves them all.
const BATCH_MAX: usize = 64;
/// How often what is too old is looked for.
const TICK: Duration = Duration::from_secs(30);
/// Completions that go in one step, between which changes are written.
const PRUNE_STEP: i64 = 64;
/// Pages of 4 KiB that are given back to the disk in one step.
const VACUUM_STEP: i64 = 256;
/// How long the write-ahead log waits for readers to let it go.
const LOG_WAIT: Duration = Duration::from_millis(100);
/// How often losses are told while there are more.
const TELL_EVERY: Duration = Duration::from_secs(60);

pub(crate) enum Op {
    Insert(Box<Completion>),
    Update {
        batch: i64,
        row: i64,
        metadata: Metadata,
    },
    /// The answer says whether there was one.
    Delete {
        id: String,
        reply: Sender<Result<bool, StoreError>>,
    },
    /// Answered when all before it is written, and all is gone that is too old or too much.
    Settle(Sender<()>),
    #[cfg(test)]
    Run(Box<dyn FnOnce(&Connection) + Send>),
}

/// What the writer and those who give it work have in common.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) counters: Counters,
    /// Bytes of the changes that wait.
    pub(crate) bytes: AtomicUsize,
    /// Who wants to know what became of a change, by its number.
    pub(crate) waiting: Mutex<HashMap<i64, Told>>,
    /// Changes of metadata that were lost, beside the lost completions.
    pub(crate) lost_updates: AtomicU64,
}

impl Shared {
    pub(crate) fn tell(&self, batch: i64, changed: Changed) {
        let told = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&batch);
        if let Some(told) = told {
            told(changed);
        }
    }

    fn lost(&self) -> u64 {
        self.counters.lost.load(Relaxed) + self.lost_updates.load(Relaxed)
    }
}

impl Op {
    /// About as much memory as it takes while it waits.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Insert(it) => it.bytes(),
            Self::Update { metadata, .. } => metadata_bytes(metadata),
            _ => 0,
        }
    }
}

impl Completion {
    fn bytes(&self) -> usize {
        use crate::completion::{Call, Part};
        let length = |it: &Option<String>| it.as_ref().map_or(0, String::len);
        let call = |it: &Call| it.id.len() + length(&it.function) + length(&it.arguments) + 64;
        let part = |it: &Part| if let Part::Text(text) = it { text.len() } else { 0 };
        let messages = self.messages.iter().map(|it| {
            it.parts.iter().map(part).sum::<usize>() + it.calls.iter().map(call).sum::<usize>()
        });
        let choices = self
            .choices
            .iter()
            .map(|it| length(&it.text) + it.calls.iter().map(call).sum::<usize>());
        messages.chain(choices).sum::<usize>() + metadata_bytes(&self.metadata) + 512
    }
}

fn metadata_bytes(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len() + 64).sum()
}

pub(crate) struct Writer {
    connection: Connection,
    settings: Settings,
    clock: Clock,
    shared: Arc<Shared>,
    told: u64,
    told_at: Option<Instant>,
    last_error: Option<String>,
}

impl Writer {
    pub(crate) fn new(
        connection: Connection,
        settings: Settings,
        clock: Clock,
        shared: Arc<Shared>,
    ) -> Self {
        Self { connection, settings, clock, shared, told: 0, told_at: None, last_error: None }
    }

    /// Works until the near end of the queue is gone.
    pub(crate) fn run(mut self, queue: &Receiver<Op>) {
        let mut more = true;
        let mut tidied = Instant::now();
        loop {
            let wait = if more { Duration::ZERO } else { TICK };
            let mut batch = Vec::new();
            match queue.recv_timeout(wait) {
                Ok(op) => batch.push(op),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            batch.extend(queue.try_iter().take(BATCH_MAX - 1));
            if !batch.is_empty() {
                self.write(batch);
            }
            if more || tidied.elapsed() >= TICK {
                more = self.tidy();
                tidied = Instant::now();
            }
            self.report(false);
        }
        self.report(true);
        // The next start finds one file.
        self.empty_log();
    }

    fn write(&mut self, batch: Vec<Op>) {
        let bytes: usize = batch.iter().map(Op::bytes).sum();
        let mut changes = Vec::new();
        for op in batch {
            match op {
                Op::Insert(_) | Op::Update { .. } => changes.push(op),
                // Those before it are written before it is answered.
                Op::Delete { id, reply } => {
                    self.apply(std::mem::take(&mut changes));
                    let deleted = self.delete(&id);
                    // Whoever asked may have given up.
                    let _ = reply.send(deleted.map_err(StoreError::from));
                }
                Op::Settle(reply) => {
                    self.apply(std::mem::take(&mut changes));
                    while self.tidy() {}
                    self.report(true);
                    let _ = reply.send(());
                }
                #[cfg(test)]
                Op::Run(call) => {
                    self.apply(std::mem::take(&mut changes));
                    call(&self.connection);
                }
            }
        }
        self.apply(changes);
        self.shared.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Writes all in one go; if that fails, one by one, so that a bad one costs no other.
    fn apply(&mut self, changes: Vec<Op>) {
        match self.commit(&changes) {
            Ok(done) => self.count(done),
            Err(_) if changes.len() > 1 => {
                for change in changes {
                    self.apply(vec![change]);
                }
            }
            Err(error) => {
                self.last_error = Some(error.to_string());
                for change in changes {
                    match change {
                        Op::Update { batch, .. } => {
                            self.shared.lost_updates.fetch_add(1, Relaxed);
                            self.shared.tell(batch, Changed::Failed);
                        }
                        _ => {
                            self.shared.counters.lost.fetch_add(1, Relaxed);
                        }
                    }
                }
            }
        }
    }

    fn commit(&mut self, changes: &[Op]) -> rusqlite::Result<Done> {
        let mut done = Done::default();
        if changes.is_empty() {
            return Ok(done);
        }
        let now = (self.clock)();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes {
            match change {
                Op::Insert(it) => insert(&transaction, it, now, &self.settings, &mut done)?,
                Op::Update { batch, row, metadata } => {
                    let is_there = is_there(&transaction, *row)?;
                    if is_there {
                        set_metadata(&transaction, *row, metadata)?;
                    }
                    let changed = if is_there { Changed::Done } else { Changed::Gone };
                    done.updates.push((*batch, changed));
                }
                _ => {}
            }
        }
        transaction.commit()?;
        Ok(done)
    }

    fn count(&self, done: Done) {
        let counters = &self.shared.counters;
        counters.stored.fetch_add(done.stored, Relaxed);
        counters.withheld.fetch_add(done.withheld, Relaxed);
        counters.duplicates.fetch_add(done.duplicates, Relaxed);
        counters.pruned.fetch_add(done.pruned, Relaxed);
        for (batch, changed) in done.updates {
            self.shared.tell(batch, changed);
        }
    }

    fn delete(&mut self, id: &str) -> rusqlite::Result<bool> {
        let deleted = self.connection.execute("DELETE FROM completion WHERE id = ?1", [id])? > 0;
        if deleted {
            self.shared.counters.deleted.fetch_add(1, Relaxed);
            // Gone is gone: not in the log either.
            self.empty_log();
        }
        Ok(deleted)
    }

    /// Moves the write-ahead log into the database. Readers may be in the way: then the next one does it.
    fn empty_log(&self) {
        // Readers that never pause must not hold up the writer.
        let moved = self
            .connection
            .busy_timeout(LOG_WAIT)
            .and_then(|()| self.connection.pragma(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())));
        let moved = moved.and(self.connection.busy_timeout(crate::schema::BUSY));
        if let Err(error) = moved {
            notice(format!("the store's write-ahead log stays as it is: {error}"));
        }
    }

    /// One step towards the bounds. The answer says whether there is more to do.
    fn tidy(&mut self) -> bool {
        match self.prune() {
            Ok((pruned, more)) => {
                self.shared.counters.pruned.fetch_add(pruned, Relaxed);
                more
            }
            Err(error) => {
                self.last_error = Some(error.to_string());
                false
            }
        }
    }

    fn prune(&mut self) -> rusqlite::Result<(u64, bool)> {
        let age = i64::try_from(self.settings.max_age.as_secs()).unwrap_or(i64::MAX);
        let oldest = (self.clock)().saturating_sub(age);
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // The first ones are the oldest: those behind a younger one are not looked at.
        let by_age = transaction.execute(
            "DELETE FROM completion WHERE seq IN \
             (SELECT seq FROM completion ORDER BY seq LIMIT ?1) AND stored < ?2",
            params![PRUNE_STEP, oldest],
        )? as u64;
        let by_size = make_room(&transaction, 0, self.settings.max_bytes, PRUNE_STEP)?;
        transaction.commit()?;
        let step = PRUNE_STEP as u64;
        let mut more = by_age == step || by_size == step;
        // Rows that come soon use free pages: only many are worth giving back.
        let free = self.free_pages()?;
        if free > VACUUM_STEP {
            self.connection.pragma(None, "incremental_vacuum", VACUUM_STEP, |_| Ok(()))?;
            // Somebody's own VACUUM may have made another kind of database of it.
            more |= self.free_pages()? < free;
        }
        Ok((by_age + by_size, more))
    }

    fn free_pages(&self) -> rusqlite::Result<i64> {
        self.connection.pragma_query_value(None, "freelist_count", |it| it.get(0))
    }

    /// Tells of losses: the first at once, then now and then.
    fn report(&mut self, at_once: bool) {
        let lost = self.shared.lost();
        let lately = self.told_at.is_some_and(|it| it.elapsed() < TELL_EVERY);
        if lost == self.told || (lately && !at_once) {
            return;
        }
        let new = lost - self.told;
        self.told = lost;
        self.told_at = Some(Instant::now());
        let why = self.last_error.take();
        let why = why.as_deref().unwrap_or("the store could not keep up");
        tracing::error!(
            target: "bucksaw",
            event = record::event::STORE_FAILED,
            { record::field::DROPPED } = new,
            { record::field::NOTICE } = format!("{new} completions or changes were not stored: {why}"),
        );
    }
}

/// What a transaction did.
#[derive(Default)]
struct Done {
    stored: u64,
    withheld: u64,
    duplicates: u64,
    pruned: u64,
    updates: Vec<(i64, Changed)>,
}

fn insert(
    connection: &Connection,
    completion: &Completion,
    now: i64,
    settings: &Settings,
    done: &mut Done,
) -> rusqlite::Result<()> {
    let mut row = Row::new(completion);
    let mut withheld = completion.withheld.is_some();
    let mut metadata = completion.metadata.as_slice();
    if row.bytes() > settings.row_bytes_max() {
        let mut stub = completion.clone();
        stub.withhold(Withheld::TooLarge);
        row = Row::new(&stub);
        (withheld, metadata) = (true, &[]);
    }
    done.pruned += make_room(connection, row.bytes(), settings.max_bytes, i64::MAX)?;
    // Whoever sends the id of another request once more does not replace what is stored of that.
    let new = connection.execute(
        "INSERT INTO completion (id, created, stored, model, body) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (id) DO NOTHING",
        params![completion.id, completion.created, now, completion.model, row.body],
    )?;
    if new == 0 {
        done.duplicates += 1;
        return Ok(());
    }
    let seq = connection.last_insert_rowid();
    let mut into = connection
        .prepare("INSERT INTO message (completion, position, body) VALUES (?1, ?2, ?3)")?;
    for (position, body) in row.messages.iter().enumerate() {
        into.execute(params![seq, position as i64, body])?;
    }
    set_metadata(connection, seq, metadata)?;
    done.stored += 1;
    done.withheld += u64::from(withheld);
    Ok(())
}

/// A completion as it is written.
struct Row {
    body: String,
    messages: Vec<String>,
    metadata: usize,
}

impl Row {
    fn new(it: &Completion) -> Self {
        let messages = it.messages.iter().enumerate();
        Self {
            body: shape::completion(it).to_string(),
            messages: messages
                .map(|(at, one)| shape::message(&it.id, at, one).to_string())
                .collect(),
            metadata: metadata_bytes(&it.metadata),
        }
    }

    /// Bytes in the database, about: a row that does not fit a page takes whole ones, and indexes have their part.
    fn bytes(&self) -> u64 {
        let texts = self.body.len() + self.messages.iter().map(String::len).sum::<usize>();
        (texts + self.metadata + 4096) as u64
    }
}

fn is_there(connection: &Connection, row: i64) -> rusqlite::Result<bool> {
    connection
        .query_row("SELECT EXISTS (SELECT 1 FROM completion WHERE seq = ?1)", [row], |it| it.get(0))
}

fn set_metadata(
    connection: &Connection,
    row: i64,
    metadata: &[(String, String)],
) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM metadata WHERE completion = ?1", [row])?;
    // Two keys may have become the same when editors took something out of them.
    let mut into = connection
        .prepare("INSERT OR REPLACE INTO metadata (completion, key, value) VALUES (?1, ?2, ?3)")?;
    for (key, value) in metadata {
        into.execute(params![row, key, value])?;
    }
    Ok(())
}

/// Removes the oldest, one by one, until so many bytes fit, or `rows_max` are gone. The answer is how many went.
fn make_room(
    connection: &Connection,
    bytes: u64,
    bytes_max: u64,
    rows_max: i64,
) -> rusqlite::Result<u64> {
    let mut gone = 0;
    while gone < rows_max && used(connection)?.saturating_add(bytes) > bytes_max {
        let sql = "DELETE FROM completion WHERE seq = (SELECT min(seq) FROM completion)";
        if connection.execute(sql, [])? == 0 {
            break;
        }
        gone += 1;
    }
    Ok(gone.cast_unsigned())
}

/// Bytes of the pages that hold something.
fn used(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name: &str| connection.pragma_query_value(None, name, |it| it.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok((pages * number("page_size")?).cast_unsigned())
}

fn notice(text: String) {
    tracing::warn!(
        target: "bucksaw",
        event = record::event::STORE_FAILED,
        { record::field::NOTICE } = text,
    );
}
