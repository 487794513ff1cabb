//! Strings of JSON.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// Appends a string in quotes.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let bytes = text.as_bytes();
    let mut done = 0;
    while let Some(at) = next(bytes, done) {
        out.push_str(text.get(done..at).unwrap_or_default());
        push_escape(out, bytes.get(at).copied().unwrap_or_default());
        done = at + 1;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out.push('"');
}

/// The next byte that can't stand for itself: a control character, a quote, a backslash.
fn next(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut rest = bytes.get(from..)?;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
        rest = tail;
    }
    rest.iter().position(|it| matches!(*it, ..0x20 | b'"' | b'\\')).map(|it| at + it)
}

/// The high bit of each such byte. Without their high bits, bytes and what is added never carry into the byte beside.
fn special(word: u64) -> u64 {
    let low = word & !HIGH;
    let printable = low + 0x60 * ONES;
    let not_quote = (low ^ (u64::from(b'"') * ONES)) + 0x7f * ONES;
    let not_backslash = (low ^ (u64::from(b'\\') * ONES)) + 0x7f * ONES;
    !(printable & not_quote & not_backslash) & !word & HIGH
}

fn push_escape(out: &mut String, byte: u8) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        _ => {
            let digit = |it: u8| char::from(if it < 10 { b'0' + it } else { b'a' + it - 10 });
            out.push_str("\\u00");
            out.push(digit(byte >> 4));
            out.push(digit(byte & 0xf));
        }
    }
}
