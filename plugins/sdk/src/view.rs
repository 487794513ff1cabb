//! Reading a batch: records and fields that borrow from it. Whatever a batch says wrongly (an index out of range, a span off
//! a character boundary) reads as empty rather than trapping.

use crate::{Batch, Head, Hit, Span, Values};

const TEXT: u8 = 0;
const FLOAT: u8 = 2;
const BOOL: u8 = 3;
const STUB: u32 = 1;
const CONTENT: u8 = 1;
const ENGINE: u32 = 1;

/// A batch with its names looked up once.
#[derive(Debug)]
pub struct Records<'a> {
    batch: &'a Batch,
    names: Vec<&'a str>,
}

impl<'a> Records<'a> {
    pub fn new(batch: &'a Batch) -> Self {
        let names = batch.names.iter().map(|it| slice(&batch.text, *it)).collect();
        Self { batch, names }
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { records: self, next: 0, value: 0, hit: 0 }
    }
}

impl<'a> IntoIterator for &'a Records<'_> {
    type Item = RecordView<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The records of a batch, in order.
#[derive(Debug)]
pub struct Iter<'a> {
    records: &'a Records<'a>,
    next: usize,
    /// The first value of the next record.
    value: usize,
    /// The first hit that does not lie before it.
    hit: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = RecordView<'a>;

    fn next(&mut self) -> Option<RecordView<'a>> {
        let batch = self.records.batch;
        let head = batch.records.get(self.next)?;
        let first = self.value;
        let all = Columns::new(&batch.values);
        let end = (head.values_end as usize).clamp(first, all.bits.len().max(first));
        let values = all.range(first, end);
        let hits = batch.hits.get(self.hit..).unwrap_or_default();
        let count = hits.iter().take_while(|it| (it.value as usize) < end).count();
        let record = RecordView {
            text: &batch.text,
            names: &self.records.names,
            head,
            index: self.next as u32,
            first: first as u32,
            values,
            hits: hits.get(..count).unwrap_or_default(),
        };
        self.next += 1;
        self.value = end;
        self.hit += count;
        Some(record)
    }
}

/// One record: what every record has, and the fields that the plugin reads.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    text: &'a str,
    names: &'a [&'a str],
    head: &'a Head,
    index: u32,
    first: u32,
    values: Columns<'a>,
    hits: &'a [Hit],
}

impl<'a> RecordView<'a> {
    /// The event's name: `request.prompt`.
    pub fn event(&self) -> &'a str {
        name(self.names, self.head.event)
    }

    /// OpenTelemetry severity number: 5 DEBUG, 9 INFO, 13 WARNING, 17 ERROR, 21 CRITICAL.
    pub fn severity(&self) -> u32 {
        self.head.severity
    }

    /// Unix time in nanoseconds.
    pub fn time(&self) -> i64 {
        self.head.time
    }

    /// Seconds east of UTC of the host's clock at that time.
    pub fn utc_offset(&self) -> i32 {
        self.head.utc_offset
    }

    /// The full request id; empty when the record belongs to no request.
    pub fn request_id(&self) -> &'a str {
        slice(self.text, self.head.request_id)
    }

    /// The first 8 hexadecimal digits of the request id, for people.
    pub fn short_id(&self) -> &'a str {
        slice(self.text, self.head.short_id)
    }

    /// Position in the request, from 0, with no holes.
    pub fn seq(&self) -> u32 {
        self.head.seq
    }

    /// Revision of the chains that the request began with; 0 where there is only one.
    pub fn revision(&self) -> u32 {
        self.head.revision
    }

    /// Whether the content was withheld because a required editor failed.
    pub fn is_stub(&self) -> bool {
        self.head.flags & STUB != 0
    }

    /// Whether it is about the engine rather than the application.
    pub fn is_engine(&self) -> bool {
        self.head.stream == ENGINE
    }

    /// Position in the batch.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The fields that the plugin reads, in the order in which the record has them.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = FieldView<'a>> + use<'a> {
        let record = *self;
        (0..self.values.bits.len()).map(move |at| record.at(at))
    }

    /// The first field of this name.
    pub fn field(&self, wanted: &str) -> Option<FieldView<'a>> {
        // Comparing lengths settles nearly every comparison here.
        let at = self.values.names.iter().position(|it| same(name(self.names, *it), wanted))?;
        Some(self.at(at))
    }

    /// The text of the first field of this name.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.field(name)?.text()
    }

    /// The integer of the first field of this name.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.field(name)?.value() {
            ValueRef::Int(it) => Some(it),
            _ => None,
        }
    }

    /// The number of the first field of this name, whether it is an integer or not.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.field(name)?.value() {
            ValueRef::Float(it) => Some(it),
            ValueRef::Int(it) => Some(it as f64),
            _ => None,
        }
    }

    /// The boolean of the first field of this name.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.field(name)?.value() {
            ValueRef::Bool(it) => Some(it),
            _ => None,
        }
    }

    /// Matches of the patterns in `Setup::patterns` in this field, by start.
    pub fn hits(&self, field: &FieldView<'_>) -> &'a [Hit] {
        let hits = self.hits;
        let start = hits.partition_point(|it| it.value < field.index);
        let end = hits.partition_point(|it| it.value <= field.index);
        hits.get(start..end).unwrap_or_default()
    }

    fn at(&self, at: usize) -> FieldView<'a> {
        let name_index = self.values.names.get(at).copied().unwrap_or(u32::MAX);
        FieldView {
            text: self.text,
            name: name(self.names, name_index),
            name_index,
            kind: self.values.kinds.get(at).copied().unwrap_or_default(),
            flags: self.values.flags.get(at).copied().unwrap_or_default(),
            bits: self.values.bits.get(at).copied().unwrap_or_default(),
            index: self.first + at as u32,
        }
    }
}

