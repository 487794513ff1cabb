//! Records come out of a real chain, into a real file.

mod bounds;
mod completions;
mod files;
mod pages;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use chain::{
    Chain, Edit, Editor, Ellipsis, Mode, Replacer, Source, Spec, Stage, StageError, Tools, Verdict,
};
use record::{Field, Record, RequestContext, Severity, Stream, Value, event, field};
use serde_json::Value as Json;

use super::*;

/// Takes out `secret`, traps at `poison`, drops a record with `drop`.
struct Censor;

impl Source<dyn Editor> for Censor {
    fn name(&self) -> &str {
        "censor"
    }

    fn open(&self) -> Result<Box<dyn Editor>, StageError> {
        Ok(Box::new(Self))
    }
}

impl Stage for Censor {}

impl Editor for Censor {
    fn edit(&mut self, batch: &[Record]) -> Result<Vec<Verdict>, StageError> {
        batch.iter().map(judge).collect()
    }
}

fn judge(record: &Record) -> Result<Verdict, StageError> {
    let mut edits = Vec::new();
    for (field, it) in record.fields.iter().enumerate().filter(|(_, it)| it.is_content()) {
        let Value::Text(text) = &it.value else { continue };
        if text.contains("poison") {
            return Err(StageError::Trap);
        }
        if text.contains("drop") {
            return Ok(Verdict::Drop("DROPPED".into()));
        }
        edits.extend(text.match_indices("secret").map(|(start, it)| Edit {
            field,
            start,
            end: start + it.len(),
            label: "SECRET".into(),
            mode: Mode::Label,
        }));
    }
    Ok(Verdict::Keep(edits))
}

/// A store in a folder of its own, and the chain in front of it.
struct Scene {
    folder: tempfile::TempDir,
    store: Arc<Store>,
    chain: Chain,
    now: Arc<AtomicI64>,
    batch: i64,
}

const HOUR: i64 = 3600;

impl Scene {
    fn new(max_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(0));
        let store = open(&folder.path().join("store.db"), max_bytes, &now).unwrap();
        let chain = chain(&store);
        Self { folder, store, chain, now, batch: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn send(&mut self, draft: &Draft) {
        self.batch += 1;
        self.chain.run(draft.records(self.batch));
    }

    fn settle(&self) {
        self.store.settle(soon()).unwrap();
    }

    fn get(&self, id: &str) -> Option<Json> {
        self.store.get(id).unwrap().map(|it| it.object)
    }

    fn ids(&self) -> Vec<String> {
        let paging = Paging { limit: 10_000, ..Paging::default() };
        ids(&self.store.list(&Listing { paging, ..Listing::default() }).unwrap())
    }

    /// Everything that is on the disk.
    fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for it in fs::read_dir(self.folder.path()).unwrap() {
            all.extend(fs::read(it.unwrap().path()).unwrap());
        }
        all
    }

    fn is_on_disk(&self, text: &str) -> bool {
        self.bytes().windows(text.len()).any(|it| it == text.as_bytes())
    }
}

fn open(path: &Path, max_bytes: u64, now: &Arc<AtomicI64>) -> Result<Arc<Store>, OpenError> {
    let max_age = Duration::from_secs(24 * HOUR.unsigned_abs());
    let settings = Settings { path: path.to_owned(), max_age, max_bytes };
    let now = now.clone();
    Store::open_at(settings, Arc::new(move || now.load(Relaxed))).map(Arc::new)
}

