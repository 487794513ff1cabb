//! What is written with digits: resident registration numbers, cards, phones.

const MAX_GROUPS: usize = 8;
/// The longest number of a card, and more digits than any phone has.
const MAX_DIGITS: usize = 19;

/// The shortest number of a phone, and of anything else but an address.
const MIN_DIGITS: u32 = 8;

/// Runs of digits with one separator between each: `010-1234-5678`.
#[derive(Debug, Default)]
pub struct Groups {
    count: usize,
    /// How many there are in all groups.
    digits: usize,
    /// Where the first group begins, and ends.
    first: (usize, usize),
    /// Where each group begins, from the first one's first digit: less than 256 bytes, since only the last group may be long.
    starts: [u8; MAX_GROUPS],
    /// 255 for a group that has more. Only the last one may be longer than anything that is looked for.
    lengths: [u8; MAX_GROUPS],
    /// What stands behind each group, when another follows: `-`, a space, `.`, or a parenthesis with anything.
    separators: [u8; MAX_GROUPS],
}

impl Groups {
    /// The groups from here, at most eight of them; the first one is whole, however long it is.
    pub fn parse(bytes: &[u8], at: usize) -> Self {
        let mut groups = Self { first: (at, at), ..Self::default() };
        let mut start = at;
        for group in 0..MAX_GROUPS {
            let end = start + digits(bytes.get(start..).unwrap_or_default());
            if group == 0 {
                groups.first.1 = end;
            }
            let length = end - start;
            groups.starts[group] = (start - at) as u8;
            groups.lengths[group] = u8::try_from(length).unwrap_or(u8::MAX);
            groups.digits += length;
            groups.count += 1;
            // A longer group is no part of anything that is looked for.
            if length > MAX_DIGITS {
                break;
            }
            let Some((separator, next)) = separator(bytes, end) else { break };
            groups.separators[group] = separator;
            start = next;
        }
        groups
    }

    pub fn first_start(&self) -> usize {
        self.first.0
    }

    pub fn first_end(&self) -> usize {
        self.first.1
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// 0 for a group that isn't there.
    pub(crate) fn length(&self, group: usize) -> usize {
        self.lengths.get(group).map_or(0, |it| usize::from(*it))
    }

    pub(crate) fn end(&self, group: usize) -> usize {
        self.start(group) + self.length(group)
    }

    fn start(&self, group: usize) -> usize {
        self.first.0 + self.starts.get(group).map_or(0, |it| usize::from(*it))
    }

    /// 0 behind the last group.
    pub(crate) fn separator(&self, group: usize) -> u8 {
        self.separators.get(group).copied().unwrap_or_default()
    }

    pub(crate) fn text<'a>(&self, bytes: &'a [u8], group: usize) -> &'a [u8] {
        bytes.get(self.start(group)..self.end(group)).unwrap_or_default()
    }

    /// Whether these are too few digits for a phone, and too few groups for an address.
    pub(crate) fn are_few(&self) -> bool {
        !are_enough(self.digits as u32, self.count as u32)
    }

    fn has_lengths(&self, from: usize, lengths: &[usize]) -> bool {
        from + lengths.len() <= self.count
            && lengths.iter().enumerate().all(|(at, it)| self.length(from + at) == *it)
    }
}

/// Whether so many digits may be a phone, or so many groups of them an address.
pub(crate) fn are_enough(digits: u32, groups: u32) -> bool {
    digits >= MIN_DIGITS || groups >= 4
}

/// How many digits the text begins with. Eight bytes are looked at as one number, since most groups are shorter.
fn digits(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    if let Some(word) = text.first_chunk() {
        // Digits become 0 to 9, to which nothing carries but from behind the first that is none.
        let values = u64::from_le_bytes(*word) ^ (u64::from(b'0') * ONES);
        let others = (values.wrapping_add(0x76 * ONES) | values) & (0x80 * ONES);
        if others != 0 {
            return others.trailing_zeros() as usize / 8;
        }
    }
    text.iter().take_while(|it| it.is_ascii_digit()).count()
}

/// What stands between two groups, and where the second begins.
fn separator(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    match bytes.get(at)? {
        b'.' => return is_digit(at + 1).then_some((b'.', at + 1)),
        b' ' | b'-' if is_digit(at + 1) => return Some((bytes[at], at + 1)),
        _ => {}
    }
    let mut kind = 0;
    let mut end = at;
    while let Some(it @ (b' ' | b'-' | b'(' | b')')) = bytes.get(end) {
        kind = match (kind, *it) {
            (_, b'(' | b')') => *it,
            (b'-', b'-') => return None,
            (0 | b' ', b'-') => b'-',
            (0, it) => it,
            (kind, _) => kind,
        };
        end += 1;
        if end - at > 3 {
            return None;
        }
    }
    // Two spaces are the gap between two columns.
    let wide = kind == b' ' && end - at > 1;
    (end > at && !wide && is_digit(end)).then_some((kind, end))
}

