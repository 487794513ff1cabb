use sdk::{
    Batch,
    native::{self, BatchBuilder},
};
use serde_json::{Value, json};

use crate::{Json, escape::push_string};

fn lines(config: &str, batch: &Batch) -> Vec<String> {
    let (plugin, _) = native::configure::<Json>(config).unwrap();
    let formatted = native::format(&plugin, batch);
    assert_eq!(formatted.lines.len(), batch.records.len());
    assert!(!formatted.text.contains('\n'));
    native::lines(&formatted).into_iter().map(str::to_owned).collect()
}

fn check(config: &str, batch: BatchBuilder, expected: &Value) {
    let lines = lines(config, &batch.build());
    let value: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(value, *expected, "{}", lines[0]);
}

fn sample() -> BatchBuilder {
    BatchBuilder::new()
        .record("request.prompt", 9)
        .time(1_736_400_625_123_456_789, 32_400)
        .request("a1b2c3d4-0000-4000-8000-000000000000", "a1b2c3d4", 1)
        .int("bucksaw.prompt.chars", 250)
        .content("bucksaw.prompt.text", "가\n\"나\" \\ \u{1} \u{7f}🙂")
        .float("gen_ai.request.temperature", 0.7)
        .bool("bucksaw.prompt.vision_tag", true)
}

#[test]
fn the_line_byte_for_byte() {
    let lines = lines(r#"{"resource": {"service.name": "bucksaw"}}"#, &sample().build());
    let expected = concat!(
        r#"{"timestamp":"2025-01-09T05:30:25.123456789Z","severity_number":9,"severity_text":"INFO","#,
        r#""event_name":"request.prompt","stream":"app","request_id":"a1b2c3d4-0000-4000-8000-000000000000","#,
        r#""seq":1,"attributes":{"bucksaw.prompt.chars":250,"#,
        "\"bucksaw.prompt.text\":\"가\\n\\\"나\\\" \\\\ \\u0001 \u{7f}🙂\",",
        r#""gen_ai.request.temperature":0.7,"bucksaw.prompt.vision_tag":true},"#,
        r#""resource":{"service.name":"bucksaw"}}"#,
    );
    assert_eq!(lines, [expected]);
}

#[test]
fn what_a_record_may_be() {
    let head = |event: &str, severity: u32, text: &str| {
        json!({
            "timestamp": "1970-01-01T00:00:00.000000000Z",
            "severity_number": severity,
            "severity_text": text,
            "event_name": event,
            "stream": "app",
            "attributes": {}
        })
    };
    let record = |event: &str, severity: u32| BatchBuilder::new().record(event, severity);
    check("{}", record("log", 5), &head("log", 5, "DEBUG"));
    check("{}", record("a\"b", 24), &head("a\"b", 24, "CRITICAL"));

    let mut expected = head("log", 13, "WARNING");
    expected["stream"] = json!("engine");
    expected["stub"] = json!(true);
    check("{}", record("log", 13).engine().stub(), &expected);

    let mut expected = head("log", 9, "INFO");
    expected["attributes"] = json!({"x": 2, "y": null, "z": -1e300, "big": i64::MIN, "one": 1.0});
    let batch = record("log", 9)
        .text("x", "1")
        .float("y", f64::NAN)
        .float("z", -1e300)
        .int("big", i64::MIN)
        .float("one", 1.0)
        .int("x", 2);
    check("{}", batch, &expected);
}

#[test]
fn flat_objects_keep_their_own_keys() {
    let batch = BatchBuilder::new().record("log", 9).text("stream", "x").int("n", 1).int("n", 2);
    let expected = json!({
        "timestamp": "1970-01-01T00:00:00.000000000Z",
        "severity_number": 9,
        "severity_text": "INFO",
        "event_name": "log",
        "stream": "app",
        "attributes.stream": "x",
        "n": 2,
        "resource": {"a": "b", "c": "d\"e"}
    });
    check(r#"{"flatten": true, "resource": {"c": "d\"e", "a": "b"}}"#, batch, &expected);
    let bare = BatchBuilder::new().record("log", 9);
    check(
        r#"{"flatten": true}"#,
        bare,
        &json!({
            "timestamp": "1970-01-01T00:00:00.000000000Z",
            "severity_number": 9,
            "severity_text": "INFO",
            "event_name": "log",
            "stream": "app"
        }),
    );
}

#[test]
fn strings_come_back_as_they_were() {
    let pieces =
        ["\"", "\\", "\n", "\0", "\u{1f}", " ", "a", "가", "🙂", "\u{7f}", "\u{2028}", "12345678"];
    let mut state = 3_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let text: String = (0..random(12)).map(|_| pieces[random(pieces.len())]).collect();
        let mut out = String::new();
        push_string(&mut out, &text);
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text, "{out}");
    }
}

#[test]
fn numbers_come_back_as_they_were() {
    let mut state = 5_u64;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        let (int, float) = (state as i64, f64::from_bits(state));
        let batch = BatchBuilder::new().record("log", 9).int("i", int).float("f", float).build();
        let (plugin, _) = native::configure::<Json>("").unwrap();
        let text = native::format(&plugin, &batch).text;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["attributes"]["i"], json!(int));
        let expected = float.is_finite().then_some(float);
        assert_eq!(value["attributes"]["f"].as_f64(), expected, "{text}");
    }
}

#[test]
fn bad_configuration_is_refused() {
    let check = |config: &str, key: &str| {
        let diagnostics = native::configure::<Json>(config).unwrap_err();
        assert_eq!(diagnostics[0].key, key, "{diagnostics:?}");
    };
    check(r#"{"flat": true}"#, "flat");
    check(r#"{"flatten": 1}"#, "flatten");
    check(r#"{"resource": {"a": 1}}"#, "resource.a");
}
