//! Real components, good and hostile, behind the traits of the chain.

use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use chain::{Chain, Editor, Ellipsis, Replacer, Source, Spec, StageError, Tools, Verdict};
use record::{Field, Record, RequestContext, Severity, Stream, Value, event, field};

use crate::{
    Cache, Grants, Limits, LoadError, Plugin, Role, Runtime, Settings, bindings::v0_1::state::Host,
    http::GuestHttp, instance::GuestState, limits::Limiter,
};

fn component(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run `just plugins`", path.display()))
}

fn settings(config: &str) -> Settings {
    let limits = Limits {
        memory: 16 << 20,
        work: Duration::from_millis(100),
        high_water: 4 << 20,
        ..Limits::default()
    };
    let (name, config) = ("test".to_owned(), config.to_owned());
    Settings { name, config, limits, grants: Grants::default() }
}

fn load(path: &str, config: &str) -> Result<Plugin, LoadError> {
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    Plugin::load(&runtime, &component(path), settings(config))
}

fn builtin(name: &str, config: &str) -> Result<Plugin, LoadError> {
    load(&format!("plugins/components/{name}.wasm"), config)
}

fn hostile(deed: &str) -> Result<Plugin, LoadError> {
    load("tests/fixtures/components/hostile.wasm", &format!(r#"{{"do":"{deed}"}}"#))
}

fn record(text: &str) -> Record {
    Record {
        time: 0,
        utc_offset: 0,
        severity: Severity::INFO,
        event: "request.prompt".into(),
        stream: Stream::App,
        context: None,
        seq: 0,
        stub: None,
        fields: vec![Field::new("n", 1_i64), Field::new(field::PROMPT_TEXT, text)],
    }
}

fn chain(plugins: &[&Plugin]) -> Chain {
    let spec = Spec {
        name: "test".into(),
        editors: plugins.iter().map(|it| it.editor().unwrap()).collect(),
        handlers: vec![],
        outputs: vec![],
        shadow: None,
    };
    let replacer = Replacer::new(Ellipsis::Korean, b"key");
    Chain::new(&spec, Tools { replacer, clock: Arc::new(|| (0, 0)), stats: Arc::default() })
}

fn edited(plugins: &[&Plugin], text: &str) -> String {
    let released = chain(plugins).edit(vec![record(text)]);
    match (released[0].get(field::PROMPT_TEXT), &released[0].stub) {
        (Some(Value::Text(it)), None) => it.clone(),
        (None, Some(stub)) => format!("stub: {}", stub.error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_ships_loads_in_its_role() {
    let check = |name: &str, role: Role| {
        let plugin = builtin(name, "{}").unwrap();
        assert_eq!((plugin.role(), plugin.description().name.as_str()), (role, name));
    };
    check("redact", Role::Editor);
    check("truncate", Role::Editor);
    check("guide", Role::Formatter);
    check("json", Role::Formatter);
}

#[test]
fn redact_and_truncate_edit_through_the_boundary() {
    let redact =
        builtin("redact", r#"{"patterns":[{"name":"employee","regex":"E-[0-9]{6}"}]}"#).unwrap();
    let truncate = builtin("truncate", "{}").unwrap();
    let check = |text: &str, want: &str| assert_eq!(edited(&[&redact, &truncate], text), want);
    check("hello", "hello");
    check("메일은 kim@example.com입니다", "메일은 [EMAIL]입니다");
    check("E-123456 and e-123456", "[EMPLOYEE] and e-123456");
    check("sk-proj-abcdefghijklmnopqrstuvwxyz0123456789", "[SECRET]");
    let long = format!("{}끝", "가".repeat(100));
    check(&long, &format!("{}…(+1자)", "가".repeat(100)));
    let cut_inside = format!("{} kim@example.com", "가".repeat(95));
    check(
        &cut_inside,
        &format!("{} [EM…(+4자)", "가".repeat(95)).replace("[EM…(+4자)", "[EMA…(+3자)"),
    );
}

#[test]
fn a_pseudonym_is_the_host_s() {
    let redact = builtin("redact", r#"{"mode":"pseudonym"}"#).unwrap();
    let text = edited(&[&redact], "a@b.example and a@b.example, not c@d.example");
    let tags: Vec<&str> = text.split(['[', ']']).skip(1).step_by(2).collect();
    assert_eq!(tags.len(), 3, "{text}");
    assert_eq!(tags[0], tags[1]);
    assert_ne!(tags[0], tags[2]);
}

#[test]
fn every_misdeed_becomes_a_stub_that_names_it() {
    let check = |deed: &str, error: &str| {
        let plugin = hostile(deed).unwrap();
        assert_eq!(edited(&[&plugin], "한 secret"), format!("stub: {error}"), "{deed}");
    };
    check("trap", "trap");
    check("loop", "deadline");
    check("hoard", "memory");
    check("recurse", "stack");
    check("short", "bad_answer");
    check("bad-code", "bad_answer");
    check("bad-range", "bad_answer");
    check("bad-value", "bad_answer");
    check("bad-label", "bad_answer");
    check("bad-mode", "bad_answer");
    check("split", "bad_answer");
    check("fail", "refused");
}

#[test]
fn only_the_poison_record_of_a_batch_loses_its_content() {
    let plugin = hostile("poison").unwrap();
    let texts = ["a", "b", "poison", "d"];
    let released = chain(&[&plugin]).edit(texts.iter().map(|it| record(it)).collect());
    let stubs: Vec<bool> = released.iter().map(|it| it.stub.is_some()).collect();
    assert_eq!(stubs, [false, false, true, false]);
}

#[test]
fn a_batch_of_long_texts_is_edited_in_parts() {
    let redact = builtin("redact", "{}").unwrap();
    let text = |at: usize| format!("{}kim{at}@example.com", "a ".repeat(at * 5_000));
    // 900 kB in all, and between them a text that is not shown.
    let batch: Vec<Record> =
        (0..14).flat_map(|at| [record(&text(at)), record("nothing")]).collect();
    let verdicts = redact.editor().unwrap().open().unwrap().edit(&batch).unwrap();
    let places: Vec<(usize, usize)> = verdicts
        .iter()
        .enumerate()
        .filter_map(|(at, it)| match it {
            Verdict::Keep(edits) if edits.is_empty() => None,
            Verdict::Keep(edits) => Some((at, edits[0].start)),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected: Vec<(usize, usize)> = (0..14).map(|at| (2 * at, at * 10_000)).collect();
    assert_eq!(places, expected);
    assert_eq!(verdicts.len(), batch.len());
}

#[test]
fn a_misdeed_while_setting_up_is_an_error_of_loading() {
    let check = |deed: &str, want: &str| {
        let mut settings = settings(&format!(r#"{{"do":"{deed}"}}"#));
        settings.limits.setup = Duration::from_millis(200);
        let runtime = Runtime::new(Arc::new(()), None).unwrap();
        let bytes = component("tests/fixtures/components/hostile.wasm");
        let error = Plugin::load(&runtime, &bytes, settings).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), want);
    };
    check("configure-trap", "it failed in configure: trap");
    check("configure-loop", "it failed in configure: deadline");
}

#[test]
fn what_is_no_plugin_is_refused_with_the_next_step() {
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let check = |bytes: &[u8], want: &str| {
        let error =
            Plugin::load(&runtime, bytes, settings("{}")).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check(b"\0asm\x01\0\0\0", "core WebAssembly module");
    check(b"#!/bin/sh", "not a WebAssembly component");
    check(b"(component)", "exports: nothing");
    check(
        br#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#,
        "it imports wasi:cli/environment@0.2.0, which this host does not offer",
    );
    check(&component("plugins/components/alert.wasm"), "grants = { alert = [");
}

#[test]
fn a_wrong_configuration_is_refused_in_the_plugin_s_own_words() {
    let check = |name: &str, config: &str, want: &str| {
        let error = builtin(name, config).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check("redact", r#"{"kind":["email"]}"#, "kind");
    check("redact", r#"{"patterns":[{"name":"x","regex":"("}]}"#, "pattern 0 cannot be used");
    check("guide", r#"{"locale":"fr"}"#, "locale");
    check("truncate", "[]", "object");
}

#[test]
fn a_record_without_declared_fields_never_enters_the_guest() {
    let plugin = hostile("trap").unwrap();
    let mut editor: Box<dyn Editor> = Source::<dyn Editor>::open(&plugin).unwrap();
    let mut bare = record("");
    bare.fields.truncate(1);
    assert_eq!(editor.edit(&[bare]), Ok(vec![Verdict::Keep(vec![])]));
    assert_eq!(editor.edit(&[record("x")]), Err(StageError::Trap));
}

#[test]
fn a_plugin_out_of_the_cache_does_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("cache");
    let check = |hits: u64| {
        let cache = Cache::open(&folder).unwrap();
        let runtime = Runtime::new(Arc::new(()), Some(cache)).unwrap();
        let bytes = component("plugins/components/redact.wasm");
        let plugin = Plugin::load(&runtime, &bytes, settings("{}")).unwrap();
        assert_eq!(edited(&[&plugin], "kim@example.com"), "[EMAIL]");
        let counts = runtime.cache().unwrap().counts();
        assert_eq!((counts.hits, counts.misses, counts.unwritten), (hits, 1 - hits, 0));
    };
    check(0);
    check(1);
}

#[test]
fn an_instance_is_worn_by_calls_and_by_growth_after_set_up() {
    let check = |change: fn(&mut Limits), text: &str, want: &[bool]| {
        let runtime = Runtime::new(Arc::new(()), None).unwrap();
        let mut settings = settings("{}");
        settings.limits.work = Duration::from_secs(10);
        change(&mut settings.limits);
        let bytes = component("plugins/components/redact.wasm");
        let plugin = Plugin::load(&runtime, &bytes, settings).unwrap();
        // A fresh instance begins anew.
        for _ in 0..2 {
            let mut editor: Box<dyn Editor> = Source::<dyn Editor>::open(&plugin).unwrap();
            let mut worn = vec![editor.is_worn()];
            for _ in 1..want.len() {
                editor.edit(&[record(text)]).unwrap();
                worn.push(editor.is_worn());
            }
            assert_eq!(worn, want);
        }
    };
    // With something to take out, so that no guard keeps them from the guest.
    let long = format!("{} kim@example.com", "가".repeat(400_000));
    let short = "kim@example.com";
    check(|_| (), short, &[false, false, false, false]);
    check(|it| it.calls_max = 2, short, &[false, false, true, true]);
    check(|it| it.calls_max = 0, short, &[false, true]);
    check(|it| it.high_water = 64 << 10, &long, &[false, true, true]);
    check(|it| it.high_water = usize::MAX, &long, &[false, false]);
}

#[test]
fn what_reaches_out_needs_a_grant_and_to_be_a_handler() {
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let check = |import: &str, role: &str, grants: Grants, want: &str| {
        let wat = format!(
            r#"(component
                (import "bucksaw:plugin/{import}@0.1.0" (instance))
                (instance $role)
                (export "bucksaw:plugin/{role}@0.1.0" (instance $role)))"#
        );
        let settings = Settings { grants, ..settings("{}") };
        let error = Plugin::load(&runtime, wat.as_bytes(), settings).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    };
    let none = Grants::default;
    let alert = || Grants { alert: vec!["ops".to_owned()], ..Grants::default() };
    let state = || Grants { state: Some(1 << 10), ..Grants::default() };
    check("alerts", "handler", none(), "add grants = { alert = [");
    check("alerts", "handler", state(), "add grants = { alert = [");
    check("state", "handler", none(), "add grants = { state_kib = 64 }");
    check("state", "handler", alert(), "add grants = { state_kib = 64 }");
    check("state", "editor", state(), "its role is editor, and it imports bucksaw:plugin/state");
    check("alerts", "formatter", alert(), "its role is formatter, and it imports");
    // It comes as far as the functions that are not there.
    check("state", "handler", state(), "its exports do not fit");
}

#[test]
fn a_store_is_lent_once_set_up_has_ended() {
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let mut guest = GuestState {
        limiter: Limiter::new(&Limits::default()),
        alerts: Arc::new(()),
        granted_channels: vec![],
        state: None,
        http: GuestHttp::new(None),
    };
    let key = || "k".to_owned();
    assert_eq!((guest.set(key(), vec![1]), guest.add(key(), 1)), (1, Err(1)));
    guest.state = Some(runtime.states().grant("test", 100));
    assert_eq!(guest.get(key()), None);
    assert_eq!((guest.add(key(), 5), guest.add(key(), -7)), (Ok(5), Ok(-2)));
    assert_eq!((guest.set(key(), vec![1]), guest.add(key(), 1)), (0, Err(4)));
    assert_eq!(guest.set("k".repeat(257), vec![]), 2);
    assert_eq!(guest.set("l".to_owned(), vec![0; 99]), 3);
    // A newly loaded revision, on any worker, finds what the last one left.
    guest.state = Some(runtime.clone().states().grant("test", 10));
    assert_eq!(guest.get(key()), Some(vec![1]));
    guest.remove(key());
    assert_eq!(guest.get(key()), None);
}

/// What redact releases of a text that arrives in these parts, after each of them and at the end.
fn stream(plugin: &Plugin, parts: &[&str]) -> Vec<String> {
    let mut chain = chain(&[plugin]);
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = Some(Arc::new(RequestContext::new(id, "test".into())));
    let deltas = parts.iter().map(|it| Record {
        event: event::RESPONSE_DELTA.into(),
        context: context.clone(),
        fields: vec![Field::new(field::RESPONSE_DELTA, *it)],
        ..record("")
    });
    let last = Record {
        event: event::REQUEST_FINISHED.into(),
        context: context.clone(),
        fields: vec![],
        ..record("")
    };
    let mut released = String::new();
    let mut seen = Vec::new();
    for it in deltas.chain([last]).collect::<Vec<_>>() {
        for it in chain.edit(vec![it]) {
            assert!(it.stub.is_none(), "{it:?}");
            if let Some(Value::Text(text)) = it.get(field::RESPONSE_DELTA) {
                released.push_str(text);
            }
        }
        seen.push(released.clone());
    }
    seen
}

/// Pieces of texts, secrets among them.
const PIECES: &[&str] = &[
    "kim.minsu@example.co.kr",
    "010-1234-5678",
    "4111 1111 1111 1111",
    "900101-1234567",
    "203.0.113.77",
    "DE89370400440532013000",
    "sk-proj-abcDEF0123456789abcDEF0123456789",
    "이미지에는 세 개의 ",
    "the year 2026 and 17 pages ",
    " 👩‍💻, ",
    "\n",
    "@",
    "-",
    "1234",
    " ",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 48, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn a_text_in_parts_is_redacted_as_a_whole(
        pieces in proptest::collection::vec(0..PIECES.len(), 0..160),
        sizes in proptest::collection::vec(1_usize..70, 1..20),
        secrets in proptest::bool::ANY,
    ) {
        let config = match secrets {
            true => "{}",
            false => r#"{"kinds":["email","phone","card","krn","ip","iban"]}"#,
        };
        let mut settings = settings(config);
        settings.limits = Limits::default();
        let bytes = component("plugins/components/redact.wasm");
        let plugin = Plugin::load(&RUNTIME, &bytes, settings).unwrap();
        let text: String = pieces.iter().map(|it| PIECES[*it]).collect();
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, more) = rest.split_at(rest.ceil_char_boundary(*size));
            parts.push(part);
            rest = more;
        }
        let whole = stream(&plugin, &[&text]).pop().unwrap();
        let seen = stream(&plugin, &parts);
        proptest::prop_assert_eq!(seen.last(), Some(&whole));
        for it in seen {
            proptest::prop_assert!(whole.starts_with(&it), "{it:?} was released of {whole:?}");
        }
    }
}

/// Compiling redact once is enough.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    Runtime::new(Arc::new(()), Some(Cache::open(&folder.join("cache")).unwrap())).unwrap()
});
