//! Revisions that change while records flow.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use record::{Record, RequestContext};

use super::{chains, labels, record, start, traps};
use crate::{NoEarlier, Revision, queue::Entry};

/// A record of a request that began with a revision.
fn of_request(text: &str, revision: &Revision) -> Record {
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = RequestContext::new(id, "default".into()).in_revision(revision.number());
    Record { context: Some(Arc::new(context)), ..record(text) }
}

#[test]
fn a_request_keeps_the_revision_that_it_began_with() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = start(chains(&written, "lines", Some(labels("OLD"))));
    let old = pipeline.revisions().current();
    let revised = pipeline.install(chains(&written, "lines", Some(labels("NEW"))));
    assert_eq!((revised.number, revised.previous), (2, 1));
    let record_of_old = of_request("x", &old);
    let entry = Entry { record: record_of_old, revision: old.clone(), own: false };
    pipeline.shared.queue.push(entry);
    pipeline.push(record("x"));
    assert_eq!(pipeline.revisions().live(), [1, 2]);
    drop(old);
    pipeline.rollback().unwrap();
    pipeline.push(record("x"));
    assert_eq!(pipeline.rollback(), Err(NoEarlier));
    assert!(pipeline.shutdown(Instant::now() + Duration::from_secs(30)).is_complete());
    let written = written.lock().unwrap();
    let texts: Vec<&str> =
        written.iter().map(String::as_str).filter(|it| it.starts_with('[')).collect();
    // Records of one request and those of none may be different workers' work.
    let mut sorted = texts.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["[NEW]", "[OLD]", "[OLD]"], "{texts:?}");
}

#[test]
fn swaps_lose_double_and_reorder_nothing() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = start(chains(&written, "lines", None));
    let texts: Vec<String> = (0..3000).map(|it| it.to_string()).collect();
    for (at, it) in texts.iter().enumerate() {
        pipeline.push(record(it));
        if at % 100 == 0 {
            pipeline.install(chains(&written, "lines", None));
        }
    }
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(30));
    assert!(drained.is_complete(), "{drained:?}");
    // Each revision has a sink of its own here, so the order is that of numbers within one.
    let mut numbers: Vec<u32> =
        written.lock().unwrap().iter().filter_map(|it| it.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_revision_that_keeps_failing_goes_back_by_itself() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = start(chains(&written, "lines", Some(labels("GOOD"))));
    pipeline.install(chains(&written, "lines", Some(traps())));
    pipeline.push(record("a"));
    pipeline.push(record("b"));
    pipeline.push(record("c"));
    while pipeline.revisions().current().number() == 2 {
        std::thread::yield_now();
    }
    pipeline.push(record("d"));
    assert!(pipeline.shutdown(Instant::now() + Duration::from_secs(30)).is_complete());
    let written = written.lock().unwrap();
    let count = |what: &str| written.iter().filter(|it| *it == what).count();
    assert_eq!((count("stub: trap"), count("[GOOD]")), (3, 1), "{written:?}");
    assert_eq!(pipeline.stats().rollbacks.load(Ordering::Relaxed), 1);
}
