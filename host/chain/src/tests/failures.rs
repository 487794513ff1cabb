//! Editors that fail, answer wrongly or refuse: what becomes of records, and when an editor is called again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use record::{Record, event};

use super::{Fake, chains, record, run, spec, text, tools};
use crate::{Chain, StageError, Verdict, clock::pass};

#[test]
fn only_the_poison_record_is_stubbed() {
    let (texts, opened) = run(&["a", "poison", "c"], |batch| {
        if batch.iter().any(|it| text(it) == "poison") {
            return Err(StageError::Trap);
        }
        Ok(batch.iter().map(|_| Verdict::Keep(vec![])).collect())
    });
    assert_eq!(texts, ["a", "stub: trap", "c"]);
    assert_eq!(opened, 3, "a trapped instance is never called again");
}

#[test]
fn a_stage_that_always_fails_is_left_alone() {
    let (texts, opened) = run(&["x"; 64], |_| Err(StageError::Deadline));
    assert!(texts.iter().all(|it| it == "stub: deadline" || it == "stub: breaker_open"));
    assert_eq!(opened, 5);
}

#[test]
fn a_stage_that_was_left_alone_is_tried_with_one_record_and_comes_back() {
    const NANOSECOND: Duration = Duration::from_nanos(1);
    let (broken, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let edit = {
        let (broken, calls) = (broken.clone(), calls.clone());
        move |batch: &[Record]| {
            calls.lock().unwrap().push(batch.len());
            match broken.load(Ordering::Relaxed) {
                true => Err(StageError::Trap),
                false => Ok(batch.iter().map(|_| Verdict::Keep(vec![])).collect()),
            }
        }
    };
    let written = Arc::new(Mutex::new(Vec::new()));
    let editor = Arc::new(Fake { edit, opened: Arc::default() });
    let chains = chains(&written, "events", Some(editor));
    let tools = tools();
    let stats = tools.stats.clone();
    let mut chain = Chain::new(&chains.chains["default"], tools);
    // What becomes of texts, and the sizes of the batches that the editor is given meanwhile.
    let check = |chain: &mut Chain, texts: &[&str], want: &[&str], sizes: &[usize]| {
        let released = chain.edit(texts.iter().map(|it| record(it)).collect());
        assert_eq!(released.iter().map(|it| text(it)).collect::<Vec<_>>(), want);
        assert_eq!(std::mem::take(&mut *calls.lock().unwrap()), sizes);
    };
    let (trap, open) = ("stub: trap", "stub: breaker_open");
    let open_breakers = || {
        let stages = stats.stages();
        let editor = stages.iter().find(|(key, _)| key.role == "editor");
        editor.unwrap().1.breakers_open.load(Ordering::Relaxed)
    };

    pass(Duration::ZERO);
    // The second turn: what came back is given as much patience as at first.
    for _ in 0..2 {
        broken.store(true, Ordering::Relaxed);
        for _ in 0..5 {
            assert_eq!(open_breakers(), 0);
            check(&mut chain, &["a"], &[trap], &[1]);
        }
        assert_eq!(open_breakers(), 1);
        check(&mut chain, &["a", "b", "c"], &[open; 3], &[]);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            pass(Duration::from_secs(seconds) - NANOSECOND);
            check(&mut chain, &["a", "b"], &[open; 2], &[]);
            pass(NANOSECOND);
            check(&mut chain, &["a", "b", "c"], &[trap, open, open], &[1]);
        }
        broken.store(false, Ordering::Relaxed);
        check(&mut chain, &["a", "b"], &[open; 2], &[]);
        pass(Duration::from_secs(60));
        check(&mut chain, &["a", "b", "c"], &["a", "b", "c"], &[1; 3]);
        check(&mut chain, &["a", "b", "c"], &["a", "b", "c"], &[3]);
        assert_eq!(open_breakers(), 0);
    }
    chain.run(vec![record("a")]);
    assert!(chains.outputs[0].close(Instant::now() + Duration::from_secs(30)));
    let told = ["request.prompt", event::PLUGIN_TRAPPED, event::PLUGIN_OPENED];
    assert_eq!(*written.lock().unwrap(), told);
}

#[test]
fn wrong_answers_drops_and_refusals() {
    let (texts, _) = run(&["a", "b"], |_| Ok(vec![]));
    assert_eq!(texts, ["stub: bad_answer", "stub: bad_answer"]);
    let (texts, _) = run(&["a", "b"], |batch| {
        Ok(batch
            .iter()
            .map(|it| match text(it).as_str() {
                "a" => Verdict::Drop("noise".into()),
                _ => Verdict::Fail(3),
            })
            .collect())
    });
    assert_eq!(texts, ["stub: refused"]);
}

#[test]
fn records_keep_their_places_whatever_editors_stop() {
    let editor = |first: bool| {
        let edit = move |batch: &[Record]| {
            let judge = |it: &Record| match (text(it).as_str(), first) {
                ("dropped first", true) | ("dropped second", false) => {
                    Verdict::Drop("noise".into())
                }
                ("failed first", true) | ("failed second", false) => Verdict::Fail(1),
                _ => Verdict::Keep(vec![]),
            };
            Ok(batch.iter().map(judge).collect())
        };
        Arc::new(Fake { edit, opened: Arc::default() }) as _
    };
    let mut chain = Chain::new(&spec(vec![editor(true), editor(false)]), tools());
    let texts = ["a", "failed second", "dropped first", "b", "failed first", "dropped second", "c"];
    let batch = (0..).zip(texts).map(|(seq, it)| Record { seq, ..record(it) }).collect();
    let released = chain.edit(batch);
    let places: Vec<(u32, bool)> = released.iter().map(|it| (it.seq, it.stub.is_some())).collect();
    assert_eq!(places, [(0, false), (1, true), (3, false), (4, true), (6, false)]);
}
