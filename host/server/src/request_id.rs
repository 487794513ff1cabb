//! The id of a request: a client's own when it is a UUID, else a new one.
//!
//! Anything else that a client sends as `x-request-id` is its own business. Where it is an id by its letters, it is echoed and
//! logged beside ours; where it is not, ours is echoed, and the beginning of what came is logged. Both are content, so that a
//! client can't write into a field that every line of the log shows.

use axum::http::{Extensions, HeaderMap, HeaderValue};
use uuid::Uuid;

const CLIENT_HEADER: &str = "x-request-id";
/// Always the id in the log.
const OUR_HEADER: &str = "x-bucksaw-request-id";

/// Longer ids come from no tracing system, and every record of the request carries it.
const CLIENT_ID_CHARS: usize = 128;

#[derive(Clone, Debug)]
pub(crate) struct RequestIds {
    /// A UUID in lower case with hyphens.
    pub(crate) id: String,
    /// What the client sent when it is no UUID, or its beginning when it is no id at all.
    pub(crate) client: Option<String>,
    echo: Option<HeaderValue>,
}

impl RequestIds {
    /// Those that the request was given already, or else new ones.
    pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(|| Self::from_headers(headers))
    }

    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let sent = headers.get(CLIENT_HEADER);
        let accepted = sent.filter(|it| is_id(it.as_bytes()));
        let text = accepted.and_then(|it| it.to_str().ok());
        let uuid = text.and_then(parse_uuid);
        let client = match (text, uuid) {
            (_, Some(_)) => None,
            (Some(text), None) => Some(text.to_owned()),
            (None, None) => sent.map(|it| beginning(it.as_bytes())).filter(|it| !it.is_empty()),
        };
        Self {
            id: uuid.unwrap_or_else(Uuid::new_v4).hyphenated().to_string(),
            client,
            echo: accepted.cloned(),
        }
    }

    /// Puts both ids on an answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let Ok(ours) = HeaderValue::from_str(&self.id) else { return };
        headers.insert(CLIENT_HEADER, self.echo.clone().unwrap_or_else(|| ours.clone()));
        headers.insert(OUR_HEADER, ours);
    }

    /// The id without hyphens, for ids that are made of it.
    pub(crate) fn simple(&self) -> String {
        self.id.replace('-', "")
    }
}

fn is_id(bytes: &[u8]) -> bool {
    let is_fit = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-');
    (1..=CLIENT_ID_CHARS).contains(&bytes.len()) && bytes.iter().all(is_fit)
}

/// Whatever it is, as text, and no more of it than an id may have.
fn beginning(bytes: &[u8]) -> String {
    // A character has at most four bytes.
    let cut = bytes.get(..4 * CLIENT_ID_CHARS).unwrap_or(bytes);
    String::from_utf8_lossy(cut).chars().take(CLIENT_ID_CHARS).collect()
}

/// With or without hyphens.
fn parse_uuid(text: &str) -> Option<Uuid> {
    matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a1b2c3d4-0000-4000-8000-00000000abcd";

    /// `ours`: the id that must come out, or none for a new one.
    fn check(sent: Option<&str>, ours: Option<&str>, client: Option<&str>, echoed: bool) {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(CLIENT_HEADER, HeaderValue::from_bytes(sent.as_bytes()).unwrap());
        }
        let ids = RequestIds::from_headers(&headers);
        assert!(Uuid::try_parse(&ids.id).is_ok() && ids.id.len() == 36, "{sent:?}");
        if let Some(ours) = ours {
            assert_eq!(ids.id, ours);
        }
        assert_eq!(ids.client.as_deref(), client);

        let mut answer = HeaderMap::new();
        ids.write(&mut answer);
        assert_eq!(answer[OUR_HEADER], ids.id);
        let expected = if echoed { sent.unwrap() } else { ids.id.as_str() };
        assert_eq!(answer[CLIENT_HEADER], expected);
    }

    #[test]
    fn a_uuid_is_taken_over_and_anything_else_stays_beside() {
        check(None, None, None, false);
        check(Some(ID), Some(ID), None, true);
        check(Some(&ID.replace('-', "")), Some(ID), None, true);
        check(Some(&ID.to_uppercase()), Some(ID), None, true);
        check(Some("order-17"), None, Some("order-17"), true);
        let braced = format!("{{{ID}}}");
        check(Some(&braced), None, Some(&braced), false);
        check(Some("a.b_c-D9"), None, Some("a.b_c-D9"), true);
        check(Some(""), None, None, false);
        check(Some("two words"), None, Some("two words"), false);
        check(Some("누구"), None, Some("누구"), false);
        check(Some(&"x".repeat(128)), None, Some(&"x".repeat(128)), true);
        check(Some(&"x".repeat(129)), None, Some(&"x".repeat(128)), false);
        check(Some(&"누".repeat(300)), None, Some(&"누".repeat(128)), false);
    }
}
