use proptest::prelude::*;

use super::{Detokenizer, Released, StopTexts};
use crate::error::EngineError;

/// Each token is one byte.
fn bytes(ids: &[u32]) -> Result<String, EngineError> {
    let bytes: Vec<u8> = ids.iter().map(|id| u8::try_from(*id).unwrap()).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn detokenize(input: &[u8]) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(bytes);
    let mut pieces: Vec<String> =
        input.iter().map(|byte| detokenizer.push(u32::from(*byte)).unwrap()).collect();
    pieces.push(detokenizer.finish().unwrap());
    pieces
}

#[test]
fn broken_bytes_come_out_as_replacement_characters() {
    for input in [
        &b"\xff"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xc3\xa9",
        b"a\xe2\x82",
        b"\xf0\x9f\x98\x80\xf0",
        "\u{FFFD}\u{FFFD}\u{FFFD} ok".as_bytes(),
    ] {
        assert_eq!(detokenize(input).concat(), String::from_utf8_lossy(input), "{input:?}");
    }
}

#[test]
fn special_tokens_have_no_text() {
    let words = |ids: &[u32]| -> Result<String, EngineError> {
        Ok(ids.iter().filter(|id| **id != 0).map(|id| format!(" {id}")).collect())
    };
    let mut detokenizer = Detokenizer::new(words);
    let pieces: Vec<_> = [7, 0, 0, 8].map(|id| detokenizer.push(id).unwrap()).into();
    assert_eq!(pieces, [" 7", "", "", " 8"]);
}

/// Feeds `pieces` and returns everything that was released, and whether a stop text came.
fn stop(stops: &[String], pieces: &[&str]) -> (String, bool) {
    let mut texts = StopTexts::new(stops);
    let mut all = String::new();
    for piece in pieces {
        let Released { text, stopped } = texts.push(piece);
        all.push_str(&text);
        if stopped {
            return (all, true);
        }
    }
    all.push_str(&texts.finish());
    (all, false)
}

#[test]
fn stop_texts_end_the_text_before_them() {
    for (stops, pieces, expected) in [
        (&["END"][..], &["abEN", "Dcd"][..], ("ab", true)),
        (&["END"], &["abEN", "cd"], ("abENcd", false)),
        (&["END"], &["EEND"], ("E", true)),
        (&["abcd", "bc"], &["a", "b", "c", "d"], ("a", true)),
        (&["abcd", "bc"], &["abcd"], ("a", true)),
        (&["aab"], &["aa", "a", "b"], ("a", true)),
        (&["é끝"], &["x", "é", "끝", "y"], ("x", true)),
        (&[""], &["anything"], ("anything", false)),
        (&[], &["any", "thing"], ("anything", false)),
    ] {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let (text, stopped) = stop(&stops, pieces);
        assert_eq!((text.as_str(), stopped), expected, "{stops:?} {pieces:?}");
    }
}

#[test]
fn what_could_begin_a_stop_text_is_held_back() {
    let mut texts = StopTexts::new(&["<stop>".to_owned()]);
    assert_eq!(texts.push("a<st"), Released { text: "a".into(), stopped: false });
    assert_eq!(texts.push("ay>"), Released { text: "<stay>".into(), stopped: false });
}

proptest! {
    #[test]
    fn pieces_are_whole_characters_and_make_up_the_text(text in ".{0,40}") {
        let pieces = detokenize(text.as_bytes());
        prop_assert_eq!(pieces.concat(), text.clone());
        if !text.contains('\u{FFFD}') {
            let whole = pieces.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER));
            prop_assert!(whole);
        }
    }

    #[test]
    fn how_the_text_is_cut_makes_no_difference(
        text in "[ab끝]{0,24}",
        stops in prop::collection::vec("[ab끝]{1,4}", 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.retain(|at| text.is_char_boundary(*at));
        at.extend([0, text.len()]);
        at.sort_unstable();
        let pieces: Vec<&str> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(stop(&stops, &pieces), stop(&stops, &[&text]));
    }
}
