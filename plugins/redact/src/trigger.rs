//! Where in a text a matcher may have something to do: places of bytes that one of the kinds must contain, with what has to stand
//! around them.
//!
//! A block of the text is looked at as a whole: each of its bytes becomes a bit in a few masks, and what stands beside what is a
//! matter of shifting them. Most digits are years, counts and parts of versions, most colons and points belong to sentences; they
//! cost no branch.

use wide::u8x16;

use crate::number;

/// Bytes of a block, and bits of a mask.
const BLOCK: usize = 64;
/// How far behind a byte it has to be looked: at the eighth digit of a number. The last bytes of a block wait for the next one.
const AHEAD: usize = 7;

/// The places of one text. With `SECRETS`, those that a matcher of secrets looks at as well.
#[derive(Debug)]
pub struct Triggers<'a, const SECRETS: bool> {
    bytes: &'a [u8],
    /// Where the present block begins: one byte before its first place.
    start: usize,
    /// Where its places end.
    end: usize,
    /// Those that are left of them: a bit for each byte, the first byte's is the lowest.
    left: u64,
}

impl<'a, const SECRETS: bool> Triggers<'a, SECRETS> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut triggers = Self { bytes, start: 0, end: 0, left: 0 };
        triggers.read(0);
        triggers
    }

    /// The next one from this place on, which never lies before the last one. Of a number that is the place of its first digit.
    pub fn next(&mut self, from: usize) -> Option<usize> {
        if (self.start..self.end).contains(&from) {
            self.left &= u64::MAX << (from - self.start);
        } else {
            self.read(from);
        }
        while self.left == 0 {
            if self.end >= self.bytes.len() {
                return None;
            }
            self.read(self.end);
        }
        let at = self.start + self.left.trailing_zeros() as usize;
        Some(self.first_digit(from, at))
    }

    /// Where the digits begin that the one at `at` belongs to. There are seven at most: eight are found by their first.
    fn first_digit(&self, from: usize, at: usize) -> usize {
        let run = self.bytes.get(from..=at).unwrap_or_default();
        let digits = run.iter().rev().take_while(|it| it.is_ascii_digit()).count();
        at - digits.saturating_sub(1)
    }

    /// Makes the block whose places begin here the present one.
    fn read(&mut self, from: usize) {
        self.start = from.saturating_sub(1);
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let triggers = match rest.first_chunk() {
            Some(whole) if rest.len() > BLOCK => {
                self.end = self.start + BLOCK - AHEAD;
                triggers::<SECRETS>(whole) & (u64::MAX >> AHEAD)
            }
            _ => {
                // No trigger is a zero, or needs one beside it.
                let mut padded = [0; BLOCK];
                for (to, it) in padded.iter_mut().zip(rest) {
                    *to = *it;
                }
                self.end = self.start + BLOCK;
                triggers::<SECRETS>(&padded)
            }
        };
        self.left = triggers & (u64::MAX << (from - self.start));
    }
}

/// A bit for each byte that is a trigger, as far as the block shows it.
fn triggers<const SECRETS: bool>(block: &[u8; BLOCK]) -> u64 {
    let digits = mask(block, |it| it.between(b'0', b'9'));
    let colons = mask(block, |it| it.is(b':'));
    let at_signs = mask(block, |it| it.is(b'@'));
    if !SECRETS && digits | colons | at_signs == 0 {
        return 0;
    }
    let letters = mask(block, |it| it.lower().between(b'a', b'z'));
    let found = at_signs | numbers(block, digits, letters);
    if SECRETS {
        found | colons | secrets(block, digits | letters)
    } else {
        // In an address, more of it stands behind each colon.
        found | (colons & (digits | letters | colons) >> 1)
    }
}

/// Of digits, what may be more than small numbers: the first one where a letter stands in front (of a country), the last one where
/// more digits follow behind a gap and enough are joined, and each with seven more behind it.
fn numbers(block: &[u8; BLOCK], digits: u64, letters: u64) -> u64 {
    let gaps = mask(block, |it| it.between(b'(', b')') | it.between(b'-', b'.') | it.is(b' '));
    let first = digits & !(digits << 1);
    let last = digits & !(digits >> 1);
    let three = gaps >> 3 & digits >> 4;
    let two = gaps >> 2 & (digits >> 3 | three);
    let goes_on = last & gaps >> 1 & (digits >> 2 | two);
    let pairs = digits & digits >> 1;
    let fours = pairs & pairs >> 2;
    let eights = fours & fours >> 4;
    (first & letters << 1) | enough(goes_on, digits, gaps) | eights
}

/// Of last digits of groups that go on, those where all that are joined by gaps are as many as any matcher asks for. Dates, counts and
/// versions are turned down here, but where they touch the first or the last byte of a block: more may stand beyond it.
fn enough(mut candidates: u64, digits: u64, gaps: u64) -> u64 {
    let mut enough = 0;
    while candidates != 0 {
        let at = candidates.trailing_zeros();
        candidates &= candidates - 1;
        let start = at + 1 - (digits << (63 - at)).leading_ones();
        let length = ((digits | gaps) >> start).trailing_ones();
        let known = start > 0 && start + length < u64::BITS;
        let joined = digits >> start & !(u64::MAX << (length % u64::BITS));
        let groups = joined & !(joined << 1);
        if !known || number::are_enough(joined.count_ones(), groups.count_ones()) {
            enough |= 1 << at;
        }
    }
    enough
}

