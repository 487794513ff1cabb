use sdk::{
    Batch,
    native::{self, BatchBuilder},
};

use crate::{Kind, Kinds, Match, Redact, scan};

/// What the text becomes under a configuration.
fn redacted(config: &str, text: &str) -> String {
    let (plugin, setup) = native::configure::<Redact>(config).unwrap();
    let batch = prompt(text).build();
    let answer = native::edit(&plugin, &batch);
    native::apply(&batch, 0, &answer.edits, &setup.labels)
}

fn prompt(text: &str) -> BatchBuilder {
    BatchBuilder::new().record("request.prompt", 9).content("bucksaw.prompt.text", text)
}

/// Each text, and what it becomes; one without a second half stays as it is.
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let expected = if expected.is_empty() { text } else { expected };
        assert_eq!(redacted("{}", text), *expected, "of {text:?}");
    }
}

#[test]
fn emails() {
    check(&[
        ("kim@example.com", "[EMAIL]"),
        ("메일은kim@example.com입니다", "메일은[EMAIL]입니다"),
        ("write to a.b-c_d+e%f@mail.example.co.kr.", "write to [EMAIL]."),
        ("<kim@example.com>,lee@example.org", "<[EMAIL]>,[EMAIL]"),
        ("kim@example.com2025년", "[EMAIL]2025년"),
        ("🙂kim@example.com🙂", "🙂[EMAIL]🙂"),
        ("kim@xn--3e0b707e.xn--3e0b707e", "[EMAIL]"),
        ("..kim@example.com", "..[EMAIL]"),
        ("a@b.io\nc@d.io", "[EMAIL]\n[EMAIL]"),
        ("010-1234-5678@example.com", "[EMAIL]"),
        ("@kim wrote", ""),
        ("kim@localhost", ""),
        ("kim.@example.com", ""),
        ("홍길동@회사", ""),
        ("a @ b.com", ""),
        ("@@@@", ""),
    ]);
}

#[test]
fn phones() {
    check(&[
        ("010-1234-5678", "[PHONE]"),
        ("전화는010-1234-5678입니다", "전화는[PHONE]입니다"),
        ("010 1234 5678", "[PHONE]"),
        ("010.1234.5678", "[PHONE]"),
        ("01012345678", "[PHONE]"),
        ("011-123-4567", "[PHONE]"),
        ("02-123-4567", "[PHONE]"),
        ("(02) 1234-5678", "[PHONE]"),
        ("031-123-4567로", "[PHONE]로"),
        ("070-1234-5678", "[PHONE]"),
        ("0505-123-4567", "[PHONE]"),
        ("+82 10 1234 5678", "[PHONE]"),
        ("+82-10-1234-5678", "[PHONE]"),
        ("+821012345678", "[PHONE]"),
        ("82-10-1234-5678", "[PHONE]"),
        ("+82 10 1234 5678 2025", "[PHONE] 2025"),
        ("+1 (555) 123-4567", "[PHONE]"),
        ("+44 20 7946 0958", "[PHONE]"),
        ("call (555) 123-4567 now", "call [PHONE] now"),
        ("555-123-4567", "[PHONE]"),
        ("1-800-555-0199", "[PHONE]"),
        ("０１０－１２３４－５６７８", "[PHONE]"),
        ("2025-01-09 14:30:25", ""),
        ("2025-01-09T14:30:25.123456+09:00", ""),
        ("02-12-2025", ""),
        ("1736400625", ""),
        ("10+12345678", ""),
        ("1234 5678 9012", ""),
        ("x010-1234-5678", ""),
        ("110-123-456789", ""),
        ("100-200-300-4000", ""),
        ("3.14159265358979", ""),
        ("12,345,678", ""),
        ("200 300 4000", ""),
    ]);
}

#[test]
fn cards() {
    check(&[
        ("4111111111111111", "[CARD]"),
        ("4111 1111 1111 1111", "[CARD]"),
        ("4111 1111 1111 1111 123", "[CARD] 123"),
        ("4111 1111 1111 1111 2026", "[CARD] 2026"),
        ("12 4111 1111 1111 1111", "12 [CARD]"),
        ("카드4111-1111-1111-1111로", "카드[CARD]로"),
        ("5555 5555 5555 4444 만료 12/27", "[CARD] 만료 12/27"),
        ("378282246310005", "[CARD]"),
        ("3782 822463 10005", "[CARD]"),
        ("6011111111111117", "[CARD]"),
        ("3530111333300000", "[CARD]"),
        ("4222222222222", "[CARD]"),
        ("4111111111111112", ""),
        ("4111-1111 1111-1111", ""),
        ("0.4111111111111111", ""),
        ("0000000000000000", ""),
        ("41111111111111111111", ""),
    ]);
}

