//! What does it bring that several answers are made in one step, on one thread and on two, what that a prompt was seen before, and
//! what does deciding it cost?
//!
//! `cargo bench --bench batching`; `-- --smoke` for one quick turn on a tiny model. Threads are a process's for good, so answers
//! are made in two processes that take turns, with one thread of arithmetic and with two. What comes after that is measured with
//! as many threads as `CANDLE_NUM_THREADS` and `RAYON_NUM_THREADS` say.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/smoke.rs"]
mod smoke;

use std::{
    env,
    error::Error,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use engine::{Engine, Event, Finished, Job, Prompt, Sampling};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Tokens of a prompt: the most sequences that are measured read theirs in one step.
const PROMPT: usize = 8;
/// Sequences at once.
const COUNTS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// What makes this program one of the two processes; the model's folder follows.
const CHILD: &str = "--answer-from";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|it| it == CHILD) {
        return answer(Path::new(arguments.get(at + 1).ok_or("no folder")?));
    }
    let smoke = smoke::is_smoke();
    let folder = tempfile::tempdir()?;
    let shape = if smoke { checkpoint::TINY } else { checkpoint::SMALL };
    checkpoint::write(folder.path(), shape, checkpoint::Numbers::F32)?;
    let (rounds, tokens) = if smoke { (1, 4) } else { (3, 32) };
    say(&format!(
        "{} parameters wide {}, {} layers, f32",
        if smoke { "a tiny model," } else { "a model of 135M" },
        shape.hidden,
        shape.layers
    ));
    grow(folder.path(), rounds, tokens)?;

    let engine = bare::start(folder.path(), 0)?;
    decode_rate(&engine, 8, tokens)?;
    let before = engine.handle().stats();
    decode_rate(&engine, 8, tokens)?;
    let after = engine.handle().stats();
    let busy = (after.busy - before.busy).as_secs_f64();
    let forward = (after.forward - before.forward).as_secs_f64();
    let steps = (after.steps - before.steps).max(1) as f64;
    say(&format!(
        "a step of 8: {:.2} ms, {:.3} ms of it outside of the model",
        busy / steps * 1e3,
        (busy - forward) / steps * 1e3
    ));
    ratio("batch-8-step-over-bare-forward", busy / forward, "<= 1.03");

    let length = if smoke { 64 } else { 512 };
    let mut shortest = (f64::INFINITY, f64::INFINITY);
    for round in 0..rounds {
        let first_token = || -> Outcome<f64> {
            let finished = finish(&engine, vec![job(length, 1, 1_000 + round as u32)])?;
            Ok(finished[0].timings.first_token.as_secs_f64())
        };
        shortest.0 = shortest.0.min(first_token()?);
        shortest.1 = shortest.1.min(first_token()?);
    }
    let (miss, hit) = shortest;
    say(&format!(
        "first token of a prompt of {length}: {:.1} ms, seen before {:.1} ms",
        miss * 1e3,
        hit * 1e3
    ));
    ratio("prefix-hit-first-token-over-miss", hit / miss, "<= 0.2");
    engine.shutdown();
    Ok(())
}

