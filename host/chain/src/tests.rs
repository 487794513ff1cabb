//! Chains of closures: what a chain does with what its stages answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proptest::prelude::*;
use record::{Field, Record, RequestContext, Severity, Stream, Value, event};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{
    clock::{instant, pass},
    queue::Entry,
    *,
};

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
        shadow: None,
    };
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
fn a_record_has_as_many_edits_as_the_contract_says() {
    let many = |count: usize| vec![cut(0, 0, Mode::Label); count];
    assert_eq!(replacer().apply(&mut record("x"), many(200_000)), Ok(()));
    let error = replacer().apply(&mut record("x"), many(200_001)).unwrap_err();
    assert_eq!(error, StageError::BadAnswer);
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
fn a_stage_that_was_left_alone_is_tried_with_one_record_and_comes_back() {
    const NANOSECOND: Duration = Duration::from_nanos(1);
    let (broken, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let edit = {
        let (broken, calls) = (broken.clone(), calls.clone());
        move |batch: &[Record]| {
            calls.lock().unwrap().push(batch.len());
            match broken.load(Ordering::Relaxed) {
                true => Err(StageError::Trap),
                false => Ok(batch.iter().map(|_| Verdict::Keep(vec![])).collect()),
            }
        }
    };
    let written = Arc::new(Mutex::new(Vec::new()));
    let editor = Arc::new(Fake { edit, opened: Arc::default() });
    let chains = chains(&written, "events", Some(editor));
    let tools = tools();
    let stats = tools.stats.clone();
    let mut chain = Chain::new(&chains.chains["default"], tools);
    // What becomes of texts, and the sizes of the batches that the editor is given meanwhile.
    let check = |chain: &mut Chain, texts: &[&str], want: &[&str], sizes: &[usize]| {
        let released = chain.edit(texts.iter().map(|it| record(it)).collect());
        assert_eq!(released.iter().map(|it| text(it)).collect::<Vec<_>>(), want);
        assert_eq!(std::mem::take(&mut *calls.lock().unwrap()), sizes);
    };
    let (trap, open) = ("stub: trap", "stub: breaker_open");
    let open_breakers = || {
        let stages = stats.stages();
        let editor = stages.iter().find(|(key, _)| key.role == "editor");
        editor.unwrap().1.breakers_open.load(Ordering::Relaxed)
    };

    pass(Duration::ZERO);
    // The second turn: what came back is given as much patience as at first.
    for _ in 0..2 {
        broken.store(true, Ordering::Relaxed);
        for _ in 0..5 {
            assert_eq!(open_breakers(), 0);
            check(&mut chain, &["a"], &[trap], &[1]);
        }
        assert_eq!(open_breakers(), 1);
        check(&mut chain, &["a", "b", "c"], &[open; 3], &[]);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            pass(Duration::from_secs(seconds) - NANOSECOND);
            check(&mut chain, &["a", "b"], &[open; 2], &[]);
            pass(NANOSECOND);
            check(&mut chain, &["a", "b", "c"], &[trap, open, open], &[1]);
        }
        broken.store(false, Ordering::Relaxed);
        check(&mut chain, &["a", "b"], &[open; 2], &[]);
        pass(Duration::from_secs(60));
        check(&mut chain, &["a", "b", "c"], &["a", "b", "c"], &[1; 3]);
        check(&mut chain, &["a", "b", "c"], &["a", "b", "c"], &[3]);
        assert_eq!(open_breakers(), 0);
    }
    chain.run(vec![record("a")]);
    assert!(chains.outputs[0].close(Instant::now() + Duration::from_secs(30)));
    let told = ["request.prompt", event::PLUGIN_TRAPPED, event::PLUGIN_OPENED];
    assert_eq!(*written.lock().unwrap(), told);
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

fn pipeline(written: &Arc<Mutex<Vec<String>>>, formatter: &'static str) -> Pipeline {
    start(chains(written, formatter, None))
}

/// Pushes texts through a whole pipeline and gives what its sink wrote.
fn pipe(texts: &[&str], formatter: &'static str) -> Vec<String> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = pipeline(&written, formatter);
    texts.iter().for_each(|it| pipeline.push(record(it)));
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(30));
    assert!(drained.is_complete(), "{drained:?}");
    assert_eq!(drained.accepted, texts.len() as u64);
    pipeline.push(record("late"));
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
    pipeline.push(record("bug"));
    while pipeline.queue().counts().1 == 0 {
        std::thread::yield_now();
    }
    pipeline.push(record("next"));
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

/// A record of a request that began with a revision.
fn of_request(text: &str, revision: &Revision) -> Record {
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = RequestContext::new(id, "default".into()).in_revision(revision.number());
    Record { context: Some(Arc::new(context)), ..record(text) }
}

#[test]
fn a_request_keeps_the_revision_that_it_began_with() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = start(chains(&written, "lines", Some(labels("OLD"))));
    let old = pipeline.revisions().current();
    let revised = pipeline.install(chains(&written, "lines", Some(labels("NEW"))));
    assert_eq!((revised.number, revised.previous), (2, 1));
    let record_of_old = of_request("x", &old);
    let entry = Entry { record: record_of_old, revision: old.clone(), own: false };
    pipeline.shared.queue.push(entry);
    pipeline.push(record("x"));
    assert_eq!(pipeline.revisions().live(), [1, 2]);
    drop(old);
    pipeline.rollback().unwrap();
    pipeline.push(record("x"));
    assert_eq!(pipeline.rollback(), Err(NoEarlier));
    assert!(pipeline.shutdown(Instant::now() + Duration::from_secs(30)).is_complete());
    let written = written.lock().unwrap();
    let texts: Vec<&str> =
        written.iter().map(String::as_str).filter(|it| it.starts_with('[')).collect();
    // Records of one request and those of none may be different workers' work.
    let mut sorted = texts.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["[NEW]", "[OLD]", "[OLD]"], "{texts:?}");
}

