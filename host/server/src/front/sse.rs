//! Server-sent events out of a stream of bytes, in bounded memory, and which of the bytes may go on.
//!
//! A line goes on when all of it has come: of an event that breaks off, a client sees nothing that it could not read. A line
//! without end goes on as it comes, and is no event.

use bytes::{Bytes, BytesMut};
use memchr::memrchr;

/// 1 MiB of one event: a chunk of an answer holds a few tokens.
const EVENT_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Sse {
    /// The beginning of a line.
    partial: BytesMut,
    /// The line is longer than an event may be: what comes of it is passed on at once.
    is_endless: bool,
    /// The data of an event whose end has not come.
    data: Vec<u8>,
    has_data: bool,
    is_spoiled: bool,
    /// Events that were too long to be read.
    pub(super) lost: u64,
}

impl Sse {
    /// What goes on of these bytes and those before. The data of each event that is complete now is put into `events`.
    pub(super) fn feed(&mut self, bytes: Bytes, events: &mut Vec<Vec<u8>>) -> Bytes {
        let Some(at) = memrchr(b'\n', &bytes) else { return self.hold(bytes) };
        let tail = bytes.slice(at + 1..);
        let head = bytes.slice(..=at);
        let lines = if self.partial.is_empty() {
            head
        } else {
            self.partial.extend_from_slice(&head);
            self.partial.split().freeze()
        };
        for line in lines[..lines.len() - 1].split(|it| *it == b'\n') {
            if std::mem::take(&mut self.is_endless) {
                // Its end.
                continue;
            }
            self.line(line.strip_suffix(b"\r").unwrap_or(line), events);
        }
        let more = self.hold(tail);
        if more.is_empty() { lines } else { [lines, more].concat().into() }
    }

    /// The end of the stream: what is left goes on, and is an event if it looks like one.
    pub(super) fn end(&mut self, events: &mut Vec<Vec<u8>>) -> Bytes {
        let rest = self.partial.split().freeze();
        if !rest.is_empty() && !self.is_endless {
            self.line(rest.strip_suffix(b"\r").unwrap_or(&rest), events);
        }
        self.line(b"", events);
        rest
    }

    /// Bytes without a line end.
    fn hold(&mut self, bytes: Bytes) -> Bytes {
        if self.is_endless {
            return bytes;
        }
        self.partial.extend_from_slice(&bytes);
        if self.partial.len() <= EVENT_MAX {
            return Bytes::new();
        }
        self.is_endless = true;
        self.is_spoiled = true;
        self.partial.split().freeze()
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<Vec<u8>>) {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            let has_data = std::mem::take(&mut self.has_data);
            if std::mem::take(&mut self.is_spoiled) {
                self.lost += 1;
            } else if has_data {
                events.push(data);
            }
            return;
        }
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if self.data.len() + data.len() > EVENT_MAX {
            self.is_spoiled = true;
            self.data = Vec::new();
            return;
        }
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events and bytes that went on, of a stream in pieces.
    fn run(pieces: impl IntoIterator<Item = Bytes>) -> (Vec<String>, Vec<u8>, Sse) {
        let (mut sse, mut events, mut passed) = (Sse::default(), Vec::new(), Vec::new());
        for piece in pieces {
            passed.extend_from_slice(&sse.feed(piece, &mut events));
        }
        passed.extend_from_slice(&sse.end(&mut events));
        let events = events.into_iter().map(|it| String::from_utf8(it).unwrap()).collect();
        (events, passed, sse)
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_split() {
        let check = |text: &str, expected: &[&str]| {
            for size in 1..=text.len() {
                let pieces = text.as_bytes().chunks(size).map(Bytes::copy_from_slice);
                let (events, passed, _) = run(pieces);
                assert_eq!(events, expected, "{text:?} by {size}");
                assert_eq!(passed, text.as_bytes());
            }
        };
        check("data: {\"a\":1}\n\ndata: [DONE]\n\n", &["{\"a\":1}", "[DONE]"]);
        check("data:a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]);
        check(": still here\n\nevent: x\ndata: a\nid: 1\n\n", &["a"]);
        check("data: a\ndata: b\n\n", &["a\nb"]);
        check("data:\n\n", &[""]);
        check("\n\n\n", &[]);
        // The end of the stream ends an event that is whole but for its empty line.
        check("data: a\n", &["a"]);
        check("data: a", &["a"]);
        check("garbage\nmore {\n\n", &[]);
    }

    #[test]
    fn a_line_goes_on_when_it_is_whole() {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        let mut feed =
            |text: &'static str| sse.feed(Bytes::from_static(text.as_bytes()), &mut events);
        assert_eq!(feed("data: {\"a\""), "");
        assert_eq!(feed(":1}"), "");
        assert_eq!(feed("\n"), "data: {\"a\":1}\n");
        assert_eq!(feed("\ndata: x"), "\n");
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn a_line_without_end_passes_in_bounded_memory_and_is_no_event() {
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        let mut passed = sse.feed(Bytes::from_static(b"data: "), &mut events).len();
        for _ in 0..64 {
            passed += sse.feed(piece.clone(), &mut events).len();
            assert!(sse.partial.len() + sse.data.len() <= EVENT_MAX + piece.len());
        }
        assert_eq!(passed, 6 + 64 * piece.len());
        passed += sse.feed(Bytes::from_static(b"\n\ndata: b\n\n"), &mut events).len();
        assert_eq!(passed, 6 + 64 * piece.len() + 11);
        assert_eq!((events, sse.lost), (vec![b"b".to_vec()], 1));
    }

    #[test]
    fn an_event_of_many_lines_is_bounded_too() {
        let line = Bytes::from([b"data: ".as_slice(), &[b'x'; 100_000], b"\n"].concat());
        let pieces = (0..20).map(|_| line.clone());
        let (events, _, sse) = run(pieces.chain([Bytes::from_static(b"\ndata: b\n\n")]));
        assert_eq!((events, sse.lost), (vec!["b".to_owned()], 1));
    }
}
