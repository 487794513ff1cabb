//! The pass over a text: from one byte that may belong to something to the next, and around each of them the matchers that it may
//! belong to.

use crate::{
    Kind, Kinds, email, fold, iban, ip,
    number::{self, Groups},
    secret,
    trigger::Triggers,
};

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
    if fold::may_hold(text.as_bytes())
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

    fn run(self) {
        if self.kinds.has(Kind::Secret) { self.pass::<true>() } else { self.pass::<false>() }
    }

    fn pass<const SECRETS: bool>(mut self) {
        let mut triggers = Triggers::<SECRETS>::new(self.bytes);
        let mut at = 0;
        while let Some(trigger) = triggers.next(at) {
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
        if self.kinds.has(Kind::Iban)
            && let Some(found) = iban::find(self.bytes, at)
        {
            return self.push(Some(found), Kind::Iban);
        }
        let groups = Groups::parse(self.bytes, at);
        if groups.are_few() {
            return groups.first_end();
        }
        let found = self
            .number(Kind::Krn, &groups, number::krn)
            .or_else(|| self.number(Kind::Card, &groups, number::card))
            .or_else(|| self.number(Kind::Ip, &groups, ip::v4))
            .or_else(|| self.number(Kind::Phone, &groups, number::phone));
        match found {
            Some((kind, found)) => self.push(Some(found), kind),
            None => groups.first_end(),
        }
    }

    /// What one matcher says of groups of digits, if its kind is looked for.
    fn number(
        &self,
        kind: Kind,
        groups: &Groups,
        find: impl Fn(&[u8], &Groups) -> Option<(usize, usize)>,
    ) -> Option<(Kind, (usize, usize))> {
        let found = if self.kinds.has(kind) { find(self.bytes, groups) } else { None };
        found.map(|it| (kind, it))
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
