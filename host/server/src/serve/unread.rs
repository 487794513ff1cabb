//! Heads that never became a request: too slow, too large, or no HTTP at all. What the connection heard of one is kept, so
//! that it is recorded like any other request that is refused, and answered like one, if it is the connection's first: what is
//! behind another request is answered by the library, without a body.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{Method, Uri, Version},
};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};

use crate::error::ApiError;

/// Room for a method and a path; the headers behind them are nobody's business.
const BEGINNING_BYTES: usize = 1 << 10;

/// What takes the place of a method that nobody could read, after OpenTelemetry's semantic conventions for HTTP.
const NO_METHOD: &[u8] = b"_OTHER";

/// Among the extensions of a request that stands for a head that could not be read: why not. There is no body to it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unread {
    TooSlow(Duration),
    TooLarge,
    UriTooLong,
    /// TLS, HTTP/2, or anything else that somebody sends to an open port.
    Malformed,
}

impl Unread {
    /// None: there was nothing to answer, only a connection that ended or was not used any more.
    pub(super) fn of(error: &hyper::Error, heard: &Heard, patience: Duration) -> Option<Self> {
        if error.is_timeout() {
            (!heard.is_idle()).then_some(Self::TooSlow(patience))
        } else if error.is_parse_too_large() {
            // The library tells these apart by its words only.
            let is_uri = error.to_string().contains("URI");
            Some(if is_uri { Self::UriTooLong } else { Self::TooLarge })
        } else {
            error.is_parse().then_some(Self::Malformed)
        }
    }

    pub(crate) fn error(self) -> ApiError {
        match self {
            Self::TooSlow(patience) => ApiError::HeadTooSlow { seconds: patience.as_secs() },
            Self::TooLarge => ApiError::HeadTooLarge { limit: crate::gate::HEAD_BYTES_MAX },
            Self::UriTooLong => ApiError::UriTooLong,
            Self::Malformed => ApiError::NotHttp,
        }
    }
}

/// What a connection heard that belongs to no request yet, as far as that can be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Beginning>>);

#[derive(Debug, Default)]
struct Beginning {
    bytes: Vec<u8>,
    /// Something was said after the last that was heard.
    answered: bool,
    /// A request has come over this connection.
    requested: bool,
    /// The last request was answered before its body was read: what comes may still be of that body.
    unsure: bool,
}

