//! What does logging add to the thread that serves a request, against `tracing-subscriber`'s own formatter with a non-blocking
//! file writer?
//!
//! `cargo bench --bench request_path`; `-- --smoke` for one quick turn.

#[path = "support/measure.rs"]
mod measure;
#[path = "support/smoke.rs"]
mod smoke;

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use bucksaw::clock::SystemClock;
use chain::{
    Chains, Ellipsis, Filter, Formatted, Formatter, Line, Output, Overflow, Pipeline, Plan,
    Released, Replacer, Sink, Source, Spec, Stage, StageError,
};
use measure::{best, report};
use record::Severity;
use tracing::Dispatch;
use tracing_appender::non_blocking::NonBlockingBuilder;
use tracing_subscriber::layer::SubscriberExt;

/// A sink that keeps nothing: what it costs falls on other threads anyway.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _lines: &[Line]) -> std::io::Result<()> {
        Ok(())
    }
}

/// One empty line a record.
struct Empty;

impl Source<dyn Formatter> for Empty {
    fn name(&self) -> &str {
        "empty"
    }

    fn open(&self) -> Result<Box<dyn Formatter>, StageError> {
        Ok(Box::new(Empty))
    }
}

impl Stage for Empty {}

impl Formatter for Empty {
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
        Ok(Formatted { text: String::new(), lines: (0..batch.len()).map(|it| (it, 0)).collect() })
    }
}

/// The events of one request, as the server and the engine make them.
fn request(prompt: &str, response: &str) {
    let span = tracing::error_span!(
        target: "bucksaw",
        "request",
        request_id = "a1b2c3d4-0000-4000-8000-000000000000",
        chain = "default"
    );
    macro_rules! event {
        ($name:literal $($field:tt)*) => {
            tracing::info!(target: "bucksaw", parent: &span, event = $name $($field)*)
        };
    }
    event!(
        "request.received",
        http.request.method = "POST",
        http.route = "/vision",
        url.path = "/vision",
        client.address = "127.0.0.1",
        user_agent.original = "curl/8.0",
        gen_ai.request.model = "demo"
    );
    event!(
        "request.prompt",
        bucksaw.prompt.chars = 250_u64,
        bucksaw.prompt.text = prompt,
        bucksaw.prompt.images = 1_u64
    );
    event!(
        "request.image",
        bucksaw.image.width = 1920_u64,
        bucksaw.image.height = 1080_u64,
        bucksaw.image.mode = "RGB"
    );
    event!("request.params", gen_ai.request.max_tokens = 512_u64, gen_ai.request.temperature = 0.7);
    event!("response.content", bucksaw.response.chars = 342_u64, bucksaw.response.text = response);
    event!(
        "request.performance",
        bucksaw.generation_ms = 1850_u64,
        gen_ai.usage.output_tokens = 145_u64,
        bucksaw.tokens_per_second = 78.4
    );
    event!("request.finished", http.response.status_code = 200_u64);
    event!("request.total", bucksaw.endpoint_total_ms = 2156.0);
    event!("request.summary", bucksaw.outcome = "finished", gen_ai.usage.output_tokens = 145_u64);
}

fn pipeline() -> Pipeline {
    let output = Output::start("nowhere", Filter::default(), Overflow::Block, Box::new(Nowhere))
        .unwrap_or_else(|error| panic!("{error}"));
    let spec = Spec {
        name: "default".into(),
        editors: vec![],
        handlers: vec![],
        outputs: vec![(Arc::new(Empty), vec![output.clone()])],
        shadow: None,
    };
    let chains = Chains {
        chains: [("default".into(), spec)].into(),
        default: "default".into(),
        outputs: vec![output],
        replacer: Replacer::new(Ellipsis::Korean, b"key"),
        keeping: None,
        level: Severity::INFO,
        failures_max: 0,
        taken_over: Default::default(),
        kept: Arc::new(()),
    };
    let clock = Arc::new(SystemClock::new());
    Pipeline::start(Plan { chains, clock, workers: 1, queue: 1 << 20 })
        .unwrap_or_else(|error| panic!("{error}"))
}

fn main() {
    let (requests, rounds) = if smoke::is_smoke() { (50, 1) } else { (2_000, 30) };
    let pipeline = pipeline();
    let ours = Dispatch::new(tracing_subscriber::registry().with(pipeline.layer()));
    let path = std::env::temp_dir().join(format!("bucksaw-bench-{}.log", std::process::id()));
    let file = File::create(&path).unwrap_or_else(|error| panic!("{error}"));
    // Room for everything, so that neither of the two drops or waits.
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(false).buffered_lines_limit(1 << 20).finish(file);
    let formatter = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    let usual = Dispatch::new(tracing_subscriber::registry().with(formatter));
    let (prompt, response) =
        ("이미지를 설명해 주세요. ".repeat(18), "The office has desks. ".repeat(16));
    let run = || (0..requests).for_each(|_| request(&prompt, &response));
    let figures = best(
        rounds,
        || (),
        |()| tracing::dispatcher::with_default(&ours, run),
        |()| tracing::dispatcher::with_default(&usual, run),
    );
    drop(guard);
    let _ = std::fs::remove_file(&path);
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(60));
    assert_eq!(drained.dropped, 0, "what was dropped was not paid for");
    report("request-thread-record-vs-tracing-fmt", figures, requests, Some("<= 1.0"));
}
