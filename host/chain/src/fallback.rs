//! The formatter of last resort: plain JSON lines, when an output's own formatter has failed on a released record.

use record::Value;
use serde_json::{Map, json};

use crate::{Released, stage::Formatted};

pub(crate) fn format(records: &[Released]) -> Formatted {
    let mut out = Formatted::default();
    for (index, record) in records.iter().enumerate() {
        let attributes: Map<_, _> = record
            .fields
            .iter()
            .map(|it| {
                let value = match &it.value {
                    Value::Text(it) => json!(it),
                    Value::Int(it) => json!(it),
                    Value::Float(it) => json!(it),
                    Value::Bool(it) => json!(it),
                };
                (it.name.to_string(), value)
            })
            .collect();
        let line = json!({
            "time_unix_nano": record.time,
            "severity_number": record.severity.number(),
            "severity_text": record.severity.name(),
            "event_name": record.event,
            "stream": record.stream.name(),
            "request_id": record.context.as_ref().map(|it| it.request_id.as_str()),
            "seq": record.seq,
            "stub": record.stub.is_some(),
            "attributes": attributes,
        });
        out.text.push_str(&line.to_string());
        out.lines.push((index, out.text.len()));
    }
    out
}
