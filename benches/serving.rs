//! What does serving cost over the bare engine, how soon is the first token there, how even is a stream while a plugin is dropped
//! in, how much memory does it take, and what does a server do that is asked for four times what it can?
//!
//! `CANDLE_NUM_THREADS=1 RAYON_NUM_THREADS=1 cargo bench --bench serving`; `-- --smoke` for one quick turn on a tiny model.
//! The real program runs beside the bare engine, each with one thread of arithmetic; they take turns with the same weights. Load is on
//! the loopback and ends by itself.

#[path = "support/bare.rs"]
mod bare;
#[path = "serving/change.rs"]
mod change;
#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/client.rs"]
mod client;
#[path = "support/program.rs"]
mod program;
#[path = "support/smoke.rs"]
mod smoke;

use std::{
    error::Error,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use engine::{Engine, Event, Job, Prompt, Sampling};

use checkpoint::Numbers;
use client::Streamed;
use program::Server;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Tokens of a prompt.
const PROMPT: usize = 32;

/// How much is done.
struct Work {
    rounds: usize,
    tokens: usize,
    clients: usize,
    requests: usize,
}

fn main() -> Outcome<()> {
    let smoke = smoke::is_smoke();
    let work = if smoke {
        Work { rounds: 1, tokens: 4, clients: 8, requests: 2 }
    } else {
        Work { rounds: 7, tokens: 64, clients: 64, requests: 20 }
    };
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("model");
    fs::create_dir(&model)?;
    // Of the tokenizer's own size. Many of its tokens are parts of characters, which go out together.
    let shape = checkpoint::Shape { vocabulary: 512, ..checkpoint::SMALL };
    let shape = if smoke { checkpoint::TINY } else { shape };
    checkpoint::write(&model, shape, Numbers::F32)?;
    serve(&model, &work)?;
    change::measure(&model, &work)?;
    let shape = if smoke { checkpoint::TINY } else { checkpoint::SMALL };
    checkpoint::write(&model, shape, Numbers::Bf16)?;
    hold(&model)?;
    overload(&work)
}

/// The whole log at DEBUG, redacted, cut, and in the guide's lines.
fn config(engine: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[engine]\nthreads = 1\n{engine}\n\
         [log]\nlevel = \"DEBUG\"\ncache = \"cache\"\n\
         [plugins.redact]\n[plugins.truncate]\n[plugins.guide]\n[plugins.json]\n\
         [outputs.app]\nsink = \"file\"\npath = \"app.log\"\nformat = \"guide\"\n\
         [outputs.json]\nsink = \"file\"\npath = \"log.json\"\nformat = \"json\"\n\
         [chains.default]\nedit = [\"redact\", \"truncate\"]\noutputs = [\"app\", \"json\"]\n"
    )
}

/// One stream at a time, against the engine without a server.
fn serve(model: &Path, work: &Work) -> Outcome<()> {
    let began = Instant::now();
    let mut server = Server::start(&config(&engine(model)))?;
    let first = server.stream("/v1/completions", &body(1, 0))?;
    say(&format!(
        "start to first token: {:.2} s, loading the model included",
        (began.elapsed() - first.after_first).as_secs_f64()
    ));

    let bare_engine = bare::start(model, 1)?;
    let (mut best, mut pieces) = ((0.0_f64, 0.0_f64), 0);
    for round in 1..=work.rounds {
        let streamed = server.stream("/v1/completions", &body(work.tokens, round))?;
        if streamed.pieces < work.tokens / 4 {
            return Err(format!("only {} pieces were streamed", streamed.pieces).into());
        }
        pieces = pieces.max(streamed.pieces);
        best.0 = best.0.max(rate(&streamed));
        best.1 = best.1.max(rate(&run(&bare_engine, work.tokens, round)?));
    }
    let (served, bare) = best;
    say(&format!(
        "tokens a second: {served:.1} as a stream over HTTP, {bare:.1} bare; {pieces} events for {} tokens",
        work.tokens
    ));
    ratio("serving-over-bare-engine", served / bare, ">= 0.97");
    resident(&server, model, "resident-memory-over-weights")?;
    bare_engine.shutdown();
    server.stop()
}

/// Weights of 16 bits, as nearly all checkpoints have them: on a CPU, too, they take what they take in the file.
fn hold(model: &Path) -> Outcome<()> {
    let mut server = Server::start(&config(&engine(model)))?;
    server.stream("/v1/completions", &body(1, 0))?;
    resident(&server, model, "resident-memory-over-bf16-weights")?;
    server.stop()
}

/// What a server that has answered holds in memory.
fn resident(server: &Server, model: &Path, name: &str) -> Outcome<()> {
    let weights = fs::metadata(model.join("model.safetensors"))?.len() as f64;
    let resident = server.resident()? as f64;
    say(&format!("resident: {:.0} MB for {:.0} MB of weights", resident / 1e6, weights / 1e6));
    ratio(name, resident / weights, "<= 1.3");
    Ok(())
}

fn engine(model: &Path) -> String {
    format!("model = {:?}", model.display().to_string())
}

/// A request for so many tokens, as a stream.
fn body(tokens: usize, seed: usize) -> String {
    format!(
        "{{\"prompt\": {:?}, \"max_tokens\": {tokens}, \"temperature\": 0, \"ignore_eos\": true, \
         \"stream\": true, \"stream_options\": {{\"include_usage\": true}}}}",
        prompt(seed)
    )
}

