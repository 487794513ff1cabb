//! Texts of which vectors are wanted are read between the steps of jobs.

use std::{
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::Builder,
    sync::oneshot::{self, Receiver},
};

use super::{Rig, Setting, all, echo, engine, tokens};
use crate::{
    EmbedError, EmbedInput, EmbedRequest, EngineError, SubmitError,
    scheduler::{Embed, Place},
};

const LONG: &str = "some words that need more than one step to read, and some more";

type Answer = Receiver<Result<Vec<Vec<f32>>, EngineError>>;

fn embed(rig: &mut Rig, model: &str, texts: Vec<Vec<u32>>) -> Answer {
    let (reply, answer) = oneshot::channel();
    let number = rig.submitted + 1;
    rig.submitted += texts.len() as u64;
    let served = rig.scheduler.registry().find(model).unwrap();
    let place = Place::take(&Arc::new(AtomicUsize::new(0)), 1).unwrap();
    rig.scheduler.take_embed(Embed { number, served, texts, reply, place });
    answer
}

fn run(rig: &mut Rig) {
    for _ in 0..10_000 {
        if rig.scheduler.is_idle() {
            let stats = rig.stats();
            assert_eq!(stats.free_blocks, stats.blocks, "blocks are free again");
            return;
        }
        rig.scheduler.turn();
    }
    panic!("it does not end");
}

fn states(answer: Answer) -> Vec<Vec<f32>> {
    answer.blocking_recv().unwrap().unwrap()
}

fn small_steps() -> Rig {
    Rig::new(Setting::default(), |it| it.max_num_batched_tokens = Some(8))
}

#[test]
fn vectors_and_answers_change_nothing_of_each_other() {
    let texts = || vec![tokens(LONG), tokens("short")];
    let mut rig = small_steps();
    let answer = embed(&mut rig, "echo", texts());
    run(&mut rig);
    let alone = states(answer);
    assert_eq!(alone.len(), 2);
    assert_ne!(alone[0], alone[1]);
    let job = rig.submit(echo(LONG, 30));
    rig.run();
    let text = all(job).0;

    let mut rig = small_steps();
    let before = rig.submit(echo(LONG, 30));
    rig.step();
    let mut together = embed(&mut rig, "echo", texts());
    let adapted = embed(&mut rig, "one", vec![tokens("short")]);
    rig.scheduler.turn();
    assert!(together.try_recv().is_err(), "a step's budget was not kept");
    let after = rig.submit(echo(LONG, 30));
    run(&mut rig);
    assert_eq!(states(together), alone);
    assert_ne!(states(adapted)[0], alone[1]);
    assert_eq!((all(before).0, all(after).0), (text.clone(), text));
}

#[test]
fn requests_take_turns() {
    let mut rig = small_steps();
    let mut many = embed(&mut rig, "echo", vec![tokens("many"); 9]);
    let mut one = embed(&mut rig, "echo", vec![tokens("one")]);
    rig.scheduler.turn();
    rig.scheduler.turn();
    assert!(one.try_recv().is_ok());
    assert!(many.try_recv().is_err());
    run(&mut rig);
    assert_eq!(states(many).len(), 9);
}

#[test]
fn short_texts_share_a_step() {
    let mut rig = Rig::new(Setting::default(), |_| {});
    let texts: Vec<_> = ["one", "two", "three", "four"].map(tokens).into();
    let together = embed(&mut rig, "echo", texts.clone());
    rig.scheduler.turn();
    assert!(rig.scheduler.is_idle(), "one step was not enough");
    let together = states(together);
    for (text, state) in texts.into_iter().zip(together) {
        let alone = embed(&mut rig, "echo", vec![text]);
        run(&mut rig);
        assert_eq!(states(alone), [state]);
    }
}

#[test]
fn what_was_read_is_kept_while_there_is_no_room() {
    let setting = Setting { blocks: 8, ..Setting::default() };
    let mut rig = Rig::new(setting, |it| it.max_num_batched_tokens = Some(8));
    // All blocks for the second text, and a job that comes between.
    let answer = embed(&mut rig, "echo", vec![tokens("hi"), vec![100; 30]]);
    rig.scheduler.turn();
    let job = rig.submit(echo("hi", 5));
    run(&mut rig);
    all(job).1.unwrap();
    assert_eq!(states(answer).len(), 2);
}

#[test]
fn a_failure_costs_the_request_alone() {
    let panics: fn() -> EngineError = || panic!("a bad kernel");
    let setting = Setting { fails: vec![(1, panics)], ..Setting::default() };
    let mut rig = Rig::new(setting, |_| {});
    let broken = embed(&mut rig, "echo", vec![tokens(LONG)]);
    let sound = embed(&mut rig, "echo", vec![tokens(LONG)]);
    run(&mut rig);
    let error = broken.blocking_recv().unwrap().unwrap_err();
    assert_eq!(error.error_type(), "panicked");
    assert_eq!(states(sound).len(), 1);
}

#[test]
fn a_cache_that_is_in_use_is_told_and_not_waited_for() {
    let setting = Setting { blocks: 8, ..Setting::default() };
    let mut rig = Rig::new(setting, |_| {});
    let job = rig.submit(echo("hi", 5));
    rig.step();
    // All eight blocks of four tokens.
    let whole = || vec![vec![100; 30]];
    let refused = embed(&mut rig, "echo", whole());
    run(&mut rig);
    let error = refused.blocking_recv().unwrap().unwrap_err();
    assert_eq!(error, EngineError::CacheFull);
    all(job).1.unwrap();
    let taken = embed(&mut rig, "echo", whole());
    run(&mut rig);
    assert_eq!(states(taken).len(), 1);
}

#[test]
fn what_nobody_waits_for_frees_its_blocks() {
    let mut rig = small_steps();
    let answer = embed(&mut rig, "echo", vec![tokens(LONG); 3]);
    rig.scheduler.turn();
    let stats = rig.stats();
    assert!(stats.free_blocks < stats.blocks, "nothing is under way");
    drop(answer);
    rig.scheduler.turn();
    assert!(rig.scheduler.is_idle());
    run(&mut rig);
}

#[test]
fn no_more_than_64_requests_wait() {
    let (setting, gate) = Setting::default().gated();
    let engine = engine(setting, |_| {});
    let handle = engine.handle();
    let runtime = Builder::new_current_thread().build().unwrap();
    let ask = || {
        let inputs = vec![EmbedInput::Text("hi".to_owned())];
        handle.embed(EmbedRequest {
            model: "echo".to_owned(),
            adapter_requested: None,
            inputs,
            dimensions: None,
            span: tracing::Span::none(),
        })
    };
    let mut waiting: Vec<_> = (0..64).map(|_| Box::pin(ask())).collect();
    {
        let _inside = runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        for it in &mut waiting {
            assert!(it.as_mut().poll(&mut context).is_pending());
        }
        let full = EmbedError::Refused(SubmitError::QueueFull { capacity: 64 });
        assert_eq!(pin!(ask()).poll(&mut context), Poll::Ready(Err(full)));
    }
    drop(gate);
    for it in waiting {
        assert_eq!(runtime.block_on(it).unwrap().vectors.len(), 1);
    }
    runtime.block_on(ask()).unwrap();
    assert!(handle.is_running());
    engine.shutdown();
    assert!(!handle.is_running());
    let over = EmbedError::Refused(SubmitError::ShuttingDown);
    assert_eq!(runtime.block_on(ask()).unwrap_err(), over);
}