#[test]
fn addresses() {
    check(&[
        ("192.168.0.1", "[IP]"),
        ("from 10.0.0.1:8080", "from [IP]:8080"),
        ("http://10.0.0.1/x", "http://[IP]/x"),
        ("서버192.168.0.1에서", "서버[IP]에서"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "[IP]"),
        ("host fe80::1: refused", "host [IP]: refused"),
        ("::ffff:192.168.0.1", "[IP]"),
        ("[2001:db8::1]:443", "[[IP]]:443"),
        ("256.1.1.1", ""),
        ("1.2.3", ""),
        ("1.2.3.4.5", ""),
        ("Chrome/120.0.0.0", ""),
        ("v1.2.3.4", ""),
        ("01.2.3.4", ""),
        ("std::vec", ""),
        ("a::b", ""),
        ("12:30:45", ""),
        ("00:1a:2b:3c:4d:5e", ""),
    ]);
}

#[test]
fn accounts_and_residents() {
    check(&[
        ("DE89370400440532013000", "[IBAN]"),
        ("GB82 WEST 1234 5698 7654 32", "[IBAN]"),
        ("계좌DE89 3704 0044 0532 0130 00입니다", "계좌[IBAN]입니다"),
        ("DE89370400440532013001", ""),
        ("AB12", ""),
        ("900101-1234567", "[KRN]"),
        ("주민번호는900101-1234567입니다", "주민번호는[KRN]입니다"),
        ("9001011234567", "[KRN]"),
        ("050505-3123456", "[KRN]"),
        ("991332-1234567", ""),
        ("900230-1234567", ""),
        ("900101-9234567", ""),
        ("1704067200000", ""),
        ("1736400625123", ""),
    ]);
}

#[test]
fn secrets() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P";
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nabc+/=\n-----END PRIVATE KEY-----";
    check(&[
        ("sk-abcDEF0123456789abcdef", "[SECRET]"),
        ("키는sk-proj-abcDEF0123456789-_abcdef입니다", "키는[SECRET]입니다"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "[SECRET]"),
        ("github_pat_11ABCDEFG0123456789_abcdefghijkl", "[SECRET]"),
        ("AKIAIOSFODNN7EXAMPLE", "[SECRET]"),
        ("id=ASIAIOSFODNN7EXAMPLE;", "id=[SECRET];"),
        ("xoxb-1234567890-abcdefghij", "[SECRET]"),
        ("hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345", "[SECRET]"),
        ("glpat-abcDEF0123456789xyz_", "[SECRET]"),
        ("AIzaSyA0123456789abcdefghijklmnopqrstuv", "[SECRET]"),
        ("npm_0123456789abcdefghijABCDEFGHIJ012345", "[SECRET]"),
        ("ya29.a0AfH6SMBabcdefghij0123", "[SECRET]"),
        ("rk_live_0123456789abcdef", "[SECRET]"),
        ("https://hooks.slack.com/services/T00000000/B00000000/abcdefgh", "https://[SECRET]"),
        (jwt, "[SECRET]"),
        ("Authorization: Bearer abcdefghij0123456789", "Authorization: Bearer [SECRET]"),
        ("Bearer abc.def-012345", "Bearer [SECRET]"),
        (
            "curl -H 'authorization: bearer abc.def-012345'",
            "curl -H 'authorization: bearer [SECRET]'",
        ),
        ("BEARER abc.def-012345", "BEARER [SECRET]"),
        ("forbearer abc.def-012345", ""),
        ("Authorization: Basic dXNlcjpwYXNzd29yZDE=", "Authorization: Basic [SECRET]"),
        (key, "[SECRET]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIB", "[SECRET]"),
        ("password=hunter2", "password=[SECRET]"),
        ("Password: \"a b c\", next", "Password: \"[SECRET]\", next"),
        ("비밀번호: qwer1234!", "비밀번호: [SECRET]"),
        (r#"{"api_key": "abcdefgh12"}"#, r#"{"api_key": "[SECRET]"}"#),
        (r#"{\"api_key\": \"abcdefgh12\"}"#, r#"{\"api_key\": \"[SECRET]\"}"#),
        ("DB_PASSWORD='x y'", "DB_PASSWORD='[SECRET]'"),
        ("access-token = abcdefgh12, x", "access-token = [SECRET], x"),
        ("passphrase: abcd1", "passphrase: [SECRET]"),
        ("DB_PWD=hunter2", "DB_PWD=[SECRET]"),
        ("my passwd : hunter2", "my passwd : [SECRET]"),
        ("credential=abcdefgh12", "credential=[SECRET]"),
        ("CREDENTIALS_: abcdefgh12", "CREDENTIALS_: [SECRET]"),
        ("토큰: abcdefgh12", "토큰: [SECRET]"),
        ("sk-learn-documentation-guide", ""),
        ("task-0123456789abcdef0123", ""),
        ("max_tokens: 512", ""),
        ("token: 145", ""),
        ("Password: Please enter it", ""),
        ("password = null", ""),
        ("if password == other1234", ""),
        ("token::new12345678", ""),
        ("Bearer of good news", ""),
        ("-----BEGIN CERTIFICATE-----", ""),
        ("www.example.com/a_b-c.html", ""),
        ("AKIAIOSFODNN7EXAMPLEX", ""),
    ]);
}

#[test]
fn a_name_is_read_by_its_end() {
    use crate::secret::{AUTHORIZATION, ENDS, PASSWORDS, TOKENS};
    for name in PASSWORDS.iter().chain(&TOKENS).chain([&AUTHORIZATION]) {
        assert!(name.last().is_some_and(|it| ENDS.contains(it)), "{name:?}");
    }
}

#[test]
fn clean_text_stays() {
    check(&[
        ("이 사진에 무엇이 있나요? 자세히 설명해 주세요.", ""),
        ("What is in this picture? Answer in 3 short sentences - no more.", ""),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ""),
        ("let x: Vec<u8> = foo::bar(1, 2);", ""),
        ("", ""),
        ("あいう、中文字，標點。", ""),
    ]);
}

