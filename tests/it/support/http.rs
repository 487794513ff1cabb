//! Requests: by a real client, or by hand over a plain connection where a client would be too well-behaved.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use ureq::http::{HeaderMap, Request, Response};

use super::{Server, eventually};

/// Longest silence of a server that is still taken for alive.
const SILENCE: Duration = Duration::from_secs(60);

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    headers: HeaderMap,
}

impl Answer {
    fn of(mut response: Response<ureq::Body>) -> Option<Self> {
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().ok()?;
        let (parts, _) = response.into_parts();
        Some(Self { status, text, headers: parts.headers })
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|it| panic!("{it}: {}", self.text))
    }

    /// The id of the request in the log.
    pub(crate) fn id(&self) -> String {
        self.header("x-bucksaw-request-id").to_owned()
    }

    /// The data of server-sent events.
    pub(crate) fn events(&self) -> Vec<String> {
        self.text.lines().filter_map(|it| it.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

impl Server {
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body)
    }

    pub(crate) fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/json"));
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// `/v1/chat/completions` with one message of a user, greedy unless `more` says otherwise.
    pub(crate) fn chat(&self, text: &str, more: &Value) -> Answer {
        self.post("/v1/chat/completions", &chat_body(text, more))
    }

    /// A sample of `/metrics`, by its name and labels as they stand there; 0 when it is not there.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.get("/metrics").text;
        let value = text.lines().find_map(|it| it.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |it| it.parse().unwrap())
    }

    /// Waits until a sample has this value.
    pub(crate) fn reaches(&self, series: &str, value: u64) {
        eventually(&format!("{series} {value}"), || (self.metric(series) == value).then_some(()));
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|| panic!("no answer to {method} {path}: {}", self.stderr()))
    }

    /// No answer when there is no server any more.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let uri = format!("http://{}{path}", self.address());
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = if matches!(method, "GET" | "DELETE") {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body).unwrap())
        };
        Answer::of(response.ok()?)
    }

    /// A plain connection on which a POST of JSON has been sent.
    pub(crate) fn open(&self, path: &str, body: &Value) -> TcpStream {
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        );
        self.open_raw(&[head.as_bytes(), body.as_bytes()].concat())
    }

    /// A plain connection on which these bytes have been sent.
    pub(crate) fn open_raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }
}

/// The body of a chat request with one message of a user.
pub(crate) fn chat_body(text: &str, more: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": text}], "temperature": 0});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Reads from a plain connection until this has come.
pub(crate) fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).unwrap();
        all.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&all).into_owned();
        if text.contains(wanted) {
            return text;
        }
        assert!(count > 0, "no {wanted:?} in: {text}");
    }
}
