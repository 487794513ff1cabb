//! The front door: a `tracing` layer that turns events into records. It works in any Rust service.
//!
//! - A span named `request` of the target `bucksaw`, with the field `request_id`, is a request: events inside it belong to it.
//!   Its fields `chain` and `revision` say what its records run through; the default chain of the present revision otherwise.
//!   `level`, the number of a severity, is from where on it has records; what [`Levels`] or the revision says otherwise.
//! - Of an event, `event` becomes the record's event, `bucksaw.stream` its stream, `severity.number` its severity where
//!   the five levels of `tracing` are too few; all other fields are kept, typed, under their names.
//! - Events of the target `bucksaw::store` become records of the stream `store`. They are no part of the log: the level does not
//!   concern them, and they have no place among the records of their request.

use std::{fmt, sync::Arc};

use record::{Field, Name, Record, RequestContext, Severity, Stream, Value, event, field};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field as Key, Visit},
    span::{Attributes, Id},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

use crate::{
    clock::Clock,
    levels::Levels,
    queue::{Entry, Queue},
    revision::{Revision, Revisions},
};

/// Target of the server's own events.
pub const TARGET: &str = "bucksaw";
/// Target of what is on its way to the store.
pub const STORE_TARGET: &str = "bucksaw::store";
const REQUEST_SPAN: &str = "request";

/// Turns `tracing` events into records and pushes them into a queue.
pub struct RecordLayer {
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    revisions: Arc<Revisions>,
    levels: Arc<Levels>,
}

/// What the layer keeps in the span of a request: the revision lives as long as a request that began with it.
#[derive(Clone)]
struct Request {
    context: Arc<RequestContext>,
    revision: Arc<Revision>,
    level: Option<Severity>,
}

impl RecordLayer {
    pub(crate) fn new(
        queue: Arc<Queue>,
        clock: Arc<dyn Clock>,
        revisions: Arc<Revisions>,
        levels: Arc<Levels>,
    ) -> Self {
        Self { queue, clock, revisions, levels }
    }
}

/// The filter that belongs to the layer, so that `tracing` does not even build events that are not wanted: the server's own are
/// made from the lowest level on that is in force anywhere, those of libraries from WARNING on.
pub struct RecordFilter {
    revisions: Arc<Revisions>,
    levels: Arc<Levels>,
}

impl RecordFilter {
    pub(crate) fn new(revisions: Arc<Revisions>, levels: Arc<Levels>) -> Self {
        Self { revisions, levels }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.target() == STORE_TARGET {
            return true;
        }
        // The most severe records are made of ERROR events: see `severity.number`.
        let level = self.revisions.level();
        let wanted = self.levels.lowest().map_or(level, |it| it.min(level)).min(Severity::ERROR);
        (metadata.target() == TARGET || is_grave(metadata)) && of_level(*metadata.level()) >= wanted
    }
}

/// Has every callsite ask the filter again: a level may have changed.
pub(crate) fn follow_level() {
    tracing::callsite::rebuild_interest_cache();
}

/// Whether a library's event is worth a record at all.
fn is_grave(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN
}

impl<S: Subscriber> Filter<S> for RecordFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked again for every callsite when the level changes: see `follow_level`.
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RecordLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        if metadata.name() != REQUEST_SPAN || metadata.target() != TARGET {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let Some(request_id) = fields.take_text("request_id") else { return };
        let chosen_in = fields.take("revision").and_then(|it| match it {
            Value::Int(it) => u64::try_from(it).ok(),
            _ => None,
        });
        let level = fields.take_number("level").map(Severity::from_number);
        let revision = chosen_in
            .and_then(|it| self.revisions.get(it))
            .unwrap_or_else(|| self.revisions.current());
        let chain = fields.take_text("chain").map_or_else(|| revision.default_chain(), Arc::from);
        if let Some(span) = context.span(id) {
            let context = RequestContext::new(request_id, chain).in_revision(revision.number());
            span.extensions_mut().insert(Request { context: Arc::new(context), revision, level });
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let kept = metadata.target() == STORE_TARGET;
        let own = kept || metadata.target() == TARGET;
        let mut fields = Fields { foreign: !own, ..Fields::default() };
        event.record(&mut fields);
        // What a library calls its fields means nothing here: an event's name is text that no editor sees.
        let severity = own
            .then(|| fields.take_number("severity.number"))
            .flatten()
            .map_or_else(|| of_level(*metadata.level()), Severity::from_number);
        let request = context
            .event_scope(event)
            .into_iter()
            .flatten()
            .find_map(|span| span.extensions().get::<Request>().cloned());
        let (request, revision, level) = match request {
            Some(it) => (Some(it.context), it.revision, it.level),
            None => (None, self.revisions.current(), None),
        };
        let name = own
            .then(|| fields.take_text("event"))
            .flatten()
            .map_or(Name::Borrowed(event::LOG), Name::Owned);
        let stream = own.then(|| fields.take_text("bucksaw.stream")).flatten();
        let stream = match stream.as_deref() {
            _ if kept => Stream::Store,
            Some("engine") => Stream::Engine,
            _ => Stream::App,
        };
        let level = level.or_else(|| self.levels.get(stream)).unwrap_or(revision.chains().level);
        if !kept && severity < level {
            return;
        }
        if !own {
            fields.list.push(Field::new(field::TARGET, metadata.target()));
        }
        let (time, utc_offset) = self.clock.now();
        let record = Record {
            time,
            utc_offset,
            severity,
            event: name,
            stream,
            seq: request.as_ref().filter(|_| !kept).map_or(0, |it| it.next_seq()),
            context: request,
            stub: None,
            fields: fields.list,
        };
        self.queue.push(Entry { record, revision, own: false });
    }
}

fn of_level(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::ERROR,
        Level::WARN => Severity::WARNING,
        Level::INFO => Severity::INFO,
        Level::DEBUG | Level::TRACE => Severity::DEBUG,
    }
}

/// The fields of one event or span.
#[derive(Default)]
struct Fields {
    list: Vec<Field>,
    /// Of a library, whose names are not ours.
    foreign: bool,
}

impl Fields {
    fn push(&mut self, key: &Key, value: impl Into<Value>) {
        let make = if self.foreign { Field::foreign } else { Field::new };
        self.list.push(make(Name::Borrowed(key.name()), value.into()));
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.list.iter().position(|it| it.name == name)?;
        Some(self.list.remove(index).value)
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::Text(it) => Some(it),
            _ => None,
        }
    }

    fn take_number(&mut self, name: &str) -> Option<u8> {
        match self.take(name)? {
            Value::Int(it) => u8::try_from(it).ok(),
            _ => None,
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, key: &Key, value: &str) {
        self.push(key, value);
    }

    fn record_i64(&mut self, key: &Key, value: i64) {
        self.push(key, value);
    }

    /// A number over `i64::MAX` becomes a float: nothing that is logged counts that far exactly.
    fn record_u64(&mut self, key: &Key, value: u64) {
        match i64::try_from(value) {
            Ok(it) => self.push(key, it),
            Err(_) => self.push(key, value as f64),
        }
    }

    fn record_f64(&mut self, key: &Key, value: f64) {
        self.push(key, value);
    }

    fn record_bool(&mut self, key: &Key, value: bool) {
        self.push(key, value);
    }

    fn record_error(&mut self, key: &Key, value: &(dyn std::error::Error + 'static)) {
        self.push(key, value.to_string());
    }

    fn record_debug(&mut self, key: &Key, value: &dyn fmt::Debug) {
        self.push(key, format!("{value:?}"));
    }
}