#[test]
fn configuration_decides() {
    let text = "kim@example.com 010-1234-5678 E-123456";
    let check = |config: &str, expected: &str| assert_eq!(redacted(config, text), expected);
    check(r#"{"kinds": ["email"]}"#, "[EMAIL] 010-1234-5678 E-123456");
    check(r#"{"kinds": []}"#, text);
    check(r#"{"mode": "pseudonym"}"#, "[EMAIL:15] [PHONE:13] E-123456");
    check(r#"{"modes": {"email": "pseudonym"}}"#, "[EMAIL:15] [PHONE] E-123456");
    check(r#"{"allow": ["kim@example.com"]}"#, "kim@example.com [PHONE] E-123456");
}

#[test]
fn bad_configuration_is_refused() {
    let check = |config: &str, key: &str| {
        let diagnostics = native::configure::<Redact>(config).unwrap_err();
        assert_eq!(diagnostics[0].key, key, "{config}: {diagnostics:?}");
    };
    check(r#"{"kind": []}"#, "kind");
    check(r#"{"kinds": ["emails"]}"#, "kinds[0]");
    check(r#"{"mode": "hash"}"#, "mode");
    check(r#"{"modes": {"emails": "label"}}"#, "modes.emails");
    check(r#"{"patterns": [{"name": "a b", "regex": "x"}]}"#, "patterns[0].name");
    check(r#"{"patterns": [{"name": "email", "regex": "x"}]}"#, "patterns[0].name");
    check(r#"{"patterns": [{"name": "x", "regex": ""}]}"#, "patterns[0].regex");
    check(r#"{"allow": [""]}"#, "allow[0]");
}

#[test]
fn hits_of_the_host_become_edits() {
    let config = r#"{"patterns": [{"name": "employee", "regex": "E-[0-9]{6}"},
                                  {"name": "long", "regex": ".*"}],
                     "modes": {"employee": "pseudonym"}, "allow": ["E-000000"]}"#;
    let (plugin, setup) = native::configure::<Redact>(config).unwrap();
    assert_eq!(setup.labels.last().unwrap(), "LONG");
    assert_eq!((setup.patterns[1].id, setup.patterns[0].regex.as_str()), (1, "E-[0-9]{6}"));
    let check = |batch: Batch, expected: &str| {
        let answer = native::edit(&plugin, &batch);
        assert_eq!(native::apply(&batch, 0, &answer.edits, &setup.labels), expected);
    };
    check(prompt("사번 E-123456").hit(0, 7..15).build(), "사번 [EMPLOYEE:8]");
    check(prompt("사번 E-000000").hit(0, 7..15).build(), "사번 E-000000");
    let text = "kim@example.com E-123456";
    check(prompt(text).hit(0, 16..24).build(), "[EMAIL] [EMPLOYEE:8]");
    check(prompt(text).hit(1, 0..24).hit(0, 16..24).build(), "[LONG]");
    check(prompt(text).hit(1, 4..24).build(), "[EMAIL][LONG]");
    // Hits that lie wrongly, or name a pattern that isn't there.
    check(prompt("가나").hit(0, 1..3).hit(0, 0..99).hit(9, 0..3).build(), "가나");
}

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
        // Every position in a word of eight bytes.
        for shift in 0..20 {
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
        parts in proptest::collection::vec(AROUND, 1..12),
    ) {
        use crate::{email, iban, ip, number::{self, Groups}, secret, trigger::Triggers};
        let text: String = parts.concat();
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
