//! What an editor answers is checked, merged and written by the host.

use proptest::prelude::*;

use super::{record, replacer, run};
use crate::{Edit, Mode, StageError, Verdict};

fn cut(start: usize, end: usize, mode: Mode) -> Edit {
    Edit { field: 0, start, end, label: "X".into(), mode }
}

#[test]
fn edits_are_checked_merged_and_written_by_the_host() {
    let check = |edits: &[Edit], want: &str| {
        let edits = edits.to_vec();
        let (texts, _) = run(&["한글 secret"], move |batch| {
            Ok(batch.iter().map(|_| Verdict::Keep(edits.clone())).collect())
        });
        assert_eq!(texts, [want]);
    };
    check(&[], "한글 secret");
    check(&[cut(7, 13, Mode::Label)], "한글 [X]");
    check(&[cut(7, 13, Mode::Pseudonym)], "한글 [X:6c5f810c]");
    check(&[cut(3, 13, Mode::Ellipsis)], "한…(+8자)");
    check(&[cut(9, 11, Mode::Label), cut(7, 10, Mode::Label)], "한글 [X]et");
    check(&[cut(0, 3, Mode::Label), cut(3, 6, Mode::Label)], "[X][X] secret");
    check(&[cut(7, 7, Mode::Label)], "한글 secret");
    check(&[cut(1, 3, Mode::Label)], "stub: bad_answer");
    check(&[cut(5, 3, Mode::Label)], "stub: bad_answer");
    check(&[cut(0, 14, Mode::Label)], "stub: bad_answer");
    check(&[Edit { field: 1, ..cut(0, 1, Mode::Label) }], "stub: bad_answer");
    check(&[Edit { field: 9, ..cut(0, 1, Mode::Label) }], "stub: bad_answer");
}

#[test]
fn a_record_has_as_many_edits_as_the_contract_says() {
    let many = |count: usize| vec![cut(0, 0, Mode::Label); count];
    assert_eq!(replacer().apply(&mut record("x"), many(200_000)), Ok(()));
    let error = replacer().apply(&mut record("x"), many(200_001)).unwrap_err();
    assert_eq!(error, StageError::BadAnswer);
}

proptest! {
    #[test]
    fn whatever_an_editor_answers_the_chain_holds(
        text in any::<String>(),
        ranges in proptest::collection::vec((0_usize..40, 0_usize..40, 0_usize..3), 0..8),
    ) {
        let mut record = record(&text);
        let edits: Vec<Edit> = ranges
            .iter()
            .map(|&(a, b, mode)| cut(a, b, [Mode::Label, Mode::Pseudonym, Mode::Ellipsis][mode]))
            .collect();
        let valid = edits.iter().all(|it| text.get(it.start..it.end).is_some());
        prop_assert_eq!(replacer().apply(&mut record, edits.clone()).is_ok(), valid);
        if valid {
            let kept: String = text
                .char_indices()
                .filter(|(at, _)| !edits.iter().any(|it| (it.start..it.end).contains(at)))
                .map(|(_, it)| it)
                .collect();
            let left = super::text(&record);
            let mut rest = left.chars();
            prop_assert!(kept.chars().all(|it| rest.any(|other| other == it)), "{left:?} lost {kept:?}");
        }
    }
}
