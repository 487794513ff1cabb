//! The engine as its callers see it, on the tiny models in `tests/fixtures`.

use std::{fs, path::PathBuf, sync::Arc};

use ::image::DynamicImage;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    Adapter, AdapterSource, Config, DeviceChoice, DtypeChoice, EmbedError, EmbedInput,
    EmbedRequest, Embeddings, EngineHandle, Event, Finished, Job, Message, ModelSource, Part,
    Prompt, Sampling, Stats, SubmitError, start,
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

fn chat(model: &str, text: &str, images: &[&Arc<DynamicImage>], tokens: usize) -> Job {
    let mut job = job(model, text);
    job.sampling.max_tokens = Some(tokens);
    let content = content(&mut job);
    content.extend(images.iter().map(|image| Part::Image(Arc::clone(image))));
    job
}

/// Each job's text by itself and with all of them at once; and how that went.
fn alone_and_together(jobs: &[Job], alone: Config, together: Config) -> ([Vec<String>; 2], Stats) {
    let alone = start(Config { max_num_seqs: Some(1), prefix_caching: false, ..alone }).unwrap();
    let one = |job: &Job| finish(alone.submit(job.clone()).unwrap()).0;
    let expected = jobs.iter().map(one).collect();
    let together = start(Config { queue: jobs.len(), ..together }).unwrap();
    let running: Vec<_> = jobs.iter().map(|job| together.submit(job.clone()).unwrap()).collect();
    let found = running.into_iter().map(|events| finish(events).0).collect();
    ([expected, found], together.handle().stats())
}

#[test]
fn company_changes_no_text() {
    let texts = ["hello", "a longer question, which is read in pieces", "a longer answer", "why?"];
    let served = ["llama", "llama-lora", "llama-lora-b"];
    let jobs: Vec<Job> =
        (0..24).map(|at| chat(served[at % 3], texts[at / 3 % 4], &[], 6 + at / 3)).collect();
    let config = || config("llama", &served[1..]);
    let small_steps = Config { max_num_batched_tokens: Some(24), ..config() };
    let ([expected, found], stats) = alone_and_together(&jobs, config(), small_steps);
    assert_eq!(found, expected);
    assert!(stats.steps < stats.output_tokens, "nobody moved on together");
    assert!(stats.prefix_hits > 0);
    // The same question to each.
    let answers = [&found[12], &found[13], &found[14]];
    assert!(answers[0] != answers[1] && answers[1] != answers[2] && answers[0] != answers[2]);
}

#[test]
fn company_changes_no_picture() {
    let picture = |level: u8| {
        let pixels = ::image::RgbImage::from_fn(40, 30, |x, y| {
            ::image::Rgb([level, (x * 6) as u8, (y * 8) as u8])
        });
        Arc::new(DynamicImage::ImageRgb8(pixels))
    };
    let (red, dark) = (picture(250), picture(10));
    let jobs = [
        chat("llava", "what is it?", &[&red], 12),
        chat("llava", "what is it?", &[&dark], 12),
        chat("llava", "what is it?", &[&red], 12),
        chat("llava", "which is darker?", &[&red, &dark], 12),
        chat("llava", "no picture", &[], 12),
    ];
    // Pieces end within pictures.
    let small_steps = Config { max_num_batched_tokens: Some(10), ..config("llava", &[]) };
    let ([expected, found], _) = alone_and_together(&jobs, config("llava", &[]), small_steps);
    assert_eq!(found, expected);
    assert_ne!(found[0], found[1]);
}

/// A picture of this size whose colours depend on `level`.
fn sized(level: u32, width: u32, height: u32) -> Arc<DynamicImage> {
    let pixel = |x: u32, y: u32| ::image::Rgb([level, x * 6 + level, y * 8].map(|it| it as u8));
    Arc::new(DynamicImage::ImageRgb8(::image::RgbImage::from_fn(width, height, pixel)))
}

#[test]
fn images_of_any_size_become_as_many_tokens_as_they_need() {
    let engine = start(config("qwen3-vl", &[])).unwrap();
    for (sizes, tokens) in [
        (vec![], 0),
        (vec![(32, 32)], 16),
        (vec![(56, 24)], 21),
        (vec![(16, 40), (32, 24)], 22),
        (vec![(9, 9)], 4),
        (vec![(200, 150)], 54),
    ] {
        let pictures: Vec<_> =
            sizes.iter().map(|(width, height)| sized(7, *width, *height)).collect();
        let job = chat("qwen3-vl", "what is it?", &pictures.iter().collect::<Vec<_>>(), 4);
        let (_, finished) = finish(engine.submit(job).unwrap());
        assert_eq!(finished.image_tokens, tokens, "{sizes:?}");
        assert!(finished.input_tokens > tokens, "{sizes:?}");
    }
    let (thin, large) = (sized(7, 1, 500), sized(7, 64, 64));
    for (pictures, expected) in [(vec![&thin], "bad_image"), (vec![&large; 9], "prompt_too_long")] {
        let mut events = engine.submit(chat("qwen3-vl", "look", &pictures, 4)).unwrap();
        let Some(Event::Failed(error)) = events.blocking_recv() else { panic!("it was taken") };
        assert_eq!((error.error_type(), error.is_client_error()), (expected, true));
    }
}

