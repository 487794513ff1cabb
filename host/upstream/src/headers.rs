//! Which headers may pass from one connection to the other.

use reqwest::header::{self, HeaderMap, HeaderName};

/// Those of a connection, by RFC 9110, section 7.6.1, and custom.
const HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A client's own secrets are meant for this server; the others are made anew for each request. Without `accept-encoding`
/// answers come as text that can be read.
const OURS: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::COOKIE,
    header::ACCEPT_ENCODING,
    header::EXPECT,
];

/// What an upstream is sent of a client's headers.
pub(crate) fn of_request(headers: &HeaderMap) -> HeaderMap {
    let mut headers = end_to_end(headers);
    for name in OURS {
        headers.remove(name);
    }
    headers
}

/// What a client is sent of an upstream's headers.
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .filter_map(|it| HeaderName::from_bytes(it.trim().as_bytes()).ok())
        .collect();
    let mut passed = headers.clone();
    for name in named {
        passed.remove(name);
    }
    for name in HOP {
        passed.remove(name);
    }
    passed
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn what_belongs_to_a_connection_or_to_this_server_stays_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer hush"),
            ("cookie", "hush"),
            ("host", "front"),
            ("content-length", "7"),
            ("accept-encoding", "br"),
            ("content-type", "application/json"),
            ("traceparent", "00-0-0-00"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let names = |it: HeaderMap| {
            let mut names: Vec<String> = it.keys().map(ToString::to_string).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names(of_request(&headers)), "content-type traceparent");
        assert_eq!(
            names(end_to_end(&headers)),
            "accept-encoding authorization content-length content-type cookie host traceparent"
        );
    }
}
