//! Does the log stay even: with more workers, over many records, and while its chains are swapped?
//!
//! `cargo bench --bench live`; `-- --smoke` for one quick turn, `-- --long` for ten million records instead of a million.

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/smoke.rs"]
mod smoke;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use bucksaw::builtin;
use chain::{
    Chains, Ellipsis, Filter, Line, Output, Overflow, Pipeline, Plan, Replacer, Sink, Spec,
};
use plugin::{Cache, Grants, Limits, Plugin, Runtime, Settings};
use record::{Record, Severity};

/// Keeps when lines came, and nothing of them.
struct Times {
    last: Option<Instant>,
    longest: Arc<Mutex<Duration>>,
}

impl Sink for Times {
    fn write(&mut self, _lines: &[Line]) -> std::io::Result<()> {
        let now = Instant::now();
        if let (Some(last), Ok(mut longest)) = (self.last, self.longest.lock()) {
            *longest = (*longest).max(now - last);
        }
        self.last = Some(now);
        Ok(())
    }
}

fn load(runtime: &Runtime, name: &str) -> Plugin {
    let (config, limits, grants) = ("{}".to_owned(), Limits::default(), Grants::default());
    let settings = Settings { name: name.to_owned(), config, limits, grants };
    let bytes = builtin::plugin(name).unwrap_or_else(|| panic!("no built-in plugin {name}"));
    Plugin::load(runtime, bytes, settings).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// redact, truncate and guide, loaded anew.
fn chains(runtime: &Runtime, output: &Arc<Output>) -> Chains {
    let editors = ["redact", "truncate"].map(|it| load(runtime, it));
    let guide = load(runtime, "guide");
    let spec = Spec {
        name: "default".into(),
        editors: editors.iter().filter_map(Plugin::editor).collect(),
        handlers: vec![],
        outputs: guide.formatter().map(|it| (it, vec![output.clone()])).into_iter().collect(),
        shadow: None,
    };
    Chains {
        chains: BTreeMap::from([("default".into(), spec)]),
        default: "default".into(),
        outputs: vec![output.clone()],
        replacer: Replacer::new(Ellipsis::Korean, b"key"),
        keeping: None,
        level: Severity::INFO,
        failures_max: 0,
        taken_over: Default::default(),
        kept: Arc::new(()),
    }
}

struct Bench {
    runtime: Runtime,
    output: Arc<Output>,
    longest: Arc<Mutex<Duration>>,
    corpus: Vec<Record>,
}

impl Bench {
    fn new(cache: &std::path::Path) -> Self {
        let cache = Cache::open(cache).unwrap_or_else(|error| panic!("{error}"));
        let runtime =
            Runtime::new(Arc::new(()), Some(cache)).unwrap_or_else(|error| panic!("{error}"));
        let longest = Arc::new(Mutex::new(Duration::ZERO));
        let sink = Box::new(Times { last: None, longest: longest.clone() });
        let output = Output::start("times", Filter::default(), Overflow::Block, sink)
            .unwrap_or_else(|error| panic!("{error}"));
        // Short texts: what is looked for is the log's own work, not the scanner's.
        let corpus = corpus::corpus(10_000);
        let small = |it: &Record| it.fields.iter().all(|it| size(it) < 2_000);
        let corpus = corpus.into_iter().filter(small).collect();
        Self { runtime, output, longest, corpus }
    }

    fn start(&self, workers: usize) -> Pipeline {
        let chains = chains(&self.runtime, &self.output);
        let plan = Plan { chains, clock: Arc::new(|| (0, 0)), workers, queue: 4096 };
        Pipeline::start(plan).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Pushes so many records, never faster than they are taken, and waits for the last one. Seconds a record.
    fn run(&self, pipeline: &Pipeline, records: usize) -> f64 {
        let released = &pipeline.stats().released;
        let before = released.load(Relaxed);
        let start = Instant::now();
        for record in self.corpus.iter().cycle().take(records) {
            push(pipeline, record);
        }
        // The log's own records, such as those of a swap, are not among the released.
        while released.load(Relaxed) - before < records as u64 {
            thread::yield_now();
        }
        start.elapsed().as_secs_f64() / records as f64
    }
}

/// Pushes a record when there is room. The wait leaves the processor to those that the queue waits for.
fn push(pipeline: &Pipeline, record: &Record) {
    while pipeline.queue().waiting() > 2048 {
        thread::sleep(Duration::from_micros(50));
    }
    pipeline.push(record.clone());
}

fn size(field: &record::Field) -> usize {
    match &field.value {
        record::Value::Text(it) => it.len(),
        _ => 0,
    }
}

/// Resident memory in bytes (Linux).
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|it| it.parse::<f64>().ok());
    pages.unwrap_or(f64::NAN) * 4096.0
}

/// How long to look for the fewest: workers look for what has ended once a second.
const SETTLE: Duration = Duration::from_secs(3);

/// What is held when all that only waits for its end has ended.
struct Held {
    files: f64,
    threads: f64,
    revisions: f64,
}

