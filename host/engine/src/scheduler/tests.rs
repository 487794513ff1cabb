//! The engine thread with a model whose every token depends on all that its cache holds of the text: whoever gets another's
//! blocks says something else.

mod echo;
mod embeds;
mod failures;
mod fleet;
mod mixes;
mod pictures;

use std::{path::Path, sync::Arc, time::Instant};

use candle_core::Device;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::echo::{Echo, Setting};
use super::{Reader, Scheduler, Stats, Ticket};
use crate::{
    Config, Engine, EngineError, Event, FinishReason, Finished, Job, LoadError, Prompt, Sampling,
    checkpoint::Files,
    engine::{ServedModel, launch},
    gpu::Gpu,
    load::{Loaded, LoadedAdapter},
    model::AdapterInfo,
    prompt::Prompter,
    tests::{config, folder, job, json_file},
    tokenizer::{Tokenizer, chat_template},
};

fn prompter() -> Prompter {
    let files = Files::Folder(folder("llama"));
    let tokenizer = Tokenizer::from_files(&files, &json_file("llama", "config.json")).unwrap();
    let template = chat_template(&files).unwrap().unwrap();
    Prompter::new(tokenizer, &template, None).unwrap()
}

fn tokens(text: &str) -> Vec<u32> {
    prompter().tokenizer().encode(text).unwrap()
}

fn changed(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config("llama", &[]);
    config.queue = 64;
    change(&mut config);
    config
}

/// A scheduler of an [`Echo`], with two adapters.
fn scheduler(setting: Setting, config: &Config) -> Scheduler {
    let served = ServedModel {
        name: "echo".to_owned(),
        parent: None,
        vision: false,
        context: setting.context,
        family: "echo",
        created: 0,
    };
    let adapter = |(name, modules): (&str, usize)| LoadedAdapter {
        served: ServedModel {
            name: name.to_owned(),
            parent: Some(served.name.clone()),
            ..served.clone()
        },
        info: AdapterInfo { modules },
    };
    let loaded = Loaded {
        adapters: [("one", 1), ("two", 2)].map(adapter).into(),
        served,
        model: Box::new(Echo::new(setting)),
        prompter: Arc::new(prompter()),
    };
    let gpu = Gpu::open(Some(Path::new("/nonexistent/libnvidia-ml.so")), None);
    Scheduler::new(loaded, config, None, Device::Cpu, gpu)
}

/// The same with its threads.
fn engine(setting: Setting, change: impl FnOnce(&mut Config)) -> Engine {
    engines([setting], change)
}

/// Several of them behind one handle.
fn engines(
    settings: impl IntoIterator<Item = Setting>,
    change: impl FnOnce(&mut Config),
) -> Engine {
    let load = |setting: Setting| {
        move |config: &Config| -> Result<Scheduler, LoadError> { Ok(scheduler(setting, config)) }
    };
    launch(changed(change), settings.into_iter().map(load).collect()).unwrap()
}

/// A scheduler without threads, step by step.
struct Rig {
    scheduler: Scheduler,
    reader: Reader,
    submitted: u64,
}

impl Rig {
    fn new(setting: Setting, change: impl FnOnce(&mut Config)) -> Self {
        Self::of(scheduler(setting, &changed(change)))
    }

    fn of(scheduler: Scheduler) -> Self {
        let reader = scheduler.reader();
        Self { scheduler, reader, submitted: 0 }
    }

    fn submit(&mut self, job: Job) -> UnboundedReceiver<Event> {
        let (events, receiver) = unbounded_channel();
        self.submitted += 1;
        let served = self.scheduler.registry().find(&job.model).unwrap();
        let ready = self.reader.read(&job);
        let number = self.submitted;
        let submitted = Instant::now();
        let ticket = Ticket { job, number, served, events, submitted, place: None, counted: None };
        self.scheduler.take(ticket, ready);
        receiver
    }

    fn step(&mut self) {
        self.scheduler.sweep();
        self.scheduler.step();
        self.scheduler.drain();
    }

    /// Steps until nothing is left.
    fn run(&mut self) {
        for _ in 0..10_000 {
            self.scheduler.sweep();
            if self.scheduler.jobs.is_empty() {
                let stats = self.stats();
                assert_eq!(stats.free_blocks, stats.blocks, "blocks are free again");
                return;
            }
            self.step();
        }
        panic!("jobs do not end");
    }

    fn stats(&mut self) -> Stats {
        self.scheduler.count();
        self.scheduler.stats
    }
}

fn echo(text: &str, max_tokens: usize) -> Job {
    let sampling = Sampling { max_tokens: Some(max_tokens), ..Sampling::default() };
    Job { sampling, prompt: Prompt::Text(text.to_owned()).into(), ..job("echo", "") }
}

