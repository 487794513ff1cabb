//! What holds for any text: order, time, and that nothing is passed over, by the guard or by the pass.

use crate::{Kind, Kinds, Match, scan};

fn found(text: &str) -> Vec<Match> {
    let mut out = Vec::new();
    scan(text, Kinds::ALL, &mut out);
    out
}

#[test]
fn time_grows_with_the_length_only() {
    // Each of these would take minutes if some matcher went over the text again and again.
    let size = 1 << 18;
    for unit in [
        "@",
        "a@",
        "a@b.",
        "1",
        "1-",
        "12 ",
        "1.",
        "eyJ",
        "eyJ.",
        "eyJaaaaaaaaa.",
        "-",
        "-----BEGIN ",
        "_",
        "sk-",
        "ghp_",
        ":",
        "a:",
        "::",
        "password=",
        "password='",
        "token: ",
        "Bearer ",
        "AKIA",
        "B",
        "가@",
        "-----BEGIN PRIVATE KEY-----",
        "０",
        "+1 ",
    ] {
        let text = unit.repeat(size / unit.len());
        let _ = found(&text);
    }
}

#[test]
fn matches_lie_in_order_on_character_boundaries() {
    let pieces = [
        "가",
        "메일",
        "🙂",
        "e\u{301}",
        " ",
        "\n",
        "@",
        "kim@example.com",
        "010-1234-5678",
        "4111111111111111",
        "-",
        ".",
        ":",
        "::",
        "=",
        "_",
        "1",
        "23",
        "0",
        "password",
        "\"",
        "'",
        "\\",
        "sk-",
        "eyJ",
        "A",
        "B",
        "a",
        "Bearer ",
        "-----BEGIN PRIVATE KEY-----",
        "２",
        "＠",
        "DE89",
        "+82",
        "(",
        ")",
        "fe80",
        "토큰",
    ];
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let text: String = (0..random(24)).map(|_| pieces[random(pieces.len())]).collect();
        let mut end = 0;
        for it in found(&text) {
            assert!(end <= it.start && it.start < it.end, "{it:?} in {text:?}");
            assert!(text.get(it.start..it.end).is_some(), "{it:?} in {text:?}");
            end = it.end;
        }
    }
}

#[test]
fn nothing_is_left_wherever_it_stands() {
    let values = [
        (Kind::Email, "kim@example.com"),
        (Kind::Phone, "010-1234-5678"),
        (Kind::Card, "4111 1111 1111 1111"),
        (Kind::Ip, "192.168.0.1"),
        (Kind::Krn, "900101-1234567"),
        (Kind::Secret, "ghp_0123456789abcdefghijABCDEFGHIJ012345"),
    ];
    for (kind, value) in values {
        // Every position in a block of 64 bytes, and across the end of one.
        for shift in 0..130 {
            let text = format!("{}가{value}나{}", "x".repeat(shift), "y".repeat(shift));
            let all = found(&text);
            assert_eq!(all.len(), 1, "{text:?}");
            assert_eq!((all[0].kind, &text[all[0].start..all[0].end]), (kind, value));
        }
    }
}

/// Values of every kind in every form, and what stands around them.
const PIECES: &[&str] = &[
    "kim@example.com",
    "k@x--y.z.io",
    "010-1234-5678",
    "01012345678",
    "02-123-4567",
    "0505 123 4567",
    "(031) 123-4567",
    "82-10-1234-5678",
    "+82 10 1234 5678",
    "+(44) 20 7946 0958",
    "+12345678",
    "(555) 123-4567",
    "1-800-555-0199",
    "4111111111111111",
    "4222222222222",
    "4111 1111 1111 1111",
    "3782 822463 10005",
    "3782-8224-63100",
    "2223003122003222",
    "192.168.0.1",
    "::ffff:10.0.0.1",
    "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    "1:2:3:4:5:6:1.2.3.4",
    "fe80::1",
    "::1",
    "DE89370400440532013000",
    "DE8 9370400440532013000",
    "gb82 WEST 1234 5698 7654 32",
    "NO93-8601-1117-947",
    "900101-1234567",
    "9001011234567",
    "sk-abcDEF0123456789abcdef",
    "xoxb-1234567890-abcdefghij",
    "glpat-abcDEF0123456789xyz_",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_11ABCDEFG0123456789_abcdefghijkl",
    "dckr_pat_0123456789abcdef",
    "rk_live_0123456789",
    "ya29.a0AfH6SMBabcdefghij0123",
    "SG.abcdefghij0123456789.abcdefghij",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "Bearer abc.def-012345",
    "bearer abc.def-012345",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3",
    "https://hooks.slack.com/services/T00000000/B00000000/abcdefgh",
    "https://discord.com/api/webhooks/123456789012345678/abc",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIB",
    "password=hunter2",
    "PASS-WORD_ \\\"  : \"a b c\"",
    "비밀번호: qwer1234!",
    "\"api_key\": \"abcdefgh12\"",
    "Proxy-Authorization: Basic dXNlcjpwYXNzd29yZDE=",
    "client.secret := abcdefgh12",
    "０１０－１２３４－５６７８",
    "ｋｉｍ＠ｅｘａｍｐｌｅ．ｃｏｍ",
    "암호＝abcdefgh12",
    "kim＠example.com",
    "010－1234－5678",
    "192．168．0．1",
    "１92.168.0.1",
    "fe80：:1",
    "（",
    "＿",
    "！",
    "，",
    "？",
    "；",
    "가",
    "x",
    "_",
    " ",
    "  ",
    "-",
    ".",
    ":",
    "::",
    "=",
    "@",
    "+",
    "(",
    ")",
    "/",
    "\"",
    "\n",
    "0",
    "1",
    "12",
    "2026",
    "token",
    "DE",
    "A",
];

