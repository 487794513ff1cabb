//! Lines of the server itself, and of events that the guide doesn't know.

use std::fmt::Write as _;

use sdk::{ValueRef, severity};

use crate::writer::{Shape, Writer, push_content, push_plugin, push_shaped};

/// A sentence of the server for people. Events that have none are told by their own words.
pub(crate) fn notice(w: &mut Writer<'_, '_>, otherwise: &str) {
    let record = w.record;
    let emoji = match severity::level(record.severity()) {
        0 | 1 => "ℹ️",
        2 => "⚠️",
        _ => "❌",
    };
    w.begin(emoji);
    push_content(w.out(), record.text("bucksaw.notice").unwrap_or(otherwise));
    w.end();
}

pub(crate) fn dropped(w: &mut Writer<'_, '_>) {
    let record = w.record;
    let words = w.words;
    w.label("⚠️", words.records_lost);
    let count = record.int("bucksaw.dropped").unwrap_or_default();
    let _ = write!(w.out(), "{count}{}", words.records);
    explain(w);
}

pub(crate) fn plugin_failed(w: &mut Writer<'_, '_>) {
    let record = w.record;
    w.label("❌", w.words.plugin_failed);
    push_plugin(w.out(), record);
    explain(w);
}

pub(crate) fn plugin_opened(w: &mut Writer<'_, '_>) {
    let record = w.record;
    w.label("⚠️", w.words.plugin_opened);
    push_plugin(w.out(), record);
    explain(w);
}

/// Ends a line with the server's sentence, when there is one.
fn explain(w: &mut Writer<'_, '_>) {
    let record = w.record;
    if let Some(notice) = record.text("bucksaw.notice") {
        w.out().push_str(": ");
        push_content(w.out(), notice);
    }
    w.end();
}

/// `🔹 [id] event: key=value …`, all of it on one line.
pub(crate) fn other(w: &mut Writer<'_, '_>) {
    let record = w.record;
    w.begin("🔹");
    push_content(w.out(), record.event());
    w.out().push(':');
    for field in record.fields() {
        let out = w.out();
        out.push(' ');
        push_content(out, field.name());
        out.push('=');
        match field.value() {
            ValueRef::Text(text) => push_value(out, text),
            value => push_shaped(out, value, Shape::Plain),
        }
    }
    if record.is_stub() {
        w.out().push(' ');
        w.withheld();
    }
    w.end();
}

/// In quotes when it could be taken for several.
fn push_value(out: &mut String, text: &str) {
    if !text.is_empty() && !text.contains([' ', '=', '"']) {
        return push_content(out, text);
    }
    out.push('"');
    for (at, part) in text.split('"').enumerate() {
        if at > 0 {
            out.push_str("\\\"");
        }
        push_content(out, part);
    }
    out.push('"');
}
