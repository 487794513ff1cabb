//! The cache's folder and the key in it: made for this user alone, and refused when somebody else may have had a hand in them.
//!
//! The folders above are not looked at. Whoever can put another folder in this one's place owns it, and it is refused;
//! after the key was read, a wrong folder can only hold entries with wrong tags.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use uuid::Uuid;

use super::unfinished;
use crate::error::CacheError;

/// As long as a tag: a longer key makes HMAC no stronger.
const KEY_BYTES: usize = 32;
/// The key's name in the folder.
const KEY: &str = "key";
/// For this user alone.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What a path of the cache has to be.
struct Expected {
    kind: &'static str,
    is: fn(&Metadata) -> bool,
    /// Bits that its mode must not have.
    forbidden: u32,
}

/// Others may look at it, but what is in it is this user's.
const FOLDER: Expected = Expected { kind: "folder", is: Metadata::is_dir, forbidden: 0o022 };
/// Who can read it can make tags.
const KEY_FILE: Expected = Expected { kind: "file", is: Metadata::is_file, forbidden: 0o077 };

/// Makes what is missing, checks what is there, and reads the key.
pub(super) fn open(folder: &Path) -> Result<[u8; KEY_BYTES], CacheError> {
    let unusable = |error| CacheError::Unusable { path: folder.to_owned(), error };
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    let metadata = match (fs::symlink_metadata(folder), made) {
        // What is there speaks for itself: over a link that leads nowhere, no folder can be made either.
        (Ok(it), _) => it,
        (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(unusable(error)),
    };
    check(folder, &metadata, &FOLDER)?;
    let (key, unfinished) = (folder.join(KEY), unfinished(folder));
    let user = offer(&unfinished, &key, metadata.uid());
    let _ = fs::remove_file(&unfinished);
    let user = user.map_err(unusable)?;
    if metadata.uid() != user {
        return Err(CacheError::Owner { path: folder.to_owned() });
    }
    read(&key, user)
}

/// A new file with these bytes, for this user alone. It is left there when writing fails half way.
pub(super) fn create(path: &Path, parts: &[&[u8]]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    Ok(file)
}

/// Puts a new key there if there is none, and the folder is this user's. The answer is this user: the owner of a file that was
/// just made.
fn offer(unfinished: &Path, key: &Path, folder_owner: u32) -> io::Result<u32> {
    let file = create(unfinished, &[&random()])?;
    // A crash of the machine must not leave an empty key behind.
    file.sync_all()?;
    let user = file.metadata()?.uid();
    if user != folder_owner {
        return Ok(user);
    }
    // Linking does not replace: of two processes that start at once, one gives the key and both read it.
    match fs::hard_link(unfinished, key) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(user),
    }
}

fn read(key: &Path, user: u32) -> Result<[u8; KEY_BYTES], CacheError> {
    let unusable = |error| CacheError::Unusable { path: key.to_owned(), error };
    let metadata = fs::symlink_metadata(key).map_err(unusable)?;
    check(key, &metadata, &KEY_FILE)?;
    if metadata.uid() != user {
        return Err(CacheError::Owner { path: key.to_owned() });
    }
    if metadata.len() != KEY_BYTES as u64 {
        return Err(CacheError::Key { path: key.to_owned() });
    }
    let mut bytes = [0; KEY_BYTES];
    File::open(key).and_then(|mut it| it.read_exact(&mut bytes)).map_err(unusable)?;
    Ok(bytes)
}

/// Everything but the owner.
fn check(path: &Path, metadata: &Metadata, expected: &Expected) -> Result<(), CacheError> {
    let path = path.to_owned();
    let mode = metadata.mode() & 0o777;
    if metadata.is_symlink() {
        Err(CacheError::Link { path })
    } else if !(expected.is)(metadata) {
        Err(CacheError::Kind { path, wanted: expected.kind })
    } else if mode & expected.forbidden != 0 {
        Err(CacheError::Open { path, mode })
    } else {
        Ok(())
    }
}

/// From the system's generator; each half has 122 random bits.
fn random() -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    for half in bytes.chunks_exact_mut(KEY_BYTES / 2) {
        half.copy_from_slice(Uuid::new_v4().as_bytes());
    }
    bytes
}
