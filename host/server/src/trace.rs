//! The trace that a request belongs to, as W3C's `traceparent` says it.

use axum::http::HeaderMap;

const HEADER: &str = "traceparent";

/// Ids of a caller's span. Digits and nothing else, so they are no content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: String,
    span: String,
}

impl Trace {
    /// None where the header is missing, comes twice, or is not what the standard says.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(HEADER).iter();
        let text = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let mut parts = text.split('-');
        let (version, id, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may have more behind the flags; this one has not.
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        let is_good = is_known
            && is_hex(version, 2)
            && is_hex(id, 32)
            && is_hex(span, 16)
            && is_hex(flags, 2)
            && !is_zero(id)
            && !is_zero(span);
        is_good.then(|| Self { id: id.to_owned(), span: span.to_owned() })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn span(&self) -> &str {
        &self.span
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|it| it == b'0')
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn only_what_the_standard_says_is_a_trace() {
        let check = |text: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(text).unwrap());
            let trace = Trace::of(&headers);
            let ids = trace.as_ref().map(|it| (it.id(), it.span()));
            assert_eq!(ids, expected.then_some((ID, SPAN)), "{text}");
        };
        check(&format!("00-{ID}-{SPAN}-01"), true);
        check(&format!("cc-{ID}-{SPAN}-00-what"), true);
        check(&format!("00-{ID}-{SPAN}-01-what"), false);
        check(&format!("ff-{ID}-{SPAN}-01"), false);
        check(&format!("00-{}-{SPAN}-01", ID.to_uppercase()), false);
        check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), false);
        check(&format!("00-{ID}-{}-01", "0".repeat(16)), false);
        check(&format!("00-{ID}-{SPAN}"), false);
        check("", false);
        assert_eq!(Trace::of(&HeaderMap::new()), None);
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("00-{ID}-{SPAN}-01")).unwrap();
        headers.append(HEADER, value.clone());
        headers.append(HEADER, value);
        assert_eq!(Trace::of(&headers), None);
    }
}
