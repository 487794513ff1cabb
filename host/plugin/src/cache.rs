//! Compiled components on disk, so that a start and a change of plugins don't wait for the compiler.
//!
//! What lies there is machine code, and is not trusted for lying there: each file starts with a tag over the rest of it, made
//! with a key that only this user can read. A file whose tag is wrong is removed, and its component compiled anew. Nothing
//! here knows what a plugin is: a cache turns a component's bytes into a compiled component, and never fails to.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;
use wasmtime::{Engine, component::Component};

use self::name::Name;
use crate::{compile::compile, error::CacheError};

mod folder;
mod name;
#[cfg(test)]
mod tests;

/// All entries together. A compiled plugin takes a few megabytes, so this holds some revisions of dozens of them.
const FOLDER_BYTES_MAX: u64 = 256 << 20;
/// HMAC-SHA-256.
const TAG_BYTES: usize = 32;
/// A file that was being written when its process was killed; writing takes milliseconds.
const ABANDONED: Duration = Duration::from_secs(3600);
/// How the names of entries, and of files that are still being written, end; and how many hexadecimal digits come before.
const ENTRY: (usize, &str) = (64, ".cwasm");
const UNFINISHED: (usize, &str) = (32, ".tmp");

/// A folder of compiled components. Several processes of one user may share it.
pub struct Cache {
    folder: PathBuf,
    key: Hmac<Sha256>,
    bytes_max: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    refused: AtomicU64,
    unwritten: AtomicU64,
}

/// What became of the components that were asked for, since the cache was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Read from the folder.
    pub hits: u64,
    /// Compiled, for want of an entry that could be used.
    pub misses: u64,
    /// Entries that were removed: a wrong tag, cut off, or not what this wasmtime takes. Each is a miss as well.
    pub refused: u64,
    /// Compiled, and not written: the disk is full, or the folder cannot be written to any more.
    pub unwritten: u64,
}

impl Cache {
    /// Opens or creates the folder, and in it the key of its tags.
    ///
    /// # Errors
    /// When the folder or its key is a symbolic link or of another user; when others may write to the folder, or read the key;
    /// when either cannot be made.
    pub fn open(folder: &Path) -> Result<Self, CacheError> {
        // Without a slash at the end: with one, a symbolic link would look like what it leads to.
        let folder: PathBuf = folder.components().collect();
        let key = Hmac::<Sha256>::new_from_slice(&folder::open(&folder)?)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        Ok(Self {
            folder,
            key,
            bytes_max: FOLDER_BYTES_MAX,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
        })
    }

    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            unwritten: self.unwritten.load(Ordering::Relaxed),
        }
    }

    /// The component of these bytes: from the folder, or compiled and put there.
    ///
    /// # Errors
    /// When the bytes are no component; never because of the folder.
    pub(crate) fn component(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let name = Name::new(engine, bytes);
        match self.read(engine, &name) {
            Ok(Some(component)) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(component);
            }
            Ok(None) => {}
            Err(Refused) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                // If it cannot be removed, the next one who wants it refuses it as well.
                let _ = fs::remove_file(self.path(&name));
            }
        }
        let component = compile(engine, bytes)?;
        self.misses.fetch_add(1, Ordering::Relaxed);
        if self.write(&name, &component).is_err() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        Ok(component)
    }

    /// The entry of a name; none when there is none, or none that may be read.
    fn read(&self, engine: &Engine, name: &Name) -> Result<Option<Component>, Refused> {
        let Ok(file) = File::open(self.path(name)) else {
            return Ok(None);
        };
        let bytes = contents(&file, self.bytes_max).map_err(|_| Refused)?;
        let component = self.trusted(engine, name, &bytes).ok_or(Refused)?;
        // The ones that are used stay when the folder is full. One that cannot be touched only goes earlier.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(component))
    }

    /// The component in a file's bytes, if the tag is right and wasmtime takes it.
    #[expect(unsafe_code, reason = "compiled code cannot be checked by reading it; its tag can")]
    fn trusted(&self, engine: &Engine, name: &Name, bytes: &[u8]) -> Option<Component> {
        let (tag, serialized) = bytes.split_first_chunk::<TAG_BYTES>()?;
        self.mac(name, serialized).verify_slice(tag).ok()?;
        // SAFETY: `deserialize` wants what `Component::serialize` gave, unchanged, in the same version of wasmtime. The tag says
        // that: it was made by `write`, over these bytes and a name that stands for wasmtime's version, target and flags, with
        // a key in a file that only this user can read. The bytes are a copy in this process, so nobody changes them between
        // the check and the use.
        unsafe { Component::deserialize(engine, serialized) }.ok()
    }

    /// Puts an entry there whole or not at all. It is not synced: what a crash of the machine leaves half written has a wrong
    /// tag.
    fn write(&self, name: &Name, component: &Component) -> io::Result<()> {
        let serialized = component.serialize().map_err(|_| io::ErrorKind::OutOfMemory)?;
        if (TAG_BYTES + serialized.len()) as u64 > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let tag = self.mac(name, &serialized).finalize().into_bytes();
        let unfinished = unfinished(&self.folder);
        let written = folder::create(&unfinished, &[tag.as_slice(), &serialized])
            .and_then(|_| fs::rename(&unfinished, self.path(name)));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        self.prune();
        written
    }

    /// Removes the entries that were not used for longest until the rest fits. What has no name of ours is left alone: the
    /// folder may be one that holds other things.
    fn prune(&self) {
        let Ok(files) = fs::read_dir(&self.folder) else {
            return;
        };
        let (mut entries, mut total) = (Vec::new(), 0);
        for file in files.filter_map(Result::ok) {
            let (name, path) = (file.file_name(), file.path());
            let (Some(name), Ok(metadata)) = (name.to_str(), file.metadata()) else {
                continue;
            };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if is_ours(name, ENTRY) && metadata.is_file() {
                total += metadata.len();
                entries.push((modified, path, metadata.len()));
            } else if is_ours(name, UNFINISHED) && is_abandoned(modified) {
                let _ = fs::remove_file(path);
            }
        }
        entries.sort_unstable();
        for (_, path, bytes) in entries {
            if total <= self.bytes_max {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= bytes;
            }
        }
    }

    /// Over the name too, so that an entry under another's name is refused.
    fn mac(&self, name: &Name, serialized: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(name.as_bytes());
        mac.update(serialized);
        mac
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(format!("{name}{}", ENTRY.1))
    }
}

/// An entry is there, and not to be used.
struct Refused;

/// A file's bytes, if it is a file and not larger than all entries together may be.
fn contents(file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A path for a file that is not finished: one that nobody else uses.
fn unfinished(folder: &Path) -> PathBuf {
    folder.join(format!("{}{}", Uuid::new_v4().simple(), UNFINISHED.1))
}

/// Whether a file has a name that only this module gives.
fn is_ours(name: &str, (digits, ending): (usize, &str)) -> bool {
    name.strip_suffix(ending)
        .is_some_and(|it| it.len() == digits && it.bytes().all(|it| it.is_ascii_hexdigit()))
}

fn is_abandoned(modified: SystemTime) -> bool {
    modified.elapsed().is_ok_and(|it| it > ABANDONED)
}
