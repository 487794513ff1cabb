//! What a job says is the same whatever runs beside it.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::Index};

use super::{Rig, Setting, all, echo, engine, say, started};
use crate::{Job, Sampling};

/// What each job says with the engine to itself.
fn alone(job: Job) -> String {
    let mut rig = Rig::new(Setting::default(), |it| it.prefix_caching = false);
    let events = rig.submit(job);
    rig.run();
    let (text, end) = all(events);
    end.unwrap();
    text
}

fn on(model: &str, job: Job) -> Job {
    Job { model: model.to_owned(), ..job }
}

#[test]
fn many_at_once_say_what_each_says_alone() {
    let jobs: Vec<Job> = (0..24)
        .map(|number| {
            let prompt = format!("{}question {number}", "the same beginning ".repeat(number % 3));
            let mut job = on(["echo", "one", "two"][number % 3], echo(&prompt, 4 + number % 9));
            job.sampling.temperature = (number % 2) as f64;
            job.sampling.seed = 1000 + number as u64;
            job
        })
        .collect();
    let expected: Vec<String> = jobs.iter().map(|job| alone(job.clone())).collect();
    let engine = engine(Setting::default(), |it| it.max_num_batched_tokens = Some(16));
    let events: Vec<_> = jobs.iter().map(|job| engine.submit(job.clone()).unwrap()).collect();
    let found: Vec<String> = events.into_iter().map(|it| all(it).0).collect();
    assert_eq!(found, expected);
    let stats = engine.handle().stats();
    assert!(stats.steps < stats.output_tokens, "several moved on in one step");
}

#[test]
fn one_seed_says_one_text_in_any_company() {
    let warm = |seed| {
        let sampling =
            Sampling { temperature: 2.0, seed, max_tokens: Some(20), ..Sampling::default() };
        Job { sampling, ..echo("a story", 0) }
    };
    let expected = alone(warm(5));
    assert_ne!(alone(warm(6)), expected);
    let mut rig = Rig::new(Setting::default(), |_| {});
    let _others: Vec<_> = (10..15).map(|seed| rig.submit(warm(seed))).collect();
    rig.step();
    let mine = rig.submit(warm(5));
    rig.run();
    assert_eq!(all(mine).0, expected);
}

#[test]
fn a_cache_that_is_too_small_costs_time_only() {
    let jobs: Vec<Job> = (0..6).map(|number| echo(&format!("question {number}"), 40)).collect();
    for prefix_caching in [true, false] {
        let setting = Setting { blocks: 24, ..Setting::default() };
        let mut rig = Rig::new(setting, |it| it.prefix_caching = prefix_caching);
        let events: Vec<_> = jobs.iter().map(|job| rig.submit(job.clone())).collect();
        rig.run();
        for (job, events) in jobs.iter().zip(events) {
            let (text, end) = all(events);
            assert_eq!((text, end.unwrap().output_tokens), (alone(job.clone()), 40));
        }
        assert!(rig.stats().preemptions > 0, "nobody was preempted: the test tests nothing");
    }
}

#[test]
fn a_prompt_seen_before_is_not_computed_again() {
    let prompt = "a long preamble that every request of this application begins with: ";
    let mut rig = Rig::new(Setting::default(), |_| {});
    let mut cached = |model: &str, question: &str| {
        let mut events = rig.submit(on(model, echo(&format!("{prompt}{question}"), 3)));
        rig.run();
        let cached = started(&mut events);
        let (mut text, mut last) = (String::new(), None);
        while let Ok(event) = events.try_recv() {
            match event {
                crate::Event::Text(piece) => text.push_str(&piece.text),
                other => last = Some(other),
            }
        }
        assert!(matches!(last, Some(crate::Event::Finished(_))), "{last:?}");
        assert_eq!(text, alone(on(model, echo(&format!("{prompt}{question}"), 3))));
        cached
    };
    assert_eq!(cached("echo", "why?"), 0);
    let again = cached("echo", "why?");
    assert!(again > 10);
    assert!((1..=again).contains(&cached("echo", "what?")));
    // Keys and values depend on the adapter.
    assert_eq!(cached("one", "why?"), 0);
    assert_eq!(cached("one", "why?"), again);
}

