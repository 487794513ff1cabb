//! What a model does wrong costs the jobs that it did it to.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex},
};

use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{Rig, Setting, all, echo};
use crate::{EngineError, Event};

fn alone(text: &str, tokens: usize) -> String {
    let mut rig = Rig::new(Setting::default(), |_| {});
    let events = rig.submit(echo(text, tokens));
    rig.run();
    all(events).0
}

fn failing(step: usize, fail: fn() -> EngineError) -> Setting {
    Setting { fails: vec![(step, fail)], ..Setting::default() }
}

fn panics() -> EngineError {
    panic!("a bad kernel\nwith a backtrace")
}

fn no_memory() -> EngineError {
    candle_core::Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".into()).into()
}

fn no_sense() -> EngineError {
    candle_core::Error::Msg("shape mismatch\n  backtrace".into()).into()
}

#[test]
fn a_failure_costs_the_jobs_of_its_step_only() {
    let failures: [(fn() -> EngineError, &str); 2] = [(panics, "panicked"), (no_sense, "internal")];
    for (fail, expected) in failures {
        let setting = failing(2, fail);
        let mut rig = Rig::new(setting, |it| it.max_num_seqs = Some(2));
        let broken = [rig.submit(echo("one", 9)), rig.submit(echo("another", 9))];
        let waits = rig.submit(echo("waits", 9));
        rig.run();
        for events in broken {
            let error = all(events).1.unwrap_err().unwrap();
            assert_eq!(error.error_type(), expected);
            assert!(!error.to_string().contains("backtrace"), "{error}");
        }
        let (text, end) = all(waits);
        assert_eq!((text, end.is_ok()), (alone("waits", 9), true), "after {expected}");
        // Nothing of the broken step is found again.
        let again = rig.submit(echo("one", 9));
        rig.run();
        assert_eq!(all(again).0, alone("one", 9));
    }
}

#[test]
fn a_prompt_that_was_half_read_leaves_nothing_behind() {
    // With so small a budget the prompt needs many steps.
    let setting = failing(3, panics);
    let mut rig = Rig::new(setting, |it| it.max_num_batched_tokens = Some(8));
    let prompt = "some words that need more than one step to read, and some more";
    let first = rig.submit(echo("hi", 9));
    rig.step();
    let second = rig.submit(echo(prompt, 9));
    rig.run();
    assert!(all(first).1.is_err());
    assert!(all(second).1.is_err());
    let third = rig.submit(echo(prompt, 9));
    rig.run();
    assert_eq!(all(third).0, alone(prompt, 9));
}

#[test]
fn out_of_memory_costs_the_largest_and_the_others_are_computed_again() {
    let setting = failing(4, no_memory);
    let mut rig = Rig::new(setting, |_| {});
    let answers = [rig.submit(echo("hi", 9)), rig.submit(echo("why?", 9))];
    (0..3).for_each(|_| rig.step());
    let large = rig.submit(echo("a prompt that is long enough to be the largest", 9));
    rig.run();
    assert_eq!(all(large).1.unwrap_err().unwrap().error_type(), "out_of_memory");
    for (events, text) in answers.into_iter().zip(["hi", "why?"]) {
        let (found, end) = all(events);
        assert_eq!((found, end.unwrap().output_tokens), (alone(text, 9), 9));
    }
}

/// Keeps each event of its thread: its level, and its fields by name.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Told {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn out_of_memory_is_critical_and_the_next_job_is_served() {
    let told = Told::default();
    tracing::subscriber::with_default(told.clone(), || {
        let mut rig = Rig::new(failing(1, no_memory), |_| {});
        let failed = rig.submit(echo("hi", 9));
        rig.run();
        let error = all(failed).1.unwrap_err().unwrap();
        assert_eq!((error.error_type(), error.is_client_error()), ("out_of_memory", false));
        let next = rig.submit(echo("why?", 9));
        rig.run();
        assert_eq!(all(next).0, alone("why?", 9));
    });
    let told = told.0.lock().unwrap();
    let critical: Vec<_> = told.iter().filter(|it| it.contains(" severity.number=21")).collect();
    assert_eq!(critical.len(), 1, "{told:#?}");
    for part in ["ERROR ", " error.type=\"out_of_memory\"", "CUDA_ERROR_OUT_OF_MEMORY"] {
        assert!(critical[0].contains(part), "{part}: {critical:?}");
    }
}

#[test]
fn what_cannot_be_read_fails_alone() {
    let mut rig = Rig::new(Setting::default(), |_| {});
    let good = rig.submit(echo("hi", 9));
    let mut bad = rig.submit(echo(&"long ".repeat(600), 9));
    let Ok(Event::Failed(error)) = bad.try_recv() else { panic!("it was taken") };
    assert_eq!((error.error_type(), error.is_client_error()), ("prompt_too_long", true));
    rig.run();
    assert_eq!(all(good).0, alone("hi", 9));
}
