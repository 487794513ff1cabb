//! The log in a service of your own: its `tracing` events run through plugins, so that what people wrote is redacted before a
//! console or a file sees it, whatever a plugin does wrong. Nothing of the inference server is in it.
//!
//! ```bash
//! cargo run -p plugin --example embed
//! ```
//!
//! | crate | what it brings |
//! |---|---|
//! | `record` | what a record is, and which of its fields are content |
//! | `chain` | the `tracing` layer, the queue and its workers, release, and the change of chains while they run |
//! | `plugin` | WebAssembly components as stages of a chain |
//! | `sink` | console, file, webhook; your own is a type that implements `chain::Sink` |
//!
//! # How events become records
//! - Events of the target `bucksaw` are yours: every one from the level of the chains on. Of all other targets, which are
//!   those of libraries, WARN and ERROR become records.
//! - A span named `request` of that target, with the field `request_id`, is a request. Events in it carry its id and a position.
//! - Text is content unless its name is listed in `record::field::is_metadata`: when an editor fails, it is withheld.
//! - No event ever waits: a full queue drops records and counts them.
//!
//! The rest is below, in the order in which a program does it.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{Write as _, stderr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chain::{
    Chains, Drained, Ellipsis, Filter, Output, Overflow, Pipeline, Plan, Replacer, Spec, TARGET,
};
use plugin::{Grants, Limits, Plugin, Runtime, Settings};
use record::{Severity, event, field};
use tracing::Span;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};
use uuid::Uuid;

/// Components that are part of the program. Reading them from files does as well.
const REDACT: &[u8] = include_bytes!("../plugins/components/redact.wasm");
const JSON: &[u8] = include_bytes!("../plugins/components/json.wasm");

/// Pseudonyms of one text are the same as long as this is: take it from where your service has its secrets.
const PSEUDONYM_KEY: &[u8] = b"not a secret";
/// Records that a worker may be behind: about 20 MB.
const QUEUE: usize = 65_536;
/// Records that editors of a change may fail for before it is taken back.
const FAILURES_MAX: u64 = 20;
/// What an end of the program may wait for the log.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join("bucksaw_embed.jsonl");
    let drained = run(&path)?;
    let Drained { accepted, dropped, lost_lines, .. } = drained;
    writeln!(
        stderr(),
        "{accepted} records, {dropped} dropped, {lost_lines} lines lost; see {}",
        path.display()
    )?;
    if drained.is_complete() { Ok(()) } else { Err("the log is not complete".into()) }
}

