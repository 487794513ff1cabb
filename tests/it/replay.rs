//! `bucksaw replay`: what two configurations do otherwise, told by exit code, numbers, labels and places; and as a condition of a
//! change.

use std::{fs, path::Path};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Config, Server, program, records};

/// What nobody may find in anything that is said.
const CANARIES: [&str; 3] = ["kim.minsu@example.com", "4111 1111 1111 1111", "umbrella"];
/// The configuration is wrong, or what it was given (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: i32 = 78;

fn config(kinds: &str) -> Config {
    Config::default()
        .edit(&["redact"])
        .plugin("redact", &format!("config = {{ kinds = [{kinds}] }}"))
        .file("app", "guide", "")
        .file("json", "json", "")
}

/// Lines of a log, two of which hold something to take out.
fn lines() -> String {
    let [address, card, word] = CANARIES;
    format!(
        "{{\"level\": \"INFO\", \"msg\": \"{word}\"}}\n\
         {{\"level\": \"WARN\", \"msg\": \"mail {address}\"}}\n\
         {{\"event\": \"request.prompt\", \"bucksaw.prompt.text\": \"{word} {card}, {address}\"}}\n"
    )
}

/// A folder with configurations to compare, and records.
fn folder() -> TempDir {
    const ALL: &str = "\"email\", \"phone\", \"card\", \"ip\", \"iban\", \"krn\", \"secret\"";
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("all.toml", config(ALL).text()),
        // Other words for the same, and other files for the same lines.
        ("same.toml", config("").text().replace("kinds = []", "").replace("app.log", "other.log")),
        ("email.toml", config("\"email\"").text()),
        ("card.toml", config("\"card\"").text()),
        ("english.toml", config(ALL).plugin("guide", "config = { locale = \"en\" }").text()),
        ("bad.toml", config("").log("levl = \"DEBUG\"").text()),
        ("missing.toml", config("").plugin("own", "source = \"own.wasm\"").text()),
        ("records.jsonl", lines()),
        ("empty.jsonl", String::new()),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let name = |it: fs::DirEntry| it.file_name().into_string().unwrap();
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|it| name(it.unwrap())).collect();
    names.sort_unstable();
    names
}

/// What was said on standard output and on standard error.
fn replay(folder: &Path, args: &[&str], code: i32) -> [String; 2] {
    let output = program(folder).arg("replay").args(args).output().unwrap();
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said:?}");
    for text in &said {
        // Made-up records have their own.
        for canary in CANARIES.into_iter().chain(["@example", "203.0.113", "010-"]) {
            assert!(!text.contains(canary), "{args:?}: {canary}: {text}");
        }
    }
    said
}

#[test]
fn the_exit_code_says_whether_anything_comes_out_otherwise() {
    let folder = folder();
    let before = names(folder.path());
    let check = |pair: [&str; 2], input: &[&str], code: i32, expected: &[&str]| {
        let pair = ["--config", pair[0], "--against", pair[1]];
        let args = [pair.as_slice(), input].concat();
        let [report, complaint] = replay(folder.path(), &args, code);
        assert!(complaint.is_empty(), "{complaint}");
        for it in expected {
            assert!(report.contains(it), "{pair:?}: no {it:?} in {report}");
        }
    };
    let made = ["--generate", "500"];
    check(["all.toml", "all.toml"], &made, 0, &["chain default: 500 records, no difference\n"]);
    check(["all.toml", "same.toml"], &made, 0, &["chain default: 500 records, no difference\n"]);
    check(
        ["all.toml", "email.toml"],
        &made,
        1,
        &[
            "chain default: 500 records, ",
            "spans missed",
            "  taken out by all.toml only\n",
            "lines of app",
        ],
    );
    check(
        ["email.toml", "all.toml"],
        &["--generate", "500", "--seed", "7", "--show", "1"],
        1,
        &[
            "spans added",
            "  taken out by all.toml only\n",
            "more: --show says how many are shown\n",
        ],
    );
    // A formatter alone.
    check(["all.toml", "english.toml"], &made, 1, &["lines of app"]);

    let read = ["--records", "records.jsonl"];
    check(["all.toml", "same.toml"], &read, 0, &["chain default: 3 records, no difference\n"]);
    check(
        ["all.toml", "card.toml"],
        &read,
        1,
        &[
            "chain default: 3 records, 2 different\n",
            "  record 2, log\n    msg missed EMAIL 5..26\n",
            "  record 3, request.prompt\n    bucksaw.prompt.text missed EMAIL 30..51\n",
        ],
    );
    assert_eq!(names(folder.path()), before, "nothing is written");
}

