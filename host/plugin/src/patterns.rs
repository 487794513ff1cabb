//! Pattern sets: a guest declares regular expressions, the host scans for them natively, and the guest gets the matches. Guests
//! stay small, and a team's own pattern costs what it would cost in the host.

use std::time::Instant;

use regex::{Regex, RegexBuilder};

use crate::{bindings::v0_1::types, error::LoadError};

/// Patterns of one plugin: a scan passes over the text once for each.
const PATTERNS_MAX: usize = 256;
/// Compiled size of one pattern, in bytes; `regex`'s own default is ten times as much.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Matches in one value: over this the rest of the text is a match as well, so that nothing slips through.
const HITS_MAX: usize = 10_000;

pub(crate) struct Patterns(Vec<(u32, Regex)>);

impl Patterns {
    pub(crate) fn compile(patterns: &[types::Pattern]) -> Result<Self, LoadError> {
        if let Some(extra) = patterns.get(PATTERNS_MAX) {
            let reason = format!("a plugin may declare {PATTERNS_MAX} patterns");
            return Err(LoadError::Pattern { id: extra.id, reason });
        }
        let compile = |it: &types::Pattern| {
            RegexBuilder::new(&it.regex)
                .size_limit(COMPILED_BYTES_MAX)
                .build()
                .map(|regex| (it.id, regex))
                .map_err(|error| LoadError::Pattern { id: it.id, reason: short(&error) })
        };
        patterns.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them matches somewhere.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.0.iter().any(|(_, it)| it.is_match(text))
    }

    /// Adds the matches in one value, sorted by start. The answer is false when the time is over: a match may have to look at
    /// all of the text, each time anew.
    pub(crate) fn scan(
        &self,
        value: u32,
        text: &str,
        hits: &mut Vec<types::Hit>,
        until: Instant,
    ) -> bool {
        let first = hits.len();
        for (pattern, regex) in &self.0 {
            let mut end = 0;
            for (count, found) in regex.find_iter(text).enumerate() {
                if count % 16 == 15 && Instant::now() > until {
                    return false;
                }
                end = if count < HITS_MAX { found.end() } else { text.len() };
                hits.push(types::Hit {
                    value,
                    pattern: *pattern,
                    start: offset(found.start()),
                    end: offset(end),
                });
                if end == text.len() {
                    break;
                }
            }
            debug_assert!(end <= text.len());
        }
        hits[first..].sort_unstable_by_key(|it| (it.start, it.pattern));
        true
    }
}

/// Offsets fit in 32 bits: a batch is checked to hold less than 4 GiB before anything is scanned.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// `regex` draws its errors over several lines; the last one says what is wrong.
fn short(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
