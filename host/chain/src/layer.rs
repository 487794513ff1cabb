//! The front door: a `tracing` layer that turns events into records. It works in any Rust service.
//!
//! - A span named `request` of the target `bucksaw`, with the fields `request_id` and `chain`, is a request: events inside it
//!   belong to it.
//! - Of an event, `event` becomes the record's event, `bucksaw.stream` its stream, `severity.number` its severity where
//!   the five levels of `tracing` are too few; all other fields are kept, typed, under their names.

use std::{fmt, sync::Arc};

use record::{Field, Name, Record, RequestContext, Severity, Stream, Value, event, field};
use tracing::{
    Event, Level, Subscriber,
    field::{Field as Key, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::Context,
    registry::LookupSpan,
};

use crate::{clock::Clock, queue::Queue};

/// Target of the server's own events.
pub const TARGET: &str = "bucksaw";
const REQUEST_SPAN: &str = "request";

/// Turns `tracing` events into records and pushes them into a queue.
pub struct RecordLayer {
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    level: Severity,
    default_chain: Arc<str>,
}

impl RecordLayer {
    /// `level`: records of a lower severity are not made. Combine the layer with [`targets`] so that `tracing` itself does not
    /// even build their events.
    pub fn new(
        queue: Arc<Queue>,
        clock: Arc<dyn Clock>,
        level: Severity,
        default_chain: Arc<str>,
    ) -> Self {
        Self { queue, clock, level, default_chain }
    }
}

/// The filter that belongs to the layer: the server's own events from `level` on, those of libraries from WARNING on.
pub fn targets(level: Severity) -> Targets {
    let own = match level.name() {
        "DEBUG" => LevelFilter::DEBUG,
        "INFO" => LevelFilter::INFO,
        "WARNING" => LevelFilter::WARN,
        _ => LevelFilter::ERROR,
    };
    Targets::new().with_default(own.min(LevelFilter::WARN)).with_target(TARGET, own)
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
        let chain = fields.take_text("chain").map_or_else(|| self.default_chain.clone(), Arc::from);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Arc::new(RequestContext::new(request_id, chain)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let own = metadata.target() == TARGET;
        let mut fields = Fields { foreign: !own, ..Fields::default() };
        event.record(&mut fields);
        let severity = fields
            .take_number("severity.number")
            .map_or_else(|| of_level(*metadata.level()), Severity::from_number);
        if severity < self.level {
            return;
        }
        let name = fields.take_text("event").map_or(Name::Borrowed(event::LOG), Name::Owned);
        let stream = match fields.take_text("bucksaw.stream").as_deref() {
            Some("engine") => Stream::Engine,
            _ => Stream::App,
        };
        if !own {
            fields.list.push(Field::new(field::TARGET, metadata.target()));
        }
        let request = context
            .event_scope(event)
            .into_iter()
            .flatten()
            .find_map(|span| span.extensions().get::<Arc<RequestContext>>().cloned());
        let (time, utc_offset) = self.clock.now();
        self.queue.push(Record {
            time,
            utc_offset,
            severity,
            event: name,
            stream,
            seq: request.as_ref().map_or(0, |it| it.next_seq()),
            context: request,
            stub: None,
            fields: fields.list,
        });
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
