use std::{path::Path, sync::Arc, time::Instant};

use candle_core::{Device, Tensor};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Queued, Worker};
use crate::{
    checkpoint::Files,
    engine::ServedModel,
    error::EngineError,
    gpu::Gpu,
    job::{Event, FinishReason, Sampling},
    load::Loaded,
    model::{Model, Prompt},
    prompt::Prompter,
    tests::{folder, job, json_file},
    tokenizer::{Tokenizer, chat_template},
};

/// Says the same tokens for ever, or fails in some way.
struct Parrot {
    says: Vec<u32>,
    at: usize,
    fails: Option<fn() -> EngineError>,
}

impl Parrot {
    fn logits(&mut self) -> Result<Tensor, EngineError> {
        if let Some(fail) = self.fails.take() {
            return Err(fail());
        }
        let mut logits = vec![0f32; 512];
        logits[self.says[self.at % self.says.len()] as usize] = 1.0;
        self.at += 1;
        Ok(Tensor::new(logits, &Device::Cpu)?)
    }
}

impl Model for Parrot {
    fn family(&self) -> &'static str {
        "parrot"
    }

    fn context(&self) -> usize {
        64
    }

    fn prefill(&mut self, _: &Prompt<'_>) -> Result<Tensor, EngineError> {
        self.reset();
        self.logits()
    }

    fn step(&mut self, _: u32) -> Result<Tensor, EngineError> {
        self.logits()
    }

    fn reset(&mut self) {
        self.at = 0;
    }
}

fn worker(text: &str, fails: Option<fn() -> EngineError>) -> Worker {
    let files = Files::Folder(folder("llama"));
    let tokenizer = Tokenizer::from_files(&files, &json_file("llama", "config.json")).unwrap();
    let says = tokenizer.encode(text).unwrap();
    let template = chat_template(&files).unwrap().unwrap();
    let loaded = Loaded {
        served: ServedModel {
            name: "parrot".into(),
            parent: None,
            vision: false,
            context: 64,
            family: "parrot",
            created: 0,
        },
        model: Box::new(Parrot { says, at: 0, fails }),
        prompter: Arc::new(Prompter::new(tokenizer, &template, None).unwrap()),
        adapter_modules: 0,
    };
    let gpu = Gpu::open(Some(Path::new("/nonexistent/libnvidia-ml.so")), None);
    Worker { models: vec![loaded], device: Device::Cpu, gpu }
}

fn run(worker: &mut Worker, sampling: Sampling) -> UnboundedReceiver<Event> {
    let (events, receiver) = unbounded_channel();
    let job = crate::job::Job { sampling, ..job("parrot", "hi") };
    worker.run(&Queued { job, model: 0, events, submitted: Instant::now() });
    receiver
}

fn all(mut receiver: UnboundedReceiver<Event>) -> (String, Option<Event>) {
    let mut text = String::new();
    let mut last = None;
    while let Some(event) = receiver.blocking_recv() {
        match event {
            Event::Text(piece) => text.push_str(&piece),
            other => last = Some(other),
        }
    }
    (text, last)
}

#[test]
fn generations_end_where_they_should() {
    let limited = |max| Sampling { max_tokens: Some(max), ..Sampling::default() };
    let stopping = |stop: &str| Sampling { stop: vec![stop.into()], ..Sampling::default() };
    for (says, sampling, expected, reason) in [
        ("hello<|im_end|>", Sampling::default(), "hello", FinishReason::Stop),
        ("🎯<|im_end|>", Sampling::default(), "🎯", FinishReason::Stop),
        ("a", limited(3), "aaa", FinishReason::Length),
        ("a", limited(0), "", FinishReason::Length),
        ("abc", stopping("ca"), "ab", FinishReason::Stop),
        ("abc<|im_end|>", stopping("cx"), "abc", FinishReason::Stop),
    ] {
        let (text, last) = all(run(&mut worker(says, None), sampling));
        assert_eq!(text, expected, "{says}");
        let Some(Event::Finished(finished)) = last else { panic!("{says}: {last:?}") };
        assert_eq!(finished.reason, reason, "{says}");
        let timings = finished.timings;
        assert_eq!(timings.first_token, timings.queue + timings.prefill);
        assert_eq!(timings.generation, timings.prefill + timings.decode);
    }
}

#[test]
fn the_context_is_never_overrun() {
    let (_, last) = all(run(&mut worker("a", None), Sampling::default()));
    let Some(Event::Finished(finished)) = last else { panic!("{last:?}") };
    assert_eq!(finished.input_tokens + finished.output_tokens, 64);
    assert_eq!(finished.reason, FinishReason::Length);
}

#[test]
fn a_failure_ends_one_job_only() {
    let failures: [(fn() -> EngineError, &str); 3] = [
        (|| panic!("a bad kernel\nwith a backtrace"), "panicked"),
        (|| candle_core::Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".into()).into(), "out_of_memory"),
        (|| candle_core::Error::Msg("shape mismatch\n  backtrace".into()).into(), "internal"),
    ];
    for (fails, expected) in failures {
        let mut worker = worker("ok<|im_end|>", Some(fails));
        let (_, last) = all(run(&mut worker, Sampling::default()));
        let Some(Event::Failed(error)) = last else { panic!("{expected}: {last:?}") };
        assert_eq!(error.error_type(), expected);
        assert!(!error.to_string().contains("backtrace"), "{error}");
        let (text, last) = all(run(&mut worker, Sampling::default()));
        assert_eq!(text, "ok", "after {expected}");
        assert!(matches!(last, Some(Event::Finished(_))));
    }
}

#[test]
fn nvml_that_is_not_there_is_said_once() {
    let summary = worker("a", None).gpu_summary();
    assert!(summary.gpus.is_empty());
    assert!(
        summary.to_string().starts_with("no GPU memory readings: NVML is not there ("),
        "{summary}"
    );
}
