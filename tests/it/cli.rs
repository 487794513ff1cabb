//! The other commands, the exit codes, and where the log level comes from.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use expect_test::{Expect, expect};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Config, Server, program, records, repository};

/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: i32 = 78;

fn run(folder: &Path, args: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = program(folder)
        .args(args)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // On a thread of its own: the program writes while it still reads.
    let writer = std::thread::spawn(move || {
        // A program that refuses to start reads nothing.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// A configuration with nothing wrong, and only what it needs.
fn good() -> Config {
    Config::default().output("console", "sink = \"console\"\nformat = \"guide\"")
}

/// What `check` complains about, and that `serve` and `run` refuse the same way.
fn check_problems(files: &[(&str, &[u8])], expect: &Expect) {
    let folder = folder(files);
    let output = run(folder.path(), &["check"], &[], b"");
    assert_eq!(output.status.code(), Some(EXIT_CONFIG));
    assert!(output.stdout.is_empty());
    let problems = text(output.stderr);
    expect.assert_eq(&problems);
}

#[test]
fn check_says_all_that_is_wrong_with_its_key_and_what_to_do() {
    let config = r#"
[server]
listn = "127.0.0.1:0"
[log]
level = "LOUD"
locale = "kr"
workers = 0
[plugins.redact]
[plugins.trunc]
source = "builtin:trunkate"
[plugins.guide]
[outputs.console]
sink = "consle"
format = "guid"
[outputs.app]
sink = "file"
path = "${NOWHERE}/app.log"
format = "guide"
[chains.default]
edit = ["redcat"]
outputs = ["console", "ap"]
[[route]]
when = { path = "vision" }
chain = "defualt"
"#;
    check_problems(
        &[("bucksaw.toml", config.as_bytes())],
        &expect![[r#"
            bucksaw: bucksaw.toml has 12 problems:
              server.listn: unknown key; did you mean "listen"?
              log.workers: 0 is not between 1 and 64
              outputs.app.path: the variable NOWHERE is not set: set it in the environment or in .env, or write ${NOWHERE:-default}
              chains.default.edit[0]: no plugin named "redcat"; did you mean "redact"?
              chains.default.outputs[1]: no output named "ap"; did you mean "app"?
              outputs.console.format: no plugin named "guid"; did you mean "guide"?
              route[0].chain: no chain named "defualt"; did you mean "default"?
              log.level: "LOUD" is not a log level: write DEBUG, INFO, WARNING, ERROR or CRITICAL
              log.locale: "kr" is not one of ko, en
              plugins.trunc.source: no built-in plugin named "trunkate"; did you mean "truncate"?
              outputs.console.sink: no sink named "consle"; did you mean "console"?
              route[0].when.path: a path starts with /, as in "/vision"
        "#]],
    );
}

#[test]
fn check_loads_every_plugin_and_says_what_is_wrong_with_each() {
    let hostile = fs::read(repository("tests/fixtures/components/hostile.wasm")).unwrap();
    let config = r#"
[plugins.redact]
config = { kinds = ["email"], knids = 1 }
[plugins.missing]
source = "nowhere.wasm"
[plugins.core]
source = "core.wasm"
[plugins.hostile]
source = "hostile.wasm"
config = { do = "configure-trap" }
[plugins.alert]
config = { channel = "ops" }
[plugins.sum]
source = "builtin:json"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[plugins.guide]
config = { locale = "fr" }
[plugins.json]
[plugins.truncate]
[outputs.app]
sink = "file"
path = "nowhere/app.log"
format = "truncate"
[chains.default]
edit = ["json"]
handle = ["truncate"]
outputs = ["app"]
"#;
    let files: [(&str, &[u8]); 3] = [
        ("bucksaw.toml", config.as_bytes()),
        ("core.wasm", b"\0asm\x01\0\0\0".as_slice()),
        ("hostile.wasm", hostile.as_slice()),
    ];
    let folder = folder(&files);
    let output = run(folder.path(), &["check"], &[], b"");
    assert_eq!(output.status.code(), Some(EXIT_CONFIG));
    let problems = text(output.stderr);
    // The sum is the built component's own: it changes with it.
    let sum = regex::Regex::new("is [0-9a-f]{64}:").unwrap();
    let problems = sum.replace(&problems, "is SHA256:");
    expect![[r#"
        bucksaw: bucksaw.toml has 11 problems:
          outputs.app.path: the folder nowhere cannot be used: No such file or directory (os error 2)
          plugins.alert.grants: it imports bucksaw:plugin/alerts@0.1.0, which is not granted: add grants = { alert = ["<channel>"] }
          plugins.core.source: it is a core WebAssembly module, not a component: build it with the SDK for wasm32-unknown-unknown and the linker wasm-component-ld
          plugins.guide.config: it refuses its configuration: locale: unknown variant `fr`, expected `ko` or `en`
          plugins.hostile.source: it failed in configure: trap
          plugins.missing.source: nowhere.wasm cannot be read: No such file or directory (os error 2): build it, or write builtin:NAME for one that ships
          plugins.redact.config: it refuses its configuration: knids: unknown field `knids`, expected one of `kinds`, `mode`, `modes`, `allow`, `patterns`
          plugins.sum.sha256: the component's is SHA256: it is not the one that was meant
          chains.default.edit[0]: "json" is a plugin of the role formatter, and this place takes the role editor
          chains.default.handle[0]: "truncate" is a plugin of the role editor, and this place takes the role handler
          outputs.app.format: "truncate" is a plugin of the role editor, and this place takes the role formatter
    "#]]
    .assert_eq(&problems);
}

#[test]
fn what_is_no_component_is_refused_in_words() {
    let check = |bytes: &[u8], expected: &str| {
        let config = good().plugin("odd", "source = \"odd.wasm\"").text();
        let folder = folder(&[("bucksaw.toml", config.as_bytes()), ("odd.wasm", bytes)]);
        let output = run(folder.path(), &["check"], &[], b"");
        assert_eq!(output.status.code(), Some(EXIT_CONFIG));
        let problems = text(output.stderr);
        assert!(problems.contains("  plugins.odd.source: "), "{problems}");
        assert!(problems.contains(expected), "{problems}");
        assert!(problems.starts_with("bucksaw: bucksaw.toml has 1 problem:\n"), "{problems}");
    };
    check(b"\0asm\x01\0\0\0", "it is a core WebAssembly module, not a component");
    check(b"hello", "it is not a WebAssembly component: ");
    check(b"", "it is not a WebAssembly component: ");
    // The preamble of a component, and nothing in it.
    check(b"\0asm\x0d\0\x01\0", "it exports none of ");
    check(b"\0asm\x0d\0\x01\0\xff\xff\xff", "it is not a WebAssembly component: ");
}

#[test]
fn serve_and_run_refuse_what_check_refuses() {
    let config = good().log("level = \"LOUD\"").text();
    let folder =
        folder(&[("bucksaw.toml", config.as_bytes()), ("syntax.toml", b"x = ".as_slice())]);
    let check = |args: &[&str], code: i32, expected: &str| {
        let output = run(folder.path(), args, &[], b"{}\n");
        let said = text(output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    };
    for command in ["check", "serve", "run"] {
        check(&[command], EXIT_CONFIG, "log.level: \"LOUD\" is not a log level");
        check(&[command, "-c", "syntax.toml"], EXIT_CONFIG, "syntax.toml has 1 problem");
        check(&[command, "-c", "nowhere.toml"], 1, "nowhere.toml cannot be read");
    }
    check(&["frobnicate"], 2, "unrecognized subcommand 'frobnicate'");
}

#[test]
fn the_level_comes_from_the_file_from_dotenv_or_from_the_environment() {
    let check =
        |file: &str, dotenv: &str, variables: &[(&str, &str)], expected: Result<(), &str>| {
            let config = good().log(&format!("level = {file:?}")).text();
            let folder =
                folder(&[("bucksaw.toml", config.as_bytes()), (".env", dotenv.as_bytes())]);
            let output = run(folder.path(), &["check"], variables, b"");
            let said = text(output.stderr);
            match expected {
                Ok(()) => assert!(output.status.success(), "{said}"),
                Err(problem) => {
                    assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{said}");
                    assert!(said.contains(problem), "{said}");
                }
            }
        };
    const NAMES: &str = "write DEBUG, INFO, WARNING, ERROR or CRITICAL";
    check("info", "", &[], Ok(()));
    check("verbose", "", &[], Err("log.level: \"verbose\" is not a log level"));
    // Which one wins shows in which one is complained about.
    check("verbose", "LOG_LEVEL=DEBUG\n", &[], Ok(()));
    check("INFO", "# level\nLOG_LEVEL=loud\n", &[], Err("LOG_LEVEL: \"loud\" is not a log level"));
    check("INFO", "LOG_LEVEL=loud\n", &[("LOG_LEVEL", "debug")], Ok(()));
    check("INFO", "LOG_LEVEL=INFO\n", &[("LOG_LEVEL", "quiet")], Err("LOG_LEVEL: \"quiet\""));
    check("INFO", "", &[("LOG_LEVEL", "quiet")], Err(NAMES));
    check("INFO", "", &[("LOG_LEVEL", "")], Ok(()));
}

#[test]
fn the_level_of_the_environment_is_the_servers() {
    let check = |variables: &[(&str, &str)], level: &str, debug: bool| {
        let mut server = Server::start_with(&Config::json(), variables);
        // A request without records of its own, which DEBUG alone mentions.
        assert_eq!(server.get("/health").status, 200);
        server.stop();
        let said = server.stderr();
        assert!(said.contains(&format!("log level  {level}\n")), "{said}");
        assert_eq!(server.read("json.log").contains("http.access"), debug, "{variables:?}");
    };
    check(&[], "INFO", false);
    check(&[("LOG_LEVEL", "debug")], "DEBUG", true);
}

const LINES: &str = concat!(
    r#"{"timestamp": "1970-01-01T00:00:01Z", "level": "warn", "msg": "mail kim@example.com", "n": 7}"#,
    "\n",
    r#"{"time": 2, "level": "ERROR", "event": "request.failed", "request_id": "a1b2c3d4-0000-4000-8000-000000000000", "error.type": "x", "exception.message": "of kim@example.com ❌"}"#,
    "\n",
    "plain words to kim@example.com\n",
    "[1, 2]\n",
    "\n",
    "no line end",
);

#[test]
fn run_sends_lines_of_any_log_through_a_chain() {
    let config = good()
        .edit(&["redact"])
        .output("json", "sink = \"console\"\nformat = \"json\"")
        .more("[chains.plain]\noutputs = [\"json\"]\nallow_raw_content = true")
        .text();
    let folder = folder(&[("bucksaw.toml", config.as_bytes())]);
    let go = |args: &[&str]| {
        let output =
            run(folder.path(), &[["run"].as_slice(), args].concat(), &[], LINES.as_bytes());
        assert!(output.status.success(), "{}", text(output.stderr));
        assert!(output.stderr.is_empty(), "{}", text(output.stderr));
        text(output.stdout)
    };
    let guide = go(&[]);
    let stamp = regex::Regex::new(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ").unwrap();
    expect![[r#"
        TIME - WARNING - 🔹 log: msg="mail [EMAIL]" n=7 bucksaw.redactions=1
        TIME - ERROR - ❌ [a1b2c3d4] ===== 요청 실패: x =====
        TIME - ERROR - ❌ [a1b2c3d4] 오류: of [EMAIL] \u274c
        TIME - INFO - 🔹 log: message="plain words to [EMAIL]" bucksaw.redactions=1
        TIME - INFO - 🔹 log: message="[1, 2]"
        TIME - INFO - 🔹 log: message=""
        TIME - INFO - 🔹 log: message="no line end"
    "#]]
    .assert_eq(&stamp.replace_all(&guide, "TIME - "));

    let json = records(&go(&["--format", "json"]));
    assert_eq!(json.len(), 6);
    assert_eq!(json[0]["timestamp"], "1970-01-01T00:00:01.000000000Z");
    assert_eq!(json[0]["severity_text"], "WARNING");
    assert_eq!(json[0]["attributes"]["msg"], "mail [EMAIL]");
    assert_eq!(json[0]["attributes"]["n"], 7);
    assert_eq!(json[1]["timestamp"], "1970-01-01T00:00:02.000000000Z");
    assert_eq!(json[1]["request_id"], "a1b2c3d4-0000-4000-8000-000000000000");
    assert_eq!(json[1]["attributes"]["exception.message"], "of [EMAIL] ❌");

    let plain = records(&go(&["--chain", "plain"]));
    assert_eq!(plain[0]["attributes"]["msg"], "mail kim@example.com");
    assert!(plain[0]["attributes"].get("bucksaw.redactions").is_none());

    let refused = |args: &[&str], problem: &str| {
        let output = run(folder.path(), args, &[], b"");
        assert_eq!(output.status.code(), Some(EXIT_CONFIG));
        let said = text(output.stderr);
        assert!(said.contains(problem), "{said}");
    };
    refused(
        &["run", "--chain", "plian"],
        "--chain: no chain named \"plian\"; did you mean \"plain\"?",
    );
    refused(
        &["run", "--format", "jsno"],
        "--format: no formatter named \"jsno\"; did you mean \"json\"?",
    );
    refused(&["run", "--format", "redact"], "--format: no formatter named \"redact\"; known: ");
}

#[test]
fn run_takes_what_is_no_text_and_loses_no_line() {
    let config = Config::default().output("json", "sink = \"console\"\nformat = \"json\"").text();
    let folder = folder(&[("bucksaw.toml", config.as_bytes())]);
    let go = |input: &[u8]| -> Vec<Value> {
        let output = run(folder.path(), &["run"], &[], input);
        assert!(output.status.success(), "{}", text(output.stderr));
        records(&text(output.stdout))
    };
    let odd = go(b"a \xff\xfe b\n\0\x1b[31m\r\n{\"msg\": \"\\ud800\"}\n");
    let messages: Vec<&Value> = odd.iter().map(|it| &it["attributes"]["message"]).collect();
    assert_eq!(messages[..2], ["a \u{fffd}\u{fffd} b", "\0\u{1b}[31m\r"]);
    assert_eq!(odd.len(), 3, "{odd:?}");

    let lines: String = (0..10_000).map(|it| format!("{{\"n\": {it}}}\n")).collect();
    let numbers: Vec<Option<u64>> =
        go(lines.as_bytes()).iter().map(|it| it["attributes"]["n"].as_u64()).collect();
    let expected: Vec<Option<u64>> = (0..10_000).map(Some).collect();
    assert_eq!(numbers, expected);
    assert_eq!(go(b""), Vec::<Value>::new());
}

#[test]
fn check_says_what_a_good_configuration_selects() {
    let config = good().edit(&["truncate"]).text();
    let folder = folder(&[("bucksaw.toml", config.as_bytes())]);
    let output = run(folder.path(), &["check"], &[], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(output.stderr));
    let said = text(output.stdout);
    assert!(said.starts_with("bucksaw.toml is good\n"), "{said}");
    assert!(said.contains("  plugin guide: guide 0.1.0 (formatter; reads *)\n"), "{said}");
    assert!(said.ends_with("  chain default: truncate > console\n"), "{said}");

    let empty = tempfile::tempdir().unwrap();
    let output = run(empty.path(), &["check"], &[], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(output.stderr));
    assert!(text(output.stdout).starts_with("the built-in configuration is good\n"));
}
