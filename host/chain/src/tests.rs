//! Chains of closures: what a chain does with what its stages answer.

mod edits;
mod failures;
mod front;
mod parts;
mod pipelines;
mod revisions;
mod shadows;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use record::{Field, Record, Severity, Stream, Value};

use crate::*;

struct Closure<F>(F);

impl<F: Send> Stage for Closure<F> {}

impl<F: Fn(&[Record]) -> Result<Vec<Verdict>, StageError> + Send> Editor for Closure<F> {
    fn edit(&mut self, batch: &[Record]) -> Result<Vec<Verdict>, StageError> {
        (self.0)(batch)
    }
}

struct Fake<F> {
    edit: F,
    opened: Arc<AtomicUsize>,
}

impl<F> Source<dyn Editor> for Fake<F>
where
    F: Fn(&[Record]) -> Result<Vec<Verdict>, StageError> + Send + Sync + Clone + 'static,
{
    fn name(&self) -> &str {
        "fake"
    }

    fn open(&self) -> Result<Box<dyn Editor>, StageError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Closure(self.edit.clone())))
    }
}

fn record(text: &str) -> Record {
    Record {
        time: 0,
        utc_offset: 0,
        severity: Severity::INFO,
        event: "request.prompt".into(),
        stream: Stream::App,
        context: None,
        seq: 0,
        stub: None,
        fields: vec![Field::new("bucksaw.prompt.text", text), Field::new("n", 7_i64)],
    }
}

fn text(record: &Record) -> String {
    match (&record.stub, record.get("bucksaw.prompt.text")) {
        (Some(stub), None) => format!("stub: {}", stub.error),
        (None, Some(Value::Text(it))) => it.clone(),
        other => format!("{other:?}"),
    }
}

/// A chain of editors alone.
fn spec(editors: Vec<Arc<dyn Source<dyn Editor>>>) -> Spec {
    Spec { name: "test".into(), editors, handlers: vec![], outputs: vec![], shadow: None }
}

/// Runs texts through a chain of one editor, and gives what was released and how often an instance was opened.
fn run<F>(texts: &[&str], edit: F) -> (Vec<String>, usize)
where
    F: Fn(&[Record]) -> Result<Vec<Verdict>, StageError> + Send + Sync + Clone + 'static,
{
    let opened = Arc::new(AtomicUsize::new(0));
    let spec = spec(vec![Arc::new(Fake { edit, opened: opened.clone() })]);
    let mut chain = Chain::new(&spec, tools());
    let released = chain.edit(texts.iter().map(|it| record(it)).collect());
    (released.iter().map(|it| text(it)).collect(), opened.load(Ordering::Relaxed))
}

fn tools() -> Tools {
    Tools { replacer: replacer(), clock: Arc::new(|| (0, 0)), stats: Arc::default() }
}

fn replacer() -> Replacer {
    Replacer::new(Ellipsis::Korean, b"key")
}

struct Collect(Arc<Mutex<Vec<String>>>);

impl Sink for Collect {
    fn write(&mut self, lines: &[Line]) -> std::io::Result<()> {
        self.0.lock().unwrap().extend(lines.iter().map(|it| it.text().to_owned()));
        Ok(())
    }
}

struct Lines(&'static str);

impl Source<dyn Formatter> for Lines {
    fn name(&self) -> &str {
        "lines"
    }

    fn open(&self) -> Result<Box<dyn Formatter>, StageError> {
        match self.0 {
            "broken" => Err(StageError::Instantiate),
            _ => Ok(Box::new(Lines(self.0))),
        }
    }
}

impl Stage for Lines {}

impl Formatter for Lines {
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
        assert!(!batch.iter().any(|it| text(it) == "bug"), "as a bug of ours would");
        let mut out = Formatted::default();
        for (index, it) in batch.iter().enumerate() {
            match self.0 {
                "events" => out.text.push_str(&it.event),
                _ => out.text.push_str(&text(it)),
            }
            out.lines.push((index, out.text.len()));
        }
        if self.0 == "liar" {
            out.lines.push((0, 1));
        }
        Ok(out)
    }
}

/// Chains with one chain, whose editor answers `edit`.
fn chains(
    written: &Arc<Mutex<Vec<String>>>,
    formatter: &'static str,
    editor: Option<Arc<dyn Source<dyn Editor>>>,
) -> Chains {
    let sink = Box::new(Collect(written.clone()));
    let output = Output::start("test", Filter::default(), Overflow::Block, sink).unwrap();
    let spec = Spec {
        name: "default".into(),
        editors: editor.into_iter().collect(),
        handlers: vec![],
        outputs: vec![(Arc::new(Lines(formatter)), vec![output.clone()])],
        shadow: None,
    };
    Chains {
        chains: [("default".into(), spec)].into(),
        default: "default".into(),
        outputs: vec![output],
        replacer: replacer(),
        keeping: None,
        level: Severity::INFO,
        failures_max: 3,
        taken_over: Default::default(),
        kept: Arc::new(()),
    }
}

fn start(chains: Chains) -> Pipeline {
    let clock = Arc::new(|| (0, 0));
    Pipeline::start(Plan { chains, clock, workers: 2, queue: 1 << 12 }).unwrap()
}

/// An editor that puts a label in place of the whole text.
fn labels(label: &'static str) -> Arc<dyn Source<dyn Editor>> {
    let edit = move |batch: &[Record]| {
        let cut = |it: &Record| match it.get("bucksaw.prompt.text") {
            Some(Value::Text(text)) => {
                let (field, start, end) = (0, 0, text.len());
                vec![Edit { field, start, end, label: label.into(), mode: Mode::Label }]
            }
            _ => vec![],
        };
        Ok(batch.iter().map(|it| Verdict::Keep(cut(it))).collect())
    };
    Arc::new(Fake { edit, opened: Arc::default() })
}

fn traps() -> Arc<dyn Source<dyn Editor>> {
    Arc::new(Fake { edit: |_: &[Record]| Err(StageError::Trap), opened: Arc::default() })
}

/// Takes out runs of up to five digits, each of which depends on one byte behind it.
struct Digits;

impl Stage for Digits {}

impl Editor for Digits {
    fn edit(&mut self, batch: &[Record]) -> Result<Vec<Verdict>, StageError> {
        let edits = |it: &Record| {
            let Some(Value::Text(text)) = it.fields.first().map(|it| &it.value) else {
                return vec![];
            };
            let mut edits = Vec::new();
            let mut start = 0;
            for run in text.split_inclusive(|it: char| !it.is_ascii_digit()) {
                let digits = run.bytes().take_while(u8::is_ascii_digit).count();
                if (1..=5).contains(&digits) {
                    let end = start + digits;
                    edits.push(Edit { field: 0, start, end, label: "N".into(), mode: Mode::Label });
                }
                start += run.len();
            }
            edits
        };
        Ok(batch.iter().map(|it| Verdict::Keep(edits(it))).collect())
    }

    fn longest_match(&self) -> Option<usize> {
        Some(6)
    }
}

impl Source<dyn Editor> for Digits {
    fn name(&self) -> &str {
        "digits"
    }

    fn open(&self) -> Result<Box<dyn Editor>, StageError> {
        Ok(Box::new(Self))
    }
}
