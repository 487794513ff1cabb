//! The same plugins without WebAssembly: their code compiled natively, behind the same traits of the chain.

use std::sync::Arc;

use chain::{
    Edit, Editor, Formatted, Formatter, Mode, Released, Source, Stage, StageError, Verdict,
};
use record::{Record, Stream, Value};
use sdk::{Batch, Head, Setup, Span};

/// A plugin of the SDK as a stage.
pub(crate) struct Native<P> {
    plugin: P,
    setup: Setup,
    labels: Vec<Arc<str>>,
    none: Arc<str>,
}

impl<P: sdk::Plugin> Native<P> {
    pub(crate) fn new(config: &str) -> Self {
        let (plugin, setup) = sdk::native::configure::<P>(config)
            .unwrap_or_else(|problems| panic!("{}", problems[0].message));
        let labels = setup.labels.iter().map(|it| Arc::from(it.as_str())).collect();
        Self { plugin, setup, labels, none: "ELLIPSIS".into() }
    }
}

/// Opens a native editor for each worker, as a component would be.
pub(crate) struct Opens<P>(pub(crate) &'static str, pub(crate) std::marker::PhantomData<fn() -> P>);

impl<P: sdk::Editor + Send + 'static> Source<dyn Editor> for Opens<P> {
    fn name(&self) -> &str {
        "native"
    }

    fn open(&self) -> Result<Box<dyn Editor>, StageError> {
        Ok(Box::new(Native::<P>::new(self.0)))
    }
}

impl<P: Send> Stage for Native<P> {}

impl<P: sdk::Editor + Send> Editor for Native<P> {
    fn edit(&mut self, batch: &[Record]) -> Result<Vec<Verdict>, StageError> {
        let packed = pack(batch.iter(), &self.setup.reads, false);
        let mut verdicts = vec![Verdict::Keep(Vec::new()); batch.len()];
        if packed.records.is_empty() {
            return Ok(verdicts);
        }
        let answer = sdk::native::edit(&self.plugin, &packed.batch);
        for edit in &answer.edits {
            let heads = &packed.batch.records;
            let at = heads.partition_point(|it| it.values_end <= edit.value);
            if let Verdict::Keep(edits) = &mut verdicts[packed.records[at]] {
                edits.push(Edit {
                    field: packed.fields[edit.value as usize],
                    start: edit.start as usize,
                    end: edit.end as usize,
                    // An ellipsis has no label.
                    label: self.labels.get(edit.label as usize).unwrap_or(&self.none).clone(),
                    mode: [Mode::Label, Mode::Pseudonym, Mode::Ellipsis][edit.mode as usize],
                });
            }
        }
        Ok(verdicts)
    }
}

impl<P: sdk::Formatter + Send> Formatter for Native<P> {
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
        let packed = pack(batch.iter().map(|it| &**it), &self.setup.reads, true);
        let it = sdk::native::format(&self.plugin, &packed.batch);
        let lines = it.lines.iter().map(|it| (it.record as usize, it.end as usize)).collect();
        Ok(Formatted { text: it.text, lines })
    }
}

struct Packed<'a> {
    batch: Batch,
    records: Vec<usize>,
    fields: Vec<usize>,
    names: Vec<&'a str>,
}

/// What the host's packer does, into the SDK's own batch.
fn pack<'a>(records: impl Iterator<Item = &'a Record>, reads: &[String], all: bool) -> Packed<'a> {
    let mut it = Packed { batch: Batch::default(), records: vec![], fields: vec![], names: vec![] };
    for (index, record) in records.enumerate() {
        let first = it.fields.len();
        for (at, field) in record.fields.iter().enumerate() {
            let wanted = reads.iter().any(|read| match read.as_str() {
                "*" => true,
                "content" => field.is_content(),
                name => name == field.name,
            });
            if !wanted {
                continue;
            }
            let name = it.name(&field.name);
            let (kind, bits) = match &field.value {
                Value::Text(text) => {
                    let span = it.text(text);
                    (0, u64::from(span.start) | u64::from(span.end) << 32)
                }
                Value::Int(it) => (1, it.cast_unsigned()),
                Value::Float(it) => (2, it.to_bits()),
                Value::Bool(it) => (3, u64::from(*it)),
            };
            let values = &mut it.batch.values;
            values.names.push(name);
            values.kinds.push(kind);
            values.flags.push(u8::from(field.is_content()));
            values.bits.push(bits);
            it.fields.push(at);
        }
        if all || it.fields.len() > first {
            let context = record.context.as_ref().filter(|_| all);
            let head = Head {
                time: record.time,
                utc_offset: record.utc_offset,
                severity: u32::from(record.severity.number()),
                event: it.name(&record.event),
                stream: u32::from(record.stream == Stream::Engine),
                seq: record.seq,
                revision: context.map_or(0, |it| it.revision as u32),
                flags: 0,
                request_id: it.text(context.map_or("", |it| &it.request_id)),
                short_id: it.text(context.map_or("", |it| &it.short_id)),
                values_end: it.fields.len() as u32,
            };
            it.batch.records.push(head);
            it.records.push(index);
        }
    }
    it
}

impl<'a> Packed<'a> {
    fn text(&mut self, text: &str) -> Span {
        let start = self.batch.text.len() as u32;
        self.batch.text.push_str(text);
        Span { start, end: self.batch.text.len() as u32 }
    }

    fn name(&mut self, name: &'a str) -> u32 {
        let known = self.names.iter().position(|it| *it == name);
        known.unwrap_or_else(|| {
            let span = self.text(name);
            self.batch.names.push(span);
            self.names.push(name);
            self.names.len() - 1
        }) as u32
    }
}
