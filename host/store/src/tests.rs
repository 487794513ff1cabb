//! Records come out of a real chain, into a real file.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use chain::{
    Chain, Edit, Editor, Ellipsis, Mode, Replacer, Source, Spec, Stage, StageError, Tools, Verdict,
};
use proptest::prelude::*;
use record::{Field, Record, RequestContext, Severity, Stream, Value, event, field};
use serde_json::{Value as Json, json};

use super::*;
use crate::file::beside;

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

#[test]
fn calls_of_earlier_answers_come_back_as_calls_without_what_was_taken_out() {
    let mut scene = Scene::new(MIB);
    let call = |at: i64, id: &str| {
        vec![
            Field::new(field::STORE_MESSAGE, 1_i64),
            Field::new(field::STORE_CALL, at),
            Field::new(field::STORE_ROLE, "assistant"),
            Field::new(field::STORE_KIND, "call"),
            Field::new(field::STORE_KEY, "find"),
            Field::new(field::STORE_TEXT, "{\"it\":\"secret\"}"),
            Field::new(field::STORE_VALUE, id),
        ]
    };
    let answered = vec![
        Field::new(field::STORE_MESSAGE, 2_i64),
        Field::new(field::STORE_ROLE, "tool"),
        Field::new(field::STORE_KIND, "call_id"),
        Field::new(field::STORE_VALUE, "c-secret"),
    ];
    let draft = Draft {
        messages: vec![
            ("user", vec![Some("find it".to_owned())]),
            ("assistant", vec![]),
            ("tool", vec![Some("a secret".to_owned())]),
        ],
        // In no order.
        more: vec![call(1, "other"), answered, call(0, "c-secret")],
        ..Draft::new("c", "")
    };
    scene.send(&draft);
    scene.settle();
    let paging = Paging { limit: 20, ..Paging::default() };
    let page = scene.store.messages("c", &paging).unwrap().unwrap().data;
    let call = |id: &str| {
        let function = json!({"name": "find", "arguments": "{\"it\":\"[SECRET]\"}"});
        json!({"id": id, "type": "function", "function": function})
    };
    assert_eq!(page.len(), 3);
    assert_eq!(page[1]["content"], Json::Null);
    assert_eq!(page[1]["tool_calls"], json!([call("c-[SECRET]"), call("other")]));
    assert_eq!(page[2]["content"], "a [SECRET]");
    assert_eq!(page[2]["tool_call_id"], "c-[SECRET]");
    assert!(page[0].get("tool_calls").is_none() && page[0].get("tool_call_id").is_none());
    assert_eq!(scene.get("c").unwrap()["metadata"], json!({}));
    assert!(!scene.is_on_disk("secret"));
}

#[test]
fn a_completion_comes_back_as_it_was_released_in_the_shape_of_the_api() {
    let mut scene = Scene::new(MIB);
    let text = |it: &str| Some(it.to_owned());
    let draft = Draft {
        messages: vec![
            ("system", vec![text("be kind")]),
            ("user", vec![text("a secret"), None]),
            ("assistant", vec![]),
        ],
        answer: "the secret \"is\" out".to_owned(),
        metadata: vec![pair("of", "secret"), pair("a", "b")],
        ..Draft::new("chatcmpl-1", "")
    };
    scene.send(&draft);
    scene.settle();
    let want = json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "request_id": "a1b2c3d4-0000-4000-8000-00000000abcd",
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant", "content": "the [SECRET] \"is\" out", "refusal": null,
                "tool_calls": null, "function_call": null,
            },
            "logprobs": null,
            "finish_reason": "length",
        }],
        "usage": {
            "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 1},
        },
        "seed": 5, "temperature": 0.5, "top_p": null, "presence_penalty": null,
        "frequency_penalty": null, "service_tier": "default", "system_fingerprint": null,
        "input_user": null, "response_format": null, "tool_choice": null, "tools": null,
        "metadata": {"a": "b", "of": "[SECRET]"},
    });
    assert_eq!(scene.get("chatcmpl-1"), Some(want));
    let paging = Paging { limit: 20, ..Paging::default() };
    let page = scene.store.messages("chatcmpl-1", &paging).unwrap().unwrap();
    let message = |at: usize, role: &str, content: Json, parts: Json| {
        json!({
            "id": format!("chatcmpl-1-{at}"), "role": role, "content": content, "refusal": null,
            "name": null, "content_parts": parts,
        })
    };
    let parts = json!([
        {"type": "text", "text": "a [SECRET]"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
    ]);
    let want = [
        message(0, "system", json!("be kind"), Json::Null),
        message(1, "user", Json::Null, parts),
        message(2, "assistant", Json::Null, Json::Null),
    ];
    assert_eq!(page, Page { data: want.to_vec(), has_more: false });
    assert_eq!(scene.store.messages("chatcmpl-2", &paging).unwrap(), None);
    assert!(scene.is_on_disk("be kind"), "the test looks in the right place");
    assert!(!scene.is_on_disk("secret"));
}

