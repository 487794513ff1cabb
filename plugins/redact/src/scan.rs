//! The pass over a text.
//!
//! A word of eight bytes is looked at with a dozen instructions and no branch but one, on wasm as well, where no vector
//! instructions are assumed. All triggers but `_` lie between `-` and `B` in ASCII, which makes the test so short; no byte
//! of a multi-byte character is ever a trigger.

use crate::{Kind, Kinds, email, fold, iban, ip, number, secret};

/// A part of a text, in bytes, on character boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
}

/// Finds everything of these kinds. Matches come in order and don't overlap.
pub fn scan(text: &str, kinds: Kinds, out: &mut Vec<Match>) {
    let from = out.len();
    // Full-width forms all begin with this byte, and no Hangul syllable does.
    if text.as_bytes().contains(&0xef)
        && let Some(folded) = fold::fold(text)
    {
        Scan::new(&folded.bytes, kinds, out).run();
        for it in out.iter_mut().skip(from) {
            it.start = folded.origin(it.start);
            it.end = folded.origin(it.end);
        }
        return;
    }
    Scan::new(text.as_bytes(), kinds, out).run();
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;
const FIRST: u8 = b'-';
const LAST: u8 = b'B';

/// Where the next trigger stands.
fn next_trigger(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut rest = bytes.get(from..)?;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        let found = triggers(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
        rest = tail;
    }
    rest.iter().position(|it| matches!(*it, FIRST..=LAST | b'_' | b'b')).map(|it| at + it)
}

/// The high bit of each byte that is a trigger. Without their high bits, bytes and what is added to them never carry into
/// the byte beside.
fn triggers(word: u64) -> u64 {
    let low = word & !HIGH;
    let from_first = low + (0x80 - FIRST as u64) * ONES;
    let after_last = low + (0x80 - (LAST + 1) as u64) * ONES;
    let not = |it: u8| (low ^ (u64::from(it) * ONES)) + 0x7f * ONES;
    ((from_first & !after_last) | !(not(b'_') & not(b'b'))) & !word & HIGH
}

struct Scan<'a> {
    bytes: &'a [u8],
    kinds: Kinds,
    out: &'a mut Vec<Match>,
    /// Matches before this one belong to other texts.
    first: usize,
    tokens: secret::Tokens,
    /// A run of hexadecimal groups up to here is no address.
    hex_end: usize,
}

impl<'a> Scan<'a> {
    fn new(bytes: &'a [u8], kinds: Kinds, out: &'a mut Vec<Match>) -> Self {
        let first = out.len();
        Self { bytes, kinds, out, first, tokens: secret::Tokens::default(), hex_end: 0 }
    }

    fn run(mut self) {
        let mut at = 0;
        while let Some(trigger) = next_trigger(self.bytes, at) {
            at = self.look(trigger).max(trigger + 1);
        }
    }

    /// Tries the matchers that this byte may belong to, and says where to go on.
    fn look(&mut self, at: usize) -> usize {
        let bytes = self.bytes;
        match bytes.get(at) {
            Some(b'0'..=b'9') => self.digits(at),
            Some(b'@') if self.kinds.has(Kind::Email) => {
                self.push(email::find(bytes, at), Kind::Email)
            }
            Some(b':') => self.colon(at),
            Some(b'=' | b'-' | b'_' | b'.' | b'A' | b'B' | b'b') => self.secret(at),
            _ => 0,
        }
    }

    fn colon(&mut self, at: usize) -> usize {
        if self.kinds.has(Kind::Ip) && at >= self.hex_end {
            let (found, end) = ip::v6(self.bytes, at);
            self.hex_end = end;
            if found.is_some() {
                return self.push(found, Kind::Ip);
            }
        }
        self.secret(at)
    }

    fn secret(&mut self, at: usize) -> usize {
        if !self.kinds.has(Kind::Secret) {
            return 0;
        }
        let found = secret::find(self.bytes, at, &mut self.tokens);
        self.push(found, Kind::Secret)
    }

    fn digits(&mut self, at: usize) -> usize {
        let bytes = self.bytes;
        let groups = number::Groups::parse(bytes, at);
        let matchers: [(Kind, fn(&[u8], &number::Groups) -> Option<(usize, usize)>); 5] = [
            (Kind::Iban, iban::find),
            (Kind::Krn, number::krn),
            (Kind::Card, number::card),
            (Kind::Ip, ip::v4),
            (Kind::Phone, number::phone),
        ];
        for (kind, find) in matchers {
            if self.kinds.has(kind)
                && let Some(found) = find(bytes, &groups)
            {
                return self.push(Some(found), kind);
            }
        }
        groups.first_end()
    }

    /// Adds a match. One that reaches back over earlier ones takes them over, or begins where the last one ends.
    fn push(&mut self, found: Option<(usize, usize)>, kind: Kind) -> usize {
        let Some((mut start, mut end)) = found else { return 0 };
        while self.out.len() > self.first
            && let Some(last) = self.out.last().copied()
            && last.end > start
        {
            if last.start < start {
                start = last.end;
                break;
            }
            end = end.max(last.end);
            self.out.pop();
        }
        if start < end {
            self.out.push(Match { start, end, kind });
        }
        end
    }
}
