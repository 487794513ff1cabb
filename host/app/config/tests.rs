//! A table of bad configurations and what is said of them.

use std::path::Path;

use expect_test::{Expect, expect};

use super::Config;
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
            route[0].when: it matches every request: say when, by path, model or header
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
fn a_file_that_is_no_toml_is_shown_where() {
    expect![[r#"
        TOML parse error at line 1, column 5
          |
        1 | [log
          |     ^
        unclosed table, expected `]`
    "#]]
    .assert_eq(&problems("[log", &Vars::default()));
}