impl Heard {
    fn with<T>(&self, look: impl FnOnce(&mut Beginning) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hear(&self, bytes: &[u8]) {
        self.with(|it| {
            it.answered = false;
            let room = BEGINNING_BYTES - it.bytes.len();
            it.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
    }

    /// A head was read: what comes now is its body, of which `body` is told.
    pub(super) fn requested(&self, body: Incoming) -> Body {
        self.with(|it| (it.requested, it.unsure) = (true, true));
        let body = Heeded { body, heard: self.clone() };
        body.heed();
        Body::new(body)
    }

    /// All of a request was read: what comes now begins the next one.
    fn request_is_over(&self) {
        self.with(|it| {
            it.bytes.clear();
            it.unsure = false;
        });
    }

    /// Whether nothing came of a request.
    fn is_idle(&self) -> bool {
        self.with(|it| it.answered || it.unsure || it.bytes.iter().all(u8::is_ascii_whitespace))
    }

    /// Whether the library has answered by itself.
    pub(super) fn is_answered(&self) -> bool {
        self.with(|it| it.answered)
    }

    /// A request with the method and the path as far as they were sent, and nothing else.
    pub(super) fn request(&self, unread: Unread) -> Request {
        let mut request = Request::new(Body::empty());
        *request.version_mut() = Version::HTTP_11;
        request.extensions_mut().insert(unread);
        let line = self.with(|it| if it.unsure { None } else { line(&it.bytes) });
        if let Some((method, uri)) = line {
            (*request.method_mut(), *request.uri_mut()) = (method, uri);
        } else if let Ok(method) = Method::from_bytes(NO_METHOD) {
            *request.method_mut() = method;
        }
        request
    }
}

fn line(bytes: &[u8]) -> Option<(Method, Uri)> {
    let mut words = bytes.trim_ascii_start().split(|it| *it == b' ');
    let (method, uri, version) = (words.next()?, words.next()?, words.next()?);
    // What no version follows may go on.
    if !version.starts_with(b"HTTP/1.") {
        return None;
    }
    Some((Method::from_bytes(method).ok()?, Uri::try_from(uri).ok()?))
}

/// The body of a request, which says when all of it was read.
struct Heeded {
    body: Incoming,
    heard: Heard,
}

impl Heeded {
    fn heed(&self) {
        if self.body.is_end_stream() {
            self.heard.request_is_over();
        }
    }
}

impl HttpBody for Heeded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.heard.request_is_over();
        } else {
            self.heed();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's connection, which is handed back when nobody reads from it any more.
pub(super) struct Overheard {
    stream: Option<(TcpStream, oneshot::Sender<TcpStream>)>,
    heard: Heard,
}

impl Overheard {
    pub(super) fn new(stream: TcpStream, heard: Heard) -> (Self, oneshot::Receiver<TcpStream>) {
        let (back, handed_back) = oneshot::channel();
        (Self { stream: Some((stream, back)), heard }, handed_back)
    }

    /// An error only after it was handed back, which is when it is dropped.
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let (stream, _) = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(stream))
    }

    /// What the library says before there is a request is its own answer to a head that is none, without a word of why.
    fn is_to_say(&self) -> bool {
        self.heard.with(|it| {
            it.answered |= it.requested;
            it.requested
        })
    }
}

impl Drop for Overheard {
    fn drop(&mut self) {
        if let Some((stream, back)) = self.stream.take() {
            // Nobody waits for it: then it is closed.
            let _ = back.send(stream);
        }
    }
}

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(self.stream()?.poll_read(cx, into))?;
        let bytes = &into.filled()[before..];
        if !bytes.is_empty() {
            self.heard.hear(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_to_say() {
            self.stream()?.poll_write(cx, bytes)
        } else {
            Poll::Ready(Ok(bytes.len()))
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_to_say() {
            self.stream()?.poll_write_vectored(cx, bytes)
        } else {
            Poll::Ready(Ok(bytes.iter().map(|it| it.len()).sum()))
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    /// What was swallowed is still to be said.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.heard.with(|it| it.requested) {
            self.stream()?.poll_shutdown(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_known_of_a_request_as_was_sent_of_it() {
        let check = |sent: &[u8], method: &str, path: &str| {
            let heard = Heard::default();
            sent.chunks(3).for_each(|it| heard.hear(it));
            let request = heard.request(Unread::Malformed);
            assert_eq!((request.method().as_str(), request.uri().path()), (method, path));
        };
        check(b"POST /vision HTTP/1.1\r\nhost", "POST", "/vision");
        check(b"\r\nGET /health?a=b HTTP/1.0", "GET", "/health");
        check(b"POST /vis", "_OTHER", "/");
        check(b"POST /vision HTT", "_OTHER", "/");
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "_OTHER", "/");
        check(b"\x16\x03\x01\x02\0\x01\0 \xff\xfe HTTP/1.1", "_OTHER", "/");
        check("POST /비전 HTTP/1.1".as_bytes(), "POST", "/비전");
        check(&[b"GET /", [b'x'; 2000].as_slice(), b" HTTP/1.1"].concat(), "_OTHER", "/");
        check(b"", "_OTHER", "/");
    }

    #[test]
    fn what_belongs_to_a_request_is_no_beginning_of_another() {
        let heard = Heard::default();
        assert!(heard.is_idle());
        heard.hear(b"GET /a HTTP/1.1\r\n\r\n");
        assert!(!heard.is_idle());
        heard.request_is_over();
        assert!(heard.is_idle());
        heard.hear(b"POST /b HTTP/1.1\r\n");
        assert!(!heard.is_idle());
        assert_eq!(heard.request(Unread::TooLarge).uri().path(), "/b");
    }
}
