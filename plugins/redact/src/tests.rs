//! What each kind takes out and leaves, and what configuration makes of it.

mod any_text;

use sdk::{
    Batch,
    native::{self, BatchBuilder},
};

use crate::Redact;

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