#[test]
fn what_cannot_be_compared_is_told() {
    let folder = folder();
    let before = names(folder.path());
    let check = |args: &[&str], expected: &str| {
        let [report, complaint] = replay(folder.path(), args, EXIT_CONFIG);
        assert!(report.is_empty(), "{report}");
        assert!(complaint.contains(expected), "{args:?}: {complaint}");
    };
    let good = ["--config", "all.toml", "--against", "email.toml"];
    let with = |more: &[&'static str]| [good.as_slice(), more].concat();
    check(
        &with(&["--generate", "5", "--chain", "defualt"]),
        "--chain: no chain named \"defualt\"; did you mean \"default\"?",
    );
    check(&with(&["--records", "nowhere.jsonl"]), "--records: nowhere.jsonl cannot be read: ");
    check(&with(&["--records", "empty.jsonl"]), "--records: there is no record in it");
    for (pair, expected) in [
        (["bad.toml", "all.toml"], "bad.toml has 1 problem:\n  log.levl: unknown key"),
        (["all.toml", "bad.toml"], "bad.toml has 1 problem:\n  log.levl: unknown key"),
        (["all.toml", "missing.toml"], "plugins.own.source: own.wasm cannot be read: "),
        (["nowhere.toml", "all.toml"], "--config: the configuration nowhere.toml cannot be read"),
        (["all.toml", "nowhere.toml"], "--against: the configuration nowhere.toml cannot be read"),
    ] {
        let args = ["--config", pair[0], "--against", pair[1], "--generate", "5"];
        check(&args, expected);
    }
    assert_eq!(names(folder.path()), before, "nothing is written");
}

#[test]
fn a_change_may_have_to_pass_it() {
    let with = |it: Config| it.log("replay = \"records.jsonl\"");
    let mut server = Server::start(&with(config("\"email\", \"card\"")));
    server.replace("records.jsonl", lines().as_bytes());
    // A card would come out.
    server.configure(&with(config("\"email\"")).text());
    server.reaches("bucksaw_log_refusals_total", 1);
    assert_eq!(server.metric("bucksaw_log_revision"), 1);
    // Everything comes out the same.
    server.configure(&with(config("\"card\", \"email\"")).log("level = \"DEBUG\"").text());
    server.reaches("bucksaw_log_revision", 2);
    let [address, card, _] = CANARIES;
    server.chat(&format!("{card} of {address}"), &json!({"max_tokens": 1}));
    server.stop();

    let records = records(&server.read("json.log"));
    let told: Vec<&str> = records
        .iter()
        .filter(|it| it["event_name"] == "chain.refused")
        .filter_map(|it| it["attributes"]["bucksaw.notice"].as_str())
        .collect();
    let [notice] = told.as_slice() else { panic!("{told:#?}") };
    let expected = "the log was not changed: log.replay: chain \"default\" with records.jsonl: 1 of 3 records come out \
                    otherwise (spans missed: 1, ";
    assert!(notice.starts_with(expected), "{notice}");
    let place = "the first is record 3, request.prompt: bucksaw.prompt.text missed CARD 9..28";
    assert!(notice.contains(place), "{notice}");
    for file in ["json.log", "app.log", "stdout", "stderr"] {
        let text = server.read(file);
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} is in {file}");
        }
    }
    assert!(server.read("app.log").contains("[CARD] of [EMAIL]"));
}
