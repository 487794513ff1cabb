//! Whether an answer is the JSON that was asked for. It tells an answer that was cut off from one that is wrong: the first
//! wants more tokens, the second another prompt.

use serde_json::{Value, error::Category};

use crate::output::Output;

/// More names than any schema in use, and few enough for a line of a log.
const KEYS: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// `ok`, `invalid`, `truncated` or `not_json`.
    pub(crate) status: &'static str,
    /// Bytes from the start of the text to where it goes wrong.
    pub(crate) error_offset: Option<u64>,
    /// Names at the top level, joined by commas.
    pub(crate) keys: Option<String>,
    pub(crate) asked: bool,
}

/// None when JSON was not asked for and the text does not look like it. `cut` says that the answer ended for its length.
pub(crate) fn judge(text: &str, output: Option<Output>, cut: bool) -> Option<Verdict> {
    let asked = matches!(output, Some(Output::Object | Output::Schema));
    let start = text.len() - text.trim_start().len();
    let looks_like_json = text[start..].starts_with(['{', '[']);
    if !asked && !looks_like_json {
        return None;
    }
    let bad = |status, offset: usize| Verdict {
        status,
        error_offset: Some(offset as u64),
        keys: None,
        asked,
    };
    let verdict = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) => {
            let keys: Vec<_> = map.keys().take(KEYS).map(String::as_str).collect();
            Verdict { status: "ok", error_offset: None, keys: Some(keys.join(",")), asked }
        }
        // A schema may describe any JSON, and the answer was kept to it.
        Ok(_) if output != Some(Output::Object) => {
            Verdict { status: "ok", error_offset: None, keys: None, asked }
        }
        // JSON, but not the object that was asked for.
        Ok(_) => bad("invalid", start),
        Err(error) if error.classify() == Category::Eof && (looks_like_json || cut) => {
            bad("truncated", text.len())
        }
        Err(error) if cut && looks_like_json => bad("truncated", offset(text, &error)),
        Err(_) if !looks_like_json => bad("not_json", start),
        Err(error) => bad("invalid", offset(text, &error)),
    };
    Some(verdict)
}

/// `serde_json` counts lines and columns from 1, columns in bytes.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let before: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: status, offset, keys; none for no verdict.
    fn check(
        text: &str,
        output: Option<Output>,
        cut: bool,
        expected: Option<(&str, Option<u64>, Option<&str>)>,
    ) {
        let verdict = judge(text, output, cut);
        let got = verdict.as_ref().map(|it| (it.status, it.error_offset, it.keys.as_deref()));
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn a_verdict_tells_cut_from_wrong() {
        let object = Some(Output::Object);
        check("hello", None, false, None);
        check("hello", Some(Output::Text), false, None);
        check("{\"a\":1,\"b\":[2]}", None, false, Some(("ok", None, Some("a,b"))));
        check(" [1]", None, false, Some(("ok", None, None)));
        check("{\"a\":1}\n", object, false, Some(("ok", None, Some("a"))));
        check("{\"a\":", object, false, Some(("truncated", Some(5), None)));
        check("{\"가\":\"나", object, true, Some(("truncated", Some(11), None)));
        check("{\"a\":1} done", object, false, Some(("invalid", Some(8), None)));
        check("{\"a\":1,\n}", None, false, Some(("invalid", Some(8), None)));
        check("[1]", object, false, Some(("invalid", Some(0), None)));
        for text in ["[1]", "\"red\"", "7", "null"] {
            check(text, Some(Output::Schema), false, Some(("ok", None, None)));
        }
        check("\"re", Some(Output::Schema), true, Some(("truncated", Some(3), None)));
        check(" sure, here it is", object, false, Some(("not_json", Some(1), None)));
        check("```json\n{}\n```", object, false, Some(("not_json", Some(0), None)));
        check("", object, false, Some(("not_json", Some(0), None)));
        check("", object, true, Some(("truncated", Some(0), None)));
    }
}
