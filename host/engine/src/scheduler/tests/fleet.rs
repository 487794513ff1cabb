//! Several engines behind one handle: who gets a job, what all of them share, and what becomes of the others when one goes.

use std::{future::poll_fn, pin::pin, task::Poll};

use tokio::runtime::{Builder, Runtime};

use super::{Setting, all, echo, engines, say, started};
use crate::{
    AdapterChangeError, EmbedInput, EmbedRequest, EngineError, EngineHandle, Job, SubmitError,
};

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn names(handle: &EngineHandle) -> Vec<String> {
    handle.models().iter().map(|it| it.name.clone()).collect()
}

fn on(model: &str, job: Job) -> Job {
    Job { model: model.to_owned(), ..job }
}

fn load(handle: &EngineHandle, name: &str) -> Result<(), AdapterChangeError> {
    runtime().block_on(handle.load_adapter(name, "somewhere".into())).map(|_| ())
}

#[test]
fn jobs_go_where_the_least_is_to_do() {
    let (first, first_gate) = Setting::default().gated();
    let (second, second_gate) = Setting::default().gated();
    let fleet = engines([first, second], |it| it.max_num_seqs = Some(1));
    let handle = fleet.handle();
    let mut jobs: Vec<_> = (0..6).map(|_| fleet.submit(echo("hi", 2)).unwrap()).collect();
    for it in &mut jobs[..2] {
        started(it);
    }
    // A place is free again as soon as its job is admitted: two run, and the others wait at both.
    let waiting = || handle.engines().iter().map(|it| it.stats.waiting).collect::<Vec<_>>();
    assert_eq!(waiting(), [2, 2]);
    drop(second_gate);
    // Those of the second come to their ends; then all new ones are its.
    for at in [1, 3, 5] {
        while let Some(event) = jobs[at].blocking_recv() {
            assert!(!matches!(event, crate::Event::Failed(_)), "{event:?}");
        }
    }
    for _ in 0..4 {
        assert!(!say(&fleet, echo("why?", 5)).is_empty());
    }
    assert_eq!(handle.engines()[0].stats.waiting, 2);
    drop(first_gate);
    fleet.shutdown();
    assert_eq!(handle.submit(echo("hi", 2)).unwrap_err(), SubmitError::ShuttingDown);
    assert!(!handle.is_running());
}

#[test]
fn all_say_the_same() {
    let fleet = engines((0..3).map(|_| Setting::default()), |_| {});
    for model in ["echo", "one", "two"] {
        let said: Vec<_> = (0..6).map(|_| say(&fleet, on(model, echo("hello", 7)))).collect();
        assert!(said.iter().all(|it| *it == said[0]), "{model}: {said:?}");
    }
    let runtime = runtime();
    let vectors: Vec<_> = (0..6)
        .map(|_| {
            let request = EmbedRequest {
                model: "one".to_owned(),
                adapter_requested: None,
                inputs: vec![EmbedInput::Text("hello".to_owned())],
                dimensions: None,
                span: tracing::Span::none(),
            };
            runtime.block_on(fleet.handle().embed(request)).unwrap().vectors
        })
        .collect();
    assert!(vectors.iter().all(|it| *it == vectors[0]));
    let handle = fleet.handle();
    fleet.shutdown();
    let steps: Vec<u64> = handle.engines().iter().map(|it| it.stats.steps).collect();
    assert!(steps.iter().all(|it| *it > 0), "one did nothing: {steps:?}");
    assert_eq!(handle.stats().steps, steps.iter().sum::<u64>());
}

#[test]
fn a_queue_is_full_when_every_one_is() {
    let ((first, first_gate), (second, second_gate)) =
        (Setting::default().gated(), Setting::default().gated());
    let fleet = engines([first, second], |it| (it.queue, it.max_num_seqs) = (2, Some(1)));
    let handle = fleet.handle();
    assert_eq!(handle.capacity(), 4);
    let mut running: Vec<_> = (0..2).map(|_| fleet.submit(echo("a", 2)).unwrap()).collect();
    for it in &mut running {
        started(it);
    }
    let waiting: Vec<_> = (0..4).map(|_| fleet.submit(echo("b", 2)).unwrap()).collect();
    assert_eq!(handle.waiting(), 4);
    let refused = fleet.submit(echo("c", 2)).unwrap_err();
    assert_eq!(refused, SubmitError::QueueFull { capacity: 4 });
    drop((first_gate, second_gate));
    for events in waiting {
        all(events).1.unwrap();
    }
    assert_eq!(handle.waiting(), 0);
}

