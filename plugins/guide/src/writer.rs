//! How a line is written: its beginning, and values that can't pass for the server's own words.

use std::fmt::Write as _;

use sdk::{
    Lines, RecordView, ValueRef,
    clock::{self, Stamp},
    severity,
};

use crate::words::Words;

/// Writes the lines of one record.
pub(crate) struct Writer<'a, 'r> {
    pub(crate) record: RecordView<'r>,
    pub(crate) words: &'static Words,
    /// Not just the lines of the guide's sample.
    pub(crate) full: bool,
    /// Metrics on the line of their title.
    pub(crate) one_line: bool,
    pub(crate) stamp: Stamp,
    pub(crate) lines: &'a mut Lines,
}

/// How a number of a list is written.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Whole,
    Tenths,
    /// As many decimals as it has, one at least when it is no integer.
    Plain,
}

/// One entry of a list: what it is called, the field, how it is written and its unit.
pub(crate) type Entry = (&'static str, &'static str, Shape, &'static str);

impl<'r> Writer<'_, 'r> {
    /// Begins a line: `2025-01-09 14:30:25 - INFO - 🎯 [a1b2c3d4] `.
    pub(crate) fn begin(&mut self, emoji: &str) {
        let record = self.record;
        let stamp = self.stamp;
        let out = self.lines.text();
        clock::push_stamp(out, &stamp);
        out.push_str(" - ");
        out.push_str(severity::name(record.severity()));
        out.push_str(" - ");
        out.push_str(emoji);
        out.push(' ');
        let id = record.short_id();
        if !id.is_empty() {
            out.push('[');
            out.push_str(id);
            out.push_str("] ");
        }
    }

    pub(crate) fn end(&mut self) {
        self.lines.end();
    }

    pub(crate) fn out(&mut self) -> &mut String {
        self.lines.text()
    }

    /// Begins a line with a label: `… 프롬프트 길이: `.
    pub(crate) fn label(&mut self, emoji: &str, label: &str) {
        self.begin(emoji);
        let out = self.out();
        out.push_str(label);
        out.push_str(": ");
    }

    /// `… label: text`, where the text is the server's own.
    pub(crate) fn labelled(&mut self, emoji: &str, label: &str, text: &str) {
        self.label(emoji, label);
        self.out().push_str(text);
        self.end();
    }

    /// `… label: 250자`.
    pub(crate) fn characters(&mut self, emoji: &str, label: &str, count: i64) {
        let unit = self.words.characters;
        self.label(emoji, label);
        let _ = write!(self.out(), "{count}{unit}");
        self.end();
    }

    /// `… ===== text: detail =====`.
    pub(crate) fn banner(&mut self, emoji: &str, text: &str, detail: &[&str]) {
        self.begin(emoji);
        let out = self.out();
        out.push_str("===== ");
        out.push_str(text);
        for (at, it) in detail.iter().filter(|it| !it.is_empty()).enumerate() {
            out.push_str(if at == 0 { ": " } else { " " });
            // A route or an error's name is the server's own, unless the record came from elsewhere.
            push_content(out, it);
        }
        out.push_str(" =====");
        self.end();
    }

    /// `… label: content`, or that it was withheld. No line when there is neither.
    pub(crate) fn content(&mut self, emoji: &str, label: &str, field: &str) {
        match self.record.text(field) {
            Some(text) => {
                self.label(emoji, label);
                push_content(self.out(), text);
                self.end();
            }
            None if self.record.is_stub() => {
                self.label(emoji, label);
                self.withheld();
                self.end();
            }
            None => {}
        }
    }

    /// `[내용 보류: redact (trap)]`.
    pub(crate) fn withheld(&mut self) {
        let record = self.record;
        let word = self.words.withheld;
        let out = self.out();
        out.push('[');
        out.push_str(word);
        out.push_str(": ");
        push_plugin(out, record);
        out.push(']');
    }

    /// A title and entries: on lines of their own, or on the line of the title. No line when no entry has a value.
    pub(crate) fn list(&mut self, emoji: &str, title: &str, entries: &[Entry]) {
        let record = self.record;
        let mut values = entries
            .iter()
            .filter_map(|entry| Some((entry, record.field(entry.1)?.value())))
            .peekable();
        if values.peek().is_none() {
            return;
        }
        self.begin(emoji);
        let one_line = self.one_line;
        self.out().push_str(title);
        self.out().push(':');
        for ((name, _, shape, unit), value) in values {
            if one_line {
                self.out().push(' ');
            } else {
                self.end();
                self.out().push_str("   - ");
            }
            let out = self.out();
            out.push_str(name);
            out.push_str(if one_line { "=" } else { ": " });
            push_shaped(out, value, *shape);
            out.push_str(unit);
        }
        self.end();
    }
}

