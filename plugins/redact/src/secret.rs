//! Keys, tokens and passwords: by the prefix that an issuer gives them, by their form, or by the name they are assigned to.

/// What a token may be made of. Remembers the last run that was looked at, so that many prefixes inside one long run cost
/// one look.
#[derive(Debug, Default)]
pub struct Tokens {
    start: usize,
    end: usize,
    /// One more than where the last digit stands, 0 when there is none; and likewise for letters.
    digit: usize,
    upper: usize,
    lower: usize,
}

impl Tokens {
    /// Where the run of `[A-Za-z0-9_-]` that holds this place ends.
    fn end(&mut self, bytes: &[u8], at: usize) -> usize {
        if !(self.start..self.end).contains(&at) {
            *self = Self { start: at, end: at, ..Self::default() };
            while let Some(it) = bytes.get(self.end).filter(|it| is_token(**it)) {
                self.end += 1;
                match it {
                    b'0'..=b'9' => self.digit = self.end,
                    b'A'..=b'Z' => self.upper = self.end,
                    b'a'..=b'z' => self.lower = self.end,
                    _ => {}
                }
            }
        }
        self.end
    }

    /// Whether the run from here looks drawn rather than written; `end` was asked for this place before.
    fn random(&self, at: usize) -> bool {
        self.digit > at || (self.upper > at && self.lower > at)
    }
}

fn is_token(it: u8) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-')
}

/// The secret that this byte gives away.
pub fn find(bytes: &[u8], at: usize, tokens: &mut Tokens) -> Option<(usize, usize)> {
    match bytes.get(at)? {
        b'A' => access_key(bytes, at, tokens),
        b'B' | b'b' => bearer(bytes, at),
        b':' | b'=' => assigned(bytes, at),
        b'-' => private_key(bytes, at).or_else(|| prefixed(bytes, at, tokens)),
        b'_' => prefixed(bytes, at, tokens),
        b'.' => prefixed(bytes, at, tokens)
            .or_else(|| json_web_token(bytes, at, tokens))
            .or_else(|| webhook(bytes, at)),
        _ => None,
    }
}

/// A prefix, and how long what follows it is at least.
type Prefix = (&'static [u8], usize);

/// Inside a word a prefix may be chance (`task-`), so what follows has to be as long as the keys of today are.
const JOINED: usize = 24;

/// Prefixes whose first `-`, `_` or `.` stands behind this byte.
fn prefixes(before: u8, trigger: u8) -> &'static [Prefix] {
    match (before, trigger) {
        (b'k', b'-') => &[(b"sk-", 16)],
        (b'b' | b'p' | b'a' | b'r' | b's', b'-') => &[
            (b"xoxb-", 16),
            (b"xoxp-", 16),
            (b"xoxa-", 16),
            (b"xoxr-", 16),
            (b"xoxs-", 16),
            (b"xapp-", 16),
        ],
        (b't', b'-') => &[(b"glpat-", 16)],
        (b'i', b'-') => &[(b"pypi-", 30), (b"nvapi-", 20)],
        (b'p' | b'o' | b'u' | b's', b'_') => {
            &[(b"ghp_", 20), (b"gho_", 20), (b"ghu_", 20), (b"ghs_", 20)]
        }
        (b'r', b'_') => &[(b"ghr_", 20), (b"dckr_pat_", 16)],
        (b'b', b'_') => &[(b"github_pat_", 20)],
        (b'f', b'_') => &[(b"hf_", 20)],
        (b'm', b'_') => &[(b"npm_", 30)],
        (b'k', b'_') => &[
            (b"sk_live_", 10),
            (b"rk_live_", 10),
            (b"sk_test_", 10),
            (b"rk_test_", 10),
            (b"gsk_", 20),
        ],
        (b'c', b'_') => &[(b"whsec_", 16)],
        (b'9', b'.') => &[(b"ya29.", 20)],
        (b'G', b'.') => &[(b"SG.", 16)],
        _ => &[],
    }
}