#[test]
fn adapters_come_to_every_engine_and_go_from_each() {
    let fleet = engines([Setting::default(), Setting::default()], |_| {});
    let handle = fleet.handle();
    load(&handle, "three").unwrap();
    assert_eq!(names(&handle), ["echo", "one", "two", "three"]);
    let said: Vec<_> = (0..4).map(|_| say(&fleet, on("three", echo("hi", 5)))).collect();
    assert!(said.iter().all(|it| *it == said[0]), "{said:?}");
    let taken = AdapterChangeError::Taken("three".to_owned());
    assert_eq!(load(&handle, "three").unwrap_err(), taken);
    assert_eq!(names(&handle), ["echo", "one", "two", "three"]);
    for name in ["echo", "four"] {
        let unknown = runtime().block_on(handle.unload_adapter(name)).unwrap_err();
        assert_eq!(unknown, AdapterChangeError::Unknown(name.to_owned()));
    }
    runtime().block_on(handle.unload_adapter("three")).unwrap();
    assert_eq!(names(&handle), ["echo", "one", "two"]);
    assert!(fleet.submit(on("three", echo("hi", 5))).is_err());
    // None of them has it any more, or it would be loaded twice.
    load(&handle, "three").unwrap();
}

#[test]
fn an_adapter_that_one_engine_cannot_have_none_has() {
    let closed = || Setting { closed: true, ..Setting::default() };
    for settings in [[closed(), Setting::default()], [Setting::default(), closed()]] {
        let fleet = engines(settings, |_| {});
        let handle = fleet.handle();
        for _ in 0..2 {
            // The second time it would be taken where the first had left it.
            let error = load(&handle, "three").unwrap_err();
            assert!(matches!(error, AdapterChangeError::Load(_)), "{error}");
            assert_eq!(names(&handle), ["echo", "one", "two"]);
            assert!(fleet.submit(on("three", echo("hi", 5))).is_err());
        }
    }
}

#[test]
fn a_change_goes_on_without_the_one_who_asked_for_it() {
    let fleet = engines([Setting::default(), Setting::default()], |_| {});
    let handle = fleet.handle();
    let runtime = runtime();
    runtime.block_on(async {
        let mut asked = pin!(handle.load_adapter("three", "somewhere".into()));
        // Looked at once, so that it has begun.
        poll_fn(|context| Poll::Ready(asked.as_mut().poll(context).is_ready())).await
    });
    runtime.block_on(async {
        while handle.model("three").is_none() {
            tokio::task::yield_now().await;
        }
    });
    assert!((0..4).all(|_| !say(&fleet, on("three", echo("hi", 5))).is_empty()));
}

#[test]
fn when_one_goes_the_others_serve_on() {
    let broken = Setting { broken: true, ..Setting::default() };
    let fleet = engines([broken, Setting::default()], |_| {});
    let handle = fleet.handle();
    let (_, end) = all(fleet.submit(echo("hi", 5)).unwrap());
    assert_eq!(end.unwrap_err(), None, "it ends without a word");
    while handle.engines()[0].running {
        std::thread::yield_now();
    }
    let running: Vec<bool> = handle.engines().iter().map(|it| it.running).collect();
    assert_eq!(running, [false, true]);
    assert!(handle.is_running());
    assert_eq!(handle.capacity(), 64);
    for _ in 0..4 {
        assert!(!say(&fleet, echo("hi", 5)).is_empty());
    }
    load(&handle, "three").unwrap();
    assert!(!say(&fleet, on("three", echo("hi", 5))).is_empty());
    runtime().block_on(handle.unload_adapter("three")).unwrap();
    fleet.shutdown();
    assert!(!handle.is_running());
    assert_eq!(load(&handle, "three").unwrap_err(), AdapterChangeError::ShuttingDown);
}

#[test]
fn a_failure_is_one_engines() {
    let broken: fn() -> EngineError = || EngineError::Internal("a bad kernel".to_owned());
    let setting = Setting { fails: vec![(1, broken)], ..Setting::default() };
    let fleet = engines([setting, Setting::default()], |_| {});
    let jobs: Vec<_> = (0..2).map(|_| fleet.submit(echo("hi", 5)).unwrap()).collect();
    let ends: Vec<bool> = jobs.into_iter().map(|it| all(it).1.is_ok()).collect();
    assert_eq!(ends, [false, true]);
}
