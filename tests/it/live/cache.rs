//! Compiled components on disk: the next start reads them, and never trusts them.

use std::fs;

use serde_json::json;

use super::{ADDRESS, prompts};
use crate::support::{Config, Server};

#[test]
fn compiled_components_outlive_the_server_and_are_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let config = Config::json().edit(&["redact"]).log(&format!("cache = {cache:?}"));
    // Hits, misses and refused entries of a start with two components.
    let start = || {
        let mut server = Server::start(&config);
        let counts = ["hits", "misses", "refused"]
            .map(|it| server.metric(&format!("bucksaw_plugin_cache_{it}_total")));
        server.chat(ADDRESS, &json!({"max_tokens": 1}));
        server.stop();
        assert_eq!(prompts(&server, "json.log"), ["[EMAIL]"]);
        counts
    };
    assert_eq!(start(), [0, 2, 0]);
    assert_eq!(start(), [2, 0, 0]);
    // Somebody changes one bit of the code.
    let files = fs::read_dir(&cache).unwrap().map(|it| it.unwrap().path());
    let entry = files.filter(|it| it.extension().is_some_and(|it| it == "cwasm")).min().unwrap();
    let mut bytes = fs::read(&entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&entry, bytes).unwrap();
    assert_eq!(start(), [1, 1, 1]);
    // What was compiled anew took its place.
    assert_eq!(start(), [2, 0, 0]);
}