/// How decoding grows with the number of sequences, on one thread and on two.
fn grow(folder: &Path, rounds: usize, tokens: usize) -> Outcome<()> {
    let mut peers = [Peer::start(folder, 1)?, Peer::start(folder, 2)?];
    let mut best = [[0.0_f64; COUNTS.len()]; 2];
    for _ in 0..rounds {
        for (at, count) in COUNTS.into_iter().enumerate() {
            for (peer, best) in peers.iter_mut().zip(&mut best) {
                best[at] = best[at].max(peer.rate(count, tokens)?);
            }
        }
    }
    let [one, two] = best;
    say("decode, tokens per second in all:");
    for (at, count) in COUNTS.into_iter().enumerate() {
        say(&format!(
            "  {count:2} at once: {:.1} on one thread, {:.2} times one; {:.1} on two threads, {:.2} times one",
            one[at],
            one[at] / one[0],
            two[at],
            two[at] / two[0]
        ));
    }
    let [eight, sixteen] = [8, 16].map(|it| COUNTS.iter().position(|count| *count == it));
    let (Some(eight), Some(sixteen)) = (eight, sixteen) else { return Err("not counted".into()) };
    ratio("batch-8-decode-over-1", one[eight] / one[0], ">= 2.7");
    ratio("batch-16-decode-over-1", one[sixteen] / one[0], ">= 4.4");
    ratio("batch-8-decode-two-threads-over-one", two[eight] / one[eight], "> 1.0");
    ratio("batch-16-decode-two-threads-over-one", two[sixteen] / one[sixteen], "> 1.0");
    Ok(())
}

/// A process with an engine and so many threads of arithmetic.
struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(folder: &Path, threads: usize) -> Outcome<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg(CHILD)
            .arg(folder)
            .env("CANDLE_NUM_THREADS", threads.to_string())
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = child.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, ask, answers })
    }

    /// What [`decode_rate`] is there.
    fn rate(&mut self, count: usize, tokens: usize) -> Outcome<f64> {
        writeln!(self.ask, "{count} {tokens}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let rate = line.trim().parse::<f64>();
        rate.map_err(|_| format!("no rate of {count} sequences: {line:?}").into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side of [`Peer`]: a line with a rate for each line with a number of sequences and of tokens.
fn answer(folder: &Path) -> Outcome<()> {
    let engine = bare::start(folder, 0)?;
    for line in io::stdin().lines() {
        let line = line?;
        let (count, tokens) = line.trim().split_once(' ').ok_or("two numbers are wanted")?;
        say(&decode_rate(&engine, count.parse()?, tokens.parse()?)?.to_string());
    }
    engine.shutdown();
    Ok(())
}

/// A greedy answer of exactly so many tokens. Other seeds are other prompts.
fn job(prompt: usize, tokens: usize, seed: u32) -> Job {
    let prompt =
        (0..prompt as u32).map(|at| 100 + (at * 7 + seed * 13 + at * seed) % 300).collect();
    Job {
        model: "model".to_owned(),
        adapter_requested: None,
        prompt: Prompt::Tokens(prompt).into(),
        sampling: Sampling { max_tokens: Some(tokens), ignore_eos: true, ..Sampling::default() },
        constraint: None,
        priority: 0,
        deadline: None,
        span: tracing::Span::none(),
    }
}

/// Tokens per second of so many answers at once, from when the prompts are read.
fn decode_rate(engine: &Engine, count: usize, tokens: usize) -> Outcome<f64> {
    let jobs = (0..count as u32).map(|seed| job(PROMPT, tokens, seed)).collect();
    let finished = finish(engine, jobs)?;
    let made: usize = finished.iter().map(|it| it.output_tokens - 1).sum();
    let longest = finished.iter().map(|it| it.timings.decode).max().unwrap_or_default();
    Ok(made as f64 / longest.as_secs_f64())
}

fn finish(engine: &Engine, jobs: Vec<Job>) -> Outcome<Vec<Finished>> {
    let running: Result<Vec<_>, _> = jobs.into_iter().map(|job| engine.submit(job)).collect();
    let mut all = Vec::new();
    for mut events in running? {
        let finished = loop {
            match events.blocking_recv() {
                Some(Event::Finished(finished)) => break finished,
                Some(Event::Failed(error)) => return Err(error.into()),
                Some(_) => {}
                None => return Err("the engine is gone".into()),
            }
        };
        all.push(finished);
    }
    Ok(all)
}

fn ratio(name: &str, value: f64, goal: &str) {
    say(&format!("ratio {name} {value:.2} goal {goal}"));
}

#[expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
fn say(line: &str) {
    println!("{line}");
}
