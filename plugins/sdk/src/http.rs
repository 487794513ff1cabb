//! Requests of a handler to hosts that its configuration grants: `grants = { http = ["hooks.example.com"] }`. Behind the feature
//! `http`, since a component that calls anything in here imports `wasi:http`.
//!
//! The host lets requests out while records are handled, not in [`Plugin::configure`](crate::Plugin::configure). It follows no
//! redirects, and bounds how large, how long and how many they are; `wit/plugin@0.1/README.md` says how. Natively every request
//! is denied.

use std::fmt;

/// What came back, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The address, a method or a header cannot be sent at all.
    Invalid,
    /// The host is not granted, or leads to an address inside, or records are not being handled.
    Denied,
    /// There are too many requests; a later one may go out.
    Limited,
    TooLarge,
    Timeout,
    /// There is no such host, or it answers nothing that is HTTP.
    Failed,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the request cannot be sent",
            Self::Denied => "the host is not granted",
            Self::Limited => "there are too many requests",
            Self::TooLarge => "the request or its answer is too large",
            Self::Timeout => "there was no answer in time",
            Self::Failed => "there was no answer",
        })
    }
}

impl std::error::Error for HttpError {}

/// Posts a body to an address such as `https://hooks.example.com/services/x`, and waits for the answer.
///
/// # Errors
/// When there is no answer. One with a bad status is an answer.
pub fn post(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, HttpError> {
    host::post(url, headers, body)
}

#[cfg(not(target_family = "wasm"))]
mod host {
    use super::{HttpError, Response};

    pub(super) fn post(_: &str, _: &[(&str, &str)], _: &[u8]) -> Result<Response, HttpError> {
        Err(HttpError::Denied)
    }
}

#[cfg(target_family = "wasm")]
mod host {
    use wasip2::{
        http::{
            outgoing_handler::handle,
            types::{ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, Scheme},
        },
        io::streams::StreamError,
    };

    use super::{HttpError, Response};

    /// What the contract of `wasi:io` lets a blocking write take.
    const CHUNK: usize = 4096;

    pub(super) fn post(
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, HttpError> {
        let headers: Vec<(String, Vec<u8>)> =
            headers.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
        let headers = Fields::from_list(&headers).map_err(|_| HttpError::Invalid)?;
        let request = OutgoingRequest::new(headers);
        address(&request, url).map_err(|()| HttpError::Invalid)?;
        let out = request.body().map_err(|()| HttpError::Failed)?;
        let answer = handle(request, None).map_err(error)?;
        let stream = out.write().map_err(|()| HttpError::Failed)?;
        // A request that was denied takes no body; the answer says so.
        let written = body.chunks(CHUNK).try_for_each(|it| stream.blocking_write_and_flush(it));
        drop(stream);
        if written.is_ok() {
            let _ = OutgoingBody::finish(out, None);
        }
        answer.subscribe().block();
        let response =
            answer.get().and_then(Result::ok).ok_or(HttpError::Failed)?.map_err(error)?;
        let (status, body) = (response.status(), response.consume());
        let body = body.map_err(|()| HttpError::Failed)?;
        let stream = body.stream().map_err(|()| HttpError::Failed)?;
        let mut read = Vec::new();
        loop {
            match stream.blocking_read(1 << 16) {
                Ok(it) => read.extend(it),
                Err(StreamError::Closed) => return Ok(Response { status, body: read }),
                Err(StreamError::LastOperationFailed(_)) => return Err(HttpError::Failed),
            }
        }
    }

    fn address(request: &OutgoingRequest, url: &str) -> Result<(), ()> {
        let (scheme, rest) = url.split_once("://").ok_or(())?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        request.set_method(&Method::Post)?;
        request.set_scheme(Some(&match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(()),
        }))?;
        request.set_authority(Some(authority))?;
        request.set_path_with_query(Some(if path.is_empty() { "/" } else { path }))
    }

    fn error(code: ErrorCode) -> HttpError {
        match code {
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => HttpError::Denied,
            ErrorCode::ConnectionLimitReached => HttpError::Limited,
            ErrorCode::HttpRequestBodySize(_)
            | ErrorCode::HttpRequestHeaderSectionSize(_)
            | ErrorCode::HttpResponseBodySize(_)
            | ErrorCode::HttpResponseHeaderSectionSize(_) => HttpError::TooLarge,
            ErrorCode::ConnectionTimeout | ErrorCode::HttpResponseTimeout => HttpError::Timeout,
            _ => HttpError::Failed,
        }
    }
}
