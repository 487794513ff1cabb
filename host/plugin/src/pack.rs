//! Records to a batch: only the fields that a plugin reads, all text back to back, everything else numbers.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use chain::StageError;
use record::{Name, Record, Stream, Value};

use crate::{
    bindings::v0_1::types::{Batch, Head, Span, Values},
    component::Setup,
    patterns::Patterns,
};

/// Text of one batch, in bytes: what the memory of a guest at its default limit can hold. A larger batch is not packed.
const TEXT_MAX: usize = 48 << 20;

/// Text that editors are shown at once, in bytes, unless one record has more: with the copy in the guest, and what is made of it, it
/// stays in the second cache of a processor. Fifty times as much took a seventh longer.
const TEXT_ENOUGH: usize = 128 << 10;

/// Matches of patterns in one batch: 16 MiB of them. A pattern that matches each character of everything finds more.
const HITS_MAX: usize = 1 << 20;

/// Which fields a plugin asked for.
pub(crate) struct Reads {
    every: bool,
    content: bool,
    names: Vec<String>,
}

impl Reads {
    pub(crate) fn new(reads: &[String]) -> Self {
        Self {
            every: reads.iter().any(|it| it == "*"),
            content: reads.iter().any(|it| it == "content"),
            names: reads.iter().filter(|it| *it != "*" && *it != "content").cloned().collect(),
        }
    }

    /// Whether the plugin reads no field at all: it is then shown every record's head.
    fn is_empty(&self) -> bool {
        !self.every && !self.content && self.names.is_empty()
    }

    /// Whether no content field is kept from the plugin.
    pub(crate) fn every_content(&self) -> bool {
        self.every || self.content
    }

    fn wants(&self, field: &record::Field) -> bool {
        self.every
            || self.names.iter().any(|it| *it == field.name)
            || (self.content && field.is_content())
    }
}

/// A reusable batch, and where each of its records and values came from.
pub(crate) struct Packer {
    pub(crate) batch: Batch,
    /// For each packed record, its index in what was given.
    pub(crate) records: Vec<usize>,
    /// For each packed value, the index of its field in its record.
    pub(crate) fields: Vec<usize>,
    /// The names behind `batch.names`.
    names: Vec<Name>,
    /// By the address of a name, mixed: the index that it had last.
    hints: [u16; HINTS],
}

/// Several times as many hints as there are names in a batch.
const HINT_BITS: u32 = 8;
const HINTS: usize = 1 << HINT_BITS;
/// The golden ratio, which scatters neighbouring addresses.
const MIX: usize = 0x9e37_79b9_7f4a_7c15_u64 as usize;

impl Packer {
    pub(crate) fn new() -> Self {
        let batch = Batch {
            text: String::new(),
            names: Vec::new(),
            records: Vec::new(),
            values: Values {
                names: Vec::new(),
                kinds: Vec::new(),
                flags: Vec::new(),
                bits: Vec::new(),
            },
            hits: Vec::new(),
        };
        Self {
            batch,
            records: Vec::new(),
            fields: Vec::new(),
            names: Vec::new(),
            hints: [0; HINTS],
        }
    }

