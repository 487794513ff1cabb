//! Real components, good and hostile, behind the traits of the chain.

use std::{fs, path::Path, sync::Arc, time::Duration};

use chain::{Chain, Editor, Ellipsis, Replacer, Source, Spec, StageError, Verdict};
use record::{Field, Record, Severity, Stream, Value, field};

use crate::{Grants, Limits, LoadError, Plugin, Role, Runtime, Settings};

fn component(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run `just plugins`", path.display()))
}

fn settings(config: &str) -> Settings {
    let limits = Limits {
        memory: 16 << 20,
        work: Duration::from_millis(100),
        setup: Duration::from_secs(10),
    };
    let (name, config) = ("test".to_owned(), config.to_owned());
    Settings { name, config, limits, grants: Grants::default() }
}

fn load(path: &str, config: &str) -> Result<Plugin, LoadError> {
    let runtime = Runtime::new(Arc::new(())).unwrap();
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
    };
    Chain::new(&spec, Replacer::new(Ellipsis::Korean, b"key"), Arc::new(|| (0, 0)))
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
fn a_misdeed_while_setting_up_is_an_error_of_loading() {
    let check = |deed: &str, want: &str| {
        let mut settings = settings(&format!(r#"{{"do":"{deed}"}}"#));
        settings.limits.setup = Duration::from_millis(200);
        let runtime = Runtime::new(Arc::new(())).unwrap();
        let bytes = component("tests/fixtures/components/hostile.wasm");
        let error = Plugin::load(&runtime, &bytes, settings).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), want);
    };
    check("configure-trap", "it failed in configure: trap");
    check("configure-loop", "it failed in configure: deadline");
}

#[test]
fn what_is_no_plugin_is_refused_with_the_next_step() {
    let runtime = Runtime::new(Arc::new(())).unwrap();
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
