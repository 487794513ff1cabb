//! A table of bad configurations and what is said of them.

mod chains;
mod engine;

use std::path::Path;

use expect_test::{Expect, expect};

use super::{CacheFolder, Config};
use crate::{builtin, env::Vars};

/// A configuration with nothing wrong, to which a test adds.
const GOOD: &str = r#"
[plugins.redact]
[plugins.guide]
[outputs.console]
sink = "console"
format = "guide"
[chains.default]
edit = ["redact"]
outputs = ["console"]
"#;

fn problems(text: &str, vars: &Vars) -> String {
    match Config::parse(text, Path::new("."), vars) {
        Ok(_) => "good".to_owned(),
        Err(problems) => problems.0.iter().map(|it| format!("{it}\n")).collect(),
    }
}

/// What a good configuration becomes.
pub(super) fn good(added: &str) -> Config {
    Config::parse(&format!("{GOOD}{added}"), Path::new("/etc"), &Vars::default()).unwrap()
}

fn check(added: &str, want: Expect) {
    want.assert_eq(&problems(&format!("{GOOD}{added}"), &Vars::default()));
}

#[test]
fn what_ships_is_good() {
    assert_eq!(problems(builtin::CONFIG, &Vars::default()), "good");
    check("", expect!["good"]);
}