fn prefixed(bytes: &[u8], at: usize, tokens: &mut Tokens) -> Option<(usize, usize)> {
    let trigger = *bytes.get(at)?;
    let before = *bytes.get(at.checked_sub(1)?)?;
    for (prefix, least) in prefixes(before, trigger) {
        let Some(start) =
            prefix.iter().position(|it| *it == trigger).and_then(|it| at.checked_sub(it))
        else {
            continue;
        };
        if !bytes.get(start..)?.starts_with(prefix) {
            continue;
        }
        let from = start + prefix.len();
        let mut end = tokens.end(bytes, from);
        let least = if joined(bytes, start) { JOINED.max(*least) } else { *least };
        if end - from < least || !tokens.random(from) {
            continue;
        }
        // Tokens with a point in their prefix go on after another one.
        if trigger == b'.' && bytes.get(end) == Some(&b'.') {
            let next = tokens.end(bytes, end + 1);
            if next - end > 8 {
                end = next;
            }
        }
        return Some((start, end));
    }
    None
}

/// Whether the word began before this place.
fn joined(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|it| bytes.get(it));
    before.is_some_and(u8::is_ascii_alphanumeric)
}

/// Key ids of Amazon (`AKIA…`) and keys of Google (`AIza…`).
fn access_key(bytes: &[u8], at: usize, tokens: &mut Tokens) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    if joined(bytes, at) {
        return None;
    }
    if rest.starts_with(b"AIza") {
        let end = tokens.end(bytes, at);
        return (end - at >= 34).then_some((at, end));
    }
    let amazon = [b"AKIA", b"ASIA", b"ABIA", b"ACCA"].iter().any(|it| rest.starts_with(*it));
    let key = amazon.then(|| rest.get(..20)).flatten()?;
    let whole = key.iter().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
        && !rest.get(20).is_some_and(u8::is_ascii_alphanumeric);
    whole.then_some((at, at + 20))
}

/// What follows `Bearer `: schemes of HTTP are read without case (RFC 9110, section 11.1).
fn bearer(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, rest) = bytes.get(at..)?.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let is_part = |it: &u8| {
        it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
    };
    let token = rest.split(|it| !is_part(it)).next()?;
    let drawn = token.len() >= 12 && token.iter().any(u8::is_ascii_digit) || token.len() >= 24;
    let start = at + SCHEME.len();
    (drawn && !joined(bytes, at)).then_some((start, start + token.len()))
}

/// `eyJ….….…`: this is the first point.
fn json_web_token(bytes: &[u8], at: usize, tokens: &mut Tokens) -> Option<(usize, usize)> {
    // Points end a run, so each byte is walked over once, whatever the number of points.
    let head = bytes.get(..at)?;
    let length = head.iter().rev().take_while(|it| is_token(**it)).count();
    if length < 10 {
        return None;
    }
    let start = at - length;
    let start = start + head.get(start..)?.windows(3).position(|it| it == b"eyJ")?;
    let claims = tokens.end(bytes, at + 1);
    let mut end = claims;
    // Signed ones have three parts, encrypted ones five; a cut one may have two.
    for _ in 0..3 {
        if bytes.get(end) != Some(&b'.') {
            break;
        }
        let next = tokens.end(bytes, end + 1);
        if next - end < 8 {
            break;
        }
        end = next;
    }
    let whole = claims - at > 8 && (end > claims || bytes.get(at + 1..)?.starts_with(b"eyJ"));
    (whole && at - start >= 10).then_some((start, end))
}

/// Web hooks: whoever has the address may post.
fn webhook(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let hooks: [(&[u8], &[u8]); 2] =
        [(b"hooks", b".slack.com/services/"), (b"discord", b".com/api/webhooks/")];
    let (name, path) = hooks.iter().find(|(name, path)| {
        bytes.get(..at).is_some_and(|it| it.ends_with(name))
            && bytes.get(at..).is_some_and(|it| it.starts_with(path))
    })?;
    let from = at + path.len();
    let length = bytes.get(from..)?.iter().take_while(|it| is_token(**it) || **it == b'/').count();
    (length >= 16).then_some((at - name.len(), from + length))
}

/// The longest private key, with its lines.
const MAX_PRIVATE_KEY: usize = 16 * 1024;

