//! A handler that waits: what it costs, and what it does not.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use record::{Field, Name, Record, Severity, Stream, Value, event, field};

use crate::*;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A handler that tells how many records it was given, and goes on when it is let, with what it is told.
struct Gate {
    begun: Sender<usize>,
    go: Arc<Mutex<Receiver<Result<(), StageError>>>>,
}

impl Stage for Gate {
    fn take_denials(&mut self) -> Vec<(&'static str, u64)> {
        vec![("nothing", 2)]
    }
}

impl Handler for Gate {
    fn handle(&mut self, batch: &[Released]) -> Result<(), StageError> {
        self.begun.send(batch.len()).unwrap();
        self.go.lock().unwrap().recv().unwrap_or(Ok(()))
    }
}

impl Source<dyn Handler> for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn open(&self) -> Result<Box<dyn Handler>, StageError> {
        Ok(Box::new(Self { begun: self.begun.clone(), go: self.go.clone() }))
    }

    fn waits(&self) -> bool {
        true
    }
}

/// Writes an event and, of a record about a plugin, what is told of it.
struct Events;

impl Stage for Events {}

impl Formatter for Events {
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
        let mut formatted = Formatted::default();
        for (at, record) in batch.iter().enumerate() {
            formatted.text += &record.event;
            for name in [field::PLUGIN_ERROR, field::RECORDS, field::DROPPED, field::DENIED] {
                match record.get(name) {
                    Some(Value::Text(it)) => formatted.text += &format!(" {it}"),
                    Some(Value::Int(it)) => formatted.text += &format!(" {it}"),
                    _ => {}
                }
            }
            formatted.lines.push((at, formatted.text.len()));
        }
        Ok(formatted)
    }
}

impl Source<dyn Formatter> for Events {
    fn name(&self) -> &str {
        "events"
    }

    fn open(&self) -> Result<Box<dyn Formatter>, StageError> {
        Ok(Box::new(Self))
    }
}

struct Lines(Sender<String>);

impl Sink for Lines {
    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        lines.iter().for_each(|it| self.0.send(it.text().to_owned()).unwrap());
        Ok(())
    }
}

/// A log with one chain, its gate, and what it writes.
struct Log {
    pipeline: Pipeline,
    begun: Receiver<usize>,
    go: Sender<Result<(), StageError>>,
    lines: Receiver<String>,
}

fn log() -> Log {
    let (begin, begun) = channel();
    let (go, gone) = channel();
    let (write, lines) = channel();
    let output = Output::start("out", Filter::default(), Overflow::Block, Box::new(Lines(write)));
    let chains = chains(
        vec![Arc::new(Gate { begun: begin, go: Arc::new(Mutex::new(gone)) })],
        output.unwrap(),
    );
    let clock = Arc::new(|| (0_i64, 0_i32));
    let pipeline = Pipeline::start(Plan { chains, clock, workers: 1, queue: 16_384 }).unwrap();
    Log { pipeline, begun, go, lines }
}

fn chains(handlers: Vec<Arc<dyn Source<dyn Handler>>>, output: Arc<Output>) -> Chains {
    let spec = Spec {
        name: "default".into(),
        editors: vec![],
        handlers,
        outputs: vec![(Arc::new(Events), vec![output.clone()])],
        shadow: None,
    };
    Chains {
        keeping: None,
        chains: [("default".into(), spec)].into(),
        default: "default".into(),
        outputs: vec![output],
        replacer: Replacer::new(Ellipsis::Korean, b"key"),
        level: Severity::INFO,
        failures_max: 0,
        taken_over: Default::default(),
        kept: Arc::new(()),
    }
}

impl Log {
    fn push(&self, event: &str, text: usize) {
        self.pipeline.push(Record {
            time: 0,
            utc_offset: 0,
            severity: Severity::INFO,
            event: Name::Owned(event.to_owned()),
            stream: Stream::App,
            context: None,
            seq: 0,
            stub: None,
            fields: vec![Field::new(field::PROMPT_TEXT, "x".repeat(text))],
        });
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(LONG).unwrap()
    }

    fn lost(&self) -> u64 {
        self.pipeline.stats().stages().iter().map(|(_, it)| it.lost.load(Relaxed)).sum()
    }

