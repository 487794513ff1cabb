//! Where upstreams are and what they may take.

use std::{fmt, time::Duration};

use reqwest::{Url, header::HeaderValue};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub upstreams: Vec<Upstream>,
    /// Time between two looks at an upstream's health and models.
    pub check: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// What it is called in the log and in counts.
    pub name: String,
    pub url: BaseUrl,
    pub api_key: Option<ApiKey>,
    /// The models that it is asked for. Empty: those that it lists itself, and others that nobody lists.
    pub models: Vec<String>,
    /// Requests that it may have at a time.
    pub max_in_flight: usize,
    /// How long a connection may take, TLS included.
    pub connect: Duration,
    /// How long the head of an answer may take: for an answer that is not streamed, this is the whole generation.
    pub answer: Duration,
    /// Longest silence inside an answer.
    pub idle: Duration,
}

/// The address of a server, without the `/v1` that paths of the API begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

/// None of them repeats the address: a password may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("it is not an address: write http://HOST:PORT")]
    NotUrl,
    #[error("only http and https are spoken: write http://HOST:PORT")]
    Scheme,
    #[error("a name or password does not belong in an address: write the key as api_key")]
    Secret,
    #[error("it ends in a query or a fragment: write http://HOST:PORT")]
    Query,
}

impl BaseUrl {
    /// Reads an address, with or without a final `/v1`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let url = Url::parse(text).map_err(|_| UrlError::NotUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Secret);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(UrlError::Query);
        }
        let text = url.as_str().trim_end_matches('/');
        let text = text.strip_suffix("/v1").unwrap_or(text);
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    /// `path` begins with a slash.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key for `authorization: Bearer`. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(HeaderValue);

impl ApiKey {
    /// None when it is empty or cannot be sent in a header.
    pub fn new(key: &str) -> Option<Self> {
        if key.is_empty() {
            return None;
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_or_without_its_version() {
        let check = |text: &str, expected: Result<&str, UrlError>| {
            let url = BaseUrl::parse(text);
            assert_eq!(url.as_ref().map(|it| it.0.as_str()), expected.as_ref().copied(), "{text}");
        };
        check("http://10.0.0.1:8000", Ok("http://10.0.0.1:8000"));
        check("http://10.0.0.1:8000/", Ok("http://10.0.0.1:8000"));
        check("http://10.0.0.1:8000/v1", Ok("http://10.0.0.1:8000"));
        check("https://host/llm/v1/", Ok("https://host/llm"));
        check("https://host/llm", Ok("https://host/llm"));
        check("host:8000", Err(UrlError::Scheme));
        check("", Err(UrlError::NotUrl));
        check("ftp://host", Err(UrlError::Scheme));
        check("http://me:hush@host", Err(UrlError::Secret));
        check("http://host/?key=hush", Err(UrlError::Query));
    }

    #[test]
    fn a_key_is_sent_and_never_shown() {
        let key = ApiKey::new("sk-hush").unwrap();
        assert_eq!(key.header(), "Bearer sk-hush");
        assert!(!format!("{key:?} {:?}", key.header()).contains("hush"));
        assert!(ApiKey::new("").is_none());
        assert!(ApiKey::new("a\nb").is_none());
    }
}