#[test]
fn a_completion_that_is_not_whole_has_no_content_and_says_why() {
    let check = |draft: &Draft, cut: usize, want: Json| {
        let mut scene = Scene::new(MIB);
        let mut records = draft.records(1);
        if cut > 0 {
            records.remove(cut - 1);
        }
        scene.chain.run(records);
        scene.settle();
        let it = scene.get("c").unwrap();
        assert_eq!(it["bucksaw"]["withheld"], want, "{draft:?}");
        assert_eq!(it["choices"][0]["message"]["content"], Json::Null);
        assert_eq!(it["usage"]["total_tokens"], 5);
        assert_eq!(it["metadata"], json!({}));
        let paging = Paging { limit: 20, ..Paging::default() };
        assert_eq!(scene.store.messages("c", &paging).unwrap(), Some(Page::default()));
        assert!(!scene.is_on_disk("hush") && !scene.is_on_disk("an answer"));
        assert_eq!((scene.store.counts().stored, scene.store.counts().withheld), (1, 1));
    };
    let mut draft = Draft { metadata: vec![pair("k", "hush")], ..Draft::new("c", "hush") };
    let incomplete = json!({"reason": "incomplete", "plugin": null});
    for cut in 1..=3 {
        check(&draft, cut, incomplete.clone());
    }
    let trap = json!({"reason": "trap", "plugin": "censor"});
    draft.metadata[0].0 = "poison".to_owned();
    check(&draft, 0, trap.clone());
    draft.metadata.clear();
    draft.messages[0].1.push(Some("poison".to_owned()));
    check(&draft, 0, trap.clone());
    draft.messages[0].1[1] = Some("drop".to_owned());
    check(&draft, 0, incomplete);
    draft.messages[0].1.pop();
    draft.answer = "poison".to_owned();
    check(&draft, 0, trap);
}

#[test]
fn records_whose_last_one_is_lost_are_given_up() {
    let mut scene = Scene::new(MIB);
    for _ in 0..300 {
        scene.batch += 1;
        let mut records = Draft::new("c", "x").records(scene.batch);
        records.pop();
        scene.chain.run(records);
    }
    scene.send(&Draft::new("whole", "x"));
    scene.settle();
    assert_eq!(scene.ids(), ["whole"]);
    assert_eq!(scene.store.counts().lost, 300 + 1 - 256);
}

#[test]
fn metadata_change_through_the_chain_or_not_at_all() {
    let mut scene = Scene::new(MIB);
    scene.send(&Draft { metadata: vec![pair("old", "1")], ..Draft::new("c", "x") });
    scene.settle();
    let row = scene.store.get("c").unwrap().unwrap().row;
    let mut check = |row: i64, metadata: &[(String, String)], changed: Changed, after: Json| {
        scene.batch += 1;
        let (tell, told) = mpsc::channel();
        let told_to = move |it| tell.send(it).unwrap();
        scene.store.expect(scene.batch, told_to).unwrap();
        scene.chain.run(update(scene.batch, row, metadata));
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(changed));
        assert_eq!(scene.get("c").unwrap()["metadata"], after);
    };
    check(
        row,
        &[pair("a secret", "b"), pair("k", "secret")],
        Changed::Done,
        json!({"a [SECRET]": "b", "k": "[SECRET]"}),
    );
    check(
        row,
        &[pair("k", "poison")],
        Changed::Withheld("trap"),
        json!({"a [SECRET]": "b", "k": "[SECRET]"}),
    );
    check(row + 1, &[pair("k", "v")], Changed::Gone, json!({"a [SECRET]": "b", "k": "[SECRET]"}));
    check(row, &[], Changed::Done, json!({}));
    assert!(!scene.is_on_disk("secret"));
}