/// The whole text and the last event.
fn all(mut events: UnboundedReceiver<Event>) -> (String, Result<Finished, Option<EngineError>>) {
    let mut text = String::new();
    let mut started = None;
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Started { input_tokens, cached_tokens } => {
                assert_eq!(started.replace((input_tokens, cached_tokens)), None);
            }
            Event::Text(piece) => text.push_str(&piece.text),
            Event::Finished(finished) => {
                assert_eq!(started, Some((finished.input_tokens, finished.cached_tokens)));
                assert!(events.blocking_recv().is_none(), "something comes after the end");
                let it = finished.timings;
                assert_eq!(it.first_token, it.queue + it.prefill);
                assert_eq!(it.generation, it.prefill + it.decode);
                return (text, Ok(finished));
            }
            Event::Failed(error) => {
                assert!(events.blocking_recv().is_none(), "something comes after the end");
                return (text, Err(Some(error)));
            }
        }
    }
    (text, Err(None))
}

fn say(engine: &Engine, job: Job) -> String {
    let (text, end) = all(engine.submit(job).unwrap());
    end.unwrap();
    text
}

/// Waits for the first event: the job has been admitted.
fn started(events: &mut UnboundedReceiver<Event>) -> usize {
    match events.blocking_recv() {
        Some(Event::Started { cached_tokens, .. }) => cached_tokens,
        other => panic!("{other:?}"),
    }
}

#[test]
fn generations_end_where_they_should() {
    let limited = |max| Sampling { max_tokens: Some(max), ..Sampling::default() };
    let stopping = |stop: &str| Sampling { stop: vec![stop.into()], ..Sampling::default() };
    let stubborn = Sampling { ignore_eos: true, ..limited(12) };
    for (says, sampling, expected, reason, count) in [
        ("hello<|im_end|>", Sampling::default(), "hello", FinishReason::Stop, None),
        ("🎯<|im_end|>", Sampling::default(), "🎯", FinishReason::Stop, None),
        ("a", limited(3), "aaa", FinishReason::Length, Some(3)),
        ("a", limited(0), "", FinishReason::Length, Some(0)),
        ("abc", stopping("ca"), "ab", FinishReason::Stop, None),
        ("abc<|im_end|>", stopping("cx"), "abc", FinishReason::Stop, None),
        ("<|im_end|>", stubborn, "", FinishReason::Length, Some(12)),
    ] {
        let setting = Setting { says: tokens(says), ..Setting::default() };
        let engine = engine(setting, |_| {});
        let (text, end) = all(engine.submit(Job { sampling, ..echo("hi", 0) }).unwrap());
        let finished = end.unwrap();
        assert_eq!((text.as_str(), finished.reason), (expected, reason), "{says}");
        assert!(count.is_none_or(|it| it == finished.output_tokens), "{says}");
    }
}

#[test]
fn the_context_is_never_overrun() {
    // Once it is the model's, once that of a cache which holds less.
    for (blocks, context) in [(64, 40), (8, 32)] {
        let setting = Setting { says: tokens("a"), context: 40, blocks, ..Setting::default() };
        let engine = engine(setting, |_| {});
        assert_eq!(engine.models()[0].context, context);
        let (_, end) =
            all(engine.submit(Job { sampling: Sampling::default(), ..echo("hi", 0) }).unwrap());
        let finished = end.unwrap();
        assert_eq!(finished.input_tokens + finished.output_tokens, context);
        assert_eq!(finished.reason, FinishReason::Length);
        let (_, end) = all(engine.submit(echo(&"long ".repeat(60), 1)).unwrap());
        assert_eq!(end.unwrap_err().unwrap().error_type(), "prompt_too_long");
    }
}

#[test]
fn log_probabilities_come_with_their_text() {
    let setting = Setting { says: tokens("héllo<|im_end|>"), ..Setting::default() };
    let engine = engine(setting, |_| {});
    let mut job = echo("hi", 100);
    job.sampling.logprobs = Some(2);
    let mut events = engine.submit(job).unwrap();
    let (mut bytes, mut text) = (Vec::new(), String::new());
    while let Some(event) = events.blocking_recv() {
        let Event::Text(piece) = event else { continue };
        text.push_str(&piece.text);
        for token in piece.logprobs {
            assert_eq!((token.top.len(), &token.top[0]), (2, &token.token));
            assert!(token.token.logprob < 0.0);
            bytes.extend(token.token.bytes);
        }
    }
    assert_eq!((text.as_str(), String::from_utf8(bytes).unwrap().as_str()), ("héllo", "héllo"));
}

