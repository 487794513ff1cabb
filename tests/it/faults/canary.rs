//! Secrets that stand in every text of a case and nowhere else, and the search for them in what left, however they are written
//! there. What counts as a secret is said by the plugin `redact`, compiled natively.

use redact::Kinds;
use regex::Regex;

use crate::support::base64;

/// One of each kind that has no other way to be recognized, and texts that hold all of them.
pub(crate) struct Canaries {
    /// Four letters that each text begins with: no secret, unless they come out as a number.
    tag: String,
    email: String,
    /// In groups of four.
    card: String,
    krn: String,
    key: String,
    iban: String,
    phone: String,
    /// What must not be in a text as it is.
    exact: Regex,
    /// What must not be in a text of which only letters and digits are left, in lower case.
    squeezed: Regex,
}

impl Canaries {
    /// The same number gives the same secrets.
    pub(crate) fn new(number: u64) -> Self {
        let mut random = Lcg(number);
        let tag = random.letters(4);
        let (user, host) = (random.letters(5), random.letters(6));
        let email = format!("{user}.{}@mail-{host}.example", random.digits(4));
        let card = card(&mut random);
        let born = (70 + random.below(30), 1 + random.below(12), 1 + random.below(28));
        let krn = format!(
            "{:02}{:02}{:02}-{}{}",
            born.0,
            born.1,
            born.2,
            1 + random.below(4),
            random.digits(6)
        );
        // A digit, so that it looks drawn whatever else is drawn.
        let key = format!("sk-proj-7{}", random.any(39));
        let iban = iban(&mut random);
        let phone = format!("010-{}{}-{}", 2 + random.below(8), random.digits(3), random.digits(4));
        let secrets = [&email, &card, &krn, &key, &iban, &phone];
        let exact = any_of(secrets.iter().flat_map(|it| written(it)));
        let squeezed = any_of(secrets.iter().flat_map(|it| {
            let solid = squeeze(it);
            [hex(it), hex(&solid), hex(&solid.to_uppercase()), solid]
        }));
        Self { tag, email, card, krn, key, iban, phone, exact, squeezed }
    }

    /// A text with all secrets, a character of several bytes, and the word `secret`, which is none. Without its secrets it is
    /// short enough that nothing else is cut.
    pub(crate) fn text(&self) -> String {
        self.text_with("한")
    }

    /// The same with the word that one guest cannot bear.
    pub(crate) fn poison(&self) -> String {
        self.text_with("한 poison")
    }

    fn text_with(&self, word: &str) -> String {
        let Self { tag, email, card, krn, key, iban, phone, .. } = self;
        format!("{tag} {word} secret to {email}, {card}, {krn}, {key}, {iban}, {phone}.")
    }

    /// A path with all secrets; ASCII without spaces.
    pub(crate) fn path(&self) -> String {
        let Self { tag, email, card, krn, key, iban, phone, .. } = self;
        let card = card.replace(' ', "");
        format!("/{tag}/{email}/{card}/{krn}/{key}/{iban}/{phone}")
    }

    /// How the texts begin: content, and no secret.
    pub(crate) fn beginnings(&self) -> [String; 2] {
        [format!("{} 한", self.tag), format!("/{}/", self.tag)]
    }

    /// A secret in a text, in whatever form it stands there.
    pub(crate) fn find(&self, text: &str) -> Option<String> {
        let exact = self.exact.find(text).map(|it| it.as_str().to_owned());
        let solid = || self.squeezed.find(&squeeze(text)).map(|it| it.as_str().to_owned());
        exact.or_else(solid).or_else(|| self.find_number(text))
    }

    /// How texts begin, as the number that these four bytes are.
    fn find_number(&self, text: &str) -> Option<String> {
        let numbers = [self.tag.as_str(), self.path().as_str()].map(|it| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&it.as_bytes()[..4]);
            u32::from_le_bytes(bytes).to_string()
        });
        numbers.into_iter().find(|number| {
            text.match_indices(number.as_str()).any(|(at, it)| {
                let digit = |it: Option<char>| it.is_some_and(|it| it.is_ascii_digit());
                let (before, after) = (&text[..at], &text[at + it.len()..]);
                !digit(before.chars().next_back()) && !digit(after.chars().next())
            })
        })
    }
}

/// What `redact` makes of a text.
pub(crate) fn redacted(text: &str) -> String {
    let mut found = Vec::new();
    redact::scan(text, Kinds::ALL, &mut found);
    let (mut out, mut at) = (String::new(), 0);
    for it in found {
        out.push_str(&text[at..it.start]);
        out.push_str(&format!("[{}]", it.kind.name().to_ascii_uppercase()));
        at = it.end;
    }
    out + &text[at..]
}

