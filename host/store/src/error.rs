//! What can go wrong. No text here repeats anything of what is stored: SQLite's messages name tables and columns, never values.

use std::{io, path::PathBuf};

use rusqlite::ErrorCode;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} cannot be used: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{path} is no database, or it is damaged: move it and the files {path}-wal and {path}-shm away, and a new one is made",
        path = path.display()
    )]
    Damaged { path: PathBuf },
    #[error("{path} is the database of another program: choose another path", path = path.display())]
    Foreign { path: PathBuf },
    #[error("{path} was written by a newer version of this program: use that one, or choose another path", path = path.display())]
    Newer { path: PathBuf },
    #[error("{path} cannot have a write-ahead log there: choose a path on a local disk", path = path.display())]
    NoLog { path: PathBuf },
    #[error("{path} cannot be opened: {source}", path = path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
}

impl OpenError {
    pub(crate) fn sqlite(path: &std::path::Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged { path },
            _ => Self::Sqlite { path, source },
        }
    }
}

/// Why a question or a change was not answered.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no stored completion has the id that the page should begin after")]
    UnknownCursor,
    #[error("the store is busy: try again")]
    Busy,
    #[error("the store is closed")]
    Closed,
    #[error("the store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the store failed: a stored completion cannot be read")]
    Unreadable(#[from] serde_json::Error),
}
