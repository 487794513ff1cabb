//! The file of a store: what is left in it, who may read it, and which files are refused.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use super::{Draft, MIB, Scene, open, soon};
use crate::{OpenError, StoreError, file::beside};

#[test]
fn what_is_deleted_is_gone_from_the_disk() {
    let mut scene = Scene::new(MIB);
    for id in ["a", "b", "c"] {
        scene.send(&Draft::new(id, &format!("the words of {id}")));
    }
    scene.settle();
    assert!(scene.is_on_disk("the words of b"));
    assert!(scene.store.delete("b").unwrap());
    assert!(!scene.is_on_disk("the words of b"));
    assert!(scene.is_on_disk("the words of a"));
    assert!(!scene.store.delete("b").unwrap());
    assert_eq!(scene.ids(), ["a", "c"]);
    assert_eq!(scene.store.counts().deleted, 1);
}

#[test]
fn a_restart_keeps_everything_in_one_file() {
    let mut scene = Scene::new(MIB);
    scene.send(&Draft::new("c", "x"));
    assert!(scene.store.close(soon()));
    assert!(matches!(scene.store.delete("c"), Err(StoreError::Closed)));
    let mode = fs::metadata(scene.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = open(&scene.path(), MIB, &scene.now).unwrap();
    assert!(again.get("c").unwrap().is_some());
    let wal = fs::metadata(beside(&scene.path(), "-wal")).unwrap();
    assert_eq!(wal.permissions().mode() & 0o777, 0o600);
    assert!(again.close(soon()));
}

#[test]
fn files_that_are_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::default();
    let check = |name: &str, want: &str| {
        let error = open(&folder.path().join(name), MIB, &now).map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(want), "{text}");
        error
    };
    fs::write(folder.path().join("garbage"), "no database ".repeat(1000)).unwrap();
    assert!(matches!(check("garbage", "move it"), OpenError::Damaged { .. }));

    let other = rusqlite::Connection::open(folder.path().join("other")).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    check("other", "another program");

    open(&folder.path().join("newer"), MIB, &now).unwrap().close(soon());
    let newer = rusqlite::Connection::open(folder.path().join("newer")).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    check("newer", "newer version");

    std::os::unix::fs::symlink(folder.path().join("x"), folder.path().join("link")).unwrap();
    check("link", "symbolic link");
    assert!(!folder.path().join("x").exists());
    std::os::unix::fs::symlink(folder.path().join("x"), folder.path().join("y-wal")).unwrap();
    check("y", "symbolic link");
    fs::create_dir(folder.path().join("folder")).unwrap();
    check("folder", "cannot be used");
    check("missing/store.db", "cannot be used");
}

#[test]
fn a_damaged_database_is_refused_at_the_start() {
    let mut scene = Scene::new(MIB);
    for it in 0..50 {
        scene.send(&Draft::new(&format!("c{it}"), &"x".repeat(5000)));
    }
    assert!(scene.store.close(soon()));
    let mut bytes = fs::read(scene.path()).unwrap();
    bytes[4096..20_000].fill(0xaa);
    fs::write(scene.path(), bytes).unwrap();
    let opened = open(&scene.path(), MIB, &scene.now).map(|_| ());
    assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");
}
