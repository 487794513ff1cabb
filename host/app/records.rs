//! Lines of any log as records: what `bucksaw run` and `bucksaw replay` read.

use std::{io::BufRead, sync::Arc};

use record::{Field, Record, RequestContext, Severity, Stream, Value};
use serde_json::{Map, Value as Json};

/// Longest line, in bytes. Over it the rest of the line is left out, and the record says so.
const LINE_MAX: usize = 4 << 20;

/// One line without its end, cut at [`LINE_MAX`]; false at the end of the input.
pub(crate) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut any = false;
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = chunk.iter().position(|it| *it == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(LINE_MAX - line.len())]);
        let used = end.map_or(chunk.len(), |it| it + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// A line of any log as a record. JSON objects keep their fields; anything else is a message.
pub(crate) fn parse(line: &[u8], chain: &Arc<str>, (now, utc_offset): (i64, i32)) -> Record {
    let text = String::from_utf8_lossy(line);
    let mut object = match serde_json::from_str(&text) {
        Ok(Json::Object(it)) => it,
        _ => Map::from_iter([("message".to_owned(), Json::String(text.into_owned()))]),
    };
    let mut take = |names: &[&str]| names.iter().find_map(|it| object.shift_remove(*it));
    let time = take(&["timestamp", "time", "ts", "@timestamp", "time_unix_nano"]);
    let severity = take(&["severity_number", "severity_text", "severity", "level", "levelname"]);
    let event = take(&["event_name", "event"]);
    let request = take(&["request_id"]);
    let stream = take(&["stream"]);
    take(&["severity_text"]);
    // Of another log's chains.
    take(&["revision"]);
    let sequence = take(&["seq"]).and_then(|it| it.as_u64());
    let attributes = take(&["attributes"]);
    let mut fields = Vec::new();
    flatten("", Json::Object(object), &mut fields);
    attributes.into_iter().for_each(|it| flatten("", it, &mut fields));
    let context = request
        .as_ref()
        .and_then(Json::as_str)
        .filter(|it| is_id(it))
        .map(|it| Arc::new(RequestContext::new(it.to_owned(), chain.clone())));
    // An id that is none of ours may be anything, so it is content.
    if let (None, Some(request)) = (&context, request) {
        flatten("request_id", request, &mut fields);
    }
    Record {
        time: time.and_then(|it| nanoseconds(&it)).unwrap_or(now),
        utc_offset,
        severity: severity.and_then(|it| level(&it)).unwrap_or(Severity::INFO),
        event: event
            .as_ref()
            .and_then(Json::as_str)
            .filter(|it| is_event(it))
            .unwrap_or("log")
            .to_owned()
            .into(),
        stream: match stream.as_ref().and_then(Json::as_str) {
            Some("engine") => Stream::Engine,
            _ => Stream::App,
        },
        context,
        seq: sequence.and_then(|it| u32::try_from(it).ok()).unwrap_or(0),
        stub: None,
        fields,
    }
}

/// Nested objects become dotted names; lists and nulls become JSON text.
fn flatten(prefix: &str, value: Json, fields: &mut Vec<Field>) {
    let value = match value {
        Json::Object(object) => {
            for (name, value) in object {
                let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                flatten(&name, value, fields);
            }
            return;
        }
        Json::String(it) => Value::Text(it),
        Json::Bool(it) => Value::Bool(it),
        Json::Number(it) => match it.as_i64() {
            Some(it) => Value::Int(it),
            None => Value::Float(it.as_f64().unwrap_or(f64::NAN)),
        },
        other => Value::Text(other.to_string()),
    };
    if is_name(prefix) {
        fields.push(Field::foreign(prefix.to_owned(), value));
        return;
    }
    // A name that is no name may be a secret: it becomes part of the text, which the editors see.
    let text = match value {
        Value::Text(it) => format!("{prefix}: {it}"),
        Value::Int(it) => format!("{prefix}: {it}"),
        Value::Float(it) => format!("{prefix}: {it}"),
        Value::Bool(it) => format!("{prefix}: {it}"),
    };
    fields.push(Field::foreign("unnamed", text));
}

/// What loggers name fields: no longer than a name is, and with fewer digits than a number or a key has.
fn is_name(text: &str) -> bool {
    let allowed =
        |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-' | b'@' | b'/');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let address = text.find('@').is_some_and(|it| it > 0);
    !text.is_empty() && text.len() <= 64 && digits <= 4 && !address && text.bytes().all(allowed)
}

/// RFC 3339 text, or seconds, milliseconds or nanoseconds since 1970, told apart by size.
fn nanoseconds(value: &Json) -> Option<i64> {
    if let Some(text) = value.as_str() {
        return i64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok();
    }
    let number = value.as_f64()?;
    let scale = match number.abs() {
        it if it < 1e11 => 1e9,
        it if it < 1e14 => 1e6,
        _ => return value.as_i64(),
    };
    Some((number * scale) as i64)
}

/// An OpenTelemetry number, or one of the names that loggers use.
fn level(value: &Json) -> Option<Severity> {
    if let Some(number) = value.as_u64() {
        return Some(Severity::from_number(u8::try_from(number).unwrap_or(u8::MAX)));
    }
    match value.as_str()?.to_ascii_uppercase().as_str() {
        "TRACE" => Some(Severity::DEBUG),
        "WARN" => Some(Severity::WARNING),
        "FATAL" | "PANIC" => Some(Severity::CRITICAL),
        "ERR" => Some(Severity::ERROR),
        other => other.parse().ok(),
    }
}

/// A UUID, with or without hyphens: the only ids that are known to hold nothing else.
fn is_id(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok()
}

/// Event names are written into lines as they are: letters, digits, dots and underscores, no longer than a name is.
fn is_event(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_of_any_log_become_records() {
        let check = |line: &str, want: &str| {
            let it = parse(line.as_bytes(), &"default".into(), (5, 0));
            let fields: Vec<String> =
                it.fields.iter().map(|it| format!("{}={:?}", it.name, it.value)).collect();
            let id = it.context.as_ref().map_or("-", |it| &it.short_id);
            let got = format!("{} {} {id} {} {}", it.time, it.severity, it.event, fields.join(" "));
            assert_eq!(got, want, "{line}");
        };
        check("hello", "5 INFO - log message=Text(\"hello\")");
        check("[1, 2]", "5 INFO - log message=Text(\"[1, 2]\")");
        check(
            r#"{"ts": 1.5, "level": "warn", "msg": "m", "a": {"b": 1, "c": [true]}}"#,
            "1500000000 WARNING - log msg=Text(\"m\") a.b=Int(1) a.c=Text(\"[true]\")",
        );
        check(
            r#"{"timestamp":"1970-01-01T00:00:01Z","severity_number":17,"severity_text":"ERROR","event_name":"request.failed","request_id":"a1b2c3d4-0000-4000-8000-000000000000","attributes":{"n":0.5}}"#,
            "1000000000 ERROR a1b2c3d4 request.failed n=Float(0.5)",
        );
        check(
            r#"{"kim@example.com": 1, "AKIA1234567890": {"x": "y"}, "@version": "1"}"#,
            "5 INFO - log unnamed=Text(\"kim@example.com: 1\") \
             unnamed=Text(\"AKIA1234567890.x: y\") @version=Text(\"1\")",
        );
        check(
            r#"{"request_id": "kim@example.com", "event": "x y"}"#,
            "5 INFO - log request_id=Text(\"kim@example.com\")",
        );
    }

    #[test]
    fn long_lines_are_cut_and_short_ones_kept() {
        let text = [vec![b'x'; LINE_MAX + 7], b"\nnext".to_vec()].concat();
        let mut input = BufReader::new(text.as_slice());
        let mut line = Vec::new();
        assert!(read_line(&mut input, &mut line).unwrap());
        assert_eq!(line.len(), LINE_MAX);
        line.clear();
        assert!(read_line(&mut input, &mut line).unwrap());
        assert_eq!(line, b"next");
        line.clear();
        assert!(!read_line(&mut input, &mut line).unwrap());
    }
}