/// `redact (trap)`: who failed, and how.
pub(crate) fn push_plugin(out: &mut String, record: RecordView<'_>) {
    out.push_str(record.text("bucksaw.plugin").unwrap_or("?"));
    if let Some(error) = record.text("bucksaw.plugin.error") {
        out.push_str(" (");
        out.push_str(error);
        out.push(')');
    }
}

pub(crate) fn push_shaped(out: &mut String, value: ValueRef<'_>, shape: Shape) {
    let _ = match (value, shape) {
        (ValueRef::Text(it), _) => {
            push_content(out, it);
            Ok(())
        }
        (ValueRef::Bool(it), _) => write!(out, "{it}"),
        (ValueRef::Int(it), Shape::Whole | Shape::Plain) => write!(out, "{it}"),
        (ValueRef::Int(it), Shape::Tenths) => write!(out, "{it}.0"),
        (ValueRef::Float(it), Shape::Whole) => write!(out, "{it:.0}"),
        (ValueRef::Float(it), Shape::Tenths) => write!(out, "{it:.1}"),
        (ValueRef::Float(it), Shape::Plain) => {
            push_plain(out, it);
            Ok(())
        }
    };
}

/// Six decimals, without the zeros at the end: 0.7 as a single-precision number has more, and nobody means them.
fn push_plain(out: &mut String, value: f64) {
    let _ = write!(out, "{value:.6}");
    if value.is_finite() {
        while out.ends_with('0') && !out.ends_with(".0") {
            out.pop();
        }
    }
}

const CROSS: &str = "❌";

/// A value that a person wrote or the model said: marks that readers and scripts look for are written as escapes.
pub(crate) fn push_content(out: &mut String, text: &str) {
    let bytes = text.as_bytes();
    let (mut done, mut from) = (0, 0);
    while let Some(at) = next_mark(bytes, from) {
        from = at + 1;
        let (escape, length) = if is_level(bytes, at) {
            ("\\u002d", 1)
        } else if bytes.get(at..).is_some_and(|it| it.starts_with(CROSS.as_bytes())) {
            ("\\u274c", CROSS.len())
        } else {
            continue;
        };
        out.push_str(text.get(done..at).unwrap_or_default());
        out.push_str(escape);
        done = at + length;
    }
    out.push_str(text.get(done..).unwrap_or_default());
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// The high bit of the first byte that is zero; later ones may have theirs for no reason.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (0x80 * ONES)
}

/// Where the next byte stands that a mark may begin with.
fn next_mark(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut rest = bytes.get(from..)?;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (u64::from(b'-') * ONES)) | zeros(word ^ (0xe2 * ONES));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
        rest = tail;
    }
    rest.iter().position(|it| matches!(*it, b'-' | 0xe2)).map(|it| at + it)
}

/// Whether ` - ERROR - ` begins with this hyphen. At the beginning of a value the space is the line's own.
fn is_level(bytes: &[u8], hyphen: usize) -> bool {
    if bytes.get(hyphen) != Some(&b'-') {
        return false;
    }
    let before = hyphen.checked_sub(1).and_then(|it| bytes.get(it));
    let spaced = before.is_none_or(|it| *it == b' ');
    let Some(rest) = bytes.get(hyphen + 1..).and_then(|it| it.strip_prefix(b" ")) else {
        return false;
    };
    spaced
        && severity::NAMES
            .iter()
            .any(|name| rest.strip_prefix(name.as_bytes()).is_some_and(|it| it.starts_with(b" -")))
}
