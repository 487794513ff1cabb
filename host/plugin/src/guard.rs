//! Guards: an editor declares what a text must hold before it can have anything to do with it. The host looks for that natively,
//! and text that holds nothing of it never enters the guest. Most text is clean, so this is most of what an editor costs.

use std::panic::{RefUnwindSafe, UnwindSafe};

use record::Value;
use regex_automata::{
    Input,
    hybrid::dfa::{Cache, DFA},
    nfa::thompson::{Config as Nfa, WhichCaptures},
    util::pool::Pool,
};

use crate::{bindings::v0_1::types, component::Setup, error::LoadError, lanes};

/// Guards of one plugin: each may be a pass over the text.
const GUARDS_MAX: usize = 64;
/// Compiled size of one guard, in bytes: one holds the forms of all that a plugin looks for.
const COMPILED_BYTES_MAX: usize = 4 << 20;
/// States of one guard that are kept by a worker, in bytes: those of ordinary text take a fifth of it.
const STATES_BYTES: usize = 1 << 19;
/// Once the states are full, bytes for each of them before they may be thrown away. Text made so that it needs ever new states
/// is not looked at further but shown to the guest, which has a deadline: 50 ns a byte at worst where it was 400.
const BYTES_PER_STATE: usize = 1024;

/// The guards of one plugin; without any, it is shown everything.
pub(crate) struct Guards(Vec<Guard>);

struct Guard {
    min_bytes: usize,
    /// None when it matches every text.
    search: Option<Search>,
}

/// A lazy DFA, and the states that each worker has made of it.
struct Search {
    dfa: DFA,
    states: Pool<Cache, Create>,
}

type Create = Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>;

impl Guards {
    pub(crate) fn compile(guards: &[types::Guard]) -> Result<Self, LoadError> {
        if guards.len() > GUARDS_MAX {
            let reason = format!("a plugin may declare {GUARDS_MAX} guards");
            return Err(LoadError::Guard { index: GUARDS_MAX, reason });
        }
        let compile = |(index, it): (usize, &types::Guard)| {
            let search = (!it.regex.is_empty())
                .then(|| Search::compile(&it.regex))
                .transpose()
                .map_err(|reason| LoadError::Guard { index, reason })?;
            Ok(Guard { min_bytes: it.min_bytes as usize, search })
        };
        guards.iter().enumerate().map(compile).collect::<Result<_, _>>().map(Self)
    }

    fn is_match(&self, text: &str) -> bool {
        self.0.iter().any(|it| {
            text.len() >= it.min_bytes && it.search.as_ref().is_none_or(|it| it.is_match(text))
        })
    }
}

impl Search {
    fn compile(regex: &str) -> Result<Self, String> {
        let limits = DFA::config()
            .cache_capacity(STATES_BYTES)
            .minimum_cache_clear_count(Some(0))
            .minimum_bytes_per_state(Some(BYTES_PER_STATE))
            // Where the automaton cannot decide a Unicode word boundary, it stops, and the text is shown.
            .unicode_word_boundary(true);
        let size =
            Nfa::new().nfa_size_limit(Some(COMPILED_BYTES_MAX)).which_captures(WhichCaptures::None);
        let dfa = DFA::builder()
            .configure(limits)
            .thompson(size)
            .build(regex)
            .map_err(|it| short(&it))?;
        let create = dfa.clone();
        let states = Pool::new(Box::new(move || create.create_cache()) as Create);
        Ok(Self { dfa, states })
    }

    fn is_match(&self, text: &str) -> bool {
        let mut states = self.states.get();
        if text.len() >= lanes::BYTES_MIN
            && let Ok(found) = lanes::is_match(&self.dfa, &mut states, text)
        {
            return found;
        }
        let input = Input::new(text).earliest(true);
        // A search that gave up has ruled nothing out.
        self.dfa.try_search_fwd(&mut states, &input).map_or(true, |it| it.is_some())
    }
}

/// The last of an error's causes says what is wrong, in its last line.
fn short(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(it) = last.source() {
        last = it;
    }
    let text = last.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl Setup {
    /// Whether a value may matter to the plugin. Numbers and booleans always may.
    pub(crate) fn shows(&self, value: &Value) -> bool {
        match value {
            Value::Text(text) if !self.guards.0.is_empty() => {
                self.guards.is_match(text) || self.patterns.is_match(text)
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(all: &[(u32, &str)]) -> Result<Guards, LoadError> {
        let guard = |(min_bytes, regex): &(u32, &str)| types::Guard {
            min_bytes: *min_bytes,
            regex: (*regex).to_owned(),
        };
        Guards::compile(&all.iter().map(guard).collect::<Vec<_>>())
    }

    #[test]
    fn a_text_needs_the_length_and_the_match_of_one_guard() {
        let check = |all: &[(u32, &str)], text: &str, shown: bool| {
            assert_eq!(guards(all).unwrap().is_match(text), shown, "{all:?} on {text:?}");
        };
        check(&[(0, "")], "", true);
        check(&[(3, "")], "ab", false);
        check(&[(3, "")], "한", true);
        check(&[(3, "b")], "ab", false);
        check(&[(3, "b")], "aab", true);
        check(&[(3, "b")], "aaa", false);
        check(&[(9, ""), (0, "b")], "ab", true);
        check(&[(0, "^b"), (0, "a$")], "ab", false);
        let long = "ab".repeat(500);
        check(&[(0, "^b")], &long, false);
        check(&[(0, "^a")], &long, true);
        check(&[(0, "b$")], &long, true);
        check(&[(0, "a$")], &long, false);
    }

    #[test]
    fn a_guard_that_cannot_be_compiled_is_refused() {
        let error = guards(&[(0, "a"), (0, "(")]).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("its guard 1 cannot be used: "), "{error}");
        assert!(guards(&vec![(0, "a"); GUARDS_MAX + 1]).is_err());
    }
}
