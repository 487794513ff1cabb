//! From JSON to a typed configuration, or to a diagnostic that names the key.

use serde::de::DeserializeOwned;

use crate::{Diagnostic, plugin::diagnostic};

/// Parses a configuration. It has to be an object; an empty text counts as `{}`.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, Vec<Diagnostic>> {
    let json = match json.trim() {
        "" => "{}",
        it => it,
    };
    // Derived types accept a list of their fields as well: an object is asked for by name.
    if !json.starts_with('{') {
        let message = "the configuration is not an object, write { \"key\": value }";
        return Err(vec![diagnostic("", message)]);
    }
    serde_json::from_str(json).map_err(|error| {
        let end = offset(json, error.line(), error.column());
        let text = error.to_string();
        // The place is in the key; lines and columns of JSON that a host has written mean nothing to a person.
        let message = text.rfind(" at line ").and_then(|it| text.get(..it)).unwrap_or(&text);
        vec![diagnostic(path(json, end), message)]
    })
}

/// Where a line and a column, both from 1, lie in a text.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before + column
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The path of the last key or element that begins before `end`: `kinds[2]`.
fn path(json: &str, end: usize) -> String {
    let bytes = json.as_bytes();
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).filter(|_| at < end) {
        match byte {
            b'{' => steps.push(Step::Key("")),
            b'[' => steps.push(Step::Index(0)),
            b'}' | b']' => {
                steps.pop();
            }
            b',' => match steps.last_mut() {
                Some(Step::Index(it)) => *it += 1,
                Some(Step::Key(it)) => *it = "",
                None => {}
            },
            b'"' => {
                let close = string_end(bytes, at + 1);
                if let Some(Step::Key(it)) = steps.last_mut()
                    && it.is_empty()
                {
                    *it = json.get(at + 1..close).unwrap_or_default();
                }
                at = close;
            }
            _ => {}
        }
        at += 1;
    }
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Key("") => {}
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Step::Index(index) => {
                out.push('[');
                out.push_str(&index.to_string());
                out.push(']');
            }
        }
    }
    out
}

/// The closing quote of the string whose text starts at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => break,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}
