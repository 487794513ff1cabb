//! Following the files that a log is made of: when one changes, the log is read anew. It looks at folders, since editors and
//! deployments put a new file in the place of the old one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use crate::live::Live;

/// How long files must be quiet before they are read: several are often written together.
const QUIET: Duration = Duration::from_millis(300);
/// How long a change waits for that: a file that is written all the time must not keep all others from being read. Long enough
/// for a deployment to write its files, short enough that nobody takes it for a change that was not seen.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// The link that Kubernetes turns to put new files of a `ConfigMap` in place; their own names have no event then.
const CONFIG_MAP: &str = "..data";

/// Follows the files of a log until the log is gone: `config`, `.env`, and the components that the revision in force names.
///
/// # Errors
/// When the system offers no way to follow files, or the thread cannot be started.
pub fn follow(live: &Arc<Live>, config: Option<PathBuf>) -> io::Result<()> {
    let names: Arc<Mutex<BTreeSet<OsString>>> = Arc::default();
    // One wish to look waits at most: it stands for all that came meanwhile.
    let (changed, changes) = bounded(1);
    let (wanted, first) = (names.clone(), changed.clone());
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Reading is an event too, and a look reads.
        let change = event.is_ok_and(|it| {
            // The system lost events: any file may have changed.
            it.need_rescan()
                || (!it.kind.is_access() && it.paths.iter().any(|it| is_followed(&wanted, it)))
        });
        if change {
            // Full: the look that is due sees this change as well.
            let _ = changed.try_send(());
        }
    })
    .map_err(io::Error::other)?;
    let own = config.into_iter().chain([PathBuf::from(".env")]).collect();
    let mut followed = Followed { own, names, folders: BTreeMap::new(), watcher };
    followed.update(live)?;
    // What changed between the first reading and now had no event.
    let _ = first.try_send(());
    let live = Arc::downgrade(live);
    thread::Builder::new()
        .name("log-watch".to_owned())
        .spawn(move || look(&live, &changes, &mut followed))?;
    Ok(())
}

fn look(live: &Weak<Live>, changes: &Receiver<()>, followed: &mut Followed) {
    while changes.recv().is_ok() {
        settle(changes, WAIT_MAX);
        let Some(live) = live.upgrade() else { return };
        // What is wrong was logged.
        let _ = live.follow();
        // A folder that cannot be followed was told of when it was new; its files can be read by `bucksaw reload`.
        let _ = followed.update(&live);
    }
}

/// Waits until files are quiet, or as long as a change may wait at most.
fn settle(changes: &Receiver<()>, most: Duration) {
    let first = Instant::now();
    while first.elapsed() < most && changes.recv_timeout(QUIET).is_ok() {}
}

/// Device and inode.
type Identity = (u64, u64);

struct Followed {
    own: Vec<PathBuf>,
    /// Names of files and of their folders, without what they lie in: what has the same name in another followed folder costs
    /// one look too many.
    names: Arc<Mutex<BTreeSet<OsString>>>,
    /// Which folder is behind a path: another one may take its place, as a deployment does that renames.
    folders: BTreeMap<PathBuf, Identity>,
    watcher: RecommendedWatcher,
}

impl Followed {
    /// Follows what the revision in force is made of, and what a refused change may have named.
    fn update(&mut self, live: &Live) -> io::Result<()> {
        let files: Vec<PathBuf> = self.own.iter().cloned().chain(live.files()).collect();
        let folders: BTreeSet<&Path> = files.iter().map(|it| folder(it)).collect();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let all = files.iter().map(PathBuf::as_path).chain(folders.iter().copied());
        names.extend(all.filter_map(Path::file_name).map(OsString::from));
        drop(names);
        folders.into_iter().try_for_each(|it| self.enter(it))
    }

    /// Follows a folder, or the nearest one above it while it is not there.
    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        let there = folder.ancestors().find_map(|it| {
            let it = if it.as_os_str().is_empty() { Path::new(".") } else { it };
            let found = fs::metadata(it).ok().filter(fs::Metadata::is_dir)?;
            Some((it, (found.dev(), found.ino())))
        });
        let Some((folder, identity)) = there else { return Ok(()) };
        let before = self.folders.get(folder);
        if before == Some(&identity) {
            return Ok(());
        }
        if before.is_some() {
            // The system may have ended this by itself when the folder went.
            let _ = self.watcher.unwatch(folder);
        }
        let follow = self.watcher.watch(folder, RecursiveMode::NonRecursive);
        follow.map_err(|it| not_followed(folder, &it))?;
        self.folders.insert(folder.to_owned(), identity);
        Ok(())
    }
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_followed(names: &Mutex<BTreeSet<OsString>>, path: &Path) -> bool {
    let names = names.lock().unwrap_or_else(PoisonError::into_inner);
    path.file_name().is_some_and(|it| it == CONFIG_MAP || names.contains(it))
}

fn not_followed(folder: &Path, error: &notify::Error) -> io::Error {
    io::Error::other(format!("{} cannot be followed: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn files_that_are_never_quiet_are_read_all_the_same() {
        /// Far longer than it takes.
        const LONG: Duration = Duration::from_secs(60);
        let (changed, changes) = bounded(1);
        let (start, read) = (Instant::now(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !read.load(Relaxed) && start.elapsed() < LONG {
                    let _ = changed.try_send(());
                }
            });
            settle(&changes, Duration::from_millis(10));
            read.store(true, Relaxed);
        });
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn a_burst_is_waited_for_and_read_once() {
        const EVENTS: usize = 20;
        let (changed, changes) = bounded(1);
        let sent = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..EVENTS {
                    // Nobody takes it: the one that waits stands for it.
                    let _ = changed.try_send(());
                    sent.fetch_add(1, Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            changes.recv().unwrap();
            settle(&changes, Duration::from_secs(60));
            assert_eq!(sent.load(Relaxed), EVENTS, "it was read in the middle");
        });
        // No wish to look again is left.
        assert!(changes.try_recv().is_err());
    }
}