#[test]
fn images_are_shrunk_to_the_tokens_that_they_may_have() {
    let engine = start(Config { image_tokens: Some(16), ..config("qwen3-vl", &[]) }).unwrap();
    for (width, height, tokens) in [(32, 32, 16), (64, 64, 16), (200, 150, 12), (9, 9, 4)] {
        let picture = sized(7, width, height);
        let job = chat("qwen3-vl", "what is it?", &[&picture], 4);
        let (_, finished) = finish(engine.submit(job).unwrap());
        assert_eq!(finished.image_tokens, tokens, "{width} x {height}");
    }
}

#[test]
fn company_changes_no_picture_of_any_size() {
    let (square, wide, high) = (sized(250, 40, 40), sized(10, 56, 24), sized(90, 30, 77));
    let ask = |text: &str, pictures: &[&Arc<DynamicImage>]| {
        let mut job = chat("qwen3-vl", text, pictures, 70);
        job.sampling.ignore_eos = true;
        job
    };
    let jobs = [
        ask("what is it?", &[&square]),
        ask("what is it?", &[&wide]),
        ask("what is it?", &[&square]),
        ask("which is larger?", &[&high, &square]),
        ask("no picture", &[]),
        ask("no picture, and a longer question", &[]),
    ];
    let plain = || config("qwen3-vl", &[]);
    // Pieces end within pictures.
    let small_steps = Config { max_num_batched_tokens: Some(10), ..plain() };
    let ([expected, found], _) = alone_and_together(&jobs, plain(), small_steps);
    assert_eq!(found, expected);
    // Who comes back after a while has its pictures looked at again.
    let small_cache = Config { kv_cache_bytes: Some(1), ..plain() };
    let ([expected, found], stats) = alone_and_together(&jobs, plain(), small_cache);
    assert_eq!(found, expected);
    assert!(stats.preemptions > 0, "nobody was preempted: the test tests nothing");
}

#[test]
fn a_picture_seen_before_is_not_read_again() {
    let (one, other) = (sized(250, 72, 56), sized(10, 72, 56));
    let ask = |picture: &Arc<DynamicImage>, question: &str| {
        let mut job = chat("qwen3-vl", "here is a picture:", &[picture], 12);
        let text =
            format!("now, with this picture before you, answer as well as you can: {question}");
        content(&mut job).push(Part::Text(text));
        job
    };
    let caching = start(config("qwen3-vl", &[])).unwrap();
    let plain = Config { prefix_caching: false, ..config("qwen3-vl", &[]) };
    let plain = start(plain).unwrap();
    let say = |job: Job| {
        let (text, finished) = finish(caching.submit(job.clone()).unwrap());
        assert_eq!(text, finish(plain.submit(job).unwrap()).0);
        assert_eq!(finished.image_tokens, 63);
        finished.cached_tokens
    };
    assert_eq!(say(ask(&one, "what is to be seen?")), 0);
    // What comes after the picture is there as well.
    assert!(say(ask(&one, "what is to be seen?")) >= 80);
    assert!(say(ask(&one, "how many are there?")) >= 80);
    // Another picture of the same size is another one.
    assert!(say(ask(&other, "what is to be seen?")) < 32);
}

#[test]
fn a_small_cache_changes_no_text() {
    let jobs: Vec<Job> =
        (0..6).map(|at| chat("llama", &format!("question {at}"), &[], 90)).collect();
    let small = Config { kv_cache_bytes: Some(128 << 10), ..config("llama", &[]) };
    let ([expected, found], stats) = alone_and_together(&jobs, config("llama", &[]), small);
    assert_eq!(found, expected);
    assert!(stats.preemptions > 0, "nobody was preempted: the test tests nothing");
}

#[test]
fn a_model_that_reads_one_text_at_a_time_serves_everybody() {
    let jobs: Vec<Job> =
        (0..6).map(|at| chat("gemma", &format!("the same question {}", at % 2), &[], 20)).collect();
    let small_steps = Config { max_num_batched_tokens: Some(8), ..config("gemma", &[]) };
    let ([expected, found], stats) = alone_and_together(&jobs, config("gemma", &[]), small_steps);
    assert_eq!(found, expected);
    assert_ne!(found[0], found[1]);
    assert_eq!((stats.prefix_hits, stats.preemptions), (0, 0));
}

