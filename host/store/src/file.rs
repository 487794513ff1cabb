//! The file of the database: made for its owner alone, and never through a link or in a file of somebody else.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Prompts and answers: nobody but the server reads them. SQLite gives the files beside it the same mode.
const MODE: u32 = 0o600;

/// Makes the file if there is none. The answer is its path without links on the way.
///
/// # Errors
/// When the folder is missing, or the name, or one of those that SQLite uses beside it, leads to a symbolic link, to something
/// that is no regular file, or to a file of another user.
pub(crate) fn prepare(path: &Path) -> io::Result<PathBuf> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| refuse("it names no file"))?;
    let path = folder.canonicalize()?.join(name);
    let owner = effective_user()?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        // Never through a link, and never waiting for the reader of a pipe.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(&path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => refuse("it is a symbolic link"),
            _ => error,
        })?;
    check(&file.metadata()?, owner)?;
    for end in ["-wal", "-shm", "-journal"] {
        match fs::symlink_metadata(beside(&path, end)) {
            Ok(it) => check(&it, owner).map_err(|it| {
                io::Error::new(it.kind(), format!("the file {end} beside it: {it}"))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path)
}

/// The name of a file that SQLite keeps beside the database.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn check(metadata: &fs::Metadata, owner: u32) -> io::Result<()> {
    if metadata.is_symlink() {
        return Err(refuse("it is a symbolic link"));
    }
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    if metadata.uid() != owner {
        return Err(refuse("it belongs to another user"));
    }
    Ok(())
}

fn refuse(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{why}, and nothing is stored through it: remove it or choose another path"),
    )
}

/// The owner of what this process makes: of its own entry in /proc.
fn effective_user() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}
