//! Where the store is, and how much it may hold.

use std::{path::PathBuf, time::Duration};

#[derive(Clone, Debug)]
pub struct Settings {
    pub path: PathBuf,
    /// Completions go when they have been here for so long.
    pub max_age: Duration,
    /// Bytes of the database. The oldest completions make room for new ones. The write-ahead log beside it comes on top: some
    /// MiB.
    pub max_bytes: u64,
}

impl Settings {
    /// One completion may take an eighth of the whole: a few large ones must not empty the store.
    pub(crate) fn row_bytes_max(&self) -> u64 {
        self.max_bytes / 8
    }
}
