//! What a text must hold before any matcher can find something in it, as a regular expression: the host runs it natively, and
//! shows this plugin no other text. Most text is clean, so most of it never enters.
//!
//! It must match whatever the matchers find, and may match more. A matcher that learns a new form needs it here first, and the
//! test `the_guard_matches_whatever_is_found` says when it is missing.

use crate::{Kind, Kinds, iban};

/// What stands between groups of digits.
const GAP: &str = "[ ().-]{1,3}";
const CARD_GAP: &str = "[ -]{1,3}";
/// Where a run of digits begins that is not the fraction of a number.
const START: &str = r"(?:^|[^0-9.]|(?:^|[^0-9])\.)";

/// Full-width forms may be any of the characters looked for. Only the marks of a sentence, which are nowhere else than at
/// the end of a value, are left out: `，`, `！`, `？`, `；`.
const FULL_WIDTH: &str = r"[\x{ff02}-\x{ff0b}\x{ff0d}-\x{ff1a}\x{ff1c}-\x{ff1e}\x{ff20}-\x{ff5e}]";

/// The regular expression for these kinds; for none of them, one that matches nothing.
pub fn regex(kinds: Kinds) -> String {
    let mut parts: Vec<String> =
        Kind::ALL.into_iter().filter(|it| kinds.has(*it)).map(of_kind).collect();
    if parts.is_empty() {
        return r"[^\s\S]".to_owned();
    }
    parts.push(FULL_WIDTH.to_owned());
    parts.join("|")
}

fn of_kind(kind: Kind) -> String {
    match kind {
        Kind::Email => r"[A-Za-z0-9_%+-]@[A-Za-z0-9][A-Za-z0-9-]*\.[A-Za-z0-9]".to_owned(),
        Kind::Phone => phone(),
        Kind::Card => card(),
        Kind::Ip => ip(),
        Kind::Iban => iban(),
        Kind::Krn => krn(),
        Kind::Secret => secret(),
    }
}

fn phone() -> String {
    [
        // Eight digits behind a plus.
        r"\+\(?[1-9](?:[ ().-]{0,3}[0-9]){7}".to_owned(),
        format!(r"(?-u:\b)82{GAP}10{GAP}[0-9]{{3}}"),
        // A trunk zero: in one run, or code and number, or code and two groups.
        r"(?-u:\b)0[1-8][0-9]{8}".to_owned(),
        format!("(?-u:\\b)0[1-8][0-9]{{0,2}}{GAP}[0-9]{{3}}(?:[0-9]{{4}}|[0-9]?{GAP}[0-9]{{4}})"),
        // North American: the first gap is more than spaces.
        format!(
            r"(?-u:\b)[2-9][0-9]{{2}}[ ().-]{{0,2}}[).-][ ().-]{{0,2}}[0-9]{{3}}{GAP}[0-9]{{4}}"
        ),
    ]
    .join("|")
}

/// The prefixes that issuers have, in their first two digits.
fn card() -> String {
    let first = "(?:2[2-7]|[34569][0-9]|81)";
    format!(
        "{START}{first}[0-9]{{2}}(?:[0-9]{{9}}|{CARD_GAP}[0-9]{{6}}{CARD_GAP}[0-9]{{4}}\
         |{CARD_GAP}[0-9]{{4}}{CARD_GAP}(?:[0-9]{{5}}|[0-9]{{4}}{CARD_GAP}[0-9]{{4}}))"
    )
}

/// Six digits that may be a date of birth, and the digit of the century.
fn krn() -> String {
    format!("{START}[0-9]{{2}}[01][0-9][0-3][0-9][ -]{{0,3}}[1-8][0-9]{{6}}")
}

/// Four groups with points; eight with colons, or six and an IPv4 address; or two colons side by side and a digit.
fn ip() -> String {
    [
        r"(?-u:\b)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        "(?:^|[^A-Za-z0-9_:.])(?:[0-9A-Fa-f]{1,4}:){6}",
        "[0-9][0-9A-Fa-f:.]*::|::[0-9A-Fa-f:.]*[0-9]",
    ]
    .join("|")
}

/// A country, a digit, and as many characters as the shortest number has.
fn iban() -> String {
    let countries: Vec<&str> = iban::countries().collect();
    format!(r"(?:(?-u:\b)|_)(?i-u:{})[0-9](?:[ -]?[A-Za-z0-9]){{12}}", countries.join("|"))
}

fn secret() -> String {
    let assigned = [
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "secret",
        "token",
        "apikey",
        "accesskey",
        "secretkey",
        "privatekey",
        "credential",
        "credentials",
        "authorization",
    ];
    // Names are read without these three: `API_KEY`.
    let assigned: Vec<String> = assigned
        .iter()
        .map(|it| it.chars().map(String::from).collect::<Vec<_>>().join("[-_.]*"))
        .collect();
    [
        r"(?:sk-|xox[abprs]-|xapp-|glpat-|pypi-|nvapi-|gh[oprsu]_|github_pat_|dckr_pat_|hf_|npm_|gsk_|whsec_|ya29\.|SG\.)[A-Za-z0-9_-]{16}"
            .to_owned(),
        "[rs]k_(?:live|test)_[A-Za-z0-9_-]{10}".to_owned(),
        "A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30}".to_owned(),
        "(?i-u:bearer) [A-Za-z0-9._~+/=-]{12}".to_owned(),
        "eyJ[A-Za-z0-9_-]{7}".to_owned(),
        r"hooks\.slack\.com/services/|discord\.com/api/webhooks/".to_owned(),
        "-----BEGIN ".to_owned(),
        format!(
            r#"(?:(?i-u:{})[-_.]*|비밀번호|패스워드|암호|비번|토큰)\\?["'`]? {{0,2}}[:=]"#,
            assigned.join("|")
        ),
    ]
    .join("|")
}
