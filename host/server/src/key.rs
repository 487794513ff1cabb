//! A key of the API, or of the admin API. Only its SHA-256 is kept, so nothing here could print it.

use std::fmt;

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// 16: with fewer, letters and digits can be tried out.
const CHARS_MIN: usize = 16;

const SCHEME: &[u8] = b"Bearer ";

/// What a caller must know.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    sha256: [u8; 32],
}

impl Key {
    /// None if it is shorter than 16 characters, or holds another character than ASCII's printable ones without the space:
    /// such a key would not get through a header as it is.
    pub fn new(key: &str) -> Option<Self> {
        let is_fit = key.len() >= CHARS_MIN && key.bytes().all(|it| it.is_ascii_graphic());
        is_fit.then(|| Self { sha256: sha256(key.as_bytes()) })
    }

    /// Whether it stands in the header `authorization`. How long that takes says nothing of the key, not even its length:
    /// digests are compared, whole.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(header) = headers.get(header::AUTHORIZATION) else { return false };
        let Some((scheme, sent)) = header.as_bytes().split_at_checked(SCHEME.len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(SCHEME)
            && bool::from(self.sha256.as_slice().ct_eq(sha256(sent).as_slice()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn a_key_is_long_enough_and_fit_for_a_header() {
        let check = |text: &str, expected: bool| {
            assert_eq!(Key::new(text).is_some(), expected, "{text:?}");
        };
        check(KEY, true);
        check(&"~".repeat(4096), true);
        check(&KEY[1..], false);
        check("", false);
        check("0123456789abcdef\n", false);
        check("0123456789 abcdef", false);
        check("열여섯글자가넘는아주긴열쇠이지만", false);
    }

    #[test]
    fn only_the_whole_key_opens() {
        let key = Key::new(KEY).unwrap();
        let check = |sent: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(sent) = sent {
                let value = HeaderValue::from_bytes(sent.as_bytes()).unwrap();
                headers.insert(header::AUTHORIZATION, value);
            }
            assert_eq!(key.is_in(&headers), expected, "{sent:?}");
        };
        check(Some("Bearer 0123456789abcdef"), true);
        check(Some("bearer 0123456789abcdef"), true);
        check(None, false);
        check(Some(""), false);
        check(Some("Bearer"), false);
        check(Some("Bearer "), false);
        check(Some("0123456789abcdef"), false);
        check(Some("Basic  0123456789abcdef"), false);
        check(Some("Bearer  0123456789abcdef"), false);
        check(Some("Bearer 0123456789abcde"), false);
        check(Some("Bearer 0123456789abcdeF"), false);
        check(Some("Bearer 0123456789abcdef0"), false);
        check(Some("Bearer 열쇠"), false);
    }

    #[test]
    fn nothing_of_it_is_printed() {
        assert_eq!(format!("{:?}", Key::new(KEY).unwrap()), "Key(..)");
    }
}
