//! The engine on a GPU: what it says, what it tells of memory, what a GPU without memory does to it, and its times.
//!
//! `just gpu-test` runs it. Where CUDA finds no device there is nothing to test, and each test says so. One test runs at a time:
//! they share the device's memory.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends by its panic, in helpers too"
)]

use std::{
    fmt::{self, Write as _},
    fs,
    io::{Write as _, stderr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use engine::{
    Adapter, AdapterSource, Config, DeviceChoice, DtypeChoice, Engine, EngineError, Event,
    Finished, Job, LoadError, ModelSource, Prompt, Sampling, start,
};
use serde_json::Value;
use tracing::{
    Metadata, Span, Subscriber,
    field::{Field, Visit},
    span,
};

/// Tokens of an answer in the golden files.
const TOKENS: usize = 24;
/// How many of the likeliest tokens are compared.
const LIKELY: usize = 20;
/// What `bf16` may change of a logarithm: the likeliest logits of the fixtures are 3 to 4, where one rounding is up to 1/128, and an
/// answer has been rounded some dozen times. Not measured.
const HALF_NOISE: f32 = 0.2;
/// The least that is taken of the device's memory at once, in bytes.
const CRUMB: usize = 4 << 10;

static ONE: Mutex<()> = Mutex::new(());
static TOLD: Told = Told(Mutex::new(Vec::new()));

/// Every event of the process: its level, and its fields by name.
struct Told(Mutex<Vec<String>>);

struct Listener;

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Listener {
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
        TOLD.lock().push(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events have this in them.
    fn count(&self, part: &str) -> usize {
        self.lock().iter().filter(|it| it.contains(part)).count()
    }
}

/// Begins a test: none other runs, and nothing has been told.
fn alone() -> MutexGuard<'static, ()> {
    static LISTENING: Once = Once::new();
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    LISTENING.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
    TOLD.lock().clear();
    guard
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models")).join(name)
}

/// A model of the fixtures on the first GPU; none where there is no GPU.
fn engine(model: &str, adapters: &[&str], dtype: DtypeChoice) -> Option<Engine> {
    changed(model, adapters, dtype, |_| {})
}

/// The same with something else in its configuration.
fn changed(
    model: &str,
    adapters: &[&str],
    dtype: DtypeChoice,
    change: impl FnOnce(&mut Config),
) -> Option<Engine> {
    let adapter = |name: &&str| Adapter {
        name: (*name).to_owned(),
        source: AdapterSource::Folder(folder(name)),
    };
    let mut config = Config {
        model: ModelSource::Folder(folder(model)),
        name: None,
        adapters: adapters.iter().map(adapter).collect(),
        devices: vec![DeviceChoice::Cuda(0)],
        dtype,
        queue: 64,
        max_num_seqs: None,
        max_num_batched_tokens: None,
        image_tokens: None,
        kv_cache_bytes: Some(64 << 20),
        gpu_memory_utilization: None,
        prefix_caching: false,
        adapter_fallback: false,
        threads: 1,
        dequantize: false,
        nvml_library: None,
        before_step: None,
    };
    change(&mut config);
    match start(config) {
        Ok(engine) => Some(engine),
        Err(LoadError::Device(why)) => {
            skip(&why);
            None
        }
        Err(error) => panic!("{model}: {error}"),
    }
}

fn skip(why: &str) {
    let _ = writeln!(stderr(), "skipped: {why}");
}

/// Greedy, and as long as `tokens` says.
fn job(model: &str, prompt: Vec<u32>, tokens: usize) -> Job {
    Job {
        model: model.to_owned(),
        adapter_requested: None,
        prompt: Arc::new(Prompt::Tokens(prompt)),
        sampling: Sampling {
            max_tokens: Some(tokens),
            ignore_eos: true,
            logprobs: Some(0),
            ..Sampling::default()
        },
        constraint: None,
        priority: 0,
        deadline: None,
        span: Span::none(),
    }
}

/// The tokens of an answer.
fn say(engine: &Engine, job: Job) -> Result<(Vec<u32>, Finished), EngineError> {
    let mut events = engine.submit(job).unwrap();
    let mut tokens = Vec::new();
    loop {
        match events.blocking_recv().unwrap() {
            Event::Started { .. } => {}
            Event::Text(piece) => {
                assert!(piece.logprobs.iter().all(|it| it.token.logprob.is_finite()));
                tokens.extend(piece.logprobs.iter().map(|it| it.token.id));
            }
            Event::Finished(finished) => return Ok((tokens, finished)),
            Event::Failed(error) => return Err(error),
        }
    }
}

fn tokens(value: &Value) -> Vec<u32> {
    let token = |it: &Value| u32::try_from(it.as_u64().unwrap()).unwrap();
    value.as_array().unwrap().iter().map(token).collect()
}

/// The cases of a golden file: the served name, the prompt, the answer.
fn golden(model: &str) -> Vec<(String, Vec<u32>, Vec<u32>)> {
    let text = fs::read_to_string(folder(model).join("golden.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let mut cases = Vec::new();
    for (part, list) in file.as_object().unwrap() {
        let name = if part == "base" { model.to_owned() } else { format!("{model}-{part}") };
        for case in list.as_array().unwrap() {
            cases.push((name.clone(), tokens(&case["prompt"]), tokens(&case["tokens"])));
        }
    }
    cases
}

#[test]
fn in_f32_it_says_what_the_reference_says() {
    let _alone = alone();
    let models: [(&str, &[&str]); 6] = [
        ("llama", &["llama-lora", "llama-lora-b"]),
        ("smollm2", &[]),
        ("mistral", &[]),
        ("qwen2", &[]),
        ("qwen3", &["qwen3-lora"]),
        ("gemma", &[]),
    ];
    for (model, adapters) in models {
        let Some(engine) = engine(model, adapters, DtypeChoice::F32) else { return };
        assert_eq!(engine.device_name(), "cuda:0");
        for (name, prompt, expected) in golden(model) {
            let (said, _) = say(&engine, job(&name, prompt, TOKENS)).unwrap();
            assert_eq!(said, expected, "{name}");
        }
        // All at once, adapters and lengths mixed.
        std::thread::scope(|scope| {
            for (name, prompt, expected) in golden(model) {
                let engine = &engine;
                scope.spawn(move || {
                    let (said, _) = say(engine, job(&name, prompt, TOKENS)).unwrap();
                    assert_eq!(said, expected, "{name}, beside others");
                });
            }
        });
        engine.shutdown();
    }
}

/// The likeliest next tokens after a text, and their logarithms.
fn likely(engine: &Engine, model: &str, prompt: Vec<u32>) -> Vec<(u32, f32)> {
    let mut job = job(model, prompt, 1);
    job.sampling.logprobs = Some(LIKELY);
    let mut events = engine.submit(job).unwrap();
    let mut likely = Vec::new();
    while let Some(event) = events.blocking_recv() {
        if let Event::Text(piece) = event {
            let top = piece.logprobs.iter().flat_map(|it| &it.top);
            likely.extend(top.map(|it| (it.id, it.logprob)));
        }
    }
    likely
}

/// With the feature `flash-attn` these are its kernels, against candle's operations, which `f32` stays with.
#[test]
fn in_half_the_bits_it_says_nearly_the_same() {
    let _alone = alone();
    // Read in pieces: their queries look back on what earlier steps left in the cache. Mistral's look back on a window.
    let pieces = |config: &mut Config| config.max_num_batched_tokens = Some(16);
    for (model, adapters) in [("llama", &["llama-lora"][..]), ("mistral", &[])] {
        let names = || std::iter::once(&model).chain(adapters);
        let told = |dtype| {
            let engine = changed(model, adapters, dtype, pieces)?;
            let told: Vec<_> =
                names().map(|name| likely(&engine, name, (4..100).collect())).collect();
            for name in names() {
                let (said, finished) = say(&engine, job(name, (4..100).collect(), TOKENS)).unwrap();
                assert_eq!((said.len(), finished.output_tokens), (TOKENS, TOKENS), "{dtype:?}");
            }
            engine.shutdown();
            Some(told)
        };
        let Some(whole) = told(DtypeChoice::F32) else { return };
        for dtype in [DtypeChoice::Auto, DtypeChoice::Bf16, DtypeChoice::F16] {
            for (whole, half) in whole.iter().zip(told(dtype).unwrap()) {
                let (id, logprob) = whole[0];
                let near = |it: &(u32, f32)| it.0 == id && (it.1 - logprob).abs() < HALF_NOISE;
                assert!(half.iter().any(near), "{model} {dtype:?}: {whole:?} {half:?}");
            }
        }
    }
}

#[test]
fn memory_is_told_before_and_after() {
    let _alone = alone();
    let Some(engine) = engine("llama", &[], DtypeChoice::Auto) else { return };
    // By NVML, or where there is none by CUDA: there are readings in any case.
    let _ = writeln!(stderr(), "{}", engine.gpu_summary());
    assert!(engine.gpu_summary().gpus.iter().all(|it| it.memory > 0));
    say(&engine, job("llama", vec![7; 100], TOKENS)).unwrap();
    // The last event of a job comes before its reading is needed by anybody; the engine's end comes after all.
    engine.shutdown();
    for phase in ["before", "after"] {
        let part = format!("bucksaw.gpu.phase=\"{phase}\"");
        assert_eq!(TOLD.count(&part), 1, "{phase}: {:#?}", *TOLD.lock());
    }
    assert_eq!(TOLD.count(" bucksaw.gpu.device=\"cuda:0\""), 2);
    assert_eq!(TOLD.count(" hw.gpu.memory.usage=0 "), 0);
    assert_eq!(TOLD.count(" hw.gpu.memory.limit=0 "), 0);
}

/// A library of NVML's that is not there: CUDA is asked.
#[test]
fn without_nvml_memory_is_told_all_the_same() {
    let _alone = alone();
    let change = |config: &mut Config| config.nvml_library = Some("/nonexistent/nvml.so".into());
    let Some(engine) = changed("llama", &[], DtypeChoice::Auto, change) else { return };
    let summary = engine.gpu_summary();
    assert_eq!(summary.gpus.len(), 1, "{summary}");
    say(&engine, job("llama", vec![7; 100], TOKENS)).unwrap();
    engine.shutdown();
    assert_eq!(TOLD.count(" bucksaw.gpu.device=\"cuda:0\""), 2, "{:#?}", *TOLD.lock());
    assert_eq!(TOLD.count(" hw.gpu.memory.usage=0 "), 0);
}

/// The fixture's cache has an end: it is no larger than 64 whole contexts.
#[test]
fn a_cache_by_the_memory_that_is_free() {
    let _alone = alone();
    let blocks = |bytes: Option<usize>, share: Option<f64>| {
        let change = |config: &mut Config| {
            (config.kv_cache_bytes, config.gpu_memory_utilization) = (bytes, share);
        };
        let engine = changed("llama", &[], DtypeChoice::F32, change)?;
        let blocks = engine.handle().stats().blocks;
        engine.shutdown();
        Some(blocks)
    };
    let Some(least) = blocks(Some(1), None) else { return };
    // Nothing is left of a thousandth, but one whole context there has to be.
    assert_eq!(blocks(None, Some(0.001)).unwrap(), least);
    assert_eq!(blocks(None, None).unwrap(), least * 64);
}

#[test]
fn two_engines_say_the_same() {
    let _alone = alone();
    let devices = |config: &mut Config| {
        config.devices = vec![DeviceChoice::Cuda(0), DeviceChoice::Cuda(1)];
    };
    let Some(engine) = changed("llama", &[], DtypeChoice::F32, devices) else { return };
    assert_eq!(engine.device_name(), "cuda:0, cuda:1");
    for (name, prompt, expected) in golden("llama").into_iter().filter(|it| it.0 == "llama") {
        for _ in 0..2 {
            let (said, _) = say(&engine, job(&name, prompt.clone(), TOKENS)).unwrap();
            assert_eq!(said, expected, "{name}");
        }
    }
    assert!(engine.handle().engines().iter().all(|it| it.stats.steps > 0));
    engine.shutdown();
}

#[test]
fn without_memory_a_job_fails_and_the_engine_lives_on() {
    let _alone = alone();
    let Some(engine) = engine("llama", &[], DtypeChoice::F32) else { return };
    let prompt: Vec<u32> = (4..404).collect();
    let (expected, _) = say(&engine, job("llama", prompt.clone(), TOKENS)).unwrap();

    let device = Device::new_cuda(0).unwrap();
    let mut taken = Vec::new();
    let mut size = 1 << 30;
    while size >= CRUMB {
        match Tensor::zeros(size / 4, DType::F32, &device) {
            Ok(tensor) => taken.push(tensor),
            Err(_) => size /= 2,
        }
    }
    device.synchronize().unwrap();
    let error = say(&engine, job("llama", prompt.clone(), TOKENS)).unwrap_err();
    assert_eq!(error.error_type(), "out_of_memory", "{error}");
    assert_eq!(TOLD.count(" severity.number=21"), 1, "{:#?}", *TOLD.lock());

    drop(taken);
    device.synchronize().unwrap();
    let (again, _) = say(&engine, job("llama", prompt, TOKENS)).unwrap();
    assert_eq!(again, expected);
    engine.shutdown();
}

/// A GPU works on while the program goes on: a time that is taken without waiting for it would be too short.
#[test]
fn times_are_those_of_the_work() {
    let _alone = alone();
    let Some(engine) = engine("llama", &[], DtypeChoice::Auto) else { return };
    say(&engine, job("llama", vec![7; 100], TOKENS)).unwrap();
    let start = Instant::now();
    let (_, finished) = say(&engine, job("llama", vec![9; 200], 200)).unwrap();
    let wall = start.elapsed();
    let times = finished.timings;
    assert_eq!(times.generation, times.prefill + times.decode);
    assert!(times.queue + times.generation <= wall, "{times:?} of {wall:?}");
    assert!(times.queue + times.generation >= wall / 2, "{times:?} of {wall:?}");
    assert!(times.decode > times.prefill, "200 steps and one: {times:?}");
    let stats = engine.handle().stats();
    assert!(stats.forward <= stats.busy, "{stats:?}");
    engine.shutdown();

    // A prompt in many pieces, of which only the last one's logits are wanted.
    let pieces = |config: &mut Config| config.max_num_batched_tokens = Some(16);
    let Some(engine) = changed("llama", &[], DtypeChoice::Auto, pieces) else { return };
    say(&engine, job("llama", vec![7; 100], 1)).unwrap();
    let before = engine.handle().stats();
    let (_, in_pieces) = say(&engine, job("llama", vec![9; 400], 1)).unwrap();
    let handle = engine.handle();
    engine.shutdown();
    let after = handle.stats();
    assert!(after.steps >= before.steps + 25, "it was not read in pieces");
    // What the device did is in the time of each step, and not in that of the last alone.
    let (forward, prefill) = (after.forward - before.forward, in_pieces.timings.prefill);
    assert!(forward >= prefill / 2, "{forward:?} of {prefill:?}");
    let rate = f64::from(200 - 1) / times.decode.as_secs_f64();
    let _ = writeln!(stderr(), "{rate:.0} tokens a second, first after {:?}", times.first_token);
}
