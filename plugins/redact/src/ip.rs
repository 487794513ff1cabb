//! Internet addresses.

use std::{net::Ipv6Addr, str};

use crate::number::{Groups, in_word, linked, value};

/// The longest IPv6 address, with an IPv4 address at its end.
const MAX_V6: usize = 45;

/// An IPv4 address: four numbers up to 255. `Chrome/120.0.0.0` and `1.2.3.4.5` are versions.
pub fn v4(bytes: &[u8], groups: &Groups) -> Option<(usize, usize)> {
    let start = groups.first_start();
    let dotted = (0..3).all(|it| groups.separator(it) == b'.');
    if groups.count() < 4 || !dotted || groups.separator(3) == b'.' {
        return None;
    }
    let product = match bytes.get(..start)? {
        [.., before, b'/'] => before.is_ascii_alphanumeric(),
        [.., b'.'] => true,
        _ => false,
    };
    if product || in_word(bytes, start) || linked(bytes, start, b".") {
        return None;
    }
    let small = (0..4).all(|it| match groups.text(bytes, it) {
        [b'0', _, ..] => false,
        digits => digits.len() <= 3 && value(digits) <= 255,
    });
    small.then_some((start, groups.end(3)))
}

/// The IPv6 address whose first colon stands here, and up to where no later colon needs to be looked at.
pub fn v6(bytes: &[u8], at: usize) -> (Option<(usize, usize)>, usize) {
    let before = bytes.get(..at).unwrap_or_default();
    let group = before.iter().rev().take(5).take_while(|it| it.is_ascii_hexdigit()).count();
    let start = at - group;
    let glued = match before.get(..start) {
        Some([.., it]) => it.is_ascii_alphanumeric() || matches!(it, b'_' | b':' | b'.'),
        _ => false,
    };
    if group > 4 || glued {
        return (None, at + 1);
    }
    let mut end = at;
    while let Some(it) = bytes.get(end).filter(|_| end - start <= MAX_V6) {
        let point = *it == b'.' && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !(it.is_ascii_hexdigit() || *it == b':' || point) {
            break;
        }
        end += 1;
    }
    let scanned = end;
    // A colon of the sentence: `the host fe80::1: …`.
    if let Some([.., it, b':']) = bytes.get(start..end)
        && *it != b':'
    {
        end -= 1;
    }
    let found = end - start <= MAX_V6
        && !bytes.get(end).is_some_and(|it| it.is_ascii_alphanumeric() || *it == b'_')
        && bytes.get(start..end).is_some_and(is_v6);
    (found.then_some((start, end)), scanned)
}

/// Short forms such as `a::b` are paths of programs; an address has more digits than that.
fn is_v6(text: &[u8]) -> bool {
    let digits = text.iter().filter(|it| it.is_ascii_hexdigit()).count();
    let plausible = digits >= 4 && text.iter().any(u8::is_ascii_digit) || text == b"::1";
    plausible && str::from_utf8(text).is_ok_and(|it| it.parse::<Ipv6Addr>().is_ok())
}
