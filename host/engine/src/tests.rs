//! The engine as its callers see it, on the tiny models in `tests/fixtures`.

mod company;
mod vectors;

use std::{fs, path::PathBuf, sync::Arc};

use ::image::DynamicImage;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    Adapter, AdapterSource, Config, DeviceChoice, DtypeChoice, Event, Finished, Job, Message,
    ModelSource, Part, Prompt, Sampling, SubmitError, start,
};

/// A folder of the fixtures.
pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models")).join(name)
}

pub(crate) fn json_file(model: &str, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder(model).join(file)).unwrap()).unwrap()
}

/// A model of the fixtures with adapters of the fixtures, on the CPU.
pub(crate) fn config(model: &str, adapters: &[&str]) -> Config {
    let adapter = |name: &&str| Adapter {
        name: (*name).to_owned(),
        source: AdapterSource::Folder(folder(name)),
    };
    Config {
        model: ModelSource::Folder(folder(model)),
        name: None,
        adapters: adapters.iter().map(adapter).collect(),
        devices: vec![DeviceChoice::Cpu],
        dtype: DtypeChoice::Auto,
        queue: 8,
        max_num_seqs: None,
        max_num_batched_tokens: None,
        image_tokens: None,
        kv_cache_bytes: None,
        gpu_memory_utilization: None,
        prefix_caching: true,
        adapter_fallback: false,
        threads: 1,
        dequantize: false,
        nvml_library: Some(PathBuf::from("/nonexistent/libnvidia-ml.so")),
        before_step: None,
    }
}

/// One user message, at most eight tokens in answer.
pub(crate) fn job(model: &str, text: &str) -> Job {
    Job {
        model: model.to_owned(),
        adapter_requested: None,
        prompt: Prompt::Chat {
            messages: vec![Message {
                role: "user".into(),
                content: vec![Part::Text(text.into())],
                ..Message::default()
            }],
            tools: Vec::new(),
        }
        .into(),
        sampling: Sampling { max_tokens: Some(8), ..Sampling::default() },
        constraint: None,
        priority: 0,
        deadline: None,
        span: tracing::Span::none(),
    }
}

/// The parts of its one message.
fn content(job: &mut Job) -> &mut Vec<Part> {
    let Prompt::Chat { messages, .. } = Arc::make_mut(&mut job.prompt) else {
        panic!("no conversation")
    };
    &mut messages[0].content
}

