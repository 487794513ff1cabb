use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt, chown, symlink},
    sync::Arc,
};

use wasmtime::{Config, ModuleVersionStrategy};

use super::*;
use crate::{Runtime, runtime::config};

/// A folder that is not there yet, in one that goes with the test.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep").join("cache");
    (parent, folder)
}

/// As the server has it after a start: a runtime with the folder's cache.
fn runtime(folder: &Path) -> Runtime {
    Runtime::new(Arc::new(()), Some(Cache::open(folder).unwrap())).unwrap()
}

/// Components of one shape, told apart by a number.
fn wat(number: u8) -> String {
    format!(r#"(component (core module (func (export "f") (result i32) (i32.const {number}))))"#)
}

fn load(runtime: &Runtime, number: u8) {
    runtime.component(wat(number).as_bytes()).unwrap();
}

/// Hits, misses, refused, unwritten.
fn counts(runtime: &Runtime) -> [u64; 4] {
    let it = runtime.cache().unwrap().counts();
    [it.hits, it.misses, it.refused, it.unwritten]
}

fn names(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    files.filter(|it| it.to_str().unwrap().ends_with(ending)).collect()
}

/// The one entry of a folder.
fn entry(folder: &Path) -> PathBuf {
    let [path]: [PathBuf; 1] = names(folder, ENTRY.1).try_into().unwrap();
    path
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn long_ago(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn age(path: &Path, modified: SystemTime) {
    File::open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn a_component_is_compiled_once_for_all_starts() {
    let (_parent, folder) = folder();
    let first = runtime(&folder);
    load(&first, 1);
    assert_eq!(counts(&first), [0, 1, 0, 0]);
    load(&first, 1);
    load(&first, 2);
    assert_eq!(counts(&first), [1, 2, 0, 0]);
    let second = runtime(&folder);
    load(&second, 2);
    assert_eq!(counts(&second), [1, 0, 0, 0]);
    assert!(second.component(b"no component").is_err());
    assert_eq!(counts(&second), [1, 0, 0, 0]);
    assert!(names(&folder, UNFINISHED.1).is_empty());
}

#[test]
fn what_is_made_is_for_this_user_alone() {
    let (_parent, folder) = folder();
    load(&runtime(&folder), 1);
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("key")), 0o600);
    assert_eq!(mode(&entry(&folder)), 0o600);
}

#[test]
fn an_entry_that_was_touched_is_removed_and_compiled_anew() {
    let check = |what: &str, touch: fn(&mut Vec<u8>)| {
        let (_parent, folder) = folder();
        load(&runtime(&folder), 1);
        let path = entry(&folder);
        let mut bytes = fs::read(&path).unwrap();
        touch(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let runtime = runtime(&folder);
        load(&runtime, 1);
        assert_eq!(counts(&runtime), [0, 1, 1, 0], "{what}");
        load(&runtime, 1);
        assert_eq!(counts(&runtime), [1, 1, 1, 0], "{what}");
    };
    check("tag", |it| it[0] ^= 1);
    check("first byte", |it| it[TAG_BYTES] ^= 1);
    check("some byte", |it| {
        let middle = it.len() / 2;
        it[middle] ^= 0x80;
    });
    check("last byte", |it| *it.last_mut().unwrap() ^= 1);
    check("one byte less", |it| it.truncate(it.len() - 1));
    check("one byte more", |it| it.push(0));
    check("no code", |it| it.truncate(TAG_BYTES));
    check("half a tag", |it| it.truncate(TAG_BYTES / 2));
    check("empty", Vec::clear);
}

#[test]
fn an_entry_of_another_component_is_refused() {
    let (_parent, folder) = folder();
    load(&runtime(&folder), 1);
    let first = entry(&folder);
    let aside = folder.join("aside");
    fs::rename(&first, &aside).unwrap();
    load(&runtime(&folder), 2);
    fs::copy(&aside, entry(&folder)).unwrap();
    let runtime = runtime(&folder);
    load(&runtime, 2);
    assert_eq!(counts(&runtime), [0, 1, 1, 0]);
}

#[test]
fn an_entry_of_other_flags_or_another_version_is_not_used() {
    let check = |what: &str, change: fn(&mut Config)| {
        let (_parent, folder) = folder();
        load(&runtime(&folder), 1);
        let first = entry(&folder);
        let mut other = config();
        change(&mut other);
        let other = Engine::new(&other).unwrap();
        let cache = Cache::open(&folder).unwrap();
        // It is not looked at, and stays for those whom it fits.
        cache.component(&other, wat(1).as_bytes()).unwrap();
        cache.component(&other, wat(1).as_bytes()).unwrap();
        let CacheCounts { hits, misses, refused, .. } = cache.counts();
        assert_eq!((hits, misses, refused), (1, 1, 0), "{what}");
        let second = runtime(&folder);
        load(&second, 1);
        assert_eq!(counts(&second), [1, 0, 0, 0], "{what}");
        // Under the right name it is refused: the name is part of what its tag is over.
        let both = names(&folder, ENTRY.1);
        fs::copy(both.iter().find(|it| **it != first).unwrap(), &first).unwrap();
        let third = runtime(&folder);
        load(&third, 1);
        assert_eq!(counts(&third), [0, 1, 1, 0], "{what}");
    };
    check("fuel", |it| {
        it.consume_fuel(true);
    });
    check("no epochs", |it| {
        it.epoch_interruption(false);
    });
    check("numbers that are not one", |it| {
        it.cranelift_nan_canonicalization(true);
    });
    check("another version", |it| {
        it.module_version(ModuleVersionStrategy::Custom("47.0.0".to_owned())).unwrap();
    });
}

#[test]
fn an_entry_of_another_key_is_refused() {
    let (_parent, folder) = folder();
    load(&runtime(&folder), 1);
    fs::remove_file(folder.join("key")).unwrap();
    let runtime = runtime(&folder);
    load(&runtime, 1);
    assert_eq!(counts(&runtime), [0, 1, 1, 0]);
}

#[test]
fn what_wasmtime_does_not_take_is_refused_though_its_tag_is_right() {
    let (_parent, folder) = folder();
    load(&runtime(&folder), 1);
    let path = entry(&folder);
    let hex = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let name: Vec<u8> = (0..32).map(|it| digits(2 * it)).collect();
    let mut mac = Cache::open(&folder).unwrap().key;
    mac.update(&name);
    mac.update(b"not compiled by wasmtime");
    let tag: [u8; TAG_BYTES] = mac.finalize().into_bytes().into();
    fs::write(&path, [tag.as_slice(), b"not compiled by wasmtime"].concat()).unwrap();
    let runtime = runtime(&folder);
    load(&runtime, 1);
    assert_eq!(counts(&runtime), [0, 1, 1, 0]);
}

#[test]
fn a_folder_that_is_gone_costs_the_entry_and_not_the_load() {
    let (_parent, folder) = folder();
    let runtime = runtime(&folder);
    fs::remove_dir_all(&folder).unwrap();
    load(&runtime, 1);
    load(&runtime, 1);
    assert_eq!(counts(&runtime), [0, 2, 0, 2]);
}

#[test]
fn a_folder_in_the_place_of_an_entry_costs_only_the_entry() {
    let (_parent, folder) = folder();
    load(&runtime(&folder), 1);
    let path = entry(&folder);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let runtime = runtime(&folder);
    load(&runtime, 1);
    assert_eq!(counts(&runtime), [0, 1, 1, 1]);
    assert!(names(&folder, UNFINISHED.1).is_empty());
}

#[test]
fn the_entries_that_were_not_used_for_longest_go() {
    let (_parent, folder) = folder();
    let first = runtime(&folder);
    load(&first, 1);
    let oldest = entry(&folder);
    load(&first, 2);
    let newer = names(&folder, ENTRY.1).into_iter().find(|it| *it != oldest).unwrap();
    age(&oldest, long_ago(1));
    age(&newer, long_ago(2));
    // Using it makes it the newest.
    load(&first, 1);
    assert!(fs::metadata(&oldest).unwrap().modified().unwrap() > long_ago(2));

    let unfinished = unfinished(&folder);
    for other in ["note.txt", "0123456789abcdef0123456789abcdef.cwasm", "x.tmp"] {
        fs::write(folder.join(other), "not the cache's").unwrap();
        age(&folder.join(other), long_ago(0));
    }
    fs::write(&unfinished, "abandoned").unwrap();
    age(&unfinished, long_ago(0));

    let mut cache = Cache::open(&folder).unwrap();
    cache.bytes_max = fs::metadata(&newer).unwrap().len() * 5 / 2;
    load(&Runtime::new(Arc::new(()), Some(cache)).unwrap(), 3);
    assert!(oldest.exists() && !newer.exists() && !unfinished.exists());
    // Two entries, the key, and the three that are not the cache's.
    assert_eq!(names(&folder, "").len(), 6);
}

#[test]
fn an_entry_that_is_too_large_is_not_written() {
    let (_parent, folder) = folder();
    let mut cache = Cache::open(&folder).unwrap();
    cache.bytes_max = 100;
    let runtime = Runtime::new(Arc::new(()), Some(cache)).unwrap();
    load(&runtime, 1);
    assert_eq!(counts(&runtime), [0, 1, 0, 1]);
    assert!(names(&folder, ENTRY.1).is_empty());
}

#[test]
fn a_folder_or_key_that_others_had_a_hand_in_is_refused() {
    let check = |want: &str, touch: fn(&Path)| {
        let (_parent, folder) = folder();
        Cache::open(&folder).unwrap();
        touch(&folder);
        let error = Cache::open(&folder).map(|_| ()).unwrap_err().to_string();
        let named = error.starts_with(folder.to_str().unwrap());
        assert!(named && error.contains(want), "{want}: {error}");
    };
    check("cache is open to other users (its mode is 770)", |it| chmod(it, 0o770));
    check("cache is open to other users (its mode is 702)", |it| chmod(it, 0o702));
    check("key is open to other users (its mode is 640)", |it| chmod(&it.join("key"), 0o640));
    check("key does not hold a key", |it| fs::write(it.join("key"), "short").unwrap());
    check("key is not a file", |it| {
        fs::remove_file(it.join("key")).unwrap();
        fs::create_dir(it.join("key")).unwrap();
    });
    check("key is a symbolic link", |it| {
        fs::rename(it.join("key"), it.join("real")).unwrap();
        symlink(it.join("real"), it.join("key")).unwrap();
    });
    check("cache is a symbolic link", |it| {
        fs::rename(it, it.with_file_name("real")).unwrap();
        symlink(it.with_file_name("real"), it).unwrap();
    });
    check("cache is a symbolic link", |it| {
        fs::remove_dir_all(it).unwrap();
        symlink("/nowhere/at/all", it).unwrap();
    });
    check("cache is not a folder", |it| {
        fs::remove_dir_all(it).unwrap();
        fs::write(it, "").unwrap();
    });
}

#[test]
fn another_user_s_folder_or_key_is_refused() {
    let check = |path: &str| {
        let (_parent, folder) = folder();
        Cache::open(&folder).unwrap();
        // Only root can give a file away; other users' folders are tried where root runs the tests.
        if chown(folder.join(path), Some(12_345), None).is_ok() {
            let error = Cache::open(&folder).map(|_| ()).unwrap_err();
            assert!(matches!(error, CacheError::Owner { .. }), "{error}");
        }
    };
    check("");
    check("key");
}

#[test]
fn a_folder_that_others_may_read_and_a_slash_at_its_end_are_taken() {
    let (_parent, folder) = folder();
    load(&runtime(&folder), 1);
    chmod(&folder, 0o755);
    let runtime = runtime(&folder.join(""));
    load(&runtime, 1);
    assert_eq!(counts(&runtime), [1, 0, 0, 0]);
}