/// Whether a word runs into this place.
pub(crate) fn in_word(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|it| bytes.get(it));
    before.is_some_and(|it| it.is_ascii_alphanumeric() || *it == b'_')
}

/// Whether a digit and one of these stand right before this place.
pub(crate) fn linked(bytes: &[u8], at: usize, by: &[u8]) -> bool {
    at >= 2
        && bytes.get(at - 1).is_some_and(|it| by.contains(it))
        && bytes.get(at - 2).is_some_and(u8::is_ascii_digit)
}

/// What up to nine digits are as a number.
pub(crate) fn value(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |rest, it| rest * 10 + u32::from(it - b'0'))
}

/// A Korean resident registration number, `900101-1234567` or without the hyphen: a plausible date of birth, then the digit
/// that says century and gender. Numbers given since October 2020 have no check digit, so none is asked for.
pub fn krn(bytes: &[u8], groups: &Groups) -> Option<(usize, usize)> {
    let start = groups.first_start();
    let (end, hyphen) = match groups.length(0) {
        6 if groups.length(1) == 7 => (groups.end(1), matches!(groups.separator(0), b'-' | b' ')),
        13 => (groups.end(0), false),
        _ => return None,
    };
    // With its hyphen the number has a form of its own, even with a letter right before it.
    if (!hyphen && in_word(bytes, start)) || linked(bytes, start, b".") {
        return None;
    }
    let mut digits = [0; 13];
    let mut count = 0;
    for it in bytes.get(start..end)?.iter().filter(|it| it.is_ascii_digit()) {
        *digits.get_mut(count)? = *it;
        count += 1;
    }
    if count != digits.len() || (!hyphen && groups.length(0) != digits.len()) {
        return None;
    }
    let (month, day) = (value(digits.get(2..4)?), value(digits.get(4..6)?));
    let longest = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) || !(b'1'..=b'8').contains(&digits[6]) {
        return None;
    }
    // Without the hyphen, times in milliseconds of the years 2017 to 2033 begin like this.
    if !hyphen && digits[0] == b'1' && digits[1] >= b'5' && !krn_checks(&digits) {
        return None;
    }
    Some((start, end))
}

fn krn_checks(digits: &[u8; 13]) -> bool {
    let weights = [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5];
    let sum: u32 =
        digits.iter().zip(weights).map(|(it, weight)| u32::from(it - b'0') * weight).sum();
    // Foreigners' numbers add two.
    let base = if digits[6] >= b'5' { 13 } else { 11 };
    (base - sum % 11) % 10 == u32::from(digits[12] - b'0')
}

/// How issuers group the digits, the longest first.
const CARD_SHAPES: [&[usize]; 5] =
    [&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 5]];

/// The number of a payment card: grouped as cards are, or in one run; with a prefix that an issuer has, and a check digit
/// (Luhn).
pub fn card(bytes: &[u8], groups: &Groups) -> Option<(usize, usize)> {
    let start = groups.first_start();
    // The digits behind a point are a fraction.
    if !matches!(groups.length(0), 4 | 13..) || linked(bytes, start, b".") {
        return None;
    }
    if (13..=MAX_DIGITS).contains(&groups.length(0)) {
        return is_card(groups.text(bytes, 0)).then_some((start, groups.end(0)));
    }
    // What follows a card may look like a group of it, such as the three digits on its back: each shape that fits is tried.
    let end = CARD_SHAPES.iter().find_map(|it| grouped_card(bytes, groups, it))?;
    Some((start, end))
}

/// Where a card in groups of these lengths ends.
fn grouped_card(bytes: &[u8], groups: &Groups, shape: &[usize]) -> Option<usize> {
    if !groups.has_lengths(0, shape) {
        return None;
    }
    let last = shape.len() - 1;
    let separator = groups.separator(0);
    if !matches!(separator, b'-' | b' ') || (1..last).any(|it| groups.separator(it) != separator) {
        return None;
    }
    let mut digits = [0; MAX_DIGITS];
    let mut count = 0;
    for group in 0..=last {
        for it in groups.text(bytes, group) {
            *digits.get_mut(count)? = *it;
            count += 1;
        }
    }
    is_card(digits.get(..count)?).then(|| groups.end(last))
}