fn finish(mut events: UnboundedReceiver<Event>) -> (String, Finished) {
    let Some(Event::Started { input_tokens, .. }) = events.blocking_recv() else {
        panic!("the job did not start");
    };
    let mut text = String::new();
    loop {
        match events.blocking_recv() {
            Some(Event::Text(piece)) => text.push_str(&piece.text),
            Some(Event::Finished(finished)) => {
                assert_eq!(finished.input_tokens, input_tokens);
                return (text, finished);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_model_and_its_adapter_are_served() {
    let engine = start(config("llama", &["llama-lora"])).unwrap();
    let names: Vec<_> = engine.models().iter().map(|model| model.name.clone()).collect();
    assert_eq!(names, ["llama", "llama-lora"]);
    assert_eq!(engine.device_name(), "cpu");
    let say = |job: Job| finish(engine.submit(job).unwrap());

    let (plain, finished) = say(job("llama", "hello"));
    assert!((1..=8).contains(&finished.output_tokens));
    assert_eq!(say(job("llama", "hello")).0, plain);
    let (adapted, _) = say(job("llama-lora", "hello"));
    assert_ne!(adapted, plain);
    let beside = Job { adapter_requested: Some("llama-lora".into()), ..job("llama", "hello") };
    assert_eq!(say(beside).0, adapted);
    engine.shutdown();
}

#[test]
fn images_become_tokens() {
    let engine = start(config("llava", &[])).unwrap();
    assert!(engine.model("llava").unwrap().vision);
    let mut job = job("llava", "what is it?");
    for (images, size) in [(0, (1, 1)), (1, (40, 30)), (2, (32, 200))] {
        let (width, height) = size;
        content(&mut job).truncate(1);
        for _ in 0..images {
            let image = Arc::new(DynamicImage::new_rgb8(width, height));
            content(&mut job).push(Part::Image(image));
        }
        let (_, finished) = finish(engine.submit(job.clone()).unwrap());
        assert_eq!(finished.image_tokens, images * 16);
        assert!(finished.input_tokens > images * 16);
    }
    let image = Part::Image(Arc::new(DynamicImage::new_rgb8(1, 500)));
    content(&mut job).push(image);
    let mut events = engine.submit(job).unwrap();
    let Some(Event::Failed(error)) = events.blocking_recv() else { panic!("it was taken") };
    assert_eq!((error.error_type(), error.is_client_error()), ("bad_image", true));
}

#[test]
fn jobs_that_cannot_run_are_not_taken() {
    let engine = start(config("llama", &["llama-lora"])).unwrap();
    let mut seeing = job("llama", "look");
    content(&mut seeing).push(Part::Image(Arc::new(DynamicImage::new_rgb8(1, 1))));
    let asking = |adapter: &str| Job {
        adapter_requested: Some(adapter.to_owned()),
        ..job("llama", "hello")
    };
    for (job, expected) in [
        (job("gpt", "hello"), SubmitError::UnknownModel("gpt".into())),
        (asking("sql"), SubmitError::UnknownModel("sql".into())),
        (seeing, SubmitError::NoVision("llama".into())),
    ] {
        assert_eq!(engine.submit(job).unwrap_err(), expected);
    }
    let mut events = engine.submit(job("llama", &"long ".repeat(600))).unwrap();
    let Some(Event::Failed(error)) = events.blocking_recv() else { panic!("it was taken") };
    assert_eq!((error.error_type(), error.is_client_error()), ("prompt_too_long", true));
}

#[test]
fn shutdown_finishes_what_was_taken() {
    let engine = start(Config { queue: 2, ..config("llama", &[]) }).unwrap();
    let handle = engine.handle();
    let long = || {
        let mut job = job("llama", "hello");
        job.sampling = Sampling { max_tokens: Some(300), temperature: 1.0, ..Sampling::default() };
        job
    };
    let mut taken = Vec::new();
    let full = loop {
        match handle.submit(long()) {
            Ok(events) => taken.push(events),
            Err(error) => break error,
        }
    };
    assert_eq!(full, SubmitError::QueueFull { capacity: 2 });
    // One of them is given up; the others must not notice.
    drop(taken.remove(0));
    engine.shutdown();
    assert_eq!(handle.submit(long()).unwrap_err(), SubmitError::ShuttingDown);
    assert_eq!(handle.waiting(), 0);
    for events in taken {
        finish(events);
    }
}

#[test]
fn what_cannot_be_loaded_is_an_error() {
    for config in [
        config("none", &[]),
        config("llama", &["none"]),
        config("llama", &["llama"]),
        config("llama", &["llama-lora", "llama-lora"]),
        config("llava", &["llama-lora"]),
        Config { dtype: DtypeChoice::Bf16, ..config("llama", &[]) },
        Config { devices: Vec::new(), ..config("llama", &[]) },
        Config {
            devices: vec![DeviceChoice::Cpu, DeviceChoice::Cuda(999)],
            ..config("llama", &[])
        },
        Config { model: ModelSource::Gguf(folder("llama/config.json")), ..config("llama", &[]) },
        Config { model: ModelSource::Embedded(&[]), ..config("llama", &[]) },
    ] {
        let Err(error) = start(config) else { panic!("it was loaded") };
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_model_that_is_calculated_in_one_type_says_so_before_it_is_read() {
    for dtype in [DtypeChoice::F16, DtypeChoice::Bf16] {
        let Err(error) = start(Config { dtype, ..config("gemma", &[]) }) else {
            panic!("it was loaded");
        };
        let error = error.to_string();
        assert!(error.starts_with("engine.dtype ") && error.contains("this family"), "{error}");
    }
    start(Config { dtype: DtypeChoice::F32, ..config("gemma", &[]) }).unwrap();
}

#[test]
fn nobody_says_the_token_of_an_image() {
    let engine = start(config("llava", &[])).unwrap();
    let mut job = job("llava", "hello");
    // The fixture's image token, whatever it takes.
    job.sampling.logit_bias = vec![(3, 100.0)];
    job.sampling.ignore_eos = true;
    let finished = finish(engine.submit(job).unwrap()).1;
    assert_eq!(finished.output_tokens, 8);
}