/// Forms in which letters count as they are: for an address, and in base64, wherever in a longer text it begins.
fn written(secret: &str) -> Vec<String> {
    let solid = squeeze_keeping_case(secret);
    let mut forms = vec![secret.replace('@', "%40").replace(' ', "%20")];
    for it in [secret, solid.as_str()] {
        for before in 0..3 {
            let core = base64_core(it, before);
            forms.push(core.replace('+', "-").replace('/', "_"));
            forms.push(core);
        }
    }
    forms
}

/// Those characters of a text's base64 that are the same whatever stands behind it, with so many bytes before it.
fn base64_core(text: &str, before: usize) -> String {
    let bytes = [vec![0; before], text.as_bytes().to_vec()].concat();
    let all = base64(&bytes);
    all[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
}

fn hex(text: &str) -> String {
    text.bytes().map(|it| format!("{it:02x}")).collect()
}

fn squeeze(text: &str) -> String {
    squeeze_keeping_case(text).to_ascii_lowercase()
}

fn squeeze_keeping_case(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn any_of(words: impl Iterator<Item = String>) -> Regex {
    let words: Vec<String> = words.map(|it| regex::escape(&it)).collect();
    Regex::new(&words.join("|")).unwrap()
}

/// The number of a card: 16 digits with a good check digit (Luhn).
fn card(random: &mut Lcg) -> String {
    let mut digits = format!("4{}", random.digits(14));
    let sum: u32 = digits
        .bytes()
        .enumerate()
        .map(|(at, it)| match u32::from(it - b'0') * if at % 2 == 0 { 2 } else { 1 } {
            it if it > 9 => it - 9,
            it => it,
        })
        .sum();
    digits.push_str(&((10 - sum % 10) % 10).to_string());
    [&digits[..4], &digits[4..8], &digits[8..12], &digits[12..]].join(" ")
}

/// The number of a German account: check digits by ISO 7064.
fn iban(random: &mut Lcg) -> String {
    let account = random.digits(18);
    // `DE00` as numbers, at the end.
    let rest = format!("{account}131400")
        .bytes()
        .fold(0, |rest, it| (rest * 10 + u32::from(it - b'0')) % 97);
    format!("DE{:02}{account}", 98 - rest)
}

/// Numerical Recipes' linear congruential generator: enough to mix letters, and the same everywhere.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn pick(&mut self, from: &[u8], count: usize) -> String {
        (0..count).map(|_| char::from(from[self.below(from.len() as u64) as usize])).collect()
    }

    fn letters(&mut self, count: usize) -> String {
        self.pick(b"abcdefghijklmnopqrstuvwxyz", count)
    }

    fn digits(&mut self, count: usize) -> String {
        self.pick(b"0123456789", count)
    }

    fn any(&mut self, count: usize) -> String {
        self.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", count)
    }
}

#[test]
fn every_canary_is_taken_out() {
    for number in 0..500 {
        let it = Canaries::new(number);
        for text in [it.text(), it.poison(), it.path()] {
            let clean = redacted(&text);
            assert_eq!(clean.matches('[').count(), 6, "{text}: {clean}");
            assert_eq!(it.find(&clean), None, "{text}: {clean}");
            // What is cut at 100 characters would have to be cut in the tests as well.
            assert!(clean.chars().count() <= 100, "{clean}");
        }
    }
}

#[test]
fn a_canary_is_found_in_any_form() {
    let it = Canaries::new(7);
    let check = |text: &str| assert!(it.find(text).is_some(), "{text}");
    for secret in [&it.email, &it.card, &it.krn, &it.key, &it.iban, &it.phone] {
        check(secret);
        check(&squeeze(secret));
        check(&format!("x{}y", secret.to_uppercase()));
        check(&secret.chars().map(|it| format!("{it} ")).collect::<String>());
        check(&format!("is {} here", hex(secret).to_uppercase()));
        check(&hex(&squeeze(secret)));
        for before in ["", "x", "xx", "xxx"] {
            check(&base64(format!("{before}{secret} and more").as_bytes()));
        }
    }
    let number = u32::from_le_bytes(it.tag.as_bytes().try_into().unwrap());
    check(&format!("code {number}"));
    assert_eq!(it.find(&format!("1{number}")), None);
    assert_eq!(it.find(&format!("{} and nothing else", it.tag)), None);
    assert_eq!(it.find(&Canaries::new(8).text()), None);
}
