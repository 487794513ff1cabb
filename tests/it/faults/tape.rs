//! What a case said, noted beside the chain: every record that has to come out somewhere, with its content and without.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use chain::{Pipeline, Revisions};
use record::{Record, event, field};
use serde_json::{Value, json};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

use super::case::Level;

/// One record, as it was before anything happened to it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) request: Option<String>,
    pub(crate) seq: u64,
    /// Number of the revision that it runs through.
    pub(crate) revision: u64,
    pub(crate) event: String,
    /// Names and texts of the fields that an editor has to see.
    pub(crate) content: Vec<(String, String)>,
    /// The other fields, which nothing may change.
    pub(crate) others: Vec<(String, Value)>,
}

/// A second layer beside that of the log.
#[derive(Clone)]
pub(crate) struct Tape {
    said: Arc<Mutex<Vec<Said>>>,
    revisions: Arc<Revisions>,
    level: tracing::Level,
}

/// What the tape keeps in the span of a request.
struct Speaker {
    request: String,
    revision: u64,
    next: AtomicU32,
}

impl Tape {
    pub(crate) fn new(pipeline: &Pipeline, level: Level) -> Self {
        let level = match level {
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
        };
        Self { said: Arc::default(), revisions: pipeline.revisions().clone(), level }
    }

    /// Notes a record that is pushed without `tracing`.
    pub(crate) fn note(&self, record: &Record) {
        let (content, others): (Vec<_>, Vec<_>) =
            record.fields.iter().partition(|it| it.is_content());
        let text = |it: &record::Field| match &it.value {
            record::Value::Text(text) => (it.name.to_string(), text.clone()),
            other => panic!("content is text: {other:?}"),
        };
        let other = |it: &record::Field| (it.name.to_string(), value(&it.value));
        self.add(Said {
            request: record.context.as_ref().map(|it| it.request_id.clone()),
            seq: u64::from(record.seq),
            revision: self.revisions.current().number(),
            event: record.event.to_string(),
            content: content.into_iter().map(text).collect(),
            others: others.into_iter().map(other).collect(),
        });
    }

    /// Everything that was said so far.
    pub(crate) fn said(&self) -> Vec<Said> {
        self.said.lock().unwrap().clone()
    }

    fn add(&self, said: Said) {
        self.said.lock().unwrap().push(said);
    }
}

fn value(value: &record::Value) -> Value {
    match value {
        record::Value::Text(it) => json!(it),
        record::Value::Int(it) => json!(it),
        record::Value::Float(it) => json!(it),
        record::Value::Bool(it) => json!(it),
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Tape {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let (Some(request), Some(revision)) = (fields.take("request_id"), fields.take("revision"))
        else {
            return;
        };
        let (Some(request), Some(revision)) = (request.as_str(), revision.as_u64()) else { return };
        if let Some(span) = context.span(id) {
            let (request, next) = (request.to_owned(), AtomicU32::new(0));
            span.extensions_mut().insert(Speaker { request, revision, next });
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let own = metadata.target() == chain::TARGET;
        let lowest = if own { self.level } else { tracing::Level::WARN };
        // More severe is less.
        if *metadata.level() > lowest {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let name = fields.take("event").and_then(|it| it.as_str().map(str::to_owned));
        fields.take("bucksaw.stream");
        let (mut content, mut others) = (Vec::new(), Vec::new());
        for (name, value) in fields.0 {
            match value {
                Value::String(text) if !own || !field::is_metadata(&name) => {
                    content.push((name, text));
                }
                value => others.push((name, value)),
            }
        }
        if !own {
            others.push((field::TARGET.to_owned(), json!(metadata.target())));
        }
        let mut said = Said {
            request: None,
            seq: 0,
            revision: self.revisions.current().number(),
            event: name.unwrap_or_else(|| event::LOG.to_owned()),
            content,
            others,
        };
        if let Some(span) = context.event_span(event)
            && let Some(speaker) = span.extensions().get::<Speaker>()
        {
            said.request = Some(speaker.request.clone());
            said.seq = u64::from(speaker.next.fetch_add(1, Relaxed));
            said.revision = speaker.revision;
        }
        self.add(said);
    }
}

/// The fields of one event or span.
#[derive(Default)]
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        self.0.push((field.name().to_owned(), value));
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(it, _)| it == name)?;
        Some(self.0.remove(at).1)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, json!(format!("{value:?}")));
    }
}
