//! What the store counts about itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Completions, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Written, those without content included.
    pub stored: u64,
    /// Written without content, since an editor failed or a part was missing.
    pub withheld: u64,
    /// Not written: the queue was full, the disk was, or the records that tell of them were lost.
    pub lost: u64,
    /// Not written, because there was one of the same id.
    pub duplicates: u64,
    /// Removed because of their age, or for the room that others needed.
    pub pruned: u64,
    /// Removed because somebody asked for it.
    pub deleted: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) stored: AtomicU64,
    pub(crate) withheld: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) pruned: AtomicU64,
    pub(crate) deleted: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Counts {
        Counts {
            stored: self.stored.load(Relaxed),
            withheld: self.withheld.load(Relaxed),
            lost: self.lost.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            pruned: self.pruned.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
        }
    }
}
