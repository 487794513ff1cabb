//! Where in a text a matcher may have something to do: places of bytes that one of the kinds must contain.
//!
//! A block of the text is looked at as a whole, with a dozen instructions and no branch, and what is found in it is kept as a mask:
//! a block that holds several of these bytes is read once. In a component a block is a vector of sixteen bytes, elsewhere a
//! word of eight.

/// The places of one text. With `SECRETS`, those that a matcher of secrets looks at as well: most of the other kinds' text has
/// several times as many of these as of its own.
#[derive(Debug)]
pub struct Triggers<'a, const SECRETS: bool> {
    bytes: &'a [u8],
    /// Where the present block begins.
    start: usize,
    /// What is left of its triggers: `block::STEP` bits for each byte, the first byte's are the lowest.
    left: u64,
}

impl<'a, const SECRETS: bool> Triggers<'a, SECRETS> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut triggers = Self { bytes, start: 0, left: 0 };
        triggers.read(0);
        triggers
    }

    /// The next one from this place on. Asked for an earlier place than before, it looks anew.
    pub fn next(&mut self, from: usize) -> Option<usize> {
        let ahead = from.wrapping_sub(self.start);
        if ahead < block::BYTES {
            self.left &= u64::MAX << (ahead * block::STEP);
        } else {
            self.read(from);
        }
        while self.left == 0 {
            let next = self.start + block::BYTES;
            if next >= self.bytes.len() {
                return None;
            }
            self.read(next);
        }
        Some(self.start + self.left.trailing_zeros() as usize / block::STEP)
    }

    /// Makes the block that begins here the present one.
    fn read(&mut self, start: usize) {
        let rest = self.bytes.get(start..).unwrap_or_default();
        self.start = start;
        self.left = match rest.first_chunk() {
            Some(whole) => block::triggers::<SECRETS>(*whole),
            None => {
                // No trigger is a zero.
                let mut padded = [0; block::BYTES];
                for (to, from) in padded.iter_mut().zip(rest) {
                    *to = *from;
                }
                block::triggers::<SECRETS>(padded)
            }
        };
    }
}

/// What digits, `:` and `@` lie between.
const FIRST: u8 = b'0';
const LAST: u8 = b':';
const AT: u8 = b'@';
/// Secrets begin or stand behind `-`, `.`, `=`, `:`, `A`, `B`, `_` and `b`. All but two of these lie close together, with `@` and the
/// digits among them and little else.
const SECRETS_FIRST: u8 = b'-';
const SECRETS_LAST: u8 = b'B';
const SECRETS_OTHER: [u8; 2] = [b'_', b'b'];

/// Blocks of eight bytes in one register, for any target.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod block {
    use super::{AT, FIRST, LAST, SECRETS_FIRST, SECRETS_LAST, SECRETS_OTHER};

    pub(super) const BYTES: usize = 8;
    /// Bits of the mask for each byte: the byte's own.
    pub(super) const STEP: usize = 8;

    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;

    /// The high bit of each byte that is a trigger. Without their high bits, bytes and what is added to them never carry into
    /// the byte beside; no byte of a multi-byte character is a trigger.
    pub(super) fn triggers<const SECRETS: bool>(block: [u8; BYTES]) -> u64 {
        let word = u64::from_le_bytes(block);
        let low = word & !HIGH;
        let between = |first: u8, last: u8| {
            let from_first = low + u64::from(0x80 - first) * ONES;
            let after_last = low + u64::from(0x80 - (last + 1)) * ONES;
            from_first & !after_last
        };
        let is = |it: u8| !((low ^ (u64::from(it) * ONES)) + 0x7f * ONES);
        let found = if SECRETS {
            let [a, b] = SECRETS_OTHER;
            between(SECRETS_FIRST, SECRETS_LAST) | is(a) | is(b)
        } else {
            between(FIRST, LAST) | is(AT)
        };
        found & !word & HIGH
    }
}

/// Blocks of sixteen bytes in one vector, in components: wasmtime runs these instructions everywhere.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod block {
    use std::arch::wasm32::{
        u8x16_bitmask, u8x16_eq, u8x16_le, u8x16_splat, u8x16_sub, u64x2, v128, v128_or,
    };

    use super::{AT, FIRST, LAST, SECRETS_FIRST, SECRETS_LAST, SECRETS_OTHER};

    pub(super) const BYTES: usize = 16;
    /// Bits of the mask for each byte.
    pub(super) const STEP: usize = 1;

    /// A bit for each byte that is a trigger. No byte of a multi-byte character is one.
    pub(super) fn triggers<const SECRETS: bool>(block: [u8; BYTES]) -> u64 {
        let both = u128::from_le_bytes(block);
        let bytes = u64x2(both as u64, (both >> 64) as u64);
        let found = if SECRETS {
            let [a, b] = SECRETS_OTHER;
            v128_or(
                between(bytes, SECRETS_FIRST, SECRETS_LAST),
                v128_or(is(bytes, a), is(bytes, b)),
            )
        } else {
            v128_or(between(bytes, FIRST, LAST), is(bytes, AT))
        };
        u64::from(u8x16_bitmask(found))
    }

    /// What is less than the first wraps around, and is more than the last then.
    fn between(bytes: v128, first: u8, last: u8) -> v128 {
        u8x16_le(u8x16_sub(bytes, u8x16_splat(first)), u8x16_splat(last - first))
    }

    fn is(bytes: v128, it: u8) -> v128 {
        u8x16_eq(bytes, u8x16_splat(it))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn check<const SECRETS: bool>(bytes: &[u8], steps: &[usize]) -> Result<(), TestCaseError> {
        let is_trigger = |it: u8| match SECRETS {
            true => (b'-'..=b'B').contains(&it) || it == b'_' || it == b'b',
            false => it.is_ascii_digit() || it == b':' || it == b'@',
        };
        let mut triggers = Triggers::<SECRETS>::new(bytes);
        let mut at = 0;
        for step in steps.iter().cycle() {
            let rest = bytes.get(at..).unwrap_or_default();
            let expected = rest.iter().position(|it| is_trigger(*it)).map(|it| at + it);
            prop_assert_eq!(triggers.next(at), expected, "from {} in {:?}", at, bytes);
            let Some(found) = expected else { break };
            at = found + step;
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn no_trigger_is_passed_over(
            bytes in vec(prop_oneof![4 => Just(b'x'), 2 => b'('..b'h', 1 => any::<u8>()], 0..80),
            steps in vec(1_usize..24, 1..8),
        ) {
            check::<false>(&bytes, &steps)?;
            check::<true>(&bytes, &steps)?;
        }
    }
}