#[test]
fn the_first_of_an_id_stays() {
    let mut scene = Scene::new(MIB);
    scene.send(&Draft::new("c", "first"));
    scene.send(&Draft::new("c", "second"));
    scene.settle();
    assert!(scene.is_on_disk("first") && !scene.is_on_disk("second"));
    assert_eq!(scene.store.counts().duplicates, 1);
}

#[test]
fn what_is_deleted_is_gone_from_the_disk() {
    let mut scene = Scene::new(MIB);
    for id in ["a", "b", "c"] {
        scene.send(&Draft::new(id, &format!("the words of {id}")));
    }
    scene.settle();
    assert!(scene.is_on_disk("the words of b"));
    assert!(scene.store.delete("b").unwrap());
    assert!(!scene.is_on_disk("the words of b"));
    assert!(scene.is_on_disk("the words of a"));
    assert!(!scene.store.delete("b").unwrap());
    assert_eq!(scene.ids(), ["a", "c"]);
    assert_eq!(scene.store.counts().deleted, 1);
}

#[test]
fn a_restart_keeps_everything_in_one_file() {
    let mut scene = Scene::new(MIB);
    scene.send(&Draft::new("c", "x"));
    assert!(scene.store.close(soon()));
    assert!(matches!(scene.store.delete("c"), Err(StoreError::Closed)));
    let mode = fs::metadata(scene.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = open(&scene.path(), MIB, &scene.now).unwrap();
    assert!(again.get("c").unwrap().is_some());
    let wal = fs::metadata(beside(&scene.path(), "-wal")).unwrap();
    assert_eq!(wal.permissions().mode() & 0o777, 0o600);
    assert!(again.close(soon()));
}

#[test]
fn old_ones_go() {
    let mut scene = Scene::new(MIB);
    scene.send(&Draft::new("a", "x"));
    scene.settle();
    scene.now.store(20 * HOUR, Relaxed);
    for it in 0..200 {
        scene.send(&Draft::new(&format!("b{it}"), "x"));
    }
    scene.settle();
    assert_eq!(scene.ids().len(), 201);
    scene.now.store(25 * HOUR, Relaxed);
    scene.settle();
    assert_eq!(scene.ids().len(), 200);
    assert!(scene.get("a").is_none());
    scene.now.store(45 * HOUR, Relaxed);
    scene.settle();
    assert!(scene.ids().is_empty());
    assert_eq!(scene.store.counts().pruned, 201);
}

#[test]
fn the_oldest_make_room() {
    let mut scene = Scene::new(MIB);
    let text = "0123456789abcdef".repeat(1024);
    for it in 0..200 {
        scene.send(&Draft::new(&format!("c{it:03}"), &text));
        // One at a time: a writer behind would lose some, which is another test.
        scene.settle();
        assert!(fs::metadata(scene.path()).unwrap().len() <= MIB + (64 << 10));
    }
    let ids = scene.ids();
    assert!(ids.len() > 20, "{}", ids.len());
    assert_eq!(ids.last().unwrap(), "c199");
    let first = 200 - ids.len();
    assert_eq!(ids[0], format!("c{first:03}"), "the latest ones, without a gap");
    let counts = scene.store.counts();
    assert_eq!((counts.stored, counts.pruned), (200, first as u64));

    scene.send(&Draft::new("large", &text.repeat(9)));
    scene.settle();
    let large = scene.get("large").unwrap();
    assert_eq!(large["bucksaw"]["withheld"]["reason"], "too_large");
    assert!(scene.ids().len() >= ids.len(), "it took the place of at most one");
}

#[test]
fn a_full_disk_costs_completions_and_is_told_by_the_counter() {
    let mut scene = Scene::new(64 * MIB);
    scene.send(&Draft::new("a", "x"));
    scene.settle();
    let pages = |pages: &'static str| {
        move |it: &rusqlite::Connection| it.pragma_update(None, "max_page_count", pages).unwrap()
    };
    scene.store.with_writer(pages("1"));
    let text = "x".repeat(100_000);
    scene.send(&Draft::new("b", &text));
    scene.send(&Draft::new("c", &text));
    scene.settle();
    assert_eq!(scene.store.counts().lost, 2);
    scene.store.with_writer(pages("100000"));
    scene.send(&Draft::new("d", &text));
    scene.settle();
    assert_eq!(scene.ids(), ["a", "d"]);
}