/// What a secret is recognized by, but for `:`.
fn secrets(block: &[u8; BLOCK], alphanumeric: u64) -> u64 {
    let dashes = mask(block, |it| it.is(b'-'));
    let underscores = mask(block, |it| it.is(b'_'));
    let token = alphanumeric | dashes | underscores;
    let marks = dashes | underscores | mask(block, |it| it.is(b'.'));
    let words = !(alphanumeric << 1);
    let keys = mask(block, |it| it.is(b'A')) & mask(block, |it| it.between(b'A', b'Z')) >> 1;
    let bearers =
        mask(block, |it| it.lower().is(b'b')) & mask(block, |it| it.lower().is(b'e')) >> 1;
    mask(block, |it| it.is(b'='))
        | (marks & token << 1 & token >> 1)
        | (dashes & dashes >> 1)
        | (words & (keys | bearers))
}

/// A bit for each byte that is so.
#[inline(always)]
fn mask(block: &[u8; BLOCK], is: impl Fn(Lane) -> u8x16) -> u64 {
    let (lanes, _) = block.as_chunks::<16>();
    let mut bits = 0;
    for (at, lane) in lanes.iter().enumerate() {
        bits |= u64::from(is(Lane(u8x16::new(*lane))).to_bitmask()) << (at * 16);
    }
    bits
}

/// Sixteen bytes at once.
#[derive(Clone, Copy)]
struct Lane(u8x16);

impl Lane {
    /// Letters as small ones; what is no letter does not become one.
    #[inline(always)]
    fn lower(self) -> Self {
        Self(self.0 | u8x16::splat(0x20))
    }

    #[inline(always)]
    fn is(self, it: u8) -> u8x16 {
        self.0.simd_eq(u8x16::splat(it))
    }

    /// What is less than the first wraps around, and is more than the last then.
    #[inline(always)]
    fn between(self, first: u8, last: u8) -> u8x16 {
        let from_first = self.0 - u8x16::splat(first);
        from_first.min(u8x16::splat(last - first)).simd_eq(from_first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Whether a place has to be found, byte by byte.
    fn is_trigger<const SECRETS: bool>(bytes: &[u8], at: usize) -> bool {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        let before = at.checked_sub(1).map_or(0, byte);
        let after = byte(at + 1);
        let token = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
        match byte(at) {
            b'@' => true,
            b':' => SECRETS || after == b':' || after.is_ascii_alphanumeric(),
            b'=' => SECRETS,
            b'-' if SECRETS && after == b'-' => true,
            b'-' | b'.' | b'_' => SECRETS && token(before) && token(after),
            b'A' => SECRETS && !before.is_ascii_alphanumeric() && after.is_ascii_uppercase(),
            b'b' | b'B' => {
                SECRETS && !before.is_ascii_alphanumeric() && matches!(after, b'e' | b'E')
            }
            _ => false,
        }
    }

    /// Whether digits that begin here, or are looked at from here on, may be more than small numbers.
    fn is_number(bytes: &[u8], from: usize, at: usize) -> bool {
        let is = |at: usize, of: &[u8]| bytes.get(at).is_some_and(|it| of.contains(it));
        let is_digit = |at: usize| is(at, b"0123456789");
        if !is_digit(at) || (at > from && is_digit(at - 1)) {
            return false;
        }
        let end = (at..).find(|it| !is_digit(*it)).unwrap();
        let next = (end..).find(|it| !is(*it, b" ().-")).unwrap();
        let goes_on = (1..=3).contains(&(next - end)) && is_digit(next);
        let joined_end = (at..).find(|it| !is(*it, b"0123456789 ().-")).unwrap();
        let digits: Vec<usize> = (at..joined_end).filter(|it| is_digit(*it)).collect();
        let groups = digits.chunk_by(|a, b| a + 1 == *b).count();
        (at > 0 && bytes[at - 1].is_ascii_alphabetic())
            || end - at >= 8
            || goes_on && (digits.len() >= 8 || groups >= 4)
    }

    fn check<const SECRETS: bool>(bytes: &[u8], steps: &[usize]) -> Result<(), TestCaseError> {
        let mut triggers = Triggers::<SECRETS>::new(bytes);
        let mut from = 0;
        for step in steps.iter().cycle() {
            let expected = (from..bytes.len())
                .find(|at| is_trigger::<SECRETS>(bytes, *at) || is_number(bytes, from, *at));
            let found = triggers.next(from);
            // At the edge of a block small numbers are found as well.
            let extra = found.filter(|it| {
                expected.is_none_or(|expected| *it < expected) && bytes[*it].is_ascii_digit()
            });
            prop_assert_eq!(found, extra.or(expected), "from {} in {:?}", from, bytes);
            let Some(found) = found else { break };
            // As a scan does, which goes on behind the digits that it has seen.
            let digits = bytes[found..].iter().take_while(|it| it.is_ascii_digit()).count();
            from = found + digits.max(*step);
        }
        Ok(())
    }

    #[test]
    fn small_numbers_are_passed_over() {
        for text in ["in 2026, 17 of 0.75 is 12.5%", "(0.7, 12)", "of 3 4", "at 1.12.3, 2026-11"] {
            assert_eq!(Triggers::<false>::new(text.as_bytes()).next(0), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn no_trigger_is_passed_over(
            bytes in vec(
                prop_oneof![
                    3 => Just(b'x'),
                    9 => b'0'..=b'9',
                    3 => prop::sample::select(&b" ().-"[..]),
                    2 => b' '..b'h',
                    2 => prop::sample::select(&b"_:@=AbBeE"[..]),
                    1 => any::<u8>(),
                ],
                0..200,
            ),
            steps in vec(1_usize..24, 1..8),
        ) {
            check::<false>(&bytes, &steps)?;
            check::<true>(&bytes, &steps)?;
        }
    }
}
