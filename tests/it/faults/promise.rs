//! What the host answers to each misdeed, as `tests/fixtures/guests/README.md` promises it.

use chain::StageError;

use self::Promise::{Fails, Goes, May, NotLoaded, Poison};
use super::case::Guest;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Promise {
    /// The plugin is not loaded, and the error says this.
    NotLoaded(&'static str),
    /// Every call with something in it fails, with this word.
    Fails(StageError),
    /// Calls with the word `poison` in them trap; the others go on.
    Poison,
    /// A call now and then may fail, with one of these words; the others go on.
    May(&'static [StageError]),
    /// Nothing fails.
    Goes,
}

type Deed = (&'static str, Promise);

/// A deed with a colon is not configured: it is written into the component.
const EVERY: &[Deed] = &[
    ("START:trap", NotLoaded("failed in instantiate: instantiate")),
    ("START:loop", NotLoaded("failed in instantiate: deadline")),
    ("START:hoard", NotLoaded("failed in instantiate: memory")),
    ("START:recurse", NotLoaded("failed in instantiate: stack")),
    ("DESCRIBE:trap", NotLoaded("failed in describe: trap")),
    ("DESCRIBE:loop", NotLoaded("failed in describe: deadline")),
    ("DESCRIBE:hoard", NotLoaded("failed in describe: memory")),
    ("DESCRIBE:recurse", NotLoaded("failed in describe: stack")),
    ("DESCRIBE:utf8", NotLoaded("failed in describe: bad_answer")),
    ("DESCRIBE:huge", Goes),
    ("DESCRIBE:loud", Goes),
    ("configure-trap", NotLoaded("failed in configure: trap")),
    ("configure-loop", NotLoaded("failed in configure: deadline")),
    ("configure-hoard", NotLoaded("failed in configure: memory")),
    ("configure-recurse", NotLoaded("failed in configure: stack")),
    ("configure-utf8", NotLoaded("failed in configure: bad_answer")),
    ("configure-refuse", NotLoaded("refuses its configuration")),
    ("configure-flood", NotLoaded("refuses its configuration")),
    ("bad-pattern", NotLoaded("cannot be used")),
    ("many-patterns", NotLoaded("cannot be used")),
    ("configure-trap-later", Fails(StageError::Trap)),
    ("configure-loop-later", Fails(StageError::Deadline)),
    ("configure-hoard-later", Fails(StageError::Memory)),
    ("configure-refuse-later", Fails(StageError::Configure)),
    ("configure-fickle", Fails(StageError::Configure)),
    ("nothing", Goes),
    ("trap", Fails(StageError::Trap)),
    ("loop", Fails(StageError::Deadline)),
    ("hoard", Fails(StageError::Memory)),
    ("recurse", Fails(StageError::Stack)),
    ("poison", Poison),
    ("thousandth", May(&[StageError::Trap])),
    ("realloc-trap", Fails(StageError::Trap)),
    ("realloc-loop", Fails(StageError::Deadline)),
    ("post-return-trap", Fails(StageError::Trap)),
    ("post-return-loop", Fails(StageError::Deadline)),
    ("leak", May(&[StageError::Memory])),
    ("slow", Goes),
    // On a busy machine its time is over before its room.
    ("greedy-patterns", May(&[StageError::Memory, StageError::Deadline])),
];

const EDITOR: &[Deed] = &[
    ("short", Fails(StageError::BadAnswer)),
    ("long", Fails(StageError::BadAnswer)),
    ("oversized", Fails(StageError::BadAnswer)),
    ("misaligned", Fails(StageError::BadAnswer)),
    ("bad-code", Fails(StageError::BadAnswer)),
    ("bad-reason", Fails(StageError::BadAnswer)),
    ("bad-range", Fails(StageError::BadAnswer)),
    ("bad-value", Fails(StageError::BadAnswer)),
    ("bad-label", Fails(StageError::BadAnswer)),
    ("bad-mode", Fails(StageError::BadAnswer)),
    ("bad-kind", Fails(StageError::BadAnswer)),
    ("reversed", Fails(StageError::BadAnswer)),
    ("split", Fails(StageError::BadAnswer)),
    ("huge-edits", Fails(StageError::BadAnswer)),
    ("huge-label", NotLoaded("may declare no more than")),
    ("exfiltrate", Fails(StageError::BadAnswer)),
    ("fail", Fails(StageError::Refused)),
    ("drop", Goes),
    ("overlapping", Goes),
    ("liar", Goes),
    ("waverer", Goes),
];

const FORMATTER: &[Deed] = &[
    ("short", Fails(StageError::BadAnswer)),
    ("long", Fails(StageError::BadAnswer)),
    ("oversized", Fails(StageError::BadAnswer)),
    ("misaligned", Fails(StageError::BadAnswer)),
    ("utf8", Fails(StageError::BadAnswer)),
    ("bad-range", Fails(StageError::BadAnswer)),
    ("reversed", Fails(StageError::BadAnswer)),
    ("disordered", Fails(StageError::BadAnswer)),
    ("split", Fails(StageError::BadAnswer)),
    ("empty", Goes),
    ("huge-text", Goes),
    ("many-lines", Goes),
    ("exfiltrate", Goes),
];

const HANDLER: &[Deed] = &[
    ("fail", Fails(StageError::Refused)),
    ("utf8", Fails(StageError::BadAnswer)),
    ("oversized", Fails(StageError::BadAnswer)),
    ("alert-spam", Goes),
    ("alert-huge", Goes),
    ("state-spam", Goes),
    ("state-huge", Goes),
    ("exfiltrate", Goes),
    ("configure-call", Goes),
    ("post-return-call", Fails(StageError::Trap)),
];

/// What a guest can do, and what is promised for it.
pub(crate) fn deeds(guest: Guest) -> impl Iterator<Item = Deed> {
    let own = match guest {
        Guest::Hostile => EDITOR,
        Guest::Vandal => FORMATTER,
        Guest::Saboteur => HANDLER,
    };
    EVERY.iter().chain(own).copied()
}

/// The deeds in the tables of the guests' README: the words in the first cell of each row.
pub(crate) fn documented(readme: &str, guest: Guest) -> Vec<String> {
    let mut deeds: Vec<String> = Vec::new();
    let mut is_ours = false;
    for line in readme.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            is_ours = match title {
                "An editor's answers" => guest == Guest::Hostile,
                "A formatter's answers" => guest == Guest::Vandal,
                "What a handler does" => guest == Guest::Saboteur,
                _ => true,
            };
        }
        // The table before the first title is that of the guests.
        if !is_ours || !line.starts_with("| `") {
            continue;
        }
        let cell = line.split('|').nth(1).unwrap_or_default();
        for word in cell.split('`').skip(1).step_by(2) {
            // `configure-trap`, `-loop`: the second goes on as the first begins.
            let before = deeds.last().and_then(|it| it.rsplit_once('-')).map(|(it, _)| it);
            let deed = match before {
                Some(before) if word.starts_with('-') => format!("{before}{word}"),
                _ => word.to_owned(),
            };
            deeds.push(deed);
        }
    }
    deeds
}