#[test]
fn swaps_lose_double_and_reorder_nothing() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = start(chains(&written, "lines", None));
    let texts: Vec<String> = (0..3000).map(|it| it.to_string()).collect();
    for (at, it) in texts.iter().enumerate() {
        pipeline.push(record(it));
        if at % 100 == 0 {
            pipeline.install(chains(&written, "lines", None));
        }
    }
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(30));
    assert!(drained.is_complete(), "{drained:?}");
    // Each revision has a sink of its own here, so the order is that of numbers within one.
    let mut numbers: Vec<u32> =
        written.lock().unwrap().iter().filter_map(|it| it.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_revision_that_keeps_failing_goes_back_by_itself() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = start(chains(&written, "lines", Some(labels("GOOD"))));
    pipeline.install(chains(&written, "lines", Some(traps())));
    pipeline.push(record("a"));
    pipeline.push(record("b"));
    pipeline.push(record("c"));
    while pipeline.revisions().current().number() == 2 {
        std::thread::yield_now();
    }
    pipeline.push(record("d"));
    assert!(pipeline.shutdown(Instant::now() + Duration::from_secs(30)).is_complete());
    let written = written.lock().unwrap();
    let count = |what: &str| written.iter().filter(|it| *it == what).count();
    assert_eq!((count("stub: trap"), count("[GOOD]")), (3, 1), "{written:?}");
    assert_eq!(pipeline.stats().rollbacks.load(Ordering::Relaxed), 1);
}

#[test]
fn a_shadow_is_compared_and_emits_nothing() {
    let shadow = ShadowSpec { name: "other".into(), editors: vec![labels("B")], share: 1.0 };
    let spec = Spec {
        name: "test".into(),
        editors: vec![labels("A")],
        handlers: vec![],
        outputs: vec![],
        shadow: Some(shadow),
    };
    let tools = tools();
    let stats = tools.stats.clone();
    let mut chain = Chain::new(&spec, tools);
    let released = chain.edit(vec![record("secret"), record("secret")]);
    assert_eq!(released.iter().map(|it| text(it)).collect::<Vec<_>>(), ["[A]", "[A]"]);
    let (_, shadow) = stats.shadows().remove(0);
    let count = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
    assert_eq!(count(&shadow.compared), 2);
    assert_eq!((count(&shadow.relabelled), count(&shadow.text_changed)), (2, 2));
    assert_eq!((count(&shadow.missed), count(&shadow.added)), (0, 0));
}

