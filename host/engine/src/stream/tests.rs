use proptest::prelude::*;

use super::{Detokenizer, Pieces, Released, StopTexts, pieces::Next};
use crate::{
    error::EngineError,
    job::{Logprob, TokenLogprob},
};

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

fn logprob(id: u32) -> TokenLogprob {
    TokenLogprob { token: Logprob { id, logprob: 0.0, bytes: Vec::new() }, top: Vec::new() }
}

/// The pieces of an answer of one byte a token: text, and the tokens whose log probabilities came with it.
fn pieces(answer: &[u8], stops: &[&str]) -> Vec<(String, Vec<u8>)> {
    let stops: Vec<String> = stops.iter().map(|it| (*it).to_owned()).collect();
    let mut pieces = Pieces::new(Box::new(bytes), &stops);
    let mut all = Vec::new();
    let mut take = |next: Next| {
        let ids = |it: &TokenLogprob| u8::try_from(it.token.id).unwrap();
        all.extend(next.piece.map(|it| (it.text, it.logprobs.iter().map(ids).collect())));
        next.stopped
    };
    for byte in answer {
        let id = u32::from(*byte);
        if take(pieces.push(id, Some(logprob(id))).unwrap()) {
            return all;
        }
    }
    take(pieces.finish().unwrap());
    all
}

#[test]
fn tokens_tell_their_log_probability_with_their_text() {
    let check = |answer: &str, stops: &[&str], expected: &[(&str, &[u8])]| {
        let found = pieces(answer.as_bytes(), stops);
        let found: Vec<_> = found.iter().map(|(text, ids)| (text.as_str(), &ids[..])).collect();
        assert_eq!(found, expected, "{answer} {stops:?}");
    };
    check("ab", &[], &[("a", b"a"), ("b", b"b")]);
    check("é!", &[], &[("é", "é".as_bytes()), ("!", b"!")]);
    check("abcd", &["bx"], &[("a", b"a"), ("bc", b"bc"), ("d", b"d")]);
    check("abcd", &["bc"], &[("a", b"a")]);
    check("ab", &["bc"], &[("a", b"a"), ("b", b"b")]);
    let broken = pieces(b"a\xe2\x82", &[]);
    assert_eq!(broken[1], ("\u{FFFD}".to_owned(), b"\xe2\x82".to_vec()));
}

proptest! {
    #[test]
    fn texts_and_log_probabilities_stay_together(text in "[ab끝é]{0,24}", stops in prop::collection::vec("[ab끝]{1,3}", 0..3)) {
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        let pieces = pieces(text.as_bytes(), &stops);
        for (text, ids) in &pieces {
            prop_assert_eq!(text.as_bytes(), &ids[..]);
        }
        let all: String = pieces.iter().map(|it| it.0.as_str()).collect();
        let owned: Vec<String> = stops.iter().map(|it| (*it).to_owned()).collect();
        prop_assert_eq!(all, stop(&owned, &[&text]).0);
    }

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
