use sdk::native::{self, BatchBuilder};

use crate::{Keep, Truncate, cut};

fn check(keep: Keep, limit: usize, text: &str, expected: &str) {
    let shown = match cut::range(text, limit, keep) {
        None => text.to_owned(),
        Some(it) => {
            let taken = text[it.clone()].chars().count();
            format!("{}…{taken}…{}", &text[..it.start], &text[it.end..])
        }
    };
    assert_eq!(shown, expected, "{limit} of {text:?}");
}

#[test]
fn cuts_between_grapheme_clusters() {
    let head = |limit, text: &str, expected: &str| check(Keep::Head, limit, text, expected);
    head(3, "abc", "abc");
    head(3, "abcd", "abc…1…");
    head(0, "abcd", "…4…");
    head(3, "", "");
    head(2, "가나다", "가나…1…");
    head(3, "가나다", "가나다");
    head(9, "가나다라마바사아자차카타", "가나다라마바사아자…3…");
    // An accent of its own, a syllable of jamo, a family of emoji, a flag: never torn apart, never over the limit.
    head(1, "e\u{301}x", "…3…");
    head(2, "e\u{301}x", "e\u{301}…1…");
    head(2, "\u{1112}\u{1161}\u{11ab}x", "…4…");
    head(3, "a👨‍👩‍👧b", "a…6…");
    head(6, "a👨‍👩‍👧b", "a👨‍👩‍👧…1…");
    head(1, "🇰🇷🇺🇸", "…4…");
    head(3, "🇰🇷🇺🇸", "🇰🇷…2…");
    head(1, "\r\n", "…2…");
}

#[test]
fn keeps_the_end_too() {
    let both = |limit, text: &str, expected: &str| check(Keep::HeadTail, limit, text, expected);
    both(6, "abcdefghij", "abcd…4…ij");
    both(6, "abcdef", "abcdef");
    both(3, "가나다라마", "가나…2…마");
    both(1, "abc", "a…2…");
    both(0, "abc", "…3…");
    both(3, "abcde\u{301}", "ab…4…");
    both(6, "abcdefge\u{301}", "abcd…3…e\u{301}");
}

#[test]
fn what_stays_is_never_longer_than_the_limit() {
    let pieces = ["a", "가", "e\u{301}", "👨‍👩‍👧", "🇰🇷", "\r\n", "\u{200d}", "\u{1112}\u{1161}", " "];
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let text: String = (0..random(20)).map(|_| pieces[random(pieces.len())]).collect();
        let limit = random(12);
        let count = text.chars().count();
        for keep in [Keep::Head, Keep::HeadTail] {
            match cut::range(&text, limit, keep) {
                None => assert!(count <= limit, "{limit} of {text:?}"),
                Some(it) => {
                    let left = count - text[it].chars().count();
                    assert!(count > limit && left <= limit, "{limit} of {text:?}");
                }
            }
        }
    }
}

#[test]
fn a_long_text_costs_what_its_limit_costs() {
    for unit in ["a", "가", "🇰🇷", "\u{301}", "👩‍", "क्"] {
        let text = unit.repeat((1 << 20) / unit.len());
        for keep in [Keep::Head, Keep::HeadTail] {
            assert!(cut::range(&text, 500, keep).is_some());
        }
    }
}

#[test]
fn limits_go_by_field_and_level() {
    let long = "x".repeat(10_000);
    let stays = |config: &str, severity: u32, name: &str| {
        let (plugin, _) = native::configure::<Truncate>(config).unwrap();
        let batch = BatchBuilder::new().record("e", severity).content(name, &long).build();
        native::edit(&plugin, &batch).edits.first().map(|it| it.start)
    };
    assert_eq!(stays("{}", 9, "bucksaw.prompt.text"), Some(100));
    assert_eq!(stays("{}", 5, "bucksaw.prompt.text"), Some(500));
    assert_eq!(stays("{}", 21, "bucksaw.response.text"), Some(100));
    assert_eq!(stays("{}", 17, "exception.message"), Some(500));
    assert_eq!(stays("{}", 17, "exception.stacktrace"), Some(4000));
    assert_eq!(stays("{}", 9, "url.path"), Some(1000));

    let config = r#"{"limits": {"bucksaw.prompt.text": {"INFO": 7, "default": 9},
                                "content": {"DEBUG": 20000}, "note": {"ERROR": 3}}}"#;
    assert_eq!(stays(config, 9, "bucksaw.prompt.text"), Some(7));
    assert_eq!(stays(config, 5, "bucksaw.prompt.text"), Some(9));
    assert_eq!(stays(config, 9, "bucksaw.response.text"), Some(100));
    assert_eq!(stays(config, 9, "url.path"), Some(1000));
    assert_eq!(stays(config, 5, "url.path"), None);
    assert_eq!(stays(config, 17, "note"), Some(3));
    assert_eq!(stays(config, 9, "note"), Some(1000));
}

#[test]
fn metadata_is_cut_only_where_it_is_named() {
    let (plugin, setup) =
        native::configure::<Truncate>(r#"{"limits": {"http.route": {"default": 2}}}"#).unwrap();
    assert_eq!(setup.reads[0], "content");
    assert!(setup.reads.iter().any(|it| it == "http.route"));
    let batch = BatchBuilder::new()
        .record("e", 9)
        .text("http.route", "/vision")
        .text("hw.name", &"x".repeat(5000))
        .int("n", 5)
        .build();
    let answer = native::edit(&plugin, &batch);
    assert_eq!(native::apply(&batch, 0, &answer.edits, &setup.labels), "/v…(+5)");
    assert_eq!(answer.edits.len(), 1);
}

#[test]
fn bad_configuration_is_refused() {
    let check = |config: &str, key: &str| {
        let diagnostics = native::configure::<Truncate>(config).unwrap_err();
        assert_eq!(diagnostics[0].key, key, "{diagnostics:?}");
    };
    check(r#"{"keep": "tail"}"#, "keep");
    check(r#"{"limits": {"a": {"info": 1}}}"#, "limits.a.info");
    check(r#"{"limits": {"a": {"INFO": -1}}}"#, "limits.a.INFO");
    check(r#"{"limit": {}}"#, "limit");
}