#[test]
fn a_slow_shadow_keeps_to_its_share_and_what_it_skips_is_counted() {
    const SHARE: f64 = 0.1;
    const SLOW: Duration = Duration::from_millis(100);
    let slow = |batch: &[Record]| {
        pass(SLOW);
        Ok(batch.iter().map(|_| Verdict::Keep(vec![])).collect())
    };
    let slow = Arc::new(Fake { edit: slow, opened: Arc::default() });
    let shadow = ShadowSpec { name: "slow".into(), editors: vec![slow], share: SHARE };
    let spec = Spec {
        name: "test".into(),
        editors: vec![labels("A")],
        handlers: vec![],
        outputs: vec![],
        shadow: Some(shadow),
    };
    let tools = tools();
    let stats = tools.stats.clone();
    pass(Duration::ZERO);
    let start = instant();
    let mut chain = Chain::new(&spec, tools);
    for _ in 0..1000 {
        let released = chain.edit(vec![record("one"), record("two")]);
        assert_eq!(released.iter().map(|it| text(it)).collect::<Vec<_>>(), ["[A]", "[A]"]);
        pass(Duration::from_millis(10));
    }
    let (_, shadow) = stats.shadows().remove(0);
    let compared = shadow.compared.load(Ordering::Relaxed);
    assert_eq!(compared + shadow.skipped.load(Ordering::Relaxed), 2000);
    // It may be one batch over, and is not far under either.
    let spent = SLOW.as_secs_f64() * compared as f64 / 2.0;
    let share = (instant() - start).as_secs_f64() * SHARE;
    assert!((spent - share).abs() <= 2.0 * SLOW.as_secs_f64(), "{spent} of {share}");
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

/// What a chain releases of a text that arrives in parts, all parts joined.
fn stream(parts: &[String], editor: Arc<dyn Source<dyn Editor>>) -> String {
    let spec = Spec {
        name: "test".into(),
        editors: vec![editor],
        handlers: vec![],
        outputs: vec![],
        shadow: None,
    };
    let mut chain = Chain::new(&spec, tools());
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = Some(Arc::new(RequestContext::new(id, "test".into())));
    let mut batch: Vec<Record> = parts
        .iter()
        .map(|it| Record {
            event: "response.delta".into(),
            context: context.clone(),
            fields: vec![Field::new("bucksaw.response.delta", it.as_str())],
            ..record("")
        })
        .collect();
    batch.push(Record { event: "request.finished".into(), context, fields: vec![], ..record("") });
    let mut out = String::new();
    for it in batch.into_iter().flat_map(|it| chain.edit(vec![it])) {
        match it.get("bucksaw.response.delta") {
            Some(Value::Text(text)) => out.push_str(text),
            _ if it.stub.is_some() => out.push_str("(stub)"),
            _ => {}
        }
    }
    out
}

#[test]
fn a_shadow_is_compared_with_a_text_in_parts_once_it_is_whole() {
    let spec = Spec {
        name: "test".into(),
        editors: vec![Arc::new(Digits)],
        handlers: vec![],
        outputs: vec![],
        shadow: Some(ShadowSpec { name: "none".into(), editors: vec![], share: 1.0 }),
    };
    let tools = tools();
    let stats = tools.stats.clone();
    let mut chain = Chain::new(&spec, tools);
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = Some(Arc::new(RequestContext::new(id, "test".into())));
    let padding = "and so on, ".repeat(20);
    // Of the first number, no part holds all.
    for part in ["call 12", "34 or 56, ", padding.as_str()] {
        chain.edit(vec![Record {
            event: "response.delta".into(),
            context: context.clone(),
            fields: vec![Field::new("bucksaw.response.delta", part)],
            ..record("")
        }]);
    }
    let (_, shadow) = stats.shadows().remove(0);
    let count = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
    assert_eq!(count(&shadow.compared), 0);
    let event = "request.finished".into();
    chain.edit(vec![Record { event, context, fields: vec![], ..record("") }]);
    // The text, and the record that ends it.
    assert_eq!(count(&shadow.compared), 2);
    assert_eq!((count(&shadow.missed), count(&shadow.added)), (2, 0));
    assert_eq!((count(&shadow.different), count(&shadow.text_changed)), (1, 1));
}

#[test]
fn a_text_in_parts_that_never_is_whole_is_counted_as_skipped() {
    let check = |editor: Arc<dyn Source<dyn Editor>>, parts: &[String], torn: bool| {
        let spec = Spec {
            name: "test".into(),
            editors: vec![editor],
            handlers: vec![],
            outputs: vec![],
            shadow: Some(ShadowSpec { name: "none".into(), editors: vec![], share: 1.0 }),
        };
        let tools = tools();
        let stats = tools.stats.clone();
        let mut chain = Chain::new(&spec, tools);
        let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
        let context = Arc::new(RequestContext::new(id, "test".into()));
        for part in parts {
            chain.edit(vec![Record {
                event: "response.delta".into(),
                context: Some(context.clone()),
                fields: vec![Field::new("bucksaw.response.delta", part.as_str())],
                ..record("")
            }]);
        }
        if torn {
            context.tear();
        }
        let event = "request.finished".into();
        chain.edit(vec![Record { event, context: Some(context), fields: vec![], ..record("") }]);
        let (_, shadow) = stats.shadows().remove(0);
        let count = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
        // What is compared is the record that ends the text.
        assert_eq!((count(&shadow.compared), count(&shadow.skipped)), (1, 1));
    };
    check(Arc::new(Digits), &["call 12".to_owned()], true);
    check(Arc::new(Digits), &["x".repeat(1 << 20), "y".to_owned()], false);
    check(traps(), &["and so on, ".repeat(20)], false);
}

proptest! {
    #[test]
    fn however_a_text_is_split_it_is_edited_as_a_whole(
        runs in proptest::collection::vec("[0-9]{1,5}|[a-z한글 ]{1,40}", 0..60),
        sizes in proptest::collection::vec(1_usize..50, 1..20),
    ) {
        // Runs of digits are apart, so that none is longer than the editor promised.
        let text = runs.join("-");
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, more) = rest.split_at(rest.ceil_char_boundary(*size));
            parts.push(part.to_owned());
            rest = more;
        }
        let whole = stream(std::slice::from_ref(&text), Arc::new(Digits));
        prop_assert_eq!(stream(&parts, Arc::new(Digits)), whole);
    }
}