#[test]
fn a_full_queue_refuses_and_forgets_nobody() {
    let (setting, gate) = Setting::default().gated();
    let engine = engine(setting, |it| (it.queue, it.max_num_seqs) = (2, Some(1)));
    let mut running = engine.submit(echo("a", 2)).unwrap();
    started(&mut running);
    let waiting = [engine.submit(echo("b", 2)).unwrap(), engine.submit(echo("c", 2)).unwrap()];
    let handle = engine.handle();
    assert_eq!((handle.waiting(), handle.capacity()), (2, 2));
    let refused = engine.submit(echo("d", 2)).unwrap_err();
    assert_eq!(refused, crate::SubmitError::QueueFull { capacity: 2 });
    drop(gate);
    engine.shutdown();
    for events in waiting {
        all(events).1.unwrap();
    }
    assert_eq!(handle.waiting(), 0);
    assert_eq!(handle.submit(echo("e", 2)).unwrap_err(), crate::SubmitError::ShuttingDown);
}

#[test]
fn priority_goes_before_arrival() {
    let mut rig = Rig::new(Setting::default(), |it| it.max_num_seqs = Some(1));
    let jobs = [("late", 1), ("next", 0), ("then", 0), ("now", -1)];
    let mut waiting: Vec<_> = jobs
        .into_iter()
        .map(|(name, priority)| (name, rig.submit(Job { priority, ..echo(name, 1) })))
        .collect();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        rig.step();
        waiting.retain_mut(|(name, events)| {
            let waits = events.try_recv().is_err();
            if !waits {
                order.push(*name);
            }
            waits
        });
    }
    assert_eq!(order, ["now", "next", "then", "late"]);
}

#[test]
fn nobody_is_overtaken_for_ever() {
    let mut rig = Rig::new(Setting::default(), |it| it.max_num_seqs = Some(1));
    let mut patient = rig.submit(Job { priority: 1, ..echo("patient", 1) });
    // As if the engine had begun a minute before the next one came.
    rig.scheduler.began -= std::time::Duration::from_secs(60);
    let mut pushy = rig.submit(Job { priority: 0, ..echo("pushy", 1) });
    rig.step();
    assert!(patient.try_recv().is_ok());
    assert!(pushy.try_recv().is_err());
}

#[test]
fn a_job_that_nobody_waits_for_frees_its_blocks_within_a_step() {
    let mut rig = Rig::new(Setting::default(), |_| {});
    let all_blocks = rig.stats().free_blocks;
    let (gone, mut stays) =
        (rig.submit(echo(&"gone ".repeat(8), 60)), rig.submit(echo("stays", 90)));
    rig.step();
    started(&mut stays);
    let held = all_blocks - rig.stats().free_blocks;
    drop(gone);
    rig.step();
    assert_eq!((rig.stats().running, rig.scheduler.jobs.len()), (1, 1));
    assert!(all_blocks - rig.stats().free_blocks < held);
    drop(stays);
    rig.run();
}

#[test]
fn a_job_fails_at_its_deadline_wherever_it_is() {
    let mut rig = Rig::new(Setting::default(), |it| it.max_num_seqs = Some(1));
    let late = |text| Job { deadline: Some(Instant::now()), ..echo(text, 90) };
    let mut runs = rig.submit(echo("runs", 20));
    rig.step();
    started(&mut runs);
    let number = rig.submitted;
    let waits = rig.submit(late("waits"));
    rig.step();
    assert_eq!(all(waits).1.unwrap_err().unwrap().error_type(), "deadline_exceeded");
    rig.scheduler.jobs.get_mut(&number).unwrap().ticket.job.deadline = Some(Instant::now());
    rig.step();
    let mut last = None;
    while let Ok(event) = runs.try_recv() {
        last = Some(event);
    }
    assert_eq!(last, Some(Event::Failed(EngineError::DeadlineExceeded)));
    rig.run();
}

#[test]
fn counts_are_those_of_the_jobs() {
    let mut rig = Rig::new(Setting::default(), |_| {});
    let prompt = "some words that are the same every time, over and over";
    let mut sums = (0, 0, 0);
    for _ in 0..3 {
        let events = rig.submit(echo(prompt, 9));
        rig.run();
        let finished = all(events).1.unwrap();
        sums.0 += finished.input_tokens;
        sums.1 += finished.cached_tokens;
        sums.2 += finished.output_tokens;
    }
    let stats = rig.stats();
    assert_eq!(stats.prefix_queries, sums.0 as u64);
    assert_eq!(stats.prefix_hits, sums.1 as u64);
    assert_eq!(stats.prompt_tokens, (sums.0 - sums.1) as u64);
    assert_eq!(stats.output_tokens, sums.2 as u64);
    assert!(sums.1 > 0 && stats.steps >= 27);
    assert_eq!(stats.step_tokens.sum, stats.prompt_tokens + stats.output_tokens);
    let steps: u64 = stats.step_tokens.counts.iter().sum();
    assert!((27..=stats.steps).contains(&steps), "{stats:?}");
    assert_eq!((stats.running, stats.waiting), (0, 0));
}
