//! The plugin.

use std::fmt::Write as _;

use sdk::{
    Description, Diagnostic, FieldView, Formatter, Lines, Plugin, RecordView, Setup, ValueRef,
    clock, severity,
};

use crate::{Config, config, escape::push_string};

/// Keys of the object itself.
const KEYS: [&str; 11] = [
    "timestamp",
    "severity_number",
    "severity_text",
    "event_name",
    "stream",
    "request_id",
    "seq",
    "revision",
    "stub",
    "attributes",
    "resource",
];

#[derive(Debug)]
pub struct Json {
    flatten: bool,
    /// The end of every object.
    tail: String,
}

impl Plugin for Json {
    type Config = Config;

    fn description() -> Description {
        sdk::describe!(
            "Writes one JSON object a line, as OpenTelemetry names things.",
            config::SCHEMA
        )
    }

    fn configure(config: Config) -> Result<(Self, Setup), Vec<Diagnostic>> {
        let wrong = config.check();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut tail = String::new();
        for (name, value) in &config.resource {
            tail.push_str(if tail.is_empty() { ",\"resource\":{" } else { "," });
            push_string(&mut tail, name);
            tail.push(':');
            push_string(&mut tail, value);
        }
        tail.push_str(if tail.is_empty() { "}" } else { "}}" });
        let setup = Setup { reads: vec!["*".to_owned()], ..Setup::default() };
        Ok((Self { flatten: config.flatten, tail }, setup))
    }
}

impl Formatter for Json {
    fn format(&self, record: RecordView<'_>, lines: &mut Lines) {
        let out = lines.text();
        push_envelope(out, record);
        if self.flatten {
            push_attributes(out, record, |out, name| {
                out.push(',');
                push_top_name(out, name);
            });
        } else {
            out.push_str(",\"attributes\":{");
            let mut first = true;
            push_attributes(out, record, |out, name| {
                if !first {
                    out.push(',');
                }
                first = false;
                push_string(out, name);
            });
            out.push('}');
        }
        out.push_str(&self.tail);
        lines.end();
    }
}

fn push_envelope(out: &mut String, record: RecordView<'_>) {
    out.push_str("{\"timestamp\":\"");
    clock::push_stamp(out, &clock::stamp(clock::local_seconds(record.time(), 0), b'T'));
    out.push('.');
    clock::push_padded(out, clock::subsecond(record.time()), 9);
    out.push_str("Z\",\"severity_number\":");
    clock::push_padded(out, record.severity(), 1);
    out.push_str(",\"severity_text\":\"");
    out.push_str(severity::name(record.severity()));
    out.push_str("\",\"event_name\":");
    push_string(out, record.event());
    out.push_str(if record.is_engine() { ",\"stream\":\"engine\"" } else { ",\"stream\":\"app\"" });
    let request = record.request_id();
    if !request.is_empty() {
        out.push_str(",\"request_id\":");
        push_string(out, request);
        out.push_str(",\"seq\":");
        clock::push_padded(out, record.seq(), 1);
        if record.revision() > 0 {
            out.push_str(",\"revision\":");
            clock::push_padded(out, record.revision(), 1);
        }
    }
    if record.is_stub() {
        out.push_str(",\"stub\":true");
    }
}

/// Writes the fields, without those that a later one of the same name replaces.
fn push_attributes(
    out: &mut String,
    record: RecordView<'_>,
    mut push_name: impl FnMut(&mut String, &str),
) {
    for (at, field) in record.fields().enumerate() {
        // A record has about a dozen fields, and equal names have equal numbers.
        let replaced = record.fields().skip(at + 1).any(|it| it.name_index() == field.name_index());
        if !replaced {
            push_name(out, field.name());
            out.push(':');
            push_value(out, &field);
        }
    }
}

fn push_top_name(out: &mut String, name: &str) {
    if KEYS.contains(&name) {
        out.push_str("\"attributes.");
        out.push_str(name);
        out.push('"');
    } else {
        push_string(out, name);
    }
}

fn push_value(out: &mut String, field: &FieldView<'_>) {
    match field.value() {
        ValueRef::Text(it) => push_string(out, it),
        ValueRef::Int(it) => {
            let _ = write!(out, "{it}");
        }
        // The form for programmers writes an exponent where the other one would write three hundred zeros.
        ValueRef::Float(it) if it.is_finite() => {
            let _ = write!(out, "{it:?}");
        }
        ValueRef::Float(_) => out.push_str("null"),
        ValueRef::Bool(it) => out.push_str(if it { "true" } else { "false" }),
    }
}