/// A PEM block; without its end (a cut text) as far as it looks like one.
fn private_key(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    let header = rest.strip_prefix(b"-----BEGIN ")?;
    let header = header.get(..header.len().min(64))?;
    let name = header.windows(5).position(|it| it == b"-----")?;
    if !header.get(..name)?.ends_with(b"PRIVATE KEY") {
        return None;
    }
    let body = b"-----BEGIN ".len() + name + 5;
    let rest = rest.get(..rest.len().min(MAX_PRIVATE_KEY))?;
    let inside = rest.get(body..)?;
    if let Some(foot) = inside.windows(9).position(|it| it == b"-----END ") {
        let foot = body + foot + 9;
        let tail = rest.get(foot..)?;
        let tail = tail.get(..tail.len().min(64))?;
        let close = tail.windows(5).position(|it| it == b"-----").map_or(0, |it| it + 5);
        return Some((at, at + foot + close));
    }
    let is_part = |it: &u8| it.is_ascii_alphanumeric() || b"+/=\\\r\n\t :,-".contains(it);
    let length = inside.iter().take_while(|it| is_part(it)).count();
    Some((at, at + body + length))
}

/// Names whose values are secret, in lower case, without `-`, `_` and `.`; a name may have anything in front.
pub(crate) const PASSWORDS: [&[u8]; 4] = [b"password", b"passwd", b"passphrase", b"pwd"];
pub(crate) const TOKENS: [&[u8]; 8] = [
    b"secret",
    b"token",
    b"apikey",
    b"accesskey",
    b"secretkey",
    b"privatekey",
    b"credential",
    b"credentials",
];
const KOREAN: [(&str, Name); 5] = [
    ("비밀번호", Name::Password),
    ("패스워드", Name::Password),
    ("암호", Name::Password),
    ("비번", Name::Password),
    ("토큰", Name::Token),
];
pub(crate) const AUTHORIZATION: &[u8] = b"authorization";
/// What names end with that are not Korean: most words in front of a colon are turned down by it.
pub(crate) const ENDS: &[u8] = b"delnsty";
/// The longest name that is read.
const MAX_NAME: usize = 40;
/// The longest value that a quote is looked for behind.
const MAX_QUOTED: usize = 4096;
/// Values that say what a value is like.
const STAND_INS: [&[u8]; 14] = [
    b"null",
    b"none",
    b"true",
    b"false",
    b"undefined",
    b"required",
    b"optional",
    b"string",
    b"text",
    b"bytes",
    b"varchar",
    b"empty",
    b"missing",
    b"invalid",
];

#[derive(Clone, Copy, PartialEq)]
enum Name {
    Password,
    Token,
    Authorization,
}

/// The value behind `=` or `:` when the name in front says that it is secret.
fn assigned(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let name = name(bytes.get(..at)?)?;
    let mut start = at + 1;
    match (bytes.get(at)?, bytes.get(start)) {
        // A comparison, a path of a program, an address.
        (b'=', Some(b'=')) | (b':', Some(b':' | b'/')) => return None,
        (b'=', Some(b'>')) | (b':', Some(b'=')) => start += 1,
        _ => {}
    }
    if bytes.get(at.checked_sub(1)?).is_some_and(|it| matches!(it, b'=' | b':' | b'!')) {
        return None;
    }
    start += bytes.get(start..)?.iter().take(4).take_while(|it| matches!(it, b' ' | b'\t')).count();
    let escaped = bytes.get(start) == Some(&b'\\');
    let quote = bytes.get(start + usize::from(escaped)).copied()?;
    if matches!(quote, b'"' | b'\'' | b'`') {
        let start = start + usize::from(escaped) + 1;
        if let Some(end) = quoted(bytes, start, quote, escaped) {
            let start = start + scheme(bytes.get(start..end)?, name);
            let least = if name == Name::Password { 1 } else { 8 };
            let value = bytes.get(start..end)?;
            let marked = matches!(value, [b'[' | b'<', ..]);
            let secret = value.len() >= least && !stands_in(value) && !marked;
            return secret.then_some((start, end));
        }
        return unquoted(bytes, start, name);
    }
    unquoted(bytes, start, name)
}

