use sdk::{
    Batch, Sent,
    native::{self, BatchBuilder, Recorded},
};

use crate::Alert;

fn failed() -> BatchBuilder {
    BatchBuilder::new()
        .record("request.failed", 17)
        .time(1_736_400_625_123_000_000, 32_400)
        .request("a1b2c3d4-0000-4000-8000-000000000000", "a1b2c3d4", 9)
        .text("error.type", "engine_error")
        .text("http.route", "/vision")
        .int("http.response.status_code", 500)
        .content("exception.message", "hush")
}

fn sent(config: &str, batch: &Batch) -> Vec<(String, sdk::Alert)> {
    let (mut plugin, _) = native::configure::<Alert>(config).unwrap();
    let mut alerts = Recorded::default();
    assert_eq!(native::handle(&mut plugin, batch, &mut alerts), Ok(()));
    alerts.alerts
}

#[test]
fn a_channel_alone_gets_everything_from_error_on() {
    let batch = failed()
        .record("request.rejected", 13)
        .record("plugin.failed", 21)
        .text("bucksaw.plugin", "redact")
        .text("bucksaw.plugin.error", "trap")
        .build();
    let alerts = sent(r#"{"channel": "ops"}"#, &batch);
    assert_eq!(alerts.len(), 2);
    let (channel, alert) = &alerts[0];
    assert_eq!(channel, "ops");
    assert_eq!(alert.key, "errors:request.failed:engine_error");
    assert_eq!(alert.title, "ERROR request.failed engine_error");
    assert_eq!(alert.severity, 17);
    assert_eq!(
        alert.body,
        "event: request.failed\nseverity: ERROR\ntime: 2025-01-09T05:30:25Z\n\
         request: a1b2c3d4-0000-4000-8000-000000000000\nroute: /vision\nerror: engine_error\nstatus: 500\n"
    );
    assert_eq!(alerts[1].1.key, "errors:plugin.failed:trap");
    assert!(alerts[1].1.body.ends_with("plugin: redact\nplugin error: trap\n"));
}

#[test]
fn rules_choose_records_channels_and_titles() {
    let check = |rules: &str, expected: &[(&str, &str)]| {
        let batch = failed().record("request.cancelled", 13).record("log", 9).build();
        let alerts = sent(&format!("{{\"channel\": \"ops\", \"rules\": [{rules}]}}"), &batch);
        let alerts: Vec<_> =
            alerts.iter().map(|(channel, it)| (channel.as_str(), it.title.as_str())).collect();
        assert_eq!(alerts, expected, "{rules}");
    };
    check(r#"{"name": "r"}"#, &[("ops", "ERROR request.failed engine_error")]);
    check(
        r#"{"name": "r", "when": {"severity": "warning"}, "channel": "chat", "title": "{rule}/{event}"}"#,
        &[("chat", "r/request.failed"), ("chat", "r/request.cancelled")],
    );
    check(r#"{"name": "r", "when": {"events": ["log"]}, "title": "x"}"#, &[("ops", "x")]);
    check(r#"{"name": "r", "when": {"events": ["log"], "severity": "ERROR"}}"#, &[]);
    check(
        r#"{"name": "a", "title": "{status} {route} {request}{plugin}"}, {"name": "b", "title": "b"}"#,
        &[("ops", "500 /vision a1b2c3d4"), ("ops", "b")],
    );
}

#[test]
fn long_titles_are_cut_between_characters() {
    let title = "가".repeat(100);
    let config = format!(
        "{{\"channel\": \"ops\", \"rules\": [{{\"name\": \"r\", \"title\": \"{title}\"}}]}}"
    );
    assert_eq!(sent(&config, &failed().build())[0].1.title.len(), 198);
}

#[test]
fn a_missing_channel_is_an_error_and_a_full_one_is_not() {
    let check = |answer: Sent, expected: Result<(), u32>| {
        let (mut plugin, _) = native::configure::<Alert>(r#"{"channel": "ops"}"#).unwrap();
        let mut alerts = Recorded { answer: Some(answer), ..Recorded::default() };
        let batch = failed().record("request.failed", 17).build();
        assert_eq!(native::handle(&mut plugin, &batch, &mut alerts), expected);
        assert_eq!(alerts.alerts.len(), 2);
    };
    check(Sent::Accepted, Ok(()));
    check(Sent::QueueFull, Ok(()));
    check(Sent::NoChannel, Err(1));
}

#[test]
fn it_asks_for_no_content() {
    let (_, setup) = native::configure::<Alert>(r#"{"channel": "ops"}"#).unwrap();
    let reads = [
        "error.type",
        "http.route",
        "http.response.status_code",
        "bucksaw.plugin",
        "bucksaw.plugin.error",
    ];
    assert_eq!(setup.reads, reads);
}

#[test]
fn bad_configuration_is_refused() {
    let check = |config: &str, key: &str| {
        let diagnostics = native::configure::<Alert>(config).unwrap_err();
        assert_eq!(diagnostics[0].key, key, "{diagnostics:?}");
    };
    check("{}", "channel");
    check(r#"{"channel": ""}"#, "channel");
    check(r#"{"rules": [{"name": "r"}]}"#, "rules[0].channel");
    check(r#"{"channel": "a", "rules": [{"name": ""}]}"#, "rules[0].name");
    check(r#"{"channel": "a", "rules": [{"name": "r", "title": "{x}"}]}"#, "rules[0].title");
    check(r#"{"channel": "a", "rules": [{"name": "r", "title": "{"}]}"#, "rules[0].title");
    check(
        r#"{"channel": "a", "rules": [{"name": "r", "when": {"severity": "bad"}}]}"#,
        "rules[0].when.severity",
    );
    check(r#"{"channel": "a", "rules": [{"name": "r", "then": 1}]}"#, "rules[0].then");
}