/// Prompts differ, so that none is in the cache.
fn prompt(seed: usize) -> Vec<u32> {
    (0..PROMPT).map(|at| (100 + (at * 7 + seed * 13 + at * seed) % 300) as u32).collect()
}

fn run(engine: &Engine, tokens: usize, seed: usize) -> Outcome<Streamed> {
    let mut events = engine.submit(Job {
        model: "model".to_owned(),
        adapter_requested: None,
        prompt: Prompt::Tokens(prompt(seed)).into(),
        sampling: Sampling { max_tokens: Some(tokens), ignore_eos: true, ..Sampling::default() },
        constraint: None,
        priority: 0,
        deadline: None,
        span: tracing::Span::none(),
    })?;
    let (began, mut pieces) = (Instant::now(), 0);
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Text(_) => pieces += 1,
            Event::Finished(finished) => {
                let (whole, tokens) = (began.elapsed(), finished.output_tokens);
                return Ok(Streamed {
                    tokens,
                    pieces,
                    whole,
                    after_first: Duration::ZERO,
                    longest_gap: Duration::ZERO,
                });
            }
            Event::Failed(error) => return Err(error.into()),
            Event::Started { .. } => {}
        }
    }
    Err("the engine ended".into())
}

/// Tokens a second, the prompt's time included.
fn rate(it: &Streamed) -> f64 {
    it.tokens as f64 / it.whole.as_secs_f64()
}

/// Four times as many requests at once as the engine has places for.
fn overload(work: &Work) -> Outcome<()> {
    let places = work.clients / 4;
    // The cache takes its memory when it is first written to: a small one is soon full.
    let engine = format!(
        "model = \"demo\"\nkv_cache_mib = 8\nmax_num_seqs = {0}\nqueue = {0}",
        places.div_ceil(2)
    );
    let mut server = Server::start(&config(&engine))?;
    let body = |at: usize| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"Hello {at}!\"}}], \"max_tokens\": 64, \
             \"ignore_eos\": true}}"
        )
    };
    let idle = quiet(&server)?;
    // What is allocated once is there before it is measured.
    let warm = load(&server, work, &body)?;
    let before = server.resident()?;
    let began = Instant::now();
    let Load { asked, answered, refused, waits } = load(&server, work, &body)?;
    let after = server.resident()?;
    say(&format!(
        "{} clients, {places} places: {asked} requests in {:.1} s, {answered} answered, {refused} told when to come back",
        work.clients,
        began.elapsed().as_secs_f64()
    ));
    let loaded = percentile(waits, 0.99);
    say(&format!(
        "/health, 99 of 100: {:.2} ms under load, {:.2} ms at rest",
        loaded * 1e3,
        idle * 1e3
    ));
    ratio("overload-health-p99-ms", loaded * 1e3, "<= 50");
    ratio("overload-memory-after-over-before", after as f64 / before as f64, "<= 1.1");
    ratio(
        "overload-answers-in-order-over-asked",
        (answered + refused) as f64 / asked as f64,
        ">= 1.0",
    );
    server.stop()?;
    let log = fs::read_to_string(server.path("log.json"))?;
    let ends = log.matches("\"event_name\":\"request.summary\"").count();
    let all = warm.asked + asked;
    ratio("overload-records-of-ends-over-requests", ends as f64 / all as f64, ">= 1.0");
    Ok(())
}

/// What came of many requests at once.
struct Load {
    asked: usize,
    answered: usize,
    /// Those that were told when to come back.
    refused: usize,
    /// Of `/health`, meanwhile.
    waits: Vec<Duration>,
}

fn load(server: &Server, work: &Work, body: &(impl Fn(usize) -> String + Sync)) -> Outcome<Load> {
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    let waits = thread::scope(|scope| {
        let probe = scope.spawn(|| {
            let mut waits = Vec::new();
            while !over.load(Relaxed) {
                waits.push(server.health()?);
                thread::sleep(Duration::from_millis(5));
            }
            Ok::<_, std::io::Error>(waits)
        });
        let clients: Vec<_> = (0..work.clients)
            .map(|client| {
                let (answered, refused) = (&answered, &refused);
                scope.spawn(move || {
                    for request in 0..work.requests {
                        let body = body(client * 1000 + request);
                        match server.post("/v1/chat/completions", &body) {
                            Ok(it) if it.status == 200 => answered.fetch_add(1, Relaxed),
                            Ok(it) if it.status == 429 && it.says_when => {
                                refused.fetch_add(1, Relaxed)
                            }
                            _ => continue,
                        };
                    }
                })
            })
            .collect();
        for it in clients {
            let _ = it.join();
        }
        over.store(true, Relaxed);
        probe.join().unwrap_or_else(|_| Ok(Vec::new()))
    })?;
    let asked = work.clients * work.requests;
    Ok(Load { asked, answered: answered.into_inner(), refused: refused.into_inner(), waits })
}

/// The 99th of 100 probes without load, in seconds.
fn quiet(server: &Server) -> std::io::Result<f64> {
    let waits: Result<Vec<_>, _> = (0..200).map(|_| server.health()).collect();
    Ok(percentile(waits?, 0.99))
}

fn percentile(mut waits: Vec<Duration>, share: f64) -> f64 {
    waits.sort_unstable();
    let at = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
    waits.get(at).map_or(0.0, Duration::as_secs_f64)
}

#[expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
fn say(text: &str) {
    println!("{text}");
}

fn ratio(name: &str, value: f64, goal: &str) {
    say(&format!("ratio {name} {value:.2} goal {goal}"));
}