#[test]
fn adapters_come_and_go() {
    let (setting, gate) = Setting::default().gated();
    let engine = engine(setting, |_| {});
    let handle = engine.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let names = || handle.models().iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(), ["echo", "one", "two"]);
    let load = |name: &str| runtime.block_on(handle.load_adapter(name, "somewhere".into()));

    let loaded = load("three").unwrap();
    assert_eq!((loaded.name.as_str(), loaded.parent.as_deref()), ("three", Some("echo")));
    assert_eq!(names(), ["echo", "one", "two", "three"]);
    for (name, expected) in
        [("three", "unload it first"), ("echo", "unload"), ("", "1 to"), ("a\n", "letters")]
    {
        let error = load(name).unwrap_err().to_string();
        assert!(error.contains(expected), "{name:?}: {error}");
    }

    let mut running = engine.submit(on("three", echo("hi", 5))).unwrap();
    started(&mut running);
    let unloading = std::thread::spawn({
        let handle = handle.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(handle.unload_adapter("three"))
        }
    });
    // The engine sees the message between two steps.
    while handle.model("three").is_some() {
        let _ = gate.send(());
        std::thread::yield_now();
    }
    assert!(engine.submit(on("three", echo("hi", 5))).is_err());
    drop(gate);
    let (mut text, mut end) = (String::new(), None);
    while let Some(event) = running.blocking_recv() {
        match event {
            crate::Event::Text(piece) => text.push_str(&piece.text),
            other => end = Some(other),
        }
    }
    assert!(matches!(end, Some(crate::Event::Finished(_))), "it finishes first: {end:?}");
    unloading.join().unwrap().unwrap();
    assert_eq!(names(), ["echo", "one", "two"]);
    let unknown = runtime.block_on(handle.unload_adapter("three")).unwrap_err();
    assert_eq!(unknown.to_string(), "no adapter is named three");
    load("three").unwrap();
    assert!(!say(&engine, on("three", echo("hi", 5))).is_empty());
}

#[test]
fn an_unknown_adapter_is_an_error_unless_it_may_fall_back() {
    let ask = || Job { adapter_requested: Some("sql".into()), ..echo("hi", 4) };
    let strict = engine(Setting::default(), |_| {});
    assert_eq!(strict.submit(ask()).unwrap_err(), crate::SubmitError::UnknownModel("sql".into()));
    let lenient = engine(Setting::default(), |it| it.adapter_fallback = true);
    assert_eq!(say(&lenient, ask()), alone(echo("hi", 4)));
    // A name that is no model's is none.
    assert!(lenient.submit(on("sql", echo("hi", 4))).is_err());
}

#[derive(Clone, Debug)]
enum Deed {
    Submit { prompt: usize, tokens: usize, model: usize, priority: i32 },
    Step(usize),
    Drop(Index),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (0..4usize, 0..20usize, 0..3usize, -1..2i32).prop_map(|(prompt, tokens, model, priority)| {
            Deed::Submit { prompt, tokens, model, priority }
        }),
        4 => (1..6usize).prop_map(Deed::Step),
        1 => any::<Index>().prop_map(Deed::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whoever_joins_and_leaves_the_others_say_the_same(
        deeds in prop::collection::vec(deed(), 1..40),
        blocks in 16..80usize,
        budget in 2..40usize,
    ) {
        const PROMPTS: [&str; 4] = ["hi", "a question of some length", "a question of some depth", "why?"];
        let setting = Setting { blocks, context: 64, ..Setting::default() };
        let mut rig = Rig::new(setting, |it| {
            (it.max_num_seqs, it.max_num_batched_tokens) = (Some(6), Some(budget));
        });
        let mut expected = BTreeMap::new();
        let mut listening = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Submit { prompt, tokens, model, priority } => {
                    let job = on(["echo", "one", "two"][model], echo(PROMPTS[prompt], tokens));
                    expected.entry((prompt, tokens, model)).or_insert_with(|| alone(job.clone()));
                    let events = rig.submit(Job { priority, ..job });
                    listening.push(((prompt, tokens, model), events));
                }
                Deed::Step(times) => (0..times).for_each(|_| rig.step()),
                Deed::Drop(which) if !listening.is_empty() => {
                    let _ = listening.swap_remove(which.index(listening.len()));
                }
                Deed::Drop(_) => {}
            }
        }
        rig.run();
        for (which, events) in listening {
            let (text, end) = all(events);
            prop_assert!(end.is_ok(), "{:?}", end);
            prop_assert_eq!(&text, &expected[&which]);
        }
    }
}
