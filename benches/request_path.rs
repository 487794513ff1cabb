//! What does logging add to the thread that serves a request, against a logger that formats and writes each line on that thread?
//!
//! `cargo bench --bench request_path`; `-- --smoke` for one quick turn.

#[path = "support/measure.rs"]
mod measure;

use std::{
    fs::File,
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bucksaw::clock::SystemClock;
use chain::{
    Clock, Ellipsis, Filter, Formatted, Formatter, Line, Output, Overflow, Pipeline, Plan,
    RecordLayer, Released, Replacer, Sink, Source, Spec, StageError,
};
use measure::{best, report};
use record::Severity;
use tracing::{Dispatch, Event, Subscriber, field::Visit};
use tracing_subscriber::{Layer, layer::SubscriberExt};

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

impl Formatter for Empty {
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
        Ok(Formatted { text: String::new(), lines: (0..batch.len()).map(|it| (it, 0)).collect() })
    }
}

/// The usual logger: formats in the caller's thread and writes to a file under a lock.
struct Usual(Mutex<File>);

impl<S: Subscriber> Layer<S> for Usual {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut line =
            Text(format!("{:?} {}", std::time::SystemTime::now(), event.metadata().level()));
        event.record(&mut line);
        line.0.push('\n');
        if let Ok(mut file) = self.0.lock() {
            let _ = file.write_all(line.0.as_bytes());
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0 += &format!(" {}={value}", field.name());
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
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
    };
    let plan = Plan {
        chains: [("default".into(), spec)].into(),
        default: "default".into(),
        outputs: vec![output],
        replacer: Replacer::new(Ellipsis::Korean, b"key"),
        clock: Arc::new(SystemClock::new()),
        workers: 1,
        queue: 1 << 20,
    };
    Pipeline::start(plan).unwrap_or_else(|error| panic!("{error}"))
}

fn main() {
    let (requests, rounds) = if measure::is_smoke() { (50, 1) } else { (2_000, 30) };
    let pipeline = pipeline();
    let clock: Arc<dyn Clock> = pipeline.clock();
    let layer = RecordLayer::new(pipeline.queue(), clock, Severity::INFO, pipeline.default_chain());
    let layer = layer.with_filter(chain::targets(Severity::INFO));
    let ours = Dispatch::new(tracing_subscriber::registry().with(layer));
    let path = std::env::temp_dir().join(format!("bucksaw-bench-{}.log", std::process::id()));
    let file = File::create(&path).unwrap_or_else(|error| panic!("{error}"));
    let usual = Dispatch::new(tracing_subscriber::registry().with(Usual(Mutex::new(file))));
    let (prompt, response) =
        ("이미지를 설명해 주세요. ".repeat(18), "The office has desks. ".repeat(16));
    let run = || (0..requests).for_each(|_| request(&prompt, &response));
    let figures = best(
        rounds,
        || (),
        |()| tracing::dispatcher::with_default(&ours, run),
        |()| tracing::dispatcher::with_default(&usual, run),
    );
    let _ = std::fs::remove_file(&path);
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(60));
    assert_eq!(drained.dropped, 0, "what was dropped was not paid for");
    report("request-thread-record-vs-write-a-request", figures, requests, "<= 1.0");
}
