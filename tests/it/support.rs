//! What the tests share: the program in a folder of its own, how to talk to it, and how to wait for it.

mod config;
pub(crate) mod http;
pub(crate) mod model;
pub(crate) mod nvml;
mod server;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) use self::{
    config::Config,
    server::{Server, program},
};

/// What is waited for takes milliseconds; on a machine that is busy with other tests it may take seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a thread rests between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Looks again and again until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(it) = look() {
            return it;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::park_timeout(LOOK_AGAIN);
    }
}

/// A path of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// One of the demo model's pictures.
pub(crate) fn picture(name: &str) -> Vec<u8> {
    fs::read(repository("examples/demo-model/pictures").join(name)).unwrap()
}

/// RFC 4648, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at)) & 0x3f;
            text.push(if at > chunk.len() { '=' } else { char::from(ALPHABET[six as usize]) });
        }
    }
    text
}

/// The records of an output of the json formatter: each line must be one.
pub(crate) fn records(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|it| panic!("{it}: {line}")))
        .collect()
}

/// Records by the request that they belong to, in the order of the file.
pub(crate) fn by_request(records: &[Value]) -> BTreeMap<String, Vec<Value>> {
    let mut requests: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records {
        if let Some(id) = record["request_id"].as_str() {
            requests.entry(id.to_owned()).or_default().push(record.clone());
        }
    }
    requests
}

/// The names of a request's terminal records; and that its records are in order and none is missing.
pub(crate) fn terminals(records: &[Value]) -> Vec<String> {
    const TERMINAL: [&str; 4] =
        ["request.finished", "request.failed", "request.cancelled", "request.rejected"];
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], at, "a hole, or out of order: {record}");
    }
    let names = records.iter().filter_map(|it| it["event_name"].as_str());
    names.filter(|it| TERMINAL.contains(it)).map(str::to_owned).collect()
}
