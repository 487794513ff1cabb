//! What does it bring that several answers are made in one step, what that a prompt was seen before, and what does deciding it
//! cost?
//!
//! `CANDLE_NUM_THREADS=1 RAYON_NUM_THREADS=1 cargo bench --bench batching` for one thread; `-- --smoke` for one quick turn.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/smoke.rs"]
mod smoke;

use std::{env, error::Error};

use engine::{Engine, Event, Finished, Job, Prompt, Sampling};

/// Tokens of a prompt: 16 of them are one step.
const PROMPT: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let smoke = smoke::is_smoke();
    let folder = tempfile::tempdir()?;
    let shape = if smoke { checkpoint::TINY } else { checkpoint::SMALL };
    checkpoint::write(folder.path(), shape)?;
    let (rounds, tokens) = if smoke { (1, 4) } else { (3, 32) };
    say(&format!(
        "{} parameters wide {}, {} layers, f32, threads {}",
        if smoke { "a tiny model," } else { "a model of 135M" },
        shape.hidden,
        shape.layers,
        env::var("CANDLE_NUM_THREADS").unwrap_or_else(|_| "as many as candle takes".to_owned())
    ));

    let engine = bare::start(folder.path(), 0)?;
    let mut best = [0.0_f64; 5];
    for _ in 0..rounds {
        for (best, count) in best.iter_mut().zip([1, 2, 4, 8, 16]) {
            *best = best.max(decode_rate(&engine, count, tokens)?);
        }
    }
    let [one, two, four, eight, sixteen] = best;
    say(&format!(
        "decode, tokens per second in all: {one:.1} alone, {two:.1} at 2, {four:.1} at 4, {eight:.1} at 8, {sixteen:.1} at 16"
    ));
    ratio("batch-8-decode-over-1", eight / one, ">= 2.7");
    ratio("batch-16-decode-over-1", sixteen / one, ">= 4.4");

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
        let first_token = || -> Result<f64, Box<dyn Error>> {
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
fn decode_rate(engine: &Engine, count: usize, tokens: usize) -> Result<f64, Box<dyn Error>> {
    let jobs = (0..count as u32).map(|seed| job(PROMPT, tokens, seed)).collect();
    let finished = finish(engine, jobs)?;
    let made: usize = finished.iter().map(|it| it.output_tokens - 1).sum();
    let longest = finished.iter().map(|it| it.timings.decode).max().unwrap_or_default();
    Ok(made as f64 / longest.as_secs_f64())
}

fn finish(engine: &Engine, jobs: Vec<Job>) -> Result<Vec<Finished>, Box<dyn Error>> {
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