fn embed(
    engine: &EngineHandle,
    model: &str,
    inputs: &[EmbedInput],
    dimensions: Option<usize>,
) -> Result<Embeddings, EmbedError> {
    embed_by(engine, model, None, inputs, dimensions)
}

fn embed_by(
    engine: &EngineHandle,
    model: &str,
    adapter: Option<&str>,
    inputs: &[EmbedInput],
    dimensions: Option<usize>,
) -> Result<Embeddings, EmbedError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let request = EmbedRequest {
        model: model.to_owned(),
        adapter_requested: adapter.map(str::to_owned),
        inputs: inputs.to_vec(),
        dimensions,
        span: tracing::Span::none(),
    };
    runtime.block_on(engine.embed(request))
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|it| it * it).sum::<f32>().sqrt()
}

#[test]
fn texts_become_vectors() {
    let engine = start(config("llama", &["llama-lora"])).unwrap();
    let handle = engine.handle();
    let texts = ["hello", "a longer question, which is read in pieces", "why?"];
    let inputs = texts.map(|it| EmbedInput::Text(it.to_owned()));
    let made = embed(&handle, "llama", &inputs, None).unwrap();
    let tokens = texts.map(|it| handle.tokenize("llama", it, true).unwrap());
    assert_eq!(made.input_tokens, tokens.iter().map(Vec::len).sum::<usize>());
    assert_eq!(made.vectors.len(), 3);
    for (at, vector) in made.vectors.iter().enumerate() {
        assert_eq!(vector.len(), handle.embedding_size());
        assert!((length(vector) - 1.0).abs() < 1e-5, "{}", length(vector));
        let alone = embed(&handle, "llama", &inputs[at..=at], None).unwrap();
        assert_eq!(alone.vectors[0], *vector);
        let told = [EmbedInput::Tokens(tokens[at].clone())];
        assert_eq!(embed(&handle, "llama", &told, None).unwrap().vectors[0], *vector);
        let adapted = embed(&handle, "llama-lora", &inputs[at..=at], None).unwrap();
        assert!(distance(&adapted.vectors[0], vector) > 1e-3);
        let named = Some("llama-lora");
        let beside = embed_by(&handle, "llama", named, &inputs[at..=at], None).unwrap();
        assert_eq!(beside, adapted);
        for other in &made.vectors[..at] {
            assert!(distance(other, vector) > 1e-3);
        }
    }
    let vector = &made.vectors[0];
    let short = embed(&handle, "llama", &inputs[..1], Some(3)).unwrap().vectors.remove(0);
    let first = &vector[..3];
    let scaled: Vec<f32> = first.iter().map(|it| it / length(first)).collect();
    assert!(distance(&short, &scaled) < 1e-5);

    // Read in pieces, it is the same but for the order of sums.
    let small = Config { max_num_batched_tokens: Some(3), ..config("llama", &[]) };
    let in_pieces = start(small).unwrap();
    let again = embed(&in_pieces.handle(), "llama", &inputs, None).unwrap();
    for (vector, again) in made.vectors.iter().zip(&again.vectors) {
        assert!(distance(vector, again) < 1e-4, "{}", distance(vector, again));
    }
}

#[test]
fn vectors_change_no_text() {
    let engine = start(config("llama", &["llama-lora"])).unwrap();
    let long = || {
        let mut job = job("llama", "hello");
        job.sampling.max_tokens = Some(60);
        job.sampling.ignore_eos = true;
        job
    };
    let alone = finish(engine.submit(long()).unwrap()).0;
    let running = engine.submit(long()).unwrap();
    let inputs: Vec<_> = (0..6).map(|at| EmbedInput::Text(format!("question {at}"))).collect();
    let made = embed(&engine.handle(), "llama-lora", &inputs, None).unwrap();
    assert_eq!(made.vectors.len(), 6);
    assert_eq!(finish(running).0, alone);
}

#[test]
fn texts_of_which_no_vector_can_be_made_are_refused() {
    let engine = start(config("llama", &[])).unwrap();
    let handle = engine.handle();
    let long = [EmbedInput::Text("long ".repeat(600))];
    let unknown = [EmbedInput::Tokens(vec![1, 99_999])];
    for (inputs, expected) in [(long, "prompt_too_long"), (unknown, "bad_prompt")] {
        let Err(EmbedError::Failed(error)) = embed(&handle, "llama", &inputs, None) else {
            panic!("it was taken");
        };
        assert_eq!((error.error_type(), error.is_client_error()), (expected, true));
    }
    let hello = [EmbedInput::Text("hello".to_owned())];
    let nobody = embed(&handle, "gpt", &hello, None).unwrap_err();
    assert_eq!(nobody, EmbedError::Refused(SubmitError::UnknownModel("gpt".into())));
    let nobody = embed_by(&handle, "llama", Some("sql"), &hello, None).unwrap_err();
    assert_eq!(nobody, EmbedError::Refused(SubmitError::UnknownModel("sql".into())));
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
