//! A table of differences and what a person reads of them.

use chain::Mode;
use expect_test::{Expect, expect};
use record::{Field, Severity, Stream, event, field};

use super::*;

const NAMES: [&str; 2] = ["a.toml", "b/new.toml"];

fn record() -> Record {
    Record {
        time: 0,
        utc_offset: 0,
        severity: Severity::INFO,
        event: event::REQUEST_PROMPT.into(),
        stream: Stream::App,
        context: None,
        seq: 0,
        stub: None,
        fields: vec![
            Field::new(field::PROMPT_TEXT, "hush"),
            Field::foreign("note", "hush"),
            Field::new(field::IMAGES, 1_i64),
        ],
    }
}

fn taken(field: usize, start: usize, end: usize, label: &str) -> Taken {
    Taken { field, start, end, label: label.into(), mode: Mode::Label }
}

/// The report of a batch in which every second record comes out like this, and the sentence of the same.
fn check(differences: &[Difference], text: Expect, sentence: Expect) {
    let mut report = Report::new(2);
    for it in differences {
        report.add(&record(), None);
        report.add(&record(), Some(it));
    }
    report.costs = [Some((8.1e-6, 40e-6)), Some((0.9e-3, 1.5e-3))];
    assert_eq!(report.records(), 2 * differences.len() as u64);
    assert_eq!(report.is_same(), differences.is_empty());
    let (got, told) = (report.text("default", NAMES), report.sentence());
    text.assert_eq(&got);
    sentence.assert_eq(&told);
    assert!(!got.contains("hush") && !told.contains("hush"));
}

#[test]
fn spans_are_told_by_field_label_and_place() {
    let difference = Difference {
        missed: vec![taken(1, 0, 7, "EMAIL"), taken(0, 12, 27, "EMAIL"), taken(0, 40, 59, "CARD")],
        added: vec![taken(0, 3, 4, "IP")],
        text_changed: true,
        outputs: vec!["app".into(), "console".into()],
        ..Difference::default()
    };
    check(
        &[difference],
        expect![[r#"
            chain default: 2 records, 1 different

              a.toml      8.1 µs a record (p50), 40.0 µs (p99)
              b/new.toml  900.0 µs a record (p50), 1500.0 µs (p99)

              spans missed            3  taken out by a.toml only
              spans added             1  taken out by b/new.toml only
              texts changed           1
              lines of app            1
              lines of console        1

              record 2, request.prompt
                bucksaw.prompt.text missed EMAIL 12..27, CARD 40..59
                note missed EMAIL 0..7
                bucksaw.prompt.text added IP 3..4
                text changed
                lines changed of app, console
        "#]],
        expect![
            "1 of 2 records come out otherwise (spans missed: 3, spans added: 1, texts changed: 1, lines of app: 1, lines of console: 1); the first is record 2, request.prompt: bucksaw.prompt.text missed EMAIL 12..27, CARD 40..59; note missed EMAIL 0..7; bucksaw.prompt.text added IP 3..4; text changed; lines changed of app, console"
        ],
    );
}

#[test]
fn outcomes_and_new_labels_are_told_and_what_is_over_the_limit_is_counted() {
    let outcome = |outcome| Difference { outcome: Some(outcome), ..Difference::default() };
    let relabelled =
        Difference { relabelled: vec![taken(9, 1, 2, "CARD")], ..Difference::default() };
    check(
        &[outcome(("kept", "withheld")), relabelled, outcome(("dropped", "kept"))],
        expect![[r#"
            chain default: 6 records, 3 different

              a.toml      8.1 µs a record (p50), 40.0 µs (p99)
              b/new.toml  900.0 µs a record (p50), 1500.0 µs (p99)

              spans relabelled        1
              outcomes changed        2

              record 2, request.prompt
                outcome kept, then withheld

              record 4, request.prompt
                a field relabelled CARD 1..2

              and 1 more: --show says how many are shown
        "#]],
        expect![
            "3 of 6 records come out otherwise (spans relabelled: 1, outcomes changed: 2); the first is record 2, request.prompt: outcome kept, then withheld"
        ],
    );
}

#[test]
fn no_difference_is_told_with_what_it_costs() {
    let mut report = Report::new(2);
    report.add(&record(), None);
    report.costs = [Some((1e-6, 2e-6)), Some((1e-6, 2e-6))];
    expect![[r#"
        chain default: 1 record, no difference

          a.toml      1.0 µs a record (p50), 2.0 µs (p99)
          b/new.toml  1.0 µs a record (p50), 2.0 µs (p99)
    "#]]
    .assert_eq(&report.text("default", NAMES));
}
