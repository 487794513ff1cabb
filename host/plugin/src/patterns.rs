//! Pattern sets: a guest declares regular expressions, the host scans for them natively, and the guest gets the matches. Guests
//! stay small, and a team's own pattern costs what it would cost in the host.

use std::time::Instant;

use regex::{Regex, RegexBuilder};

use crate::{
    bindings::v0_1::types,
    error::LoadError,
    prefilter::{Candidates, Prefilter},
};

/// Patterns of one plugin: as many as a large pack of rules has. A scan passes over the text once for each that may match in it.
pub(crate) const PATTERNS_MAX: usize = 256;
/// Patterns that are simply run: each looks for its own literals with vector instructions, and a pass that looks for those of all
/// is no faster than a few of these.
const FEW: usize = 8;
/// Compiled size of one pattern, in bytes; `regex`'s own default is ten times as much.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Matches in one value: over this the rest of the text is a match as well, so that nothing slips through.
const HITS_MAX: usize = 10_000;

pub(crate) struct Patterns {
    all: Vec<(u32, Regex)>,
    /// None when there are few.
    prefilter: Option<Prefilter>,
}

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
        let all = patterns.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        let regexes = patterns.iter().map(|it| it.regex.as_str());
        let prefilter = (all.len() > FEW).then(|| Prefilter::new(regexes)).flatten();
        Ok(Self { all, prefilter })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one of them matches somewhere.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.candidates(text).any(|(_, it)| it.is_match(text))
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
        for (pattern, regex) in self.candidates(text) {
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

    /// The patterns that may match somewhere in this text.
    fn candidates(&self, text: &str) -> impl Iterator<Item = &(u32, Regex)> {
        let all = || Candidates::first(self.all.len());
        let candidates = self.prefilter.as_ref().map_or_else(all, |it| it.candidates(text));
        candidates.indexes().map(move |it| &self.all[it])
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

#[cfg(test)]
mod tests {
    use std::{sync::LazyLock, time::Duration};

    use proptest::prelude::*;

    use super::*;

    /// Rules of every form that packs have: a prefix, a name in any case before or behind what is looked for, none at all.
    const RULES: &[&str] = &[
        "ghp_[0-9a-zA-Z]{4}",
        "(?:sk|rk)_live_[0-9a-z]{4,}",
        "(?i)[a-z0-9_.-]{0,20}(?:adafruit|asana)[ a-z_]{0,10}[=:] ?[a-f0-9]{4}",
        "(?i)(?:secret|api[_-]?key)(?:id)?",
        "(?i)kiosk",
        "token",
        "ken",
        "[0-9]{3}-[0-9]{4}",
        r"\bxox[abp]-[0-9]+",
        "한글|漢字",
        "(?i)é[a-z]",
        "",
    ];
    const PIECES: &[&str] = &[
        "ghp_0a1B2c",
        "sk_live_0123ab",
        "RK_live_",
        "Adafruit key = 0fab",
        "ASANA:beef",
        "api-key",
        "APIKEYID",
        "\u{17f}ecret",
        "\u{212a}io\u{17f}k",
        "kiosk",
        "token",
        "ken",
        "555-1234",
        "xoxb-12",
        "한글",
        "漢字",
        "Éa",
        "é",
        " ",
        "_",
        "-",
        "=",
        "\n",
        "x",
        "0",
    ];

    static SETS: LazyLock<[Patterns; 2]> = LazyLock::new(|| {
        let rules =
            || (0..).zip(RULES).map(|(id, it)| types::Pattern { id, regex: (*it).to_owned() });
        let compile = || Patterns::compile(&rules().collect::<Vec<_>>()).unwrap();
        [compile(), Patterns { prefilter: None, ..compile() }]
    });

    fn hits(patterns: &Patterns, text: &str) -> Vec<(u32, u32, u32)> {
        let mut hits = Vec::new();
        assert!(patterns.scan(0, text, &mut hits, Instant::now() + Duration::from_secs(60)));
        hits.iter().map(|it| (it.pattern, it.start, it.end)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn a_prefilter_changes_no_hit(
            pieces in proptest::collection::vec((0..PIECES.len(), 0..30_usize, 0..30_usize), 0..8),
        ) {
            let [filtered, plain] = &*SETS;
            assert!(filtered.prefilter.is_some());
            let text: String = pieces
                .iter()
                .map(|(at, from, cut)| {
                    let piece: Vec<char> = PIECES[*at].chars().collect();
                    // Most pieces stay whole.
                    let from = from.saturating_sub(24).min(piece.len());
                    let to = piece.len() - cut.saturating_sub(24).min(piece.len() - from);
                    piece[from..to].iter().collect::<String>()
                })
                .collect();
            prop_assert_eq!(hits(filtered, &text), hits(plain, &text));
            prop_assert_eq!(filtered.is_match(&text), plain.is_match(&text));
        }
    }
}