fn is_card(digits: &[u8]) -> bool {
    let length = digits.len();
    let prefix = value(digits.get(..4).unwrap_or_default());
    let plausible = match prefix {
        4000..=4999 => matches!(length, 13 | 16 | 19),
        5100..=5599 | 2221..=2720 => length == 16,
        3400..=3499 | 3700..=3799 => length == 15,
        3000..=3059 | 3600..=3699 | 3800..=3999 => length == 14 || length >= 16,
        3528..=3589 | 6000..=6999 | 8100..=8199 | 5000..=5099 | 5600..=5899 => length >= 16,
        // Cards that are good in Korea only.
        9000..=9999 => length == 16,
        _ => false,
    };
    plausible && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, it)| {
            let digit = u32::from(it - b'0');
            match digit * 2 {
                _ if at % 2 == 0 => digit,
                double if double > 9 => double - 9,
                double => double,
            }
        })
        .sum();
    // A row of zeros has a good check digit, and is no card.
    sum > 0 && sum.is_multiple_of(10)
}

/// The number of a phone.
pub fn phone(bytes: &[u8], groups: &Groups) -> Option<(usize, usize)> {
    let start = groups.first_start();
    let plus = match bytes.get(..start)? {
        [.., b'+'] => Some(start - 1),
        [.., b'+', b'('] => Some(start - 2),
        _ => None,
    };
    if let Some(plus) = plus {
        return (!in_word(bytes, plus)).then(|| international(bytes, groups, plus)).flatten();
    }
    if in_word(bytes, start) {
        return None;
    }
    let last = korean(bytes, groups).or_else(|| american(bytes, groups))?;
    let opened = groups.separator(0) == b')' && bytes.get(..start)?.ends_with(b"(");
    Some((start - usize::from(opened), groups.end(last)))
}

/// `+NN …`: as many groups as the country can have digits.
fn international(bytes: &[u8], groups: &Groups, plus: usize) -> Option<(usize, usize)> {
    let first = groups.text(bytes, 0);
    let most = match first {
        [b'0', ..] => return None,
        [b'8', b'2', ..] => 13,
        [b'1', ..] => 11,
        _ => 15,
    };
    let mut total = 0;
    let mut end = None;
    for group in 0..groups.count() {
        total += groups.length(group);
        if total > most {
            break;
        }
        // Eight digits are the shortest number there is.
        if total >= 8 {
            end = Some(groups.end(group));
        }
        // A Korean number is over with its twelfth digit, unless the trunk zero is written.
        if most == 13 && total == 12 {
            break;
        }
    }
    Some((plus, end?))
}

/// The last group of a Korean number: `010-1234-5678`, `02-123-4567`, `(031) 123-4567`, `01012345678`, `82-10-1234-5678`.
fn korean(bytes: &[u8], groups: &Groups) -> Option<usize> {
    let start = groups.first_start();
    let first = groups.text(bytes, 0);
    let linked = linked(bytes, start, b"-.");
    if first == b"82" && groups.text(bytes, 1) == b"10" && groups.length(3) == 4 {
        return (3..=4).contains(&groups.length(2)).then_some(3);
    }
    let mobile = matches!(first, [b'0', b'1', b'0' | b'1' | b'6'..=b'9', ..]);
    if !mobile && (linked || !has_area_code(first)) {
        return None;
    }
    let seoul = first.starts_with(b"02");
    let code = if seoul {
        2
    } else if first.starts_with(b"050") && first.len() != 3 {
        4
    } else {
        3
    };
    if first.len() > 4 {
        let rest = first.len().checked_sub(code)?;
        let whole = rest == 8 || (rest == 7 && !seoul);
        return (whole && !linked).then_some(0);
    }
    if first.len() != code {
        return None;
    }
    let last = if (3..=4).contains(&groups.length(1)) && groups.length(2) == 4 {
        2
    } else if (7..=8).contains(&groups.length(1)) {
        1
    } else {
        return None;
    };
    // With one more group it is the number of an account.
    (mobile || groups.separator(last) != b'-').then_some(last)
}

fn has_area_code(digits: &[u8]) -> bool {
    matches!(
        digits,
        [b'0', b'2', ..]
            | [b'0', b'7' | b'8', b'0', ..]
            | [b'0', b'3', b'1'..=b'3', ..]
            | [b'0', b'4' | b'6', b'1'..=b'4', ..]
            | [b'0', b'5', b'0'..=b'5', ..]
    )
}

/// The last group of a North American number, `(555) 123-4567` or `1-800-555-0199`. Spaces alone are not enough.
fn american(bytes: &[u8], groups: &Groups) -> Option<usize> {
    let from = usize::from(groups.text(bytes, 0) == b"1");
    let last = from + 2;
    let area = groups.text(bytes, from);
    let (left, right) = (groups.separator(from), groups.separator(from + 1));
    let joined = match left {
        b')' => matches!(right, b'-' | b'.' | b' '),
        b'-' | b'.' => left == right,
        _ => false,
    };
    let whole = groups.has_lengths(from, &[3, 3, 4])
        && joined
        && matches!(area, [b'2'..=b'9', ..])
        && !linked(bytes, groups.first_start(), b"-.")
        && !matches!(groups.separator(last), b'-' | b'.');
    whole.then_some(last)
}