#[test]
fn every_problem_is_reported_with_its_key() {
    check(
        r#"
[servre]
[server]
listen = "localhost"
body_mib = 0
[log]
level = "verbose"
workers = "two"
[plugins.mine]
grants = { alerts = ["ops"] }
[outputs.file]
sink = "flie"
format = "giude"
[chains.audit]
edit = ["redcat"]
outputs = []
[[route]]
when = {}
chain = "vison"
"#,
        expect![[r#"
            server.body_mib: 0 is not between 1 and 1024
            log.workers: expected a whole number, found a string
            plugins.mine.grants.alerts: unknown key; did you mean "alert"?
            servre: unknown key; did you mean "server"?
            chains.audit.edit[0]: no plugin named "redcat"; did you mean "redact"?
            outputs.file.format: no plugin named "giude"; did you mean "guide"?
            route[0].chain: no chain named "vison"; known: audit, default
            chains.audit.outputs: the chain writes nowhere: name at least one output
            server.listen: "localhost" is not an address: write IP:PORT, as in "127.0.0.1:8000"
            log.level: "verbose" is not a log level: write DEBUG, INFO, WARNING, ERROR or CRITICAL
            plugins.mine.source: missing: write a path to a component, or one of builtin:alert, builtin:guide, builtin:json, builtin:redact, builtin:truncate
            outputs.file.sink: no sink named "flie"; did you mean "file"?
            route[0].when: it matches every request: say when, by path, model, adapter, tenant, header, level or sample
        "#]],
    );
}

#[test]
fn parts_that_miss_something_say_what() {
    check(
        r#"
[alerts.ops]
webhook = "ops.example.com"
[outputs.file]
sink = "file"
color = "never"
[outputs.other]
sink = "console"
path = "x"
format = "guide"
stream = "both"
"#,
        expect![[r#"
            alerts.ops.webhook: not an address that can be posted to: it must start with https:// or http://
            outputs.file.color: only a console has one: remove it, or write sink = "console"
            outputs.file.path: missing: write where the file is to be
            outputs.file.format: missing: name the plugin that formats, such as "guide" or "json"
            outputs.other.path: a console has no path: remove it, or write sink = "file"
            outputs.other.stream: "both" is not one of app, engine, all
        "#]],
    );
}

#[test]
fn variables_are_put_in() {
    let text = format!("{GOOD}[log]\npseudonym_key = \"${{KEY}}-${{NONE:-x}}\"\n");
    let vars = Vars::from([("KEY", "k"), ("LOG_LEVEL", "debug")]);
    let config = Config::parse(&text, Path::new("."), &vars).unwrap();
    assert_eq!(config.log.pseudonym_key, "k-x");
    assert_eq!(config.log.level, record::Severity::DEBUG, "LOG_LEVEL wins, in any case");
    expect![[r#"
        log.pseudonym_key: the variable KEY is not set: set it in the environment or in .env, or write ${KEY:-default}
        LOG_LEVEL: "loud" is not a log level: write DEBUG, INFO, WARNING, ERROR or CRITICAL
    "#]]
    .assert_eq(&problems(&text, &Vars::from([("LOG_LEVEL", "loud")])));
}

#[test]
fn a_file_that_is_no_toml_is_located_and_not_shown() {
    let vars = Vars::default();
    expect![[r#"
        line 1, column 5: unclosed table, expected `]`
    "#]]
    .assert_eq(&problems("[log", &vars));
    let check = |line: &str| {
        let said = problems(&format!("[log]\n\n[admin]\n{line}\n"), &vars);
        assert!(said.starts_with("line ") && !said.contains("topsecret"), "{said}");
    };
    check("key = \"topsecret");
    check("key = topsecret");
    check("key = \"x\" topsecret");
    check("key == \"topsecret\"");
}

#[test]
fn what_the_server_and_the_log_are_told_is_checked() {
    check(
        r#"
[server]
tenant_header = "X-Tenant"
served_model_names = ["gpt", ""]
api_keys = ["0123456789abcdef", "short"]
image_hosts = ["images.example.com", "https://example.com"]
[log]
always = ["redcat"]
watch = "yes"
rollback_after = 1_000_001
replay = ""
[admin]
listen = "8001"
kye = "x"
"#,
        expect![[r#"
            log.watch: expected true or false, found a string
            log.rollback_after: 1000001 is not between 0 and 1000000
            admin.kye: unknown key; did you mean "key"?
            log.always[0]: no plugin named "redcat"; did you mean "redact"?
            server.tenant_header: "X-Tenant" is not the name of a header in lower case: write one, as in "x-tenant"
            server.image_hosts[1]: "https://example.com" is not the name of a host: write one, as in "images.example.com"
            server.served_model_names[1]: empty: write a name, or "*" for every name
            server.api_keys[1]: not fit for a key: write at least 16 letters, digits and signs of ASCII, as in "${API_KEY}"; openssl rand -hex 16 makes them
            log.replay: empty: write the path of a file of records, or remove it
            admin.listen: "8001" is not an address: write IP:PORT, as in "127.0.0.1:8001"
            admin.key: missing: write one, as in "${ADMIN_KEY}"; openssl rand -hex 16 makes it
        "#]],
    );
    check(
        "[server]\nlisten = \"127.0.0.1:8001\"\n[admin]\nkey = \"0123456789abcdef\"",
        expect![[r#"
            admin.listen: server.listen has this address: write another port
        "#]],
    );
}

#[test]
fn what_is_not_said_has_a_default_and_paths_are_relative_to_the_file() {
    let config = good("");
    assert_eq!(config.server.tenant_header, "x-tenant");
    assert!(config.admin.is_none());
    let log = &config.log;
    assert!(log.watch && !log.response_deltas && log.always.is_empty() && log.replay.is_none());
    assert_eq!((&log.cache, log.rollback_after), (&CacheFolder::Default, 20));

    let cache = |text: &str| good(&format!("[log]\ncache = {text:?}")).log.cache;
    assert_eq!(cache(""), CacheFolder::Off);
    assert_eq!(cache("cache"), CacheFolder::At("/etc/cache".into()));
    assert_eq!(cache("/var/cache/x"), CacheFolder::At("/var/cache/x".into()));
    let replay = good("[log]\nreplay = \"day.jsonl\"").log.replay;
    assert_eq!(replay.as_deref(), Some(Path::new("/etc/day.jsonl")));

    let admin = good("[admin]\nkey = \"0123456789abcdef\"").admin.unwrap();
    assert_eq!(admin.listen.to_string(), "127.0.0.1:8001");
    assert_eq!(format!("{admin:?}"), "Admin { listen: 127.0.0.1:8001, .. }");
}

#[test]
fn a_key_is_long_enough_fits_into_a_header_and_is_not_repeated() {
    let check = |key: &str, want: &str| {
        let text = format!("{GOOD}[admin]\nkey = {key:?}");
        let said = problems(&text, &Vars::default());
        assert!(said.contains(want), "{said}");
        assert!(key.is_empty() || !said.contains(key), "{said}");
    };
    check("", "admin.key: missing: ");
    check("hunter2hunter2!", "admin.key: too short to be safe: write at least 16 characters");
    check("비밀번호비밀번호", "admin.key: too short to be safe");
    check("비밀번호비밀번호비밀번호비밀번호", "admin.key: it comes in a header: ");
    check("correct horse battery", "admin.key: it comes in a header: ");
    check(&"x".repeat(257), "admin.key: too long for a header: write at most 256");
    check(&"x".repeat(256), "good");
    check("hunter2hunter2!?", "good");
}

#[test]
fn every_example_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configs");
    let vars = Vars::from([
        ("ALERT_WEBHOOK", "https://hooks.example.com/services/abc"),
        ("PSEUDONYM_KEY", "0123456789abcdef"),
        ("ADMIN_KEY", "0123456789abcdef"),
        ("VLLM_API_KEY", "sk-0123"),
    ]);
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(problems(&text, &vars), "good", "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}