/// The guard of each set of kinds.
static GUARDS: std::sync::LazyLock<Vec<regex::Regex>> = std::sync::LazyLock::new(|| {
    (0..128).map(|it| regex::Regex::new(&crate::guard::regex(kinds_of(it))).unwrap()).collect()
});

fn kinds_of(bits: u8) -> Kinds {
    Kind::ALL.into_iter().filter(|it| bits & (1 << it.index()) != 0).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20_000))]

    /// Nothing that the matchers would find is kept from them: what the guard does not match, they have nothing to do with.
    #[test]
    fn the_guard_matches_whatever_is_found(
        pieces in proptest::collection::vec((0..PIECES.len(), 0..40_usize, 0..40_usize), 1..6),
        bits in 1..128_u8,
    ) {
        // Parts of values, from and up to some character, so that what is asked for is there in part.
        let text: String = pieces
            .iter()
            .map(|(at, from, cut)| {
                let piece: Vec<char> = PIECES[*at].chars().collect();
                // Most values stay whole.
                let from = from.saturating_sub(30).min(piece.len());
                let to = piece.len() - cut.saturating_sub(30).min(piece.len() - from);
                piece[from..to].iter().collect::<String>()
            })
            .collect();
        let mut out = Vec::new();
        scan(&text, kinds_of(bits), &mut out);
        if !out.is_empty() {
            let guard = &GUARDS[usize::from(bits)];
            proptest::prop_assert!(guard.is_match(&text), "{out:?} in {text:?}");
        }
    }
}

/// Digits and words, and everything that may go on with them or stand around them.
const AROUND: &str = "[0-9]{1,14}|[ ().+:-]{1,4}|[a-zA-Z]{1,3}|[a-f0-9:]{2,9}|DE89|가|_|/|=|@|AKIA|eyJhbGciOi|sk-|[Bb]earer|비번";

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20_000))]

    /// Places that are not looked at are nothing to any matcher.
    #[test]
    fn what_is_passed_over_is_nothing(
        before in 0..64_usize,
        parts in proptest::collection::vec(AROUND, 1..12),
    ) {
        use crate::{email, iban, ip, number::{self, Groups}, secret, trigger::Triggers};
        let text = format!("{}{}", "/".repeat(before), parts.concat());
        let bytes = text.as_bytes();
        let (mut few, mut all) = (Triggers::<false>::new(bytes), Triggers::<true>::new(bytes));
        for at in 0..bytes.len() {
            let mut tokens = secret::Tokens::default();
            let found = secret::find(bytes, at, &mut tokens);
            proptest::prop_assert!(found.is_none() || all.next(at) == Some(at), "{at} in {text:?}");
            let found = match bytes[at] {
                b'0'..=b'9' => {
                    let groups = Groups::parse(bytes, at);
                    [number::krn, number::card, ip::v4, number::phone]
                        .iter()
                        .find_map(|find| find(bytes, &groups))
                        .or_else(|| iban::find(bytes, at))
                }
                b':' => ip::v6(bytes, at).0,
                b'@' => email::find(bytes, at),
                _ => None,
            };
            let looks = few.next(at) == Some(at) && all.next(at) == Some(at);
            proptest::prop_assert!(found.is_none() || looks, "{at} in {text:?}");
        }
    }
}

#[test]
fn the_guard_keeps_clean_text_out() {
    let guard = regex::Regex::new(&crate::guard::regex(Kinds::ALL)).unwrap();
    let check = |text: &str| assert!(!guard.is_match(text), "{text:?}");
    check("이 사진에 무엇이 있나요? 자세히 설명해 주세요. 1,200원입니다！");
    check("- 2025-01-09 14:30:25.123456+09:00 took 1736400625123 ms, 3.14159265358979");
    check("let x: Vec<u8> = std::vec![1, 2]; // see https://example.org/docs?page=2#a_b-c");
    check("{\"max_tokens\": 512, \"temperature\": 0.7, \"version\": \"1.12.3\"}");
    check("@kim wrote: a task-based, risk-free approach; 00:1a:2b:3c:4d:5e; Chrome/120");
    assert!(!regex::Regex::new(&crate::guard::regex(Kinds::from_iter([]))).unwrap().is_match("x"));
}