    /// Packs what a plugin asked for. Unless `all` is set, text that no guard and no pattern of it matches is left out, and so is
    /// a record of which nothing is left, if the plugin reads any field; and records behind enough text are left for another batch.
    /// The answer is how many records were read, or none when the text is too large for one batch.
    pub(crate) fn pack<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Record>,
        setup: &Setup,
        all: bool,
    ) -> Option<usize> {
        self.clear();
        let reads = &setup.reads;
        let mut read = 0;
        for (index, record) in records.enumerate() {
            if !all && self.batch.text.len() >= TEXT_ENOUGH {
                break;
            }
            read += 1;
            let first = self.fields.len();
            for (field, it) in record.fields.iter().enumerate() {
                if reads.wants(it) && (all || setup.shows(&it.value)) {
                    self.value(field, it);
                }
            }
            if all || reads.is_empty() || self.fields.len() > first {
                self.head(index, record, all);
            }
            if self.batch.text.len() > TEXT_MAX {
                return None;
            }
        }
        Some(read)
    }

    /// Adds what the host finds of the plugin's patterns, within the time that the plugin itself has for a batch.
    ///
    /// # Errors
    /// When there is more than a batch may hold, or the time is over.
    pub(crate) fn scan(&mut self, patterns: &Patterns, time: Duration) -> Result<(), StageError> {
        if patterns.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + time;
        let values = &self.batch.values;
        for (index, (kind, bits)) in values.kinds.iter().zip(&values.bits).enumerate() {
            if *kind == TEXT {
                let text = &self.batch.text[range(*bits)];
                if !patterns.scan(narrow(index), text, &mut self.batch.hits, until) {
                    return Err(StageError::Deadline);
                }
            }
            if self.batch.hits.len() > HITS_MAX {
                return Err(StageError::Memory);
            }
        }
        Ok(())
    }

    /// The index of the record that a packed value belongs to, in what was given, and all values of that record.
    pub(crate) fn record_of(&self, value: u32) -> Option<(usize, Range<u32>)> {
        let heads = &self.batch.records;
        let packed = heads.partition_point(|it| it.values_end <= value);
        let end = heads.get(packed)?.values_end;
        let start = packed.checked_sub(1).map_or(0, |it| heads[it].values_end);
        Some((*self.records.get(packed)?, start..end))
    }

    fn clear(&mut self) {
        self.batch.text.clear();
        self.batch.names.clear();
        self.batch.records.clear();
        let values = &mut self.batch.values;
        values.names.clear();
        values.kinds.clear();
        values.flags.clear();
        values.bits.clear();
        self.batch.hits.clear();
        self.records.clear();
        self.fields.clear();
        self.names.clear();
    }

    fn value(&mut self, index: usize, field: &record::Field) {
        let name = self.name(&field.name);
        let (kind, bits) = match &field.value {
            Value::Text(it) => {
                let span = self.text(it);
                (TEXT, u64::from(span.start) | u64::from(span.end) << 32)
            }
            Value::Int(it) => (1, it.cast_unsigned()),
            Value::Float(it) => (2, it.to_bits()),
            Value::Bool(it) => (3, u64::from(*it)),
        };
        let values = &mut self.batch.values;
        values.names.push(name);
        values.kinds.push(kind);
        values.flags.push(u8::from(field.is_content()));
        values.bits.push(bits);
        self.fields.push(index);
    }

    fn head(&mut self, index: usize, record: &Record, ids: bool) {
        let event = self.name(&record.event);
        // An editor has no use for ids: they are no content, and not its to change.
        let context = record.context.as_ref().filter(|_| ids);
        let request_id = self.text(context.map_or("", |it| &it.request_id));
        let short_id = self.text(context.map_or("", |it| &it.short_id));
        self.batch.records.push(Head {
            time: record.time,
            utc_offset: record.utc_offset,
            severity: u32::from(record.severity.number()),
            event,
            stream: u32::from(record.stream == Stream::Engine),
            seq: record.seq,
            revision: context.map_or(0, |it| u32::try_from(it.revision).unwrap_or(u32::MAX)),
            flags: u32::from(record.stub.is_some()),
            request_id,
            short_id,
            values_end: narrow(self.fields.len()),
        });
        self.records.push(index);
    }

    fn text(&mut self, text: &str) -> Span {
        let start = narrow(self.batch.text.len());
        self.batch.text.push_str(text);
        Span { start, end: narrow(self.batch.text.len()) }
    }

    /// Index of a name in the batch. Nearly all are constants, so the address tells, and a hint left by an earlier batch is as
    /// good; the few others are looked for among a few dozen.
    fn name(&mut self, name: &Name) -> u32 {
        let hint = name.as_ptr().addr().wrapping_mul(MIX) >> (usize::BITS - HINT_BITS);
        let index = usize::from(self.hints[hint]);
        if self.names.get(index).is_some_and(|it| std::ptr::eq(&**it, &**name)) {
            return narrow(index);
        }
        let known = self.names.iter().position(|it| it == name);
        let index = known.unwrap_or_else(|| {
            let span = self.text(name);
            self.batch.names.push(span);
            self.names.push(name.clone());
            self.names.len() - 1
        });
        self.hints[hint] = u16::try_from(index).unwrap_or_default();
        narrow(index)
    }
}

const TEXT: u8 = 0;

fn range(bits: u64) -> Range<usize> {
    (bits & 0xffff_ffff) as usize..(bits >> 32) as usize
}

/// Everything in a batch is smaller than its text limit, or a few numbers a field.
fn narrow(it: usize) -> u32 {
    u32::try_from(it).unwrap_or(u32::MAX)
}
