//! What does a pack of 216 rules for secrets cost on text that holds nothing of it, against the same rules run one by one?
//!
//! `cargo bench --bench patterns`; `-- --smoke` for one quick turn. The rules are in `support/rules.tsv`, a name and a regular
//! expression a line, in the two forms that such packs have: tokens that begin with what their issuer gave them, and tokens that
//! stand behind a name.

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/smoke.rs"]
mod smoke;

use std::sync::Arc;

use bucksaw::builtin;
use chain::{Chain, Ellipsis, Replacer, Spec, Tools};
use plugin::{Grants, Limits, Plugin, Runtime, Settings};
use record::{Record, Value, field};
use regex::Regex;
use serde_json::json;

const RULES: &str = include_str!("support/rules.tsv");
/// Longer texts take long one by one, and say nothing more.
const TEXT_BYTES_MAX: usize = 10_000;

/// An editor that looks for the rules and for nothing else, in a chain, as the server runs it.
fn chain(runtime: &Runtime, rules: &[(&str, &str)]) -> Chain {
    let rules: Vec<_> =
        rules.iter().map(|(name, regex)| json!({"name": name, "regex": regex})).collect();
    let settings = Settings {
        name: "redact".to_owned(),
        config: json!({"kinds": [], "patterns": rules}).to_string(),
        limits: Limits::default(),
        grants: Grants::default(),
    };
    let bytes = builtin::plugin("redact").unwrap_or_else(|| panic!("no built-in plugin redact"));
    let plugin = Plugin::load(runtime, bytes, settings).unwrap_or_else(|error| panic!("{error}"));
    let editors = plugin.editor().into_iter().collect();
    let (name, handlers, outputs) = ("bench".into(), vec![], vec![]);
    let spec = Spec { name, editors, handlers, outputs, shadow: None };
    let replacer = Replacer::new(Ellipsis::Korean, b"key");
    Chain::new(&spec, Tools { replacer, clock: Arc::new(|| (0, 0)), stats: Arc::default() })
}

fn text(record: &Record) -> Option<&str> {
    let found =
        [field::PROMPT_TEXT, field::RESPONSE_TEXT].into_iter().find_map(|it| record.get(it));
    match found {
        Some(Value::Text(it)) if it.len() <= TEXT_BYTES_MAX => Some(it),
        _ => None,
    }
}

fn main() {
    let (records, rounds) = if smoke::is_smoke() { (100, 1) } else { (2_000, 5) };
    let rules: Vec<(&str, &str)> = RULES.lines().filter_map(|it| it.split_once('\t')).collect();
    let compile = |(name, regex): &(&str, &str)| {
        Regex::new(regex).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let regexes: Vec<Regex> = rules.iter().map(compile).collect();
    let matches = |it: &str| regexes.iter().any(|rule| rule.is_match(it));
    let is_clean = |it: &Record| text(it).is_some_and(|it| !matches(it));
    let clean: Vec<Record> = corpus::corpus(records).into_iter().filter(is_clean).collect();

    let runtime = Runtime::new(Arc::new(()), None).unwrap_or_else(|error| panic!("{error}"));
    let mut chain = chain(&runtime, &rules);
    let batches = || clean.chunks(64).map(<[Record]>::to_vec).collect::<Vec<_>>();
    let (ours, theirs) = measure::best(
        rounds,
        batches,
        |it| it.into_iter().map(|it| chain.edit(it).len()).sum::<usize>(),
        |it| it.iter().flatten().filter_map(text).filter(|it| matches(it)).count(),
    );
    // What it costs without, by what it costs with.
    measure::report("patterns.prefilter", (theirs, ours), clean.len(), Some(">= 20"));
}
