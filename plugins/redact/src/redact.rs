//! The plugin: matches become edits.

use sdk::{
    Description, Diagnostic, Editor, Edits, FieldView, Guard, Hit, Pattern, Plugin, RecordView,
    Setup, Verdict,
};

use crate::{Config, Kind, Kinds, Match, config, guard, scan};

/// A private key of 8,192 bits is the longest thing that is looked for; everything else is much shorter.
const LONGEST_SECRET: u32 = 8 * 1024;
/// An e-mail address has up to 320 bytes, and what is looked at behind one a few more.
const LONGEST_OTHER: u32 = 512;

#[derive(Debug)]
pub struct Redact {
    kinds: Kinds,
    allow: Vec<String>,
    /// The mode of each label.
    modes: Vec<u32>,
}

impl Plugin for Redact {
    type Config = Config;

    fn description() -> Description {
        sdk::describe!(
            "Takes personal data and secrets out of what people wrote and models said.",
            config::SCHEMA,
        )
    }

    fn configure(config: Config) -> Result<(Self, Setup), Vec<Diagnostic>> {
        let wrong = config.check();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let names: Vec<&str> = Kind::ALL
            .iter()
            .map(|it| it.name())
            .chain(config.patterns.iter().map(|it| it.name.as_str()))
            .collect();
        let kinds = config.kinds.clone().map_or(Kinds::ALL, Kinds::from_iter);
        let setup = Setup {
            reads: vec!["content".to_owned()],
            labels: names.iter().map(|it| it.to_ascii_uppercase()).collect(),
            patterns: (0..)
                .zip(&config.patterns)
                .map(|(id, it)| Pattern { id, regex: it.regex.clone() })
                .collect(),
            longest_match: match kinds.has(Kind::Secret) {
                // Nobody knows how long a match of a team's own pattern may be.
                _ if !config.patterns.is_empty() => 0,
                true => LONGEST_SECRET,
                false => LONGEST_OTHER,
            },
            // Hits of patterns are shown without being asked for.
            guards: vec![Guard { min_bytes: 0, regex: guard::regex(kinds) }],
        };
        let plugin = Self {
            kinds,
            modes: names.iter().map(|it| config.mode_of(it).number()).collect(),
            allow: config.allow,
        };
        Ok((plugin, setup))
    }
}

impl Editor for Redact {
    fn edit(&self, record: RecordView<'_>, edits: &mut Edits) -> Verdict {
        // It takes memory only once something is found.
        let mut found = Vec::new();
        for field in record.fields() {
            if let Some(text) = field.text() {
                found.clear();
                scan(text, self.kinds, &mut found);
                let hits = record.hits(&field);
                if hits.is_empty() {
                    for it in &found {
                        self.push(&field, text, *it, it.kind.index(), edits);
                    }
                } else {
                    self.merge(&field, text, &found, hits, edits);
                }
            }
        }
        Verdict::Keep
    }
}

impl Redact {
    fn push(&self, field: &FieldView<'_>, text: &str, it: Match, label: usize, edits: &mut Edits) {
        let Some(taken) = text.get(it.start..it.end) else { return };
        if !self.allow.iter().any(|it| it == taken) {
            let mode = self.modes.get(label).copied().unwrap_or(sdk::edits::LABEL);
            edits.push(field, it.start..it.end, label as u32, mode);
        }
    }

    /// Orders the host's matches among ours. Where two overlap, the one that starts first keeps the overlap, and of two
    /// that start together the longer; so nothing that either found is left standing.
    fn merge(
        &self,
        field: &FieldView<'_>,
        text: &str,
        found: &[Match],
        hits: &[Hit],
        edits: &mut Edits,
    ) {
        let ours = found.iter().map(|it| (it.start, it.end, it.kind.index()));
        let theirs = hits
            .iter()
            .map(|it| (it.start as usize, it.end as usize, Kind::ALL.len() + it.pattern as usize));
        let mut all: Vec<(usize, usize, usize)> = ours
            .chain(theirs)
            .filter(|(start, end, label)| {
                *label < self.modes.len()
                    && text.get(*start..*end).is_some_and(|it| !self.allow.iter().any(|a| a == it))
            })
            .collect();
        all.sort_unstable_by_key(|(start, end, label)| (*start, usize::MAX - end, *label));
        let mut at = 0;
        for (start, end, label) in all {
            let start = start.max(at);
            if start < end {
                let mode = self.modes.get(label).copied().unwrap_or(sdk::edits::LABEL);
                edits.push(field, start..end, label as u32, mode);
                at = end;
            }
        }
    }
}
