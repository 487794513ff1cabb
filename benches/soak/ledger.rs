//! Who asked, and what the log says of it: each request is to end there exactly once.
//!
//! Only requests under way are kept, so that an hour takes no more memory than a minute.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// The terminal records, in the order of [`Counts::ends`].
pub(crate) const ENDS: [&str; 4] =
    ["request.finished", "request.failed", "request.cancelled", "request.rejected"];

/// A file of this size makes way for the next one.
const ROTATE_AT: u64 = 16 << 20;

#[derive(Default)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Default)]
struct Book {
    under_way: HashMap<Uuid, Entry>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Requests that were sent.
    pub(crate) sent: u64,
    /// Those of them that had an answer, or are in the log.
    pub(crate) seen: u64,
    /// Terminal records, by their names.
    pub(crate) ends: [u64; 4],
    /// Requests that were seen and have no first record, terminal record or summary, or two of one.
    pub(crate) odd: u64,
    /// Such records of no request that is under way.
    pub(crate) strays: u64,
}

/// What is known of a request on both sides.
#[derive(Default)]
struct Entry {
    client: Client,
    received: u32,
    ended: u32,
    summed_up: u32,
}

#[derive(Default, PartialEq)]
enum Client {
    #[default]
    Waits,
    Answered,
    /// Without an answer: the server may not even have seen it.
    Gone,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of a new request, which the server takes over from the client.
    pub(crate) fn send(&self) -> Uuid {
        let mut book = self.book();
        book.counts.sent += 1;
        let number = u128::from(book.counts.sent);
        let id = Uuid::from_u128(number << 96 | 0x4000_u128 << 64 | 0x8000_u128 << 48 | number);
        book.under_way.insert(id, Entry::default());
        id
    }

    /// The client has done with it.
    pub(crate) fn done(&self, id: Uuid, answered: bool) {
        let mut book = self.book();
        if let Some(entry) = book.under_way.get_mut(&id) {
            entry.client = if answered { Client::Answered } else { Client::Gone };
        }
        book.close(id);
    }

    /// A line of the log: an object of JSON, in which quotes in texts are escaped.
    fn line(&self, line: &str) {
        let Some(event) = member(line, "\"event_name\":\"") else { return };
        let end = ENDS.iter().position(|it| *it == event);
        if end.is_none() && !["request.received", "request.summary"].contains(&event) {
            return;
        }
        let id = member(line, "\"request_id\":\"").and_then(|it| Uuid::parse_str(it).ok());
        let mut book = self.book();
        let book = &mut *book;
        if let Some(end) = end {
            book.counts.ends[end] += 1;
        }
        let entry = match &id {
            Some(id) => book.under_way.get_mut(id),
            None => None,
        };
        match entry {
            Some(entry) if end.is_some() => entry.ended += 1,
            Some(entry) if event == "request.summary" => entry.summed_up += 1,
            Some(entry) => entry.received += 1,
            None => book.counts.strays += 1,
        }
        if let Some(id) = id {
            book.close(id);
        }
    }

    /// When all is over: what is still under way has no end, unless the server never saw it.
    pub(crate) fn finish(&self) -> Counts {
        let mut book = self.book();
        let left = std::mem::take(&mut book.under_way);
        let seen = |it: &&Entry| it.client == Client::Answered || it.received > 0;
        let seen = left.values().filter(seen).count() as u64;
        book.counts.seen += seen;
        book.counts.odd += seen;
        book.counts
    }
}

impl Book {
    /// Forgets a request that is over on both sides: a summary is the last record.
    fn close(&mut self, id: Uuid) {
        let is_over = |it: &Entry| it.client != Client::Waits && it.summed_up > 0;
        if !self.under_way.get(&id).is_some_and(is_over) {
            return;
        }
        if let Some(it) = self.under_way.remove(&id) {
            self.counts.seen += 1;
            self.counts.odd += u64::from((it.received, it.ended, it.summed_up) != (1, 1, 1));
        }
    }
}

/// The text after a key, which has nothing to unescape.
fn member<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(key)?;
    rest.split('"').next()
}

/// The server's log, read while it is written, and renamed and removed before it fills the disk.
pub(crate) struct Log {
    path: PathBuf,
    moved: PathBuf,
    is_moved: bool,
    file: File,
    size: u64,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Log {
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let (file, moved) = (File::open(&path)?, path.with_extension("old"));
        Ok(Self { path, moved, is_moved: false, file, size: 0, rest: Vec::new() })
    }

    /// Reads what has come, and says whether anything has.
    pub(crate) fn read(&mut self, ledger: &Ledger) -> io::Result<bool> {
        // The server opens the next file when it has something to write: from then on nothing is added to this one.
        let is_complete = self.is_moved && self.path.exists();
        let (before, mut chunk) = (self.size, [0; 1 << 16]);
        loop {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            self.size += count as u64;
            self.rest.extend_from_slice(&chunk[..count]);
            let mut start = 0;
            while let Some(length) = self.rest[start..].iter().position(|it| *it == b'\n') {
                let line = &self.rest[start..start + length];
                ledger.line(&String::from_utf8_lossy(line));
                start += length + 1;
            }
            self.rest.drain(..start);
        }
        let has_more = self.size > before;
        if is_complete {
            self.file = File::open(&self.path)?;
            fs::remove_file(&self.moved)?;
            (self.is_moved, self.size) = (false, 0);
            return Ok(true);
        }
        if !self.is_moved && self.size >= ROTATE_AT {
            fs::rename(&self.path, &self.moved)?;
            self.is_moved = true;
        }
        Ok(has_more)
    }
}
