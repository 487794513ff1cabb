//! The id of a request: a client's own when it is a UUID, else a new one.
//!
//! Anything else that a client sends as `x-request-id` is its own business: it is echoed and logged beside ours, as content,
//! so that a client can't write into a field that every line of the log shows.

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
    /// What the client sent, when it is fit to print and no UUID.
    pub(crate) client: Option<String>,
    echo: Option<HeaderValue>,
}

impl RequestIds {
    /// Those that the request was given already, or else new ones.
    pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(|| Self::from_headers(headers))
    }

    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let sent = headers.get(CLIENT_HEADER).filter(|it| is_printable(it.as_bytes()));
        let text = sent.and_then(|it| it.to_str().ok());
        let uuid = text.and_then(parse_uuid);
        Self {
            id: uuid.unwrap_or_else(Uuid::new_v4).hyphenated().to_string(),
            client: text.filter(|_| uuid.is_none()).map(str::to_owned),
            echo: sent.cloned(),
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

fn is_printable(bytes: &[u8]) -> bool {
    (1..=CLIENT_ID_CHARS).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

/// With or without hyphens; the other spellings (`urn:uuid:`, braces) are taken for names.
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
        check(Some(&braced), None, Some(&braced), true);
        check(Some("two words"), None, None, false);
        check(Some("누구"), None, None, false);
        check(Some(&"x".repeat(128)), None, Some(&"x".repeat(128)), true);
        check(Some(&"x".repeat(129)), None, None, false);
    }
}
