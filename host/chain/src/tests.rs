//! Chains of closures: what a chain does with what its stages answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proptest::prelude::*;
use record::{Field, Record, Severity, Stream, Value};

use crate::*;

struct Closure<F>(F);

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

/// Runs texts through a chain of one editor, and gives what was released and how often an instance was opened.
fn run<F>(texts: &[&str], edit: F) -> (Vec<String>, usize)
where
    F: Fn(&[Record]) -> Result<Vec<Verdict>, StageError> + Send + Sync + Clone + 'static,
{
    let opened = Arc::new(AtomicUsize::new(0));
    let spec = Spec {
        name: "test".into(),
        editors: vec![Arc::new(Fake { edit, opened: opened.clone() })],
        handlers: vec![],
        outputs: vec![],
    };
    let mut chain = Chain::new(&spec, replacer(), Arc::new(|| (0, 0)));
    let released = chain.edit(texts.iter().map(|it| record(it)).collect());
    (released.iter().map(|it| text(it)).collect(), opened.load(Ordering::Relaxed))
}

fn replacer() -> Replacer {
    Replacer::new(Ellipsis::Korean, b"key")
}

fn cut(start: usize, end: usize, mode: Mode) -> Edit {
    Edit { field: 0, start, end, label: "X".into(), mode }
}

#[test]
fn edits_are_checked_merged_and_written_by_the_host() {
    let check = |edits: &[Edit], want: &str| {
        let edits = edits.to_vec();
        let (texts, _) = run(&["한글 secret"], move |batch| {
            Ok(batch.iter().map(|_| Verdict::Keep(edits.clone())).collect())
        });
        assert_eq!(texts, [want]);
    };
    check(&[], "한글 secret");
    check(&[cut(7, 13, Mode::Label)], "한글 [X]");
    check(&[cut(7, 13, Mode::Pseudonym)], "한글 [X:6c5f810c]");
    check(&[cut(3, 13, Mode::Ellipsis)], "한…(+8자)");
    check(&[cut(9, 11, Mode::Label), cut(7, 10, Mode::Label)], "한글 [X]et");
    check(&[cut(0, 3, Mode::Label), cut(3, 6, Mode::Label)], "[X][X] secret");
    check(&[cut(7, 7, Mode::Label)], "한글 secret");
    check(&[cut(1, 3, Mode::Label)], "stub: bad_answer");
    check(&[cut(5, 3, Mode::Label)], "stub: bad_answer");
    check(&[cut(0, 14, Mode::Label)], "stub: bad_answer");
    check(&[Edit { field: 1, ..cut(0, 1, Mode::Label) }], "stub: bad_answer");
    check(&[Edit { field: 9, ..cut(0, 1, Mode::Label) }], "stub: bad_answer");
}

#[test]
fn only_the_poison_record_is_stubbed() {
    let (texts, opened) = run(&["a", "poison", "c"], |batch| {
        if batch.iter().any(|it| text(it) == "poison") {
            return Err(StageError::Trap);
        }
        Ok(batch.iter().map(|_| Verdict::Keep(vec![])).collect())
    });
    assert_eq!(texts, ["a", "stub: trap", "c"]);
    assert_eq!(opened, 3, "a trapped instance is never called again");
}

#[test]
fn a_stage_that_always_fails_is_left_alone() {
    let (texts, opened) = run(&["x"; 64], |_| Err(StageError::Deadline));
    assert!(texts.iter().all(|it| it == "stub: deadline" || it == "stub: breaker_open"));
    assert_eq!(opened, 5);
}

#[test]
fn wrong_answers_drops_and_refusals() {
    let (texts, _) = run(&["a", "b"], |_| Ok(vec![]));
    assert_eq!(texts, ["stub: bad_answer", "stub: bad_answer"]);
    let (texts, _) = run(&["a", "b"], |batch| {
        Ok(batch
            .iter()
            .map(|it| match text(it).as_str() {
                "a" => Verdict::Drop("noise".into()),
                _ => Verdict::Fail(3),
            })
            .collect())
    });
    assert_eq!(texts, ["stub: refused"]);
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

impl Formatter for Lines {
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
        assert!(!batch.iter().any(|it| text(it) == "bug"), "as a bug of ours would");
        let mut out = Formatted::default();
        for (index, it) in batch.iter().enumerate() {
            out.text.push_str(&text(it));
            out.lines.push((index, out.text.len()));
        }
        if self.0 == "liar" {
            out.lines.push((0, 1));
        }
        Ok(out)
    }
}