/// Which name ends this text, behind spaces and a closing quote.
fn name(before: &[u8]) -> Option<Name> {
    let mut before = before;
    for _ in 0..2 {
        before = before.strip_suffix(b" ").unwrap_or(before);
    }
    if let [rest @ .., b'"' | b'\'' | b'`'] = before {
        before = rest.strip_suffix(b"\\").unwrap_or(rest);
    }
    let end = before.iter().rev().take(MAX_NAME).find(|it| !matches!(it, b'-' | b'_' | b'.'))?;
    if !end.is_ascii() {
        let korean = KOREAN.iter().find(|(it, _)| before.ends_with(it.as_bytes()));
        return korean.map(|(_, name)| *name);
    }
    if !ENDS.contains(&end.to_ascii_lowercase()) {
        return None;
    }
    let mut lower = [0; MAX_NAME];
    let mut from = MAX_NAME;
    for it in before.iter().rev().take(MAX_NAME) {
        match it {
            b'-' | b'_' | b'.' => continue,
            it if it.is_ascii_alphanumeric() => {
                from -= 1;
                *lower.get_mut(from)? = it.to_ascii_lowercase();
            }
            _ => break,
        }
    }
    let name = lower.get(from..)?;
    if PASSWORDS.iter().any(|it| name.ends_with(it)) {
        Some(Name::Password)
    } else if TOKENS.iter().any(|it| name.ends_with(it)) {
        Some(Name::Token)
    } else {
        name.ends_with(AUTHORIZATION).then_some(Name::Authorization)
    }
}

/// Where the closing quote stands, on the same line.
fn quoted(bytes: &[u8], start: usize, quote: u8, escaped: bool) -> Option<usize> {
    let mut at = start;
    while let Some(it) = bytes.get(at).filter(|_| at - start < MAX_QUOTED) {
        match it {
            b'\n' => return None,
            b'\\' if escaped => return Some(at),
            b'\\' => at += 1,
            it if *it == quote => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn unquoted(bytes: &[u8], start: usize, name: Name) -> Option<(usize, usize)> {
    let line = bytes.get(start..)?;
    let start = start + scheme(line.get(..line.len().min(16))?, name);
    let rest = bytes.get(start..)?;
    let is_part = |it: &u8| it.is_ascii_graphic() && !b",;)}]>\"'`&|<".contains(it);
    let mut length = rest.iter().take_while(|it| is_part(it)).count();
    while matches!(rest.get(..length), Some([.., b'.' | b':'])) {
        length -= 1;
    }
    let value = rest.get(..length)?;
    if stands_in(value) || matches!(value, [b'[' | b'{' | b'(' | b'$' | b'%' | b'*' | b'/', ..]) {
        return None;
    }
    let drawn = value.iter().any(u8::is_ascii_digit);
    let secret = match name {
        // `Password: Please enter …` is a sentence.
        Name::Password => {
            let letters = value.iter().all(u8::is_ascii_alphabetic);
            let goes_on =
                matches!(rest.get(length..), Some([b' ', it, ..]) if it.is_ascii_alphabetic());
            value.len() >= 4 && !(letters && goes_on)
        }
        Name::Token | Name::Authorization => value.len() >= 8 && drawn || value.len() >= 20,
    };
    secret.then_some((start, start + length))
}

/// How long the scheme in front of the credentials is: `Basic `.
fn scheme(value: &[u8], name: Name) -> usize {
    let schemes: [&[u8]; 5] = [b"basic ", b"bearer ", b"token ", b"apikey ", b"digest "];
    if name != Name::Authorization {
        return 0;
    }
    let has = |it: &&[u8]| value.get(..it.len()).is_some_and(|v| v.eq_ignore_ascii_case(it));
    schemes.iter().copied().find(|it| has(it)).map_or(0, <[u8]>::len)
}

fn stands_in(value: &[u8]) -> bool {
    STAND_INS.iter().any(|it| value.eq_ignore_ascii_case(it))
}
