//! What it takes to ask a server: HTTP/1.1 by hand, so that no client's work is measured.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::program::Server;

/// A stream that was read to its end.
pub(crate) struct Streamed {
    pub(crate) tokens: usize,
    /// Events with text.
    pub(crate) pieces: usize,
    pub(crate) whole: Duration,
    /// From the first of them to the end.
    pub(crate) after_first: Duration,
    /// Between two of them.
    pub(crate) longest_gap: Duration,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether there is a header `retry-after`.
    pub(crate) says_when: bool,
}

impl Server {
    pub(crate) fn health(&self) -> std::io::Result<Duration> {
        let began = Instant::now();
        let mut stream = self.send("GET /health", "")?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(began.elapsed())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> std::io::Result<Answer> {
        let mut text = String::new();
        self.send(&format!("POST {path}"), body)?.read_to_string(&mut text)?;
        let head = text.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
        let status = head.get(9..12).and_then(|it| it.parse().ok()).unwrap_or_default();
        Ok(Answer { status, says_when: head.contains("\r\nretry-after:") })
    }

    /// Reads a stream to its end; its last chunk has the usage.
    pub(crate) fn stream(&self, path: &str, body: &str) -> std::io::Result<Streamed> {
        self.stream_with(path, body, |_| Ok(()))
    }

    /// Likewise, and calls `seen` with how many pieces have come, after each.
    pub(crate) fn stream_with(
        &self,
        path: &str,
        body: &str,
        mut seen: impl FnMut(usize) -> std::io::Result<()>,
    ) -> std::io::Result<Streamed> {
        let began = Instant::now();
        let reader = BufReader::new(self.send(&format!("POST {path}"), body)?);
        let (mut first, mut last): (Option<Instant>, Option<Instant>) = (None, None);
        let (mut pieces, mut tokens, mut longest_gap) = (0, 0, Duration::ZERO);
        for line in reader.lines() {
            let line = line?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data.contains("\"finish_reason\":null") {
                pieces += 1;
                longest_gap = longest_gap.max(last.map(|it| it.elapsed()).unwrap_or_default());
                seen(pieces)?;
                last = Some(Instant::now());
                first = first.or(last);
            } else if let Some((_, rest)) = data.split_once("\"completion_tokens\":") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                tokens = digits.parse().unwrap_or_default();
            }
        }
        let after_first = first.map(|it| it.elapsed()).unwrap_or_default();
        Ok(Streamed { tokens, pieces, whole: began.elapsed(), after_first, longest_gap })
    }

    fn send(&self, what: &str, body: &str) -> std::io::Result<TcpStream> {
        let mut stream = self.connect()?;
        let length = body.len();
        let head = format!(
            "{what} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }
}
