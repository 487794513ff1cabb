//! What can go wrong, crossed with everything that it can go wrong in: the cases, their names, and which of them are run.

use std::{env, fmt};

use super::promise::{self, Promise};

/// Of the cases that the sample does not need, one in this many is in it all the same.
const SPREAD: u64 = 293;

/// An enumeration of words.
macro_rules! words {
    ($(#[$about:meta])* $name:ident: $($variant:ident = $word:literal),+ $(,)?) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

words! {
    /// Which component misbehaves, and so in which role: editor, formatter, handler.
    Guest: Hostile = "hostile", Vandal = "vandal", Saboteur = "saboteur",
}

words! {
    /// From which severity on records are made.
    Level: Info = "info", Debug = "debug",
}

words! {
    /// How the requests end.
    Outcome: Finished = "finished", Failed = "failed", Cancelled = "cancelled", Rejected = "rejected",
}

words! {
    /// What happens meanwhile.
    Situation:
        Quiet = "quiet",
        // The chains are changed in the middle of requests: for the same again, or for good ones.
        SwapSame = "swap-same",
        SwapGood = "swap-good",
        // A change is under way all the time, and held up while it opens its plugins; the old chains go on.
        SwapHeld = "swap-held",
        // The queue has no room left.
        Full = "full",
        // The log is shut down, and its deadline comes while there is work.
        Shutdown = "shutdown",
}

/// Where the guest stands among what is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    First,
    Middle,
    Last,
    /// No other editor: nothing but the chain's own care keeps secrets in.
    Alone,
    /// In the chain's shadow: what comes out is what comes out without it.
    Shadow,
    /// A formatter of one output, or of two.
    One,
    Two,
}

impl Position {
    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Middle => "middle",
            Self::Last => "last",
            Self::Alone => "alone",
            Self::Shadow => "shadow",
            Self::One => "one",
            Self::Two => "two",
        }
    }
}

impl Guest {
    fn positions(self) -> &'static [Position] {
        match self {
            Self::Hostile => &[
                Position::First,
                Position::Middle,
                Position::Last,
                Position::Alone,
                Position::Shadow,
            ],
            Self::Vandal => &[Position::One, Position::Two],
            Self::Saboteur => &[Position::First, Position::Last],
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) guest: Guest,
    pub(crate) deed: &'static str,
    pub(crate) position: Position,
    pub(crate) level: Level,
    pub(crate) outcome: Outcome,
    /// Whether answers are also logged part by part.
    pub(crate) streaming: bool,
    pub(crate) situation: Situation,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (guest, position) = (self.guest.name(), self.position.name());
        let (level, outcome) = (self.level.name(), self.outcome.name());
        let manner = if self.streaming { "stream" } else { "whole" };
        let situation = self.situation.name();
        write!(f, "{guest}/{}/{position}/{level}/{outcome}/{manner}/{situation}", self.deed)
    }
}

impl Case {
    /// Every case, those of one deed together.
    pub(crate) fn all() -> Vec<Self> {
        let deeds = Guest::ALL
            .iter()
            .flat_map(|guest| promise::deeds(*guest).map(move |deed| (*guest, deed)));
        deeds.flat_map(|(guest, (deed, promise))| Self::of(guest, deed, promise)).collect()
    }

    fn of(guest: Guest, deed: &'static str, promise: Promise) -> Vec<Self> {
        let mut cases = vec![Self {
            guest,
            deed,
            position: guest.positions()[0],
            level: Level::Info,
            outcome: Outcome::Finished,
            streaming: false,
            situation: Situation::Quiet,
        }];
        if let Promise::NotLoaded(_) = promise {
            // It never meets a record: all that it can disturb is a change of the chains.
            let situations = [Situation::Quiet, Situation::SwapSame];
            each(&mut cases, &situations, |case, it| case.situation = it);
            return cases;
        }
        each(&mut cases, guest.positions(), |case, it| case.position = it);
        each(&mut cases, Level::ALL, |case, it| case.level = it);
        each(&mut cases, Outcome::ALL, |case, it| case.outcome = it);
        each(&mut cases, &[false, true], |case, it| case.streaming = it);
        each(&mut cases, Situation::ALL, |case, it| case.situation = it);
        // What is rejected has no answer.
        cases.retain(|it| !(it.streaming && it.outcome == Outcome::Rejected));
        cases
    }

    pub(crate) fn promise(&self) -> Promise {
        let found = promise::deeds(self.guest).find(|(deed, _)| *deed == self.deed);
        found.unwrap_or_else(|| panic!("no deed {}", self.deed)).1
    }

    /// The same number for the same case, and any number for another one.
    pub(crate) fn number(&self) -> u64 {
        number(&self.to_string())
    }
}

/// Each case once with each of these.
fn each<T: Copy>(cases: &mut Vec<Case>, all: &[T], set: fn(&mut Case, T)) {
    let mut crossed = Vec::with_capacity(cases.len() * all.len());
    for case in cases.iter() {
        for it in all {
            let mut case = *case;
            set(&mut case, *it);
            crossed.push(case);
        }
    }
    *cases = crossed;
}

/// The cases that the variable asks for.
pub(crate) fn selected<T: fmt::Display>(
    all: Vec<T>,
    sample: impl FnOnce(Vec<T>) -> Vec<T>,
) -> Vec<T> {
    match env::var("BUCKSAW_FAULTS").as_deref() {
        Err(_) | Ok("") => sample(all),
        Ok("all") => all,
        Ok(start) => all.into_iter().filter(|it| it.to_string().starts_with(start)).collect(),
    }
}

/// Each deed of each guest once, and a few more from everywhere. Always the same.
pub(crate) fn sample(all: Vec<Case>) -> Vec<Case> {
    let mut sample = Vec::new();
    for of_deed in all.chunk_by(|a, b| (a.guest, a.deed) == (b.guest, b.deed)) {
        let least = of_deed.iter().map(Case::number).min();
        let wanted = |it: &&Case| Some(it.number()) == least || it.number().is_multiple_of(SPREAD);
        sample.extend(of_deed.iter().filter(wanted));
    }
    sample
}

/// FNV-1a: the same everywhere and for ever.
pub(crate) fn number(name: &str) -> u64 {
    let add = |hash: u64, it: u8| (hash ^ u64::from(it)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, add)
}
