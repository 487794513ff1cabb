//! Which of many patterns can match in a text at all: one pass looks for the literals that each of them needs, and only patterns
//! with a literal in the text are run. Without it, a pack of hundreds of rules costs hundreds of passes over every text.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use crate::{literals, patterns::PATTERNS_MAX};

/// Bytes of all literals up to which the automaton is a table of states and bytes, which is the fastest and the largest:
/// about 8 MiB of it then.
const TABLE_BYTES_MAX: usize = 8 << 10;

pub(crate) struct Prefilter {
    literals: AhoCorasick,
    /// By literal: the patterns that need it.
    needed: Vec<Candidates>,
    /// Patterns that need no literal.
    always: Candidates,
}

impl Prefilter {
    /// None when no automaton can be made of the literals.
    pub(crate) fn new<'a>(patterns: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut always = Candidates::default();
        let mut by_literal: BTreeMap<Vec<u8>, Candidates> = BTreeMap::new();
        for (index, regex) in patterns.enumerate() {
            match literals::required(regex) {
                Some(all) => {
                    for it in all {
                        by_literal.entry(it).or_default().insert(index);
                    }
                }
                None => always.insert(index),
            }
        }
        let bytes: usize = by_literal.keys().map(Vec::len).sum();
        let kind = match bytes {
            ..=TABLE_BYTES_MAX => AhoCorasickKind::DFA,
            _ => AhoCorasickKind::ContiguousNFA,
        };
        let literals = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(kind))
            .build(by_literal.keys())
            .ok()?;
        Some(Self { literals, needed: by_literal.into_values().collect(), always })
    }

    /// The patterns that may match somewhere in this text. The others don't.
    pub(crate) fn candidates(&self, text: &str) -> Candidates {
        let mut candidates = self.always;
        // Of two literals that overlap, each may be what a pattern needs.
        for found in self.literals.find_overlapping_iter(text) {
            candidates.add(&self.needed[found.pattern().as_usize()]);
        }
        candidates
    }
}

const WORD_BITS: usize = u64::BITS as usize;

/// A set of patterns, by their indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidates([u64; PATTERNS_MAX.div_ceil(WORD_BITS)]);

impl Candidates {
    /// So many, from the first on.
    pub(crate) fn first(count: usize) -> Self {
        let mut all = Self::default();
        (0..count).for_each(|it| all.insert(it));
        all
    }

    /// In order.
    pub(crate) fn indexes(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(at, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                // Without its lowest bit; there is one unless the word is empty.
                word &= word.checked_sub(1)?;
                Some(at * WORD_BITS + bit as usize)
            })
        })
    }

    fn insert(&mut self, index: usize) {
        self.0[index / WORD_BITS] |= 1 << (index % WORD_BITS);
    }

    fn add(&mut self, more: &Self) {
        for (word, more) in self.0.iter_mut().zip(more.0) {
            *word |= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_patterns_whose_literals_are_there_may_match() {
        let patterns = ["abcd[0-9]", "(?i)bcde", "[0-9]{4}", "xyz|uvw", "[^\\s\\S]"];
        let prefilter = Prefilter::new(patterns.into_iter()).unwrap();
        let check = |text: &str, expected: &[usize]| {
            let found: Vec<usize> = prefilter.candidates(text).indexes().collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[2]);
        check("abcde", &[0, 1, 2]);
        check("ABCDE", &[0, 1, 2]);
        check("uvw", &[2, 3]);
        check("abc de", &[2]);
    }

    #[test]
    fn indexes_are_those_that_were_put_in() {
        for count in [0, 1, 63, 64, 65, PATTERNS_MAX] {
            let all: Vec<usize> = Candidates::first(count).indexes().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }
}