fn pipeline(written: &Arc<Mutex<Vec<String>>>, formatter: &'static str) -> Pipeline {
    let sink = Box::new(Collect(written.clone()));
    let output = Output::start("test", Filter::default(), Overflow::Block, sink).unwrap();
    let spec = Spec {
        name: "default".into(),
        editors: vec![],
        handlers: vec![],
        outputs: vec![(Arc::new(Lines(formatter)), vec![output.clone()])],
    };
    Pipeline::start(Plan {
        chains: [("default".into(), spec)].into(),
        default: "default".into(),
        outputs: vec![output],
        replacer: replacer(),
        clock: Arc::new(|| (0, 0)),
        workers: 2,
        queue: 1 << 12,
    })
    .unwrap()
}

/// Pushes texts through a whole pipeline and gives what its sink wrote.
fn pipe(texts: &[&str], formatter: &'static str) -> Vec<String> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = pipeline(&written, formatter);
    texts.iter().for_each(|it| pipeline.queue().push(record(it)));
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(30));
    assert!(drained.is_complete(), "{drained:?}");
    assert_eq!(drained.accepted, texts.len() as u64);
    pipeline.queue().push(record("late"));
    assert_eq!(pipeline.queue().counts().1, 1, "a record after the end is counted as dropped");
    Arc::try_unwrap(written)
        .map_or_else(|it| it.lock().unwrap().clone(), |it| it.into_inner().unwrap())
}

#[test]
fn a_drained_pipeline_has_written_everything_in_order() {
    let texts: Vec<String> = (0..3000).map(|it| it.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(pipe(&texts, "lines"), texts);
}

#[test]
fn a_panic_costs_one_batch_and_is_counted() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = pipeline(&written, "lines");
    pipeline.queue().push(record("bug"));
    while pipeline.queue().counts().1 == 0 {
        std::thread::yield_now();
    }
    pipeline.queue().push(record("next"));
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(30));
    assert_eq!((drained.in_time, drained.accepted, drained.dropped), (true, 2, 1));
    let written = written.lock().unwrap();
    assert!(written.iter().any(|it| it == "next"), "{written:?}");
}

#[test]
fn lines_are_escaped_and_a_broken_formatter_falls_back_to_json() {
    assert_eq!(pipe(&["a\nb"], "lines"), ["a\\nb"]);
    for broken in ["broken", "liar"] {
        let lines = pipe(&["a\nb"], broken);
        let json: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(json["attributes"]["bucksaw.prompt.text"], "a\nb", "{broken}");
        assert_eq!(json["severity_text"], "INFO");
    }
}

proptest! {
    #[test]
    fn whatever_an_editor_answers_the_chain_holds(
        text in any::<String>(),
        ranges in proptest::collection::vec((0_usize..40, 0_usize..40, 0_usize..3), 0..8),
    ) {
        let mut record = record(&text);
        let edits: Vec<Edit> = ranges
            .iter()
            .map(|&(a, b, mode)| cut(a, b, [Mode::Label, Mode::Pseudonym, Mode::Ellipsis][mode]))
            .collect();
        let valid = edits.iter().all(|it| text.get(it.start..it.end).is_some());
        prop_assert_eq!(replacer().apply(&mut record, edits.clone()).is_ok(), valid);
        if valid {
            let kept: String = text
                .char_indices()
                .filter(|(at, _)| !edits.iter().any(|it| (it.start..it.end).contains(at)))
                .map(|(_, it)| it)
                .collect();
            let left = super::tests::text(&record);
            let mut rest = left.chars();
            prop_assert!(kept.chars().all(|it| rest.any(|other| other == it)), "{left:?} lost {kept:?}");
        }
    }
}
