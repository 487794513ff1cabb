//! A server that answers as it was told: the request says which of the answers it is meant to get.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crate::support::eventually;

/// It ends with the process; each connection has one request.
pub(crate) struct Fake {
    address: String,
    state: Arc<State>,
}

struct State {
    answers: Vec<Vec<u8>>,
    /// Whether a connection stays open after the answer, until the client ends it.
    holds: bool,
    seen: Mutex<Vec<String>>,
    left: Mutex<usize>,
}

impl Fake {
    pub(crate) fn start(answers: Vec<Vec<u8>>) -> Self {
        Self::run(answers, false)
    }

    pub(crate) fn start_holding(answers: Vec<Vec<u8>>) -> Self {
        Self::run(answers, true)
    }

    fn run(answers: Vec<Vec<u8>>, holds: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State { answers, holds, seen: Mutex::default(), left: Mutex::new(0) });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || state.serve(stream));
            }
        });
        Self { address, state }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// All POSTs that came, head and body.
    pub(crate) fn seen(&self) -> String {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }

    pub(crate) fn posts(&self) -> usize {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until a client has left that was held.
    pub(crate) fn wait_left(&self) {
        eventually("the client to leave", || {
            let mut left = self.state.left.lock().unwrap();
            (*left > 0).then(|| *left -= 1)
        });
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) {
        let Some(request) = request(&mut stream) else { return };
        if request.starts_with("GET") {
            let _ = stream.write_all(&json_answer("200 OK", r#"{"data":[{"id":"m"}]}"#));
            return;
        }
        let (_, rest) = request.split_once("\"answer ").unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let answer: usize = digits.parse().unwrap();
        self.seen.lock().unwrap().push(request);
        let _ = stream.write_all(&self.answers[answer]);
        if self.holds {
            while stream.read(&mut [0; 64]).is_ok_and(|it| it > 0) {}
            *self.left.lock().unwrap() += 1;
        }
    }
}

/// One whole request; none when the client left before.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|it| it.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// A whole answer, under a type that may be a lie.
pub(crate) fn json_answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A stream whose end is the connection's.
pub(crate) fn closing(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n{body}")
        .into_bytes()
}

/// A stream with a mark at its end.
pub(crate) fn chunked(pieces: &[&str]) -> Vec<u8> {
    let mut answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                      transfer-encoding: chunked\r\n\r\n"
        .to_owned();
    for piece in pieces {
        answer += &format!("{:x}\r\n{piece}\r\n", piece.len());
    }
    (answer + "0\r\n\r\n").into_bytes()
}
