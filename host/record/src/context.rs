//! The request that a record belongs to.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

/// What all records of one request share. Nothing in it is content: ids are made by the server, or were checked to be
/// UUIDs when a client sent them, and the chain's name comes from the configuration.
#[derive(Debug)]
pub struct RequestContext {
    /// A UUID.
    pub request_id: String,
    /// The first 8 hexadecimal digits, for people.
    pub short_id: String,
    /// Name of the chain that the request's records run through; resolved once, when the request began.
    pub chain: Arc<str>,
    /// Which revision of the log's configuration the request began with, and keeps; 0 where there is only one.
    pub revision: u64,
    next_seq: AtomicU32,
    torn: AtomicBool,
}

impl RequestContext {
    pub fn new(request_id: String, chain: Arc<str>) -> Self {
        let short_id = request_id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        Self {
            request_id,
            short_id,
            chain,
            revision: 0,
            next_seq: AtomicU32::new(0),
            torn: AtomicBool::new(false),
        }
    }

    /// The same in a revision.
    #[must_use]
    pub fn in_revision(self, revision: u64) -> Self {
        Self { revision, ..self }
    }

    /// Notes that a part of a text of this request was lost: what is left of it must not be taken for the whole.
    pub fn tear(&self) {
        self.torn.store(true, Ordering::Release);
    }

    pub fn is_torn(&self) -> bool {
        self.torn.load(Ordering::Acquire)
    }

    /// The next position in the request, from 0, with no holes.
    pub fn next_seq(&self) -> u32 {
        self.next_seq.fetch_add(1, Ordering::Relaxed)
    }
}