fn chain(store: &Arc<Store>) -> Chain {
    let spec = Spec {
        name: "test".into(),
        editors: vec![Arc::new(Censor)],
        handlers: vec![],
        outputs: vec![],
        shadow: None,
    };
    let replacer = Replacer::new(Ellipsis::Korean, b"");
    let tools = Tools { replacer, clock: Arc::new(|| (0, 0)), stats: Arc::default() };
    Chain::new(&spec, tools).with_keeper(store.clone())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn ids(page: &Page) -> Vec<String> {
    page.data.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

/// A completion before it is sent.
#[derive(Clone, Debug)]
struct Draft {
    id: String,
    created: i64,
    model: String,
    messages: Vec<(&'static str, Vec<Option<String>>)>,
    /// Fields of further parts.
    more: Vec<Vec<Field>>,
    answer: String,
    metadata: Vec<(String, String)>,
}

impl Draft {
    fn new(id: &str, text: &str) -> Self {
        Self {
            id: id.to_owned(),
            created: 7,
            model: "m".to_owned(),
            messages: vec![("user", vec![Some(text.to_owned())])],
            more: Vec::new(),
            answer: "an answer".to_owned(),
            metadata: Vec::new(),
        }
    }

    fn records(&self, batch: i64) -> Vec<Record> {
        let mut all = Vec::new();
        for (at, (role, parts)) in (0_i64..).zip(&self.messages) {
            for part in 0..parts.len().max(1) {
                let mut fields = vec![
                    Field::new(field::STORE_MESSAGE, at),
                    Field::new(field::STORE_MESSAGE_PART, part as i64),
                    Field::new(field::STORE_ROLE, *role),
                ];
                match parts.get(part) {
                    None => {}
                    Some(None) => fields.push(Field::new(field::STORE_KIND, "image")),
                    Some(Some(text)) => {
                        fields.push(Field::new(field::STORE_KIND, "text"));
                        fields.push(Field::new(field::STORE_TEXT, text.as_str()));
                    }
                }
                all.push((event::STORE_PART, fields));
            }
        }
        all.extend(self.more.iter().map(|it| (event::STORE_PART, it.clone())));
        let answer = vec![
            Field::new(field::STORE_CHOICE, 0_i64),
            Field::new(field::FINISH_REASON, "length"),
            Field::new(field::STORE_TEXT, self.answer.as_str()),
        ];
        all.push((event::STORE_PART, answer));
        all.extend(pairs(&self.metadata));
        let last = vec![
            Field::new(field::STORE_RECORDS, all.len() as i64),
            Field::new(field::RESPONSE_ID, self.id.as_str()),
            Field::new(field::RESPONSE_MODEL, self.model.as_str()),
            Field::new(field::STORE_CREATED, self.created),
            Field::new(field::INPUT_TOKENS, 3_i64),
            Field::new(field::OUTPUT_TOKENS, 2_i64),
            Field::new(field::STORE_IMAGE_TOKENS, 1_i64),
            Field::new(field::SEED, 5_i64),
            Field::new(field::TEMPERATURE, 0.5),
        ];
        all.push((event::STORE_COMPLETION, last));
        in_batch(batch, all)
    }
}

type Made = (&'static str, Vec<Field>);

fn pairs(metadata: &[(String, String)]) -> Vec<Made> {
    let pair = |(key, value): &(String, String)| {
        let fields = vec![
            Field::new(field::STORE_KEY, key.as_str()),
            Field::new(field::STORE_VALUE, value.as_str()),
        ];
        (event::STORE_METADATA, fields)
    };
    metadata.iter().map(pair).collect()
}

fn update(batch: i64, row: i64, metadata: &[(String, String)]) -> Vec<Record> {
    let mut all = pairs(metadata);
    let last =
        vec![Field::new(field::STORE_RECORDS, all.len() as i64), Field::new(field::STORE_ROW, row)];
    all.push((event::STORE_UPDATE, last));
    in_batch(batch, all)
}

fn in_batch(batch: i64, all: Vec<Made>) -> Vec<Record> {
    let id = "a1b2c3d4-0000-4000-8000-00000000abcd".to_owned();
    let context = Arc::new(RequestContext::new(id, "test".into()));
    let record = |(event, mut fields): Made| {
        fields.push(Field::new(field::STORE_BATCH, batch));
        Record {
            time: 0,
            utc_offset: 0,
            severity: Severity::INFO,
            event: event.into(),
            stream: Stream::Store,
            context: Some(context.clone()),
            seq: 0,
            stub: None,
            fields,
        }
    };
    all.into_iter().map(record).collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

const MIB: u64 = 1 << 20;
