//! The bounds of a store: age, size, and the disk.

use std::{fs, sync::atomic::Ordering::Relaxed};

use super::{Draft, HOUR, MIB, Scene};

#[test]
fn old_ones_go() {
    let mut scene = Scene::new(MIB);
    scene.send(&Draft::new("a", "x"));
    scene.settle();
    scene.now.store(20 * HOUR, Relaxed);
    for it in 0..200 {
        scene.send(&Draft::new(&format!("b{it}"), "x"));
    }
    scene.settle();
    assert_eq!(scene.ids().len(), 201);
    scene.now.store(25 * HOUR, Relaxed);
    scene.settle();
    assert_eq!(scene.ids().len(), 200);
    assert!(scene.get("a").is_none());
    scene.now.store(45 * HOUR, Relaxed);
    scene.settle();
    assert!(scene.ids().is_empty());
    assert_eq!(scene.store.counts().pruned, 201);
}

#[test]
fn the_oldest_make_room() {
    let mut scene = Scene::new(MIB);
    let text = "0123456789abcdef".repeat(1024);
    for it in 0..200 {
        scene.send(&Draft::new(&format!("c{it:03}"), &text));
        // One at a time: a writer behind would lose some, which is another test.
        scene.settle();
        assert!(fs::metadata(scene.path()).unwrap().len() <= MIB + (64 << 10));
    }
    let ids = scene.ids();
    assert!(ids.len() > 20, "{}", ids.len());
    assert_eq!(ids.last().unwrap(), "c199");
    let first = 200 - ids.len();
    assert_eq!(ids[0], format!("c{first:03}"), "the latest ones, without a gap");
    let counts = scene.store.counts();
    assert_eq!((counts.stored, counts.pruned), (200, first as u64));

    scene.send(&Draft::new("large", &text.repeat(9)));
    scene.settle();
    let large = scene.get("large").unwrap();
    assert_eq!(large["bucksaw"]["withheld"]["reason"], "too_large");
    assert!(scene.ids().len() >= ids.len(), "it took the place of at most one");
}

#[test]
fn a_full_disk_costs_completions_and_is_told_by_the_counter() {
    let mut scene = Scene::new(64 * MIB);
    scene.send(&Draft::new("a", "x"));
    scene.settle();
    let pages = |pages: &'static str| {
        move |it: &rusqlite::Connection| it.pragma_update(None, "max_page_count", pages).unwrap()
    };
    scene.store.with_writer(pages("1"));
    let text = "x".repeat(100_000);
    scene.send(&Draft::new("b", &text));
    scene.send(&Draft::new("c", &text));
    scene.settle();
    assert_eq!(scene.store.counts().lost, 2);
    scene.store.with_writer(pages("100000"));
    scene.send(&Draft::new("d", &text));
    scene.settle();
    assert_eq!(scene.ids(), ["a", "d"]);
}