#[test]
fn files_that_are_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::default();
    let check = |name: &str, want: &str| {
        let error = open(&folder.path().join(name), MIB, &now).map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(want), "{text}");
        error
    };
    fs::write(folder.path().join("garbage"), "no database ".repeat(1000)).unwrap();
    assert!(matches!(check("garbage", "move it"), OpenError::Damaged { .. }));

    let other = rusqlite::Connection::open(folder.path().join("other")).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    check("other", "another program");

    open(&folder.path().join("newer"), MIB, &now).unwrap().close(soon());
    let newer = rusqlite::Connection::open(folder.path().join("newer")).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    check("newer", "newer version");

    std::os::unix::fs::symlink(folder.path().join("x"), folder.path().join("link")).unwrap();
    check("link", "symbolic link");
    assert!(!folder.path().join("x").exists());
    std::os::unix::fs::symlink(folder.path().join("x"), folder.path().join("y-wal")).unwrap();
    check("y", "symbolic link");
    fs::create_dir(folder.path().join("folder")).unwrap();
    check("folder", "cannot be used");
    check("missing/store.db", "cannot be used");
}

#[test]
fn a_damaged_database_is_refused_at_the_start() {
    let mut scene = Scene::new(MIB);
    for it in 0..50 {
        scene.send(&Draft::new(&format!("c{it}"), &"x".repeat(5000)));
    }
    assert!(scene.store.close(soon()));
    let mut bytes = fs::read(scene.path()).unwrap();
    bytes[4096..20_000].fill(0xaa);
    fs::write(scene.path(), bytes).unwrap();
    let opened = open(&scene.path(), MIB, &scene.now).map(|_| ());
    assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");
}

/// A failure ends the readers too.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn pages_are_whole_while_others_write() {
    let mut scene = Scene::new(64 * MIB);
    let over = AtomicBool::new(false);
    let store = scene.store.clone();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !over.load(Relaxed) {
                        let paging = Paging { limit: 100, order: Order::Descending, after: None };
                        let page = store.list(&Listing { paging, ..Listing::default() }).unwrap();
                        for it in &page.data {
                            let id = it["id"].as_str().unwrap();
                            assert_eq!(it["metadata"]["id"], id);
                            let paging = Paging { limit: 10, ..Paging::default() };
                            let messages = store.messages(id, &paging).unwrap();
                            assert_eq!(messages.map_or(2, |it| it.data.len()), 2);
                        }
                        seen += page.data.len();
                    }
                    seen
                })
            })
            .collect();
        let ends = Ends(&over);
        for it in 0..200 {
            let id = format!("c{it}");
            let messages = vec![("user", vec![Some("x".to_owned())]); 2];
            let metadata = vec![pair("id", &id)];
            scene.send(&Draft { messages, metadata, ..Draft::new(&id, "") });
            if it % 10 == 9 {
                scene.settle();
                scene.store.delete(&format!("c{}", it - 5)).unwrap();
            }
        }
        drop(ends);
        let seen: usize = readers.into_iter().map(|it| it.join().unwrap()).sum();
        assert!(seen > 0);
    });
    assert_eq!(scene.ids().len(), 180);
}

/// What somebody does with a store.
#[derive(Clone, Debug)]
enum Deed {
    Store { created: i64, model: bool, tag: u8 },
    Delete(prop::sample::Index),
    Tag(prop::sample::Index, u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..6_i64, any::<bool>(), 0..3_u8)
            .prop_map(|(created, model, tag)| Deed::Store { created, model, tag }),
        1 => any::<prop::sample::Index>().prop_map(Deed::Delete),
        1 => (any::<prop::sample::Index>(), 0..3_u8).prop_map(|(at, tag)| Deed::Tag(at, tag)),
    ]
}

