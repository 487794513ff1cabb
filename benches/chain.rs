//! What does a record cost that runs through redact, truncate and guide as components, against the same code compiled natively?
//!
//! `cargo bench --bench chain`; `-- --smoke` for one quick turn.

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/native.rs"]
mod native;
#[path = "support/smoke.rs"]
mod smoke;

use std::{marker::PhantomData, sync::Arc};

use bucksaw::builtin;
use chain::{Chain, Editor, Ellipsis, Formatter, Released, Replacer, Source, Spec, Tools};
use measure::{best, report};
use native::{Native, Opens};
use plugin::{Grants, Limits, Plugin, Runtime, Settings};
use record::{Record, field};

fn load(runtime: &Runtime, name: &str, config: &str) -> Plugin {
    let settings = Settings {
        name: name.to_owned(),
        config: config.to_owned(),
        limits: Limits::default(),
        grants: Grants::default(),
    };
    let bytes = builtin::plugin(name).unwrap_or_else(|| panic!("no built-in plugin {name}"));
    Plugin::load(runtime, bytes, settings).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn chain(editors: Vec<Arc<dyn Source<dyn Editor>>>) -> Chain {
    let (name, handlers, outputs) = ("bench".into(), vec![], vec![]);
    let spec = Spec { name, editors, handlers, outputs, shadow: None };
    let replacer = Replacer::new(Ellipsis::Korean, b"key");
    Chain::new(&spec, Tools { replacer, clock: Arc::new(|| (0, 0)), stats: Arc::default() })
}

fn editor(plugin: &Plugin) -> Arc<dyn Source<dyn Editor>> {
    plugin.editor().unwrap_or_else(|| panic!("not an editor"))
}

/// Runs all records through a chain in batches, and formats what comes out.
fn whole(chain: &mut Chain, formatter: &mut dyn Formatter, batches: Vec<Vec<Record>>) -> usize {
    batches
        .into_iter()
        .map(|batch| {
            let released = chain.edit(batch);
            let formatted = formatter.format(&released).unwrap_or_else(|error| panic!("{error}"));
            chain::escape::escape(&formatted.text).len()
        })
        .sum()
}

fn edits(chain: &mut Chain, batches: Vec<Vec<Record>>) -> Vec<Released> {
    batches.into_iter().flat_map(|it| chain.edit(it)).collect()
}

fn formats(formatter: &mut dyn Formatter, released: &[Released], size: usize) -> usize {
    let format = |it: &[Released]| formatter.format(it).map_or(0, |it| it.text.len());
    released.chunks(size).map(format).sum()
}

fn main() {
    let (records, rounds) = if smoke::is_smoke() { (500, 1) } else { (10_000, 15) };
    let corpus = corpus::corpus(records);
    let runtime = Runtime::new(Arc::new(()), None).unwrap_or_else(|error| panic!("{error}"));
    let redact = load(&runtime, "redact", "{}");
    let truncate = load(&runtime, "truncate", "{}");
    let guide = load(&runtime, "guide", "{}");

    let mut wasm = chain(vec![editor(&redact), editor(&truncate)]);
    let mut native = chain(vec![
        Arc::new(Opens::<redact::Redact>("{}", PhantomData)),
        Arc::new(Opens::<truncate::Truncate>("{}", PhantomData)),
    ]);
    let mut wasm_guide = Source::<dyn Formatter>::open(&guide).unwrap_or_else(|it| panic!("{it}"));
    let mut native_guide = Native::<guide::Guide>::new("{}");

    // At batch 1, which is a quiet server, only the whole has a goal.
    let goals = [(64, Some("<= 1.0"), Some("<= 2.0"), "<= 1.3"), (1, None, None, "<= 2.0")];
    for (size, of_editors, of_formatter, goal) in goals {
        let batches = || corpus.chunks(size).map(<[Record]>::to_vec).collect::<Vec<_>>();
        let a = edits(&mut wasm, batches());
        let b = edits(&mut native, batches());
        assert!(
            a.iter().zip(&b).all(|(a, b)| a.fields == b.fields && a.stub.is_none()),
            "components and native code must do the same"
        );
        let figures = best(rounds, batches, |it| edits(&mut wasm, it), |it| edits(&mut native, it));
        report(&format!("editors-wasm-vs-native-batch{size}"), figures, records, of_editors);
        let figures = best(
            rounds,
            || (),
            |()| formats(wasm_guide.as_mut(), &a, size),
            |()| formats(&mut native_guide, &a, size),
        );
        report(&format!("formatter-wasm-vs-native-batch{size}"), figures, records, of_formatter);
        let figures = best(
            rounds,
            batches,
            |it| whole(&mut wasm, wasm_guide.as_mut(), it),
            |it| whole(&mut native, &mut native_guide, it),
        );
        report(&format!("chain-wasm-vs-native-batch{size}"), figures, records, Some(goal));
    }
    patterns(&runtime, &corpus, rounds);
}

/// A pattern that the host scans for on the guest's behalf, against the guest's own matcher for the same thing.
fn patterns(runtime: &Runtime, corpus: &[Record], rounds: usize) {
    let host = r#"{"kinds":[],"patterns":[{"name":"mail",
        "regex":"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\\.[A-Za-z0-9-]{1,63}){1,8}"}]}"#;
    let by_host = load(runtime, "redact", host);
    let by_guest = load(runtime, "redact", r#"{"kinds":["email"]}"#);
    let mut host = chain(vec![editor(&by_host)]);
    let mut guest = chain(vec![editor(&by_guest)]);
    let content: Vec<Record> =
        corpus.iter().filter(|it| it.get(field::PROMPT_TEXT).is_some()).cloned().collect();
    let batches = || content.chunks(64).map(<[Record]>::to_vec).collect::<Vec<_>>();
    let figures = best(rounds, batches, |it| edits(&mut host, it), |it| edits(&mut guest, it));
    report("email-host-pattern-vs-guest-matcher", figures, content.len(), Some("<= 2.0"));
}
