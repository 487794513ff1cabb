//! Presidio's pattern recognizers, in a Python of their own that reads the same file and measures its own processor time.

use std::{
    borrow::Cow,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{corpus::Input, peer::Peer};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/presidio/worker.py");

pub struct Presidio {
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// One line to the worker.
#[derive(Serialize)]
struct Request {
    /// Lines of the file.
    ids: Vec<usize>,
    /// Whether the texts are wanted, or only the time.
    texts: bool,
}

/// One line from it.
#[derive(Deserialize)]
struct Answer {
    cpu_nanos: u64,
    texts: Vec<String>,
}

impl Presidio {
    pub fn peer(folder: &Path, records: &Path) -> Result<Box<dyn Peer>> {
        let python = folder.join("venv/bin/python");
        ensure!(python.exists(), "its Python packages are not installed");
        let mut process = Command::new(python)
            .arg(SCRIPT)
            .arg(records)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("no output")?);
        let mut presidio = Self { process, requests, answers };
        // It answers once everything is imported and compiled.
        presidio.ask(Vec::new(), false)?;
        Ok(Box::new(presidio))
    }

    fn ask(&mut self, ids: Vec<usize>, texts: bool) -> Result<Answer> {
        let requests = self.requests.as_mut().context("no input")?;
        serde_json::to_writer(&mut *requests, &Request { ids, texts })?;
        requests.write_all(b"\n")?;
        requests.flush()?;
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the worker ended");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Peer for Presidio {
    fn redact<'a>(&'a mut self, records: &'a [Input]) -> Result<Vec<Cow<'a, str>>> {
        let answer = self.ask(records.iter().map(|it| it.id).collect(), true)?;
        Ok(answer.texts.into_iter().map(Cow::Owned).collect())
    }

    fn time(&mut self, records: &[Input]) -> Result<Duration> {
        let answer = self.ask(records.iter().map(|it| it.id).collect(), false)?;
        Ok(Duration::from_nanos(answer.cpu_nanos))
    }
}

impl Drop for Presidio {
    /// The end of its input ends it.
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.process.wait();
    }
}