/// What a listing has to look at.
#[derive(Clone, Debug)]
struct Known {
    created: i64,
    model: &'static str,
    tag: u8,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_put_together_are_the_list(
        deeds in prop::collection::vec(deed(), 1..60),
        limit in 1..7_usize,
        descending in any::<bool>(),
        model in prop::option::of(any::<bool>()),
        tag in prop::option::of(0..3_u8),
    ) {
        let name = |it: bool| if it { "one" } else { "two" };
        let mut scene = Scene::new(16 * MIB);
        // By number, in the order of arrival.
        let mut all: BTreeMap<i64, Known> = BTreeMap::new();
        let mut next = 0_i64;
        for deed in deeds {
            let pick = |at: prop::sample::Index| {
                let keys: Vec<i64> = all.keys().copied().collect();
                (!keys.is_empty()).then(|| *at.get(&keys))
            };
            match deed {
                Deed::Store { created, model, tag } => {
                    let model = name(model);
                    let mut draft = Draft::new(&format!("c{next}"), "x");
                    (draft.created, draft.model) = (created, model.to_owned());
                    draft.metadata = vec![pair("tag", &tag.to_string()), pair("other", "x")];
                    scene.send(&draft);
                    all.insert(next, Known { created, model, tag });
                    next += 1;
                }
                Deed::Delete(at) => {
                    let Some(key) = pick(at) else { continue };
                    all.remove(&key);
                    let gone = scene.store.delete(&format!("c{key}")).unwrap();
                    prop_assert!(gone);
                }
                Deed::Tag(at, tag) => {
                    let Some(key) = pick(at) else { continue };
                    scene.settle();
                    let row = scene.store.get(&format!("c{key}")).unwrap().unwrap().row;
                    scene.batch += 1;
                    scene.chain.run(update(scene.batch, row, &[pair("tag", &tag.to_string())]));
                    all.get_mut(&key).unwrap().tag = tag;
                }
            }
        }
        scene.settle();
        let fits = |it: &Known| {
            model.is_none_or(|model| it.model == name(model)) && tag.is_none_or(|tag| it.tag == tag)
        };
        let mut want: Vec<(i64, i64)> =
            all.iter().filter(|(_, it)| fits(it)).map(|(key, it)| (it.created, *key)).collect();
        want.sort_unstable();
        if descending {
            want.reverse();
        }
        let want: Vec<String> = want.iter().map(|(_, key)| format!("c{key}")).collect();

        let order = if descending { Order::Descending } else { Order::Ascending };
        let mut listing = Listing {
            paging: Paging { after: None, limit, order },
            model: model.map(|it| name(it).to_owned()),
            metadata: tag.map(|it| pair("tag", &it.to_string())).into_iter().collect(),
        };
        let mut got = Vec::new();
        loop {
            let page = scene.store.list(&listing).unwrap();
            prop_assert!(page.data.len() <= limit);
            got.extend(ids(&page));
            if !page.has_more {
                break;
            }
            prop_assert_eq!(page.data.len(), limit);
            listing.paging.after = got.last().cloned();
        }
        prop_assert_eq!(got, want);
        listing.paging.after = Some("nobody".to_owned());
        prop_assert!(matches!(scene.store.list(&listing), Err(StoreError::UnknownCursor)));
    }

    #[test]
    fn pages_of_messages_put_together_are_all_messages(
        count in 1..30_usize,
        limit in 1..12_usize,
        descending in any::<bool>(),
    ) {
        let mut scene = Scene::new(MIB);
        let messages = (0..count).map(|it| ("user", vec![Some(it.to_string())])).collect();
        scene.send(&Draft { messages, ..Draft::new("c", "") });
        scene.settle();
        let order = if descending { Order::Descending } else { Order::Ascending };
        let mut paging = Paging { after: None, limit, order };
        let mut got = Vec::new();
        loop {
            let page = scene.store.messages("c", &paging).unwrap().unwrap();
            got.extend(page.data.iter().map(|it| it["content"].as_str().unwrap().to_owned()));
            if !page.has_more {
                break;
            }
            paging.after = page.data.last().map(|it| it["id"].as_str().unwrap().to_owned());
        }
        let mut want: Vec<String> = (0..count).map(|it| it.to_string()).collect();
        if descending {
            want.reverse();
        }
        prop_assert_eq!(got, want);
    }
}