    /// Ends the log, and gives the lines that nobody has read.
    fn end(self, within: Duration) -> Vec<String> {
        let drained = self.pipeline.shutdown(Instant::now() + within);
        assert!(drained.is_complete(), "{drained:?}");
        self.lines.try_iter().collect()
    }
}

#[test]
fn lines_go_on_while_a_handler_waits() {
    let log = log();
    log.push("first", 1);
    assert_eq!(log.begun.recv_timeout(LONG).unwrap(), 1);
    for number in 0..100 {
        log.push(&number.to_string(), 1);
    }
    assert_eq!(log.line(), "first");
    for number in 0..100 {
        assert_eq!(log.line(), number.to_string());
    }
    // Let go, it is given the rest, in batches.
    let mut handled = 0;
    while handled < 100 {
        log.go.send(Ok(())).unwrap();
        handled += log.begun.recv_timeout(LONG).unwrap();
    }
    log.go.send(Ok(())).unwrap();
    let told = log.end(LONG);
    assert!(told.iter().all(|it| it.starts_with("plugin.denied nothing ")), "{told:?}");
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    let check = |records: usize, text: usize, want: u64| {
        let log = log();
        log.push("first", 1);
        assert_eq!(log.begun.recv_timeout(LONG).unwrap(), 1);
        for _ in 0..records {
            log.push("more", text);
            // The queue of the log itself has room for all of it.
            assert!(["first", "more"].contains(&log.line().as_str()));
        }
        assert_eq!(log.line(), "more");
        assert_eq!(log.lost(), want);
        drop(log.go);
        let log = Log { go: channel().0, ..log };
        let told = log.end(LONG);
        assert!(told.contains(&format!("{} not_handled {want}", event::LOG_DROPPED)), "{told:?}");
    };
    check(5000, 1, 5000 - 4096);
    check(40, 1 << 20, 40 - 15);
}

#[test]
fn failures_are_told_and_not_to_the_one_that_failed() {
    let log = log();
    log.push("first", 1);
    log.begun.recv_timeout(LONG).unwrap();
    log.go.send(Err(StageError::Trap)).unwrap();
    assert_eq!(log.line(), "first");
    // Without another record: it is looked for now and then.
    assert_eq!(log.line(), format!("{} trap 1", event::PLUGIN_TRAPPED));
    assert_eq!(log.line(), format!("{} nothing 2", event::PLUGIN_DENIED));
    assert!(log.begun.try_recv().is_err(), "it is given no record about itself");
    assert_eq!(log.end(LONG), Vec::<String>::new());
}

#[test]
fn a_handler_that_never_returns_costs_its_records_at_the_end() {
    let log = log();
    for _ in 0..10 {
        log.push("more", 1);
    }
    log.begun.recv_timeout(LONG).unwrap();
    for _ in 0..10 {
        log.line();
    }
    let stats = log.pipeline.stats().clone();
    let go = log.go.clone();
    let told = log.end(Duration::from_secs(2));
    assert_eq!(told, [format!("{} not_handled 10", event::LOG_DROPPED)]);
    assert_eq!(stats.stages().iter().map(|(_, it)| it.lost.load(Relaxed)).sum::<u64>(), 10);
    drop(go);
}

#[test]
fn records_of_an_ended_revision_are_handled() {
    let log = log();
    log.push("first", 1);
    log.begun.recv_timeout(LONG).unwrap();
    log.push("second", 1);
    assert_eq!((log.line(), log.line()), ("first".to_owned(), "second".to_owned()));
    let output = log.pipeline.outputs().remove(0);
    log.pipeline.install(chains(vec![], output));
    assert_eq!(log.line(), event::CHAIN_REVISED);
    log.push("third", 1);
    assert_eq!(log.line(), "third");
    log.go.send(Ok(())).unwrap();
    assert_eq!(log.begun.recv_timeout(LONG).unwrap(), 1);
    log.go.send(Err(StageError::Refused)).unwrap();
    let mut told = [log.line(), log.line()];
    told.sort();
    assert_eq!(told[1], format!("{} refused 1", event::PLUGIN_FAILED));
    log.end(LONG);
}
