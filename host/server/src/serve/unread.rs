//! Heads that never became a request: too slow, too large, or no HTTP at all. What the connection heard of one is kept, so
//! that it is answered and recorded like any other request that is refused.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Method, Uri, Version},
};
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
            let is_idle = heard.answered || heard.beginning.iter().all(u8::is_ascii_whitespace);
            (!is_idle).then_some(Self::TooSlow(patience))
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

/// What a connection heard since it last said something.
#[derive(Default)]
pub(super) struct Heard {
    beginning: Vec<u8>,
    /// Whether something was said since.
    pub(super) answered: bool,
}

impl Heard {
    fn hear(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.answered) {
            self.beginning.clear();
        }
        let room = BEGINNING_BYTES - self.beginning.len();
        self.beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// A request with the method and the path as far as they were sent, and nothing else.
    pub(super) fn request(&self, unread: Unread) -> axum::extract::Request {
        let mut words = self.beginning.trim_ascii_start().split(|it| *it == b' ');
        let (method, uri, version) = (words.next(), words.next(), words.next());
        // What no version follows may go on.
        let line = method.zip(uri).filter(|_| version.is_some_and(|it| it.starts_with(b"HTTP/1.")));
        let method = line.and_then(|(it, _)| Method::from_bytes(it).ok());
        let uri = line.and_then(|(_, it)| Uri::try_from(it).ok());
        let mut request = axum::extract::Request::new(Body::empty());
        *request.version_mut() = Version::HTTP_11;
        if let Some((method, uri)) = method.zip(uri) {
            (*request.method_mut(), *request.uri_mut()) = (method, uri);
        } else if let Ok(method) = Method::from_bytes(NO_METHOD) {
            *request.method_mut() = method;
        }
        request.extensions_mut().insert(unread);
        request
    }
}

/// A client's connection, which is handed back with what was [`Heard`] when nobody reads from it any more.
pub(super) struct Overheard(Option<(TcpStream, Heard, oneshot::Sender<(TcpStream, Heard)>)>);

impl Overheard {
    pub(super) fn new(stream: TcpStream) -> (Self, oneshot::Receiver<(TcpStream, Heard)>) {
        let (back, handed_back) = oneshot::channel();
        (Self(Some((stream, Heard::default(), back))), handed_back)
    }

    /// An error only after it was handed back, which is when it is dropped.
    fn parts(&mut self) -> io::Result<(Pin<&mut TcpStream>, &mut Heard)> {
        let (stream, heard, _) = self.0.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok((Pin::new(stream), heard))
    }
}

impl Drop for Overheard {
    fn drop(&mut self) {
        if let Some((stream, heard, back)) = self.0.take() {
            // Nobody waits for it: then it is closed.
            let _ = back.send((stream, heard));
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
        let (stream, heard) = self.parts()?;
        ready!(stream.poll_read(cx, into))?;
        let bytes = &into.filled()[before..];
        if !bytes.is_empty() {
            heard.hear(bytes);
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
        let (stream, heard) = self.parts()?;
        heard.answered = true;
        stream.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (stream, heard) = self.parts()?;
        heard.answered = true;
        stream.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.parts()?.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.parts()?.0.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_known_of_a_request_as_was_sent_of_it() {
        let check = |sent: &[u8], method: &str, path: &str| {
            let mut heard = Heard::default();
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
    fn what_was_heard_before_an_answer_is_forgotten() {
        let mut heard = Heard::default();
        heard.hear(b"GET /a HTTP/1.1\r\n\r\n");
        heard.answered = true;
        heard.hear(b"POST /b HTTP/1.1\r\n");
        assert!(!heard.answered);
        assert_eq!(heard.request(Unread::TooLarge).uri().path(), "/b");
    }
}