/// The fields of some records, equally long lists.
#[derive(Clone, Copy, Debug)]
struct Columns<'a> {
    names: &'a [u32],
    kinds: &'a [u8],
    flags: &'a [u8],
    bits: &'a [u64],
}

impl<'a> Columns<'a> {
    fn new(values: &'a Values) -> Self {
        let Values { names, kinds, flags, bits } = values;
        Self { names, kinds, flags, bits }.range(0, bits.len())
    }

    /// Nothing when one of the lists is too short.
    fn range(self, start: usize, end: usize) -> Self {
        let cut = || {
            Some(Self {
                names: self.names.get(start..end)?,
                kinds: self.kinds.get(start..end)?,
                flags: self.flags.get(start..end)?,
                bits: self.bits.get(start..end)?,
            })
        };
        cut().unwrap_or(Self { names: &[], kinds: &[], flags: &[], bits: &[] })
    }
}

/// One field of one record.
#[derive(Clone, Copy, Debug)]
pub struct FieldView<'a> {
    text: &'a str,
    name: &'a str,
    name_index: u32,
    kind: u8,
    flags: u8,
    bits: u64,
    index: u32,
}

impl<'a> FieldView<'a> {
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The number of the name in this batch: equal numbers are equal names.
    pub fn name_index(&self) -> u32 {
        self.name_index
    }

    /// Position among the values of the batch: what an edit names.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether it holds what a person wrote or the model said.
    pub fn is_content(&self) -> bool {
        self.flags & CONTENT != 0
    }

    /// The text; none for numbers and booleans.
    pub fn text(&self) -> Option<&'a str> {
        match self.value() {
            ValueRef::Text(it) => Some(it),
            _ => None,
        }
    }

    pub fn value(&self) -> ValueRef<'a> {
        let bits = self.bits;
        match self.kind {
            TEXT => {
                let span = Span { start: bits as u32, end: (bits >> 32) as u32 };
                ValueRef::Text(slice(self.text, span))
            }
            FLOAT => ValueRef::Float(f64::from_bits(bits)),
            BOOL => ValueRef::Bool(bits != 0),
            // A kind that a later contract may add reads as its bits.
            _ => ValueRef::Int(bits as i64),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    Text(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
}

fn name<'a>(names: &'a [&'a str], index: u32) -> &'a str {
    names.get(index as usize).copied().unwrap_or_default()
}

/// Eight bytes at a time: in a component, the standard library's comparison takes them one by one.
fn same(a: &str, b: &str) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_bytes().as_chunks::<8>(), b.as_bytes().as_chunks::<8>());
    let word = |it: &[u8; 8]| u64::from_le_bytes(*it);
    a.len() == b.len()
        && a_rest.len() == b_rest.len()
        && a.iter().zip(b).all(|(a, b)| word(a) == word(b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

fn slice(text: &str, span: Span) -> &str {
    text.get(span.start as usize..span.end as usize).unwrap_or_default()
}
