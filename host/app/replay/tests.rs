//! What a change of the log has to pass before it is taken over.

use expect_test::{Expect, expect};

use super::*;

const RECORDS: &str = "{\"message\": \"hello\"}\n{\"message\": \"to a@b.co\"}\n\
    {\"message\": \"card 4111 1111 1111 1111\"}\n";

/// A revision with this added to the tables of the editor and of the log.
fn revision(redact: &str, log: &str) -> Kept {
    let text = format!(
        r#"
[log]
{log}
[plugins.redact]
{redact}
[plugins.json]
[outputs.console]
sink = "console"
format = "json"
[chains.default]
edit = ["redact"]
outputs = ["console"]
shadow = "strict"
[chains.strict]
edit = ["redact"]
"#
    );
    let config = Config::parse(&text, Path::new("."), &Vars::default()).unwrap();
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    prepare("test", config, &runtime, &Plugins::default()).unwrap()
}

/// `records`: none for no file.
fn check(redact: &str, records: Option<&str>, want: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    if let Some(it) = records {
        fs::write(&file, it).unwrap();
    }
    let next = revision(redact, &format!("replay = '{}'", file.display()));
    let told = match require(&revision("", ""), &next) {
        Ok(()) => "good\n".to_owned(),
        Err(problems) => problems.0.iter().map(|it| format!("{it}\n")).collect(),
    };
    want.assert_eq(&told.replace(file.to_str().unwrap(), "FILE"));
}

#[test]
fn a_change_passes_when_every_record_comes_out_the_same() {
    let email = "config = { kinds = [\"email\"] }";
    check("", Some(RECORDS), expect!["good\n"]);
    check(
        email,
        Some(RECORDS),
        expect![[r#"
            log.replay: chain "default" with FILE: 1 of 3 records come out otherwise (spans missed: 1, texts changed: 1, lines of console: 1); the first is record 3, log: message missed CARD 5..24; text changed; lines changed of console: if this is meant, change the file or remove the key
        "#]],
    );
    check(email, Some("{\"message\": \"hello\"}"), expect!["good\n"]);
    check(email, Some(""), expect!["log.replay: FILE has no record: write some into it\n"]);
    check(
        email,
        None,
        expect!["log.replay: FILE cannot be read: No such file or directory (os error 2)\n"],
    );
    // Nothing is asked for.
    assert!(require(&revision("", ""), &revision(email, "")).is_ok());
}
