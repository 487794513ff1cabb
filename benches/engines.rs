//! How fast does the engine read and write a GGUF file, against llama.cpp on the same file, one thread each?
//!
//! `just bench-engines` installs llama-cpp-python, which compiles llama.cpp for this very machine, and runs it; without it there is
//! nothing to compare with. The two take turns in one run.

use std::{
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use engine::measure::{BareModel, BareRun};
use serde_json::Value;

const MODEL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
const PYTHON: &str = "target/engines/venv/bin/python";
const PROMPT: usize = 256;
const TOKENS: usize = 64;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    if !Path::new(PYTHON).exists() || !Path::new(MODEL).exists() {
        say("nothing to compare with: just bench-engines");
        return Ok(());
    }
    let mut ours = BareModel::from_gguf(Path::new(MODEL))?;
    let mut theirs = Peer::start()?;
    say(&theirs.about);
    let mut best = [f64::INFINITY; 4];
    for _ in 0..ROUNDS {
        let (a, b) = (run(&mut ours)?, theirs.run()?);
        for (best, seconds) in best.iter_mut().zip([a.0, b.0, a.1, b.1]) {
            *best = best.min(seconds);
        }
    }
    let [prefill, their_prefill, decode, their_decode] = best;
    for (what, tokens, ours, theirs) in
        [("prefill", PROMPT, prefill, their_prefill), ("decode", TOKENS, decode, their_decode)]
    {
        let rate = |seconds: f64| tokens as f64 / seconds;
        say(&format!("Q4_1 {what}: {:.1} tokens/s, llama.cpp {:.1}", rate(ours), rate(theirs)));
        say(&format!("ratio gguf-{what}-vs-llama-cpp {:.2} goal >= 0.8", theirs / ours));
    }
    Ok(())
}

fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|at| 1000 + at * 37 % 40_000).collect()
}

/// Seconds for the prompt, and for the tokens after it.
fn run(model: &mut BareModel) -> Result<(f64, f64), Box<dyn Error>> {
    let prompt = prompt();
    let start = Instant::now();
    model.step(&[BareRun { place: 0, position: 0, tokens: &prompt }])?;
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for at in 0..TOKENS {
        let token = 1000 + at as u32;
        model.step(&[BareRun { place: 0, position: PROMPT + at, tokens: &[token] }])?;
    }
    Ok((prefill, start.elapsed().as_secs_f64()))
}

/// llama.cpp in a process of its own, which does the same when it is told to.
struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    about: String,
}

impl Peer {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(PYTHON)
            .args(["benches/engines/llama.py", MODEL])
            .args([PROMPT.to_string(), TOKENS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = child.stdin.take().ok_or("no standard input")?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut about = String::new();
        answers.read_line(&mut about)?;
        Ok(Self { child, ask, answers, about: about.trim().to_owned() })
    }

    fn run(&mut self) -> Result<(f64, f64), Box<dyn Error>> {
        self.ask.write_all(b"go\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line)?;
        let seconds = |name: &str| told[name].as_f64().ok_or_else(|| format!("{name}: {line}"));
        Ok((seconds("prefill")?, seconds("decode")?))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
fn say(text: &str) {
    println!("{text}");
}
