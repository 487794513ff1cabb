//! The database: how connections are opened, and which tables there are in which version.

use std::{fs, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::OpenError;

/// "BUCK": says whose database it is.
const APPLICATION: i64 = 0x4255_434b;

/// What brings a database from one version to the next; the first one makes it.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE completion (
        -- In the order of arrival; never used again.
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        created INTEGER NOT NULL,
        -- When it was written: what its age is counted from.
        stored INTEGER NOT NULL,
        model TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX completion_created ON completion (created, seq);
    CREATE INDEX completion_model ON completion (model, created, seq);
    CREATE TABLE message (
        completion INTEGER NOT NULL REFERENCES completion (seq) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (completion, position)
    ) STRICT;
    CREATE TABLE metadata (
        completion INTEGER NOT NULL REFERENCES completion (seq) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (completion, key)
    ) STRICT, WITHOUT ROWID;
"];

/// Another process may look into the database with tools of its own; it is waited for so long.
pub(crate) const BUSY: Duration = Duration::from_secs(5);
/// A file up to this size is checked whole when it is opened: that takes less than a second.
const CHECKED_BYTES: u64 = 128 << 20;
/// Bytes that the write-ahead log keeps on disk when it is empty.
const LOG_KEPT_BYTES: i64 = 4 << 20;

/// The connection that writes; makes the tables if there are none. `path` must be one of [`crate::file::prepare`].
pub(crate) fn open(path: &Path) -> Result<Connection, OpenError> {
    let failed = |it| OpenError::sqlite(path, it);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    // Before anything is changed: it may be somebody else's.
    if !is_ours(&connection).map_err(failed)? {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    // Takes effect only before there are tables.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |it| it.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoLog { path: path.to_owned() });
    }
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES).map_err(failed)?;
    // What is removed is overwritten.
    connection.pragma_update(None, "secure_delete", true).map_err(failed)?;
    if fs::metadata(path).is_ok_and(|it| it.len() <= CHECKED_BYTES) {
        let verdict: String =
            connection.pragma_query_value(None, "quick_check", |it| it.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(OpenError::Damaged { path: path.to_owned() });
        }
    }
    migrate(path, &mut connection)?;
    Ok(connection)
}

/// A connection that reads and nothing else.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|it| OpenError::sqlite(path, it))
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Whether this program made the database, or nobody did.
fn is_ours(connection: &Connection) -> rusqlite::Result<bool> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |it| it.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |it| it.get(0))?;
    Ok(application == APPLICATION || tables == 0)
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let failed = |it| OpenError::sqlite(path, it);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let version: i64 =
        transaction.pragma_query_value(None, "user_version", |it| it.get(0)).map_err(failed)?;
    let Some(due) = usize::try_from(version).ok().and_then(|it| MIGRATIONS.get(it..)) else {
        return Err(OpenError::Newer { path: path.to_owned() });
    };
    for migration in due {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(failed)?;
    transaction.commit().map_err(failed)
}
