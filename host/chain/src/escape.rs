//! One line can't lie: characters that end a line, move a cursor or turn text around are written as escapes, whatever
//! plugin made the line.
//!
//! The form is JSON's (`\n`, `\u001b`, `\u202e`), so that a line which is JSON stays JSON.

use std::{borrow::Cow, fmt::Write};

/// `text` with every character of [`is_forbidden`] escaped.
pub fn escape(text: &str) -> Cow<'_, str> {
    // Control characters are single bytes; everything else that is forbidden starts with one of four lead bytes. Clean text,
    // the common case, is decided by one pass over bytes.
    let suspicious = text
        .bytes()
        .any(|it| it < 0x20 || matches!(it, 0x7f | 0xc2 | 0xd8 | 0xe1 | 0xe2 | 0xef | 0xf3));
    if !suspicious || !text.chars().any(is_forbidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for it in text.chars() {
        match it {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            it if is_forbidden(it) => {
                for unit in it.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            it => out.push(it),
        }
    }
    Cow::Owned(out)
}

/// C0, DEL, C1, the separators U+2028 and U+2029, bidirectional controls, zero-width space, word joiner and its invisible
/// kin, byte-order mark, interlinear annotations, and tag characters. Joiners (U+200C, U+200D) and variation selectors stay:
/// they are part of emoji and of words.
pub fn is_forbidden(it: char) -> bool {
    matches!(it,
        '\0'..='\x1f'
        | '\x7f'..='\u{9f}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_what_could_lie_and_nothing_else() {
        let check = |text: &str, want: &str| assert_eq!(escape(text), want, "{text:?}");
        check("plain 한글 👨‍👩‍👧 é ⏱️ ❌", "plain 한글 👨‍👩‍👧 é ⏱️ ❌");
        check("a\nb\r\tc", "a\\nb\\r\\tc");
        check("\x1b[31mred\x07", "\\u001b[31mred\\u0007");
        check("\u{7f}\u{85}\u{9b}31m", "\\u007f\\u0085\\u009b31m");
        check("x\u{202e}y\u{2066}z\u{61c}", "x\\u202ey\\u2066z\\u061c");
        check("a\u{2028}b\u{200b}c\u{feff}", "a\\u2028b\\u200bc\\ufeff");
        check("t\u{e0041}", "t\\udb40\\udc41");
    }

    proptest! {
        #[test]
        fn nothing_forbidden_is_left(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(is_forbidden));
        }

        #[test]
        fn the_quick_check_misses_nothing(it in any::<char>()) {
            let text = it.to_string();
            prop_assert_eq!(matches!(escape(&text), Cow::Owned(_)), is_forbidden(it));
        }

        #[test]
        fn json_stays_json(text in any::<String>()) {
            let line = serde_json::to_string(&text).unwrap();
            let back: String = serde_json::from_str(&escape(&line)).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
