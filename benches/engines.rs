//! How fast does the engine read and write GGUF files, against llama.cpp and mistral.rs on the same files, one thread each?
//!
//! `just bench-engines` installs llama-cpp-python, which compiles llama.cpp for this very machine, builds mistral.rs likewise, and
//! runs this. An engine or a file that is not there is left out; all that are there take turns in one run.

use std::{
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use engine::measure::{BareModel, BareRun};
use serde_json::Value;

/// What SmolLM2-135M is published as, and what llama.cpp makes of it.
const MODELS: [(&str, &str); 3] = [
    ("Q4_1", "models/SmolLM2-135M-Instruct.Q4_1.gguf"),
    ("Q4_0", "target/engines/models/Q4_0.gguf"),
    ("Q8_0", "target/engines/models/Q8_0.gguf"),
];
const PROMPT: usize = 256;
const TOKENS: usize = 64;
const ROUNDS: usize = 5;

/// Another engine, and what ours is to be of it.
struct Rival {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    goal: &'static str,
}

const RIVALS: [Rival; 2] = [
    Rival {
        name: "llama-cpp",
        program: "target/engines/venv/bin/python",
        arguments: &["benches/engines/llama.py"],
        goal: ">= 0.8",
    },
    Rival {
        name: "mistralrs",
        program: "target/engines/mistralrs/release/mistralrs-peer",
        arguments: &[],
        goal: ">= 1.0",
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    let rivals: Vec<&Rival> = RIVALS.iter().filter(|it| Path::new(it.program).exists()).collect();
    if rivals.is_empty() {
        say("nothing to compare with: just bench-engines");
    }
    for (kind, path) in MODELS {
        if !rivals.is_empty() && Path::new(path).exists() {
            compare(kind, path, &rivals)?;
        }
    }
    Ok(())
}

fn compare(kind: &str, path: &str, rivals: &[&Rival]) -> Result<(), Box<dyn Error>> {
    let mut ours = BareModel::from_gguf(Path::new(path))?;
    let mut theirs =
        rivals.iter().map(|it| Peer::start(it, path)).collect::<Result<Vec<_>, _>>()?;
    theirs.iter().for_each(|it| say(&format!("{kind}: {}", it.about)));
    let mut best = Seconds { prefill: f64::INFINITY, decode: f64::INFINITY };
    for _ in 0..ROUNDS {
        best.improve(run(&mut ours)?);
        for peer in &mut theirs {
            peer.run()?;
        }
    }
    for (rival, peer) in rivals.iter().zip(&theirs) {
        for (what, tokens, ours, theirs) in [
            ("prefill", PROMPT, best.prefill, peer.best.prefill),
            ("decode", TOKENS, best.decode, peer.best.decode),
        ] {
            let rate = |seconds: f64| tokens as f64 / seconds;
            let (name, goal) = (rival.name, rival.goal);
            say(&format!("{kind} {what}: {:.1} tokens/s, {name} {:.1}", rate(ours), rate(theirs)));
            let kind = kind.to_ascii_lowercase();
            say(&format!("ratio {kind}-{what}-vs-{name} {:.2} goal {goal}", theirs / ours));
        }
    }
    Ok(())
}

/// What the prompt takes, and the tokens after it.
#[derive(Clone, Copy)]
struct Seconds {
    prefill: f64,
    decode: f64,
}

impl Seconds {
    fn improve(&mut self, by: Self) {
        self.prefill = self.prefill.min(by.prefill);
        self.decode = self.decode.min(by.decode);
    }
}

fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|at| 1000 + at * 37 % 40_000).collect()
}

fn run(model: &mut BareModel) -> Result<Seconds, Box<dyn Error>> {
    let prompt = prompt();
    let start = Instant::now();
    model.step(&[BareRun { place: 0, position: 0, tokens: &prompt }])?;
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for at in 0..TOKENS {
        let token = 1000 + at as u32;
        model.step(&[BareRun { place: 0, position: PROMPT + at, tokens: &[token] }])?;
    }
    Ok(Seconds { prefill, decode: start.elapsed().as_secs_f64() })
}

/// Another engine in a process of its own, which does the same when it is told to.
struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    about: String,
    best: Seconds,
}

impl Peer {
    fn start(rival: &Rival, model: &str) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(rival.program)
            .args(rival.arguments)
            .arg(model)
            .args([PROMPT.to_string(), TOKENS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = child.stdin.take().ok_or("no standard input")?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut about = String::new();
        answers.read_line(&mut about)?;
        let about = about.trim().to_owned();
        let best = Seconds { prefill: f64::INFINITY, decode: f64::INFINITY };
        Ok(Self { child, ask, answers, about, best })
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        self.ask.write_all(b"go\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line)?;
        let seconds = |name: &str| told[name].as_f64().ok_or_else(|| format!("{name}: {line}"));
        self.best.improve(Seconds { prefill: seconds("prefill")?, decode: seconds("decode")? });
        Ok(())
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