#[test]
fn a_library_cannot_name_an_event() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = start(chains(&written, "events", None));
    let log = tracing_subscriber::registry().with(pipeline.layer());
    tracing::subscriber::with_default(log, || {
        tracing::warn!(target: "library", event = "kim@example.com", severity.number = 21_u64);
        tracing::info!(target: TARGET, event = "server.started");
        tracing::info!(target: "library", "not worth a record");
        tracing::debug!(target: TARGET, event = "below.the.level");
    });
    assert!(pipeline.shutdown(Instant::now() + Duration::from_secs(30)).is_complete());
    assert_eq!(*written.lock().unwrap(), ["log", "server.started"]);
}

#[test]
fn a_text_with_a_hole_is_withheld() {
    let spec = Spec {
        name: "test".into(),
        editors: vec![],
        handlers: vec![],
        outputs: vec![],
        shadow: None,
    };
    let mut chain = Chain::new(&spec, tools());
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = Arc::new(RequestContext::new(id, "test".into()));
    let delta = |text: String| Record {
        event: "response.delta".into(),
        context: Some(context.clone()),
        fields: vec![Field::new("bucksaw.response.delta", text)],
        ..record("")
    };
    assert!(chain.edit(vec![delta("4111 1111 ".to_owned())]).is_empty(), "it is held back");
    // What stood between was lost on its way here.
    context.tear();
    let released = chain.edit(vec![delta("1111 ".repeat(40))]);
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].stub.as_ref().map(|it| it.error), Some("memory"));
    assert!(released[0].get("bucksaw.response.delta").is_none());
}

#[test]
fn what_an_editor_cannot_promise_waits_for_the_end() {
    let parts: Vec<String> = (0..100).map(|it| format!("part {it} of a text, ")).collect();
    assert_eq!(stream(&parts, labels("ALL")), parts.concat(), "it edits another field");
    // One stub for the text and one for the terminal record.
    assert_eq!(stream(&parts, traps()), "(stub)(stub)");
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

/// Keeps texts, and what stands in the field `n`.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Keeper for Kept {
    fn keep(&self, records: &[Released]) {
        assert!(records.iter().all(|it| it.stream == Stream::Store && it.seq == 0));
        self.0.lock().unwrap().extend(records.iter().map(|it| text(it)));
    }
}

#[test]
fn what_is_to_be_stored_goes_to_the_keeper_alone_through_its_chain_at_any_level() {
    let check = |chain: Option<&str>, editor: Arc<dyn Source<dyn Editor>>, want: &[&str]| {
        let (written, kept) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Kept::default()));
        let mut chains = chains(&written, "lines", Some(labels("LOG")));
        let store = Spec {
            name: "store".into(),
            editors: vec![editor],
            handlers: vec![],
            outputs: vec![],
            shadow: None,
        };
        chains.chains.insert("store".into(), store);
        chains.level = Severity::CRITICAL;
        chains.keeping = Some(Keeping { keeper: kept.clone(), chain: chain.map(Arc::from) });
        let pipeline = start(chains);
        let subscriber = tracing_subscriber::registry().with(pipeline.layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!(target: TARGET, "request", request_id = "a1b2c3d4");
            let _entered = span.enter();
            tracing::error!(target: TARGET, event = "log", bucksaw.prompt.text = "below the level");
            tracing::info!(target: STORE_TARGET, event = "store.part", bucksaw.prompt.text = "one");
            tracing::error!(
                target: TARGET,
                event = "request.failed",
                severity.number = 21_u64,
                bucksaw.prompt.text = "two"
            );
            tracing::info!(target: STORE_TARGET, event = "store.part", bucksaw.prompt.text = "three");
        });
        assert!(pipeline.shutdown(Instant::now() + Duration::from_secs(30)).is_complete());
        assert_eq!(*written.lock().unwrap(), ["[LOG]"]);
        assert_eq!(*kept.0.lock().unwrap(), want);
    };
    check(Some("store"), labels("STORE"), &["[STORE]", "[STORE]"]);
    check(None, labels("STORE"), &["[LOG]", "[LOG]"]);
    check(Some("store"), traps(), &["stub: trap", "stub: trap"]);
}