fn run(path: &Path) -> Result<Drained, Box<dyn Error>> {
    // 1. What all plugins share. `()` are no alert channels; in place of `None`, `plugin::Cache::open(folder)` keeps compiled
    //    plugins on disk, so that the next start need not compile them.
    let runtime = Runtime::new(Arc::new(()), None)?;

    // 2. Where lines go. Each output has a buffer and a thread of its own.
    let console = sink::Console::new(sink::Target::Stdout, sink::Color::Auto, false);
    let file = sink::File::open(path)?;
    let outputs = [
        Output::start("console", Filter::default(), Overflow::DropOldest, Box::new(console))?,
        Output::start("file", Filter::default(), Overflow::Block, Box::new(file))?,
    ];

    // 3. The chains, and the workers that run records through them.
    let plan = Plan {
        chains: chains(&runtime, r#"{"kinds": ["email", "card"]}"#, &outputs)?,
        clock: Arc::new(now),
        workers: 1,
        queue: QUEUE,
    };
    let pipeline = Pipeline::start(plan)?;

    // 4. The front door. Other layers, such as your present one, may stand beside it.
    tracing_subscriber::registry().with(pipeline.layer()).try_init()?;

    // 5. The service does its work.
    let early = Order::begin();
    early.note("call kim.minsu@example.com first");

    // 6. A change while it runs: it is prepared here, on this thread, and then takes the place of what was there between two
    //    batches. Outputs that are in both stay open. `pipeline.rollback()` goes back.
    let revised = pipeline.install(chains(&runtime, r#"{"mode": "pseudonym"}"#, &outputs)?);
    writeln!(stderr(), "revision {} is in force", revised.number)?;

    // What began before ends on the chains that it began with; what begins now takes the new ones.
    early.note("paid with 4111 1111 1111 1111");
    early.finish();
    let late = Order::begin();
    late.note("the same again for kim.minsu@example.com");
    tracing::warn!(retries = 3, "the stock of kim.minsu@example.com could not be read");
    late.finish();

    // 7. The end: no more events are taken, and those that were are written.
    Ok(pipeline.shutdown(Instant::now() + GRACE))
}

/// One chain, which redacts and writes JSON. `redaction`: the configuration of the plugin, as JSON.
fn chains(
    runtime: &Runtime,
    redaction: &str,
    outputs: &[Arc<Output>],
) -> Result<Chains, Box<dyn Error>> {
    let redact = load(runtime, "redact", REDACT, redaction)?;
    let json = load(runtime, "json", JSON, r#"{"resource": {"service.name": "orders"}}"#)?;
    let name: Arc<str> = "default".into();
    let spec = Spec {
        name: name.clone(),
        // In this order. A record that one of them fails for goes on without its content.
        editors: vec![redact.editor().ok_or("redact is no editor")?],
        handlers: Vec::new(),
        // Lines are formatted once for all outputs of a format.
        outputs: vec![(json.formatter().ok_or("json is no formatter")?, outputs.to_vec())],
        shadow: None,
    };
    Ok(Chains {
        chains: BTreeMap::from([(name.clone(), spec)]),
        default: name,
        outputs: outputs.to_vec(),
        replacer: Replacer::new(Ellipsis::English, PSEUDONYM_KEY),
        keeping: None,
        level: Severity::INFO,
        failures_max: FAILURES_MAX,
        taken_over: Default::default(),
        // Whatever you like to keep as long as the last request that uses these chains.
        kept: Arc::new(()),
    })
}

/// Compiles a component and has it describe and configure itself; what is wrong with it is wrong now and not later.
fn load(
    runtime: &Runtime,
    name: &str,
    component: &[u8],
    config: &str,
) -> Result<Plugin, plugin::LoadError> {
    let settings = Settings {
        name: name.to_owned(),
        config: config.to_owned(),
        limits: Limits::default(),
        // What it may use of this machine: nothing.
        grants: Grants::default(),
    };
    Plugin::load(runtime, component, settings)
}

/// Unix time in nanoseconds, and seconds east of UTC of the zone that people read.
fn now() -> (i64, i32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_nanos()).unwrap_or(i64::MAX), 0)
}

/// A request of this service.
struct Order {
    span: Span,
}

impl Order {
    fn begin() -> Self {
        // The id is one that was made here: nobody redacts it. An ERROR span, so that no level leaves it out.
        let id = Uuid::new_v4();
        let span = tracing::error_span!(target: TARGET, "request", request_id = %id);
        tracing::info!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_RECEIVED,
            { field::HTTP_ROUTE } = "/orders",
        );
        Self { span }
    }

    fn note(&self, text: &str) {
        let chars = text.chars().count() as u64;
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = "order.note",
            order.note = text,
            order.note.chars = chars,
        );
    }

    /// Exactly one last word, as every request of a server should have.
    fn finish(self) {
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = event::REQUEST_FINISHED,
            { field::HTTP_RESPONSE_STATUS_CODE } = 200_u64,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_event_is_written_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let drained = run(&path).unwrap();
        assert!(drained.is_complete(), "{drained:?}");
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("kim.minsu") && !text.contains("4111 1111"), "{text}");
        let count = |part: &str| text.lines().filter(|it| it.contains(part)).count();
        // Two orders with seven events, the warning, and the change.
        assert_eq!(text.lines().count(), 9, "{text}");
        for (part, lines) in [
            ("\"event_name\":\"chain.revised\"", 1),
            ("\"event_name\":\"request.finished\"", 2),
            ("\"revision\":1", 4),
            ("\"revision\":2", 3),
            ("call [EMAIL] first", 1),
            ("paid with [CARD]", 1),
            ("the same again for [EMAIL:", 1),
            ("the stock of [EMAIL:", 1),
        ] {
            assert_eq!(count(part), lines, "{part} in {text}");
        }
    }
}
