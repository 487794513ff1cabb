//! The body of a request: read under the server's own limits, so that one too large or not JSON is answered in the API's
//! shape and recorded.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, header::EXPECT},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::{Limits, error::ApiError, fields::Fields};

/// Above this, parsing takes long enough (a millisecond and more) to be a burden to other requests of the same thread.
pub(crate) const PARSE_ASIDE: usize = 256 << 10;

/// Longest pause of a client whose body is read only to be thrown away.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);

/// A client may announce much and send nothing: more than this is only allocated as it arrives.
const ALLOCATE_AHEAD: u64 = 1 << 20;

/// Reads it all. What is over the limit is read as well, up to a point, and thrown away: a client that is still sending
/// would lose the answer together with the connection. One that asked first (`expect`) is not told to send.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Vec<u8>, ApiError> {
    let limit = limits.body_bytes;
    let announced = body.size_hint().lower();
    let asks_first = headers.contains_key(EXPECT);
    let drain = limit.saturating_add(limits.body_drain_bytes);
    let mut over = announced > limit as u64;
    if announced > limit as u64 && (asks_first || announced > drain as u64) {
        return Err(ApiError::BodyTooLarge { limit });
    }
    let whole = async {
        let mut bytes = Vec::with_capacity(announced.min(ALLOCATE_AHEAD) as usize);
        let mut chunks = body.into_data_stream();
        let mut seen = 0_usize;
        loop {
            let next = chunks.next();
            let next = if over {
                // What is only thrown away is not waited for.
                timeout(DRAIN_PAUSE, next).await.unwrap_or(None)
            } else {
                next.await
            };
            let Some(chunk) = next else { break };
            let chunk = chunk.map_err(|_| ApiError::BodyAborted)?;
            seen = seen.saturating_add(chunk.len());
            over |= seen > limit;
            if seen > drain {
                break;
            }
            if !over {
                bytes.extend_from_slice(&chunk);
            }
        }
        if over { Err(ApiError::BodyTooLarge { limit }) } else { Ok(bytes) }
    };
    match timeout(limits.body_time, whole).await {
        Ok(bytes) => bytes,
        Err(_) => Err(ApiError::BodyTooSlow { seconds: limits.body_time.as_secs() }),
    }
}

pub(crate) async fn parse(bytes: Vec<u8>) -> Result<Fields, ApiError> {
    if bytes.len() <= PARSE_ASIDE {
        return object(&bytes);
    }
    match tokio::task::spawn_blocking(move || object(&bytes)).await {
        Ok(fields) => fields,
        Err(_) => Err(ApiError::Panic),
    }
}

/// The object in a body that is still needed as it came.
pub(crate) async fn view(bytes: &Bytes) -> Result<Map<String, Value>, ApiError> {
    if bytes.len() <= PARSE_ASIDE {
        return map(bytes);
    }
    let bytes = bytes.clone();
    match tokio::task::spawn_blocking(move || map(&bytes)).await {
        Ok(map) => map,
        Err(_) => Err(ApiError::Panic),
    }
}

fn object(bytes: &[u8]) -> Result<Fields, ApiError> {
    map(bytes).map(Fields::new)
}

fn map(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(ApiError::NotAnObject(crate::fields::kind(&other))),
        Err(error) => Err(ApiError::BadJson(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_drips_bytes_is_given_up() {
        let bytes = futures_util::stream::once(async { Ok::<_, std::io::Error>(Bytes::from("{")) });
        let body = Body::from_stream(bytes.chain(futures_util::stream::pending()));
        let limits = Limits { body_time: Duration::from_millis(20), ..Limits::default() };
        let error = read(&HeaderMap::new(), body, &limits).await.err();
        assert!(matches!(error, Some(ApiError::BodyTooSlow { .. })), "{error:?}");
    }

    #[test]
    fn json_that_is_no_object_says_what_and_where() {
        let check = |text: &str, expected: &str| {
            let error = object(text.as_bytes()).err().map(|it| it.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("{}", "");
        check("{\"a\": tru}", "line 1 column");
        check("{\"a\":\n 1,}", "line 2 column");
        check("", "line 1 column 0");
        check("[1]", "not an array");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_whether_announced_or_not() {
        let limits = Limits { body_bytes: 4, ..Limits::default() };
        assert_eq!(read(&HeaderMap::new(), Body::from("1234"), &limits).await.unwrap(), b"1234");

        let announced = read(&HeaderMap::new(), Body::from("12345"), &limits).await;
        assert!(matches!(announced, Err(ApiError::BodyTooLarge { limit: 4 })));

        let chunks = ["123", "45"].map(Ok::<_, std::convert::Infallible>);
        let unannounced = Body::from_stream(futures_util::stream::iter(chunks));
        assert!(matches!(
            read(&HeaderMap::new(), unannounced, &limits).await,
            Err(ApiError::BodyTooLarge { limit: 4 })
        ));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_nobodys_fault_but_the_clients() {
        let broken = [Ok("1"), Err(std::io::Error::other("reset"))];
        let body = Body::from_stream(futures_util::stream::iter(broken));
        assert!(matches!(
            read(&HeaderMap::new(), body, &Limits::default()).await,
            Err(ApiError::BodyAborted)
        ));
    }
}
