//! Whether an automaton finds anything in a text, for long texts: several parts of it at a time. A step of an automaton waits for the
//! memory that says where the step before has led; steps of other parts fit into that wait.
//!
//! Where a part begins, nobody knows yet what state the text before it leads to. Each part goes on from the state that its own beginning
//! has, and is right as soon as what comes from before has led to the same state, which it does at the next place where nothing is
//! half found: after a few bytes, in most texts.

use regex_automata::{
    Input,
    hybrid::{
        LazyStateID,
        dfa::{Cache, DFA},
    },
};

/// Parts at a time. Two take a tenth longer, eight a quarter.
const LANES: usize = 4;
/// From so many bytes on the joints cost less than is won: a sixth of the time here, a third at twice as many.
pub(crate) const BYTES_MIN: usize = 64;

/// Nothing is known but by a search from the beginning: the automaton's states were full, it met a byte that it is not made for, or it
/// looks at the beginning of a text only.
#[derive(Debug)]
pub(crate) struct Undecided;

/// Whether there is a match anywhere.
///
/// # Errors
/// When it cannot be said in parts.
pub(crate) fn is_match(dfa: &DFA, cache: &mut Cache, text: &str) -> Result<bool, Undecided> {
    cache.search_start(0);
    let mut walk = Walk { dfa, clears: cache.clear_count(), cache, text, walked: 0 };
    let found = walk.is_match();
    let walked = walk.walked;
    cache.search_finish(walked);
    found
}

struct Walk<'a> {
    dfa: &'a DFA,
    cache: &'a mut Cache,
    /// How often the states had been thrown away before: names of states mean nothing after it.
    clears: usize,
    text: &'a str,
    /// Bytes, for the automaton's own account of how much its states are worth.
    walked: usize,
}

/// What a byte has led to.
enum Step {
    Match,
    To(LazyStateID),
}

impl Walk<'_> {
    fn is_match(&mut self) -> Result<bool, Undecided> {
        let bytes = self.text.as_bytes();
        let length = bytes.len() / LANES;
        let begin = |lane: usize| lane * length;
        let mut starts = [self.start(0)?; LANES];
        for (lane, start) in starts.iter_mut().enumerate().skip(1) {
            *start = self.start(begin(lane))?;
        }
        let parts: [&[u8]; LANES] = std::array::from_fn(|lane| &bytes[begin(lane)..][..length]);
        let mut states = starts;
        #[expect(clippy::needless_range_loop, reason = "a place in each of the parts")]
        for at in 0..length {
            let next: [LazyStateID; LANES] = std::array::from_fn(|lane| {
                self.dfa.next_state_untagged(self.cache, states[lane], parts[lane][at])
            });
            if next.iter().any(|it| it.is_tagged()) {
                self.walked = at * LANES;
                for lane in 0..LANES {
                    match self.step(states[lane], parts[lane][at])? {
                        Step::Match => return Ok(true),
                        Step::To(state) => states[lane] = state,
                    }
                }
            } else {
                states = next;
            }
        }
        self.walked = length * LANES;

        // What truly comes from before goes on into the next part, until that part's own state is the same.
        let mut state = states[0];
        for lane in 1..LANES {
            let mut own = starts[lane];
            let mut part = parts[lane].iter();
            while state != own {
                let Some(byte) = part.next() else { break };
                let (Step::To(true_next), Step::To(own_next)) =
                    (self.step(state, *byte)?, self.step(own, *byte)?)
                else {
                    return Ok(true);
                };
                (state, own) = (true_next, own_next);
            }
            if state == own {
                state = states[lane];
            }
        }
        for byte in &bytes[begin(LANES)..] {
            match self.step(state, *byte)? {
                Step::Match => return Ok(true),
                Step::To(next) => state = next,
            }
        }
        let end = self.dfa.next_eoi_state(self.cache, state).map_err(|_| Undecided)?;
        Ok(end.is_match())
    }

    /// The state before this place, which knows the byte in front of it.
    fn start(&mut self, at: usize) -> Result<LazyStateID, Undecided> {
        let input = Input::new(self.text).range(at..);
        let state = self.dfa.start_state_forward(self.cache, &input).map_err(|_| Undecided)?;
        self.usable(state)
    }

    fn step(&mut self, state: LazyStateID, byte: u8) -> Result<Step, Undecided> {
        self.cache.search_update(self.walked);
        let next = self.dfa.next_state(self.cache, state, byte).map_err(|_| Undecided)?;
        if next.is_match() { Ok(Step::Match) } else { self.usable(next).map(Step::To) }
    }

    /// Others are the end of a search, or of what is known.
    fn usable(&self, state: LazyStateID) -> Result<LazyStateID, Undecided> {
        let same = self.cache.clear_count() == self.clears;
        if same && !state.is_tagged() { Ok(state) } else { Err(Undecided) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATTERNS: [&str; 8] = [
        "abc|b+d",
        r"(?-u:\b)a[0-9]{3,9}(?-u:\b)",
        "^b|c$",
        "[^a]{40}",
        "a(?:[ab]*c){3}",
        "(?i)key[-_.]*[:=]|한글",
        "[0-9a-f]+::",
        "",
    ];

    fn check(pattern: &str, text: &str) -> Result<(), TestCaseError> {
        let dfa = DFA::new(pattern).unwrap();
        let mut cache = dfa.create_cache();
        let plain = dfa.try_search_fwd(&mut cache, &Input::new(text)).unwrap().is_some();
        let found = is_match(&dfa, &mut cache, text).unwrap();
        prop_assert_eq!(found, plain, "{} in {:?}", pattern, text);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn parts_find_what_the_whole_holds(
            pieces in prop::collection::vec("[abcd ]{1,4}|[a-f0-9:]{1,6}|한글?|key|a123|[.=_-]", 0..60),
            fill in 0..300_usize,
        ) {
            // Few matches, so that all is walked, and anywhere.
            let text = pieces.concat();
            let few: String = pieces.iter().take(2).map(String::as_str).collect();
            let among = format!("{}{few}{}", "x ".repeat(fill), "y ".repeat(300 - fill));
            for pattern in PATTERNS {
                check(pattern, &text)?;
                check(pattern, &among)?;
            }
        }
    }

    #[test]
    fn a_match_may_lie_across_every_joint() {
        for length in [256, 257, 1000] {
            for at in 0..length - 12 {
                let text =
                    format!("{}a1234567890 {}", " ".repeat(at), " ".repeat(length - 12 - at));
                check(r"a[0-9]{10}", &text).unwrap();
                check(r"(?-u:\b)a[0-9]{11}", &text).unwrap();
            }
        }
    }

    #[test]
    fn what_is_not_decided_is_said() {
        let full = DFA::builder()
            .configure(DFA::config().skip_cache_capacity_check(true).cache_capacity(0))
            .build("[ab]*a[ab]{12}c")
            .unwrap();
        let text = "abbabaababbbaabbab".repeat(100);
        assert!(is_match(&full, &mut full.create_cache(), &text).is_err());
        let quits = DFA::builder().configure(DFA::config().quit(b'#', true)).build("abc").unwrap();
        let text = format!("{}#{}", "x".repeat(500), "y".repeat(500));
        assert!(is_match(&quits, &mut quits.create_cache(), &text).is_err());
    }
}