impl Held {
    /// The fewest of each that are seen in some time, under whatever load there is. A smoke run looks once.
    fn fewest(pipeline: &Pipeline) -> Self {
        let start = Instant::now();
        let mut fewest = Self { files: f64::NAN, threads: f64::NAN, revisions: f64::NAN };
        loop {
            // NaN is never the smaller one.
            fewest.files = fewest.files.min(entries("/proc/self/fd"));
            fewest.threads = fewest.threads.min(entries("/proc/self/task"));
            fewest.revisions = fewest.revisions.min(pipeline.revisions().live().len() as f64);
            if smoke::is_smoke() || start.elapsed() >= SETTLE {
                return fewest;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Entries of a folder (of a process, on Linux).
fn entries(folder: &str) -> f64 {
    fs::read_dir(folder).map_or(f64::NAN, |it| it.count() as f64)
}

#[expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
fn ratio(name: &str, value: f64, goal: &str) {
    println!("ratio {name} {value:.2} goal {goal}");
}

fn main() {
    let long = std::env::args().any(|it| it == "--long");
    let (few, many) = match (smoke::is_smoke(), long) {
        (true, _) => (1_000, 2_000),
        (false, false) => (10_000, 1_000_000),
        (false, true) => (10_000, 10_000_000),
    };
    let swaps = if smoke::is_smoke() { 3 } else { 1_000 };
    let folder = std::env::temp_dir().join(format!("bucksaw-live-{}", std::process::id()));
    let bench = Bench::new(&folder);

    let one = bench.start(1);
    let two = bench.start(2);
    let turns = || (bench.run(&one, few), bench.run(&two, few));
    let turns: Vec<(f64, f64)> = (0..5).map(|_| turns()).collect();
    let best = |of: fn(&(f64, f64)) -> f64| turns.iter().map(of).fold(f64::INFINITY, f64::min);
    ratio("records-a-second-2-workers-vs-1", best(|it| it.0) / best(|it| it.1), ">= 1.0");

    // Means on both sides: the best of short runs would be held against all of the long one.
    let short = (0..10).map(|_| bench.run(&one, few)).sum::<f64>() / 10.0;
    let times = if smoke::is_smoke() { 1 } else { 100 };
    let thousand = (0..times).map(|_| bench.run(&one, 1_000)).sum::<f64>() / f64::from(times);
    let before = resident();
    let each = bench.run(&one, many);
    ratio("time-a-record-many-vs-few", each / short, "<= 1.2");
    ratio("time-a-record-many-vs-thousand", each / thousand, "<= 1.2");
    ratio("memory-after-many-vs-before", resident() / before, "<= 1.1");

    swap(&bench, &one, swaps);
    start(&folder);
    for pipeline in [one, two] {
        pipeline.shutdown(Instant::now() + Duration::from_secs(60));
    }
    let _ = fs::remove_dir_all(folder);
}

/// Swaps under load: nothing is lost, no pause is long, and nothing grows.
fn swap(bench: &Bench, pipeline: &Pipeline, swaps: usize) {
    let done = AtomicBool::new(false);
    let before = pipeline.queue().counts().1;
    let (memory, early, late) = thread::scope(|scope| {
        scope.spawn(|| {
            for record in bench.corpus.iter().cycle().take_while(|_| !done.load(Relaxed)) {
                push(pipeline, record);
            }
        });
        if let Ok(mut longest) = bench.longest.lock() {
            *longest = Duration::ZERO;
        }
        let install = |times: usize| {
            for _ in 0..times {
                pipeline.install(chains(&bench.runtime, &bench.output));
            }
        };
        install(swaps / 10);
        // The history is full from here on.
        let (memory, early) = (resident(), Held::fewest(pipeline));
        install(swaps - swaps / 10);
        let late = Held::fewest(pipeline);
        done.store(true, Relaxed);
        (memory, early, late)
    });
    assert_eq!(pipeline.queue().counts().1, before, "a swap lost records");
    let longest = bench.longest.lock().map_or(f64::NAN, |it| it.as_secs_f64() * 1e3);
    ratio("longest-pause-ms-while-swapping", longest, "<= 10");
    ratio("memory-after-1000-swaps-vs-100", resident() / memory, "<= 1.1");
    ratio("open-files-after-1000-swaps-vs-100", late.files / early.files, "<= 1.0");
    ratio("threads-after-1000-swaps-vs-100", late.threads / early.threads, "<= 1.0");
    ratio("live-revisions-after-1000-swaps", late.revisions, "<= 1");
}

/// From the start of a process to its first line, with every plugin compiled before.
fn start(folder: &std::path::Path) {
    let run = || {
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bucksaw"))
            .arg("run")
            .env("XDG_CACHE_HOME", folder)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}"));
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(b"{\"message\": \"hello\"}\n");
        }
        let ended = child.wait().unwrap_or_else(|error| panic!("{error}"));
        assert!(ended.success(), "bucksaw run failed");
        start.elapsed().as_secs_f64() * 1e3
    };
    run();
    let best = (0..10).map(|_| run()).fold(f64::INFINITY, f64::min);
    ratio("start-to-first-record-ms-warm-cache", best, "<= 100");
}
