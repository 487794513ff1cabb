//! The job as the author of a plugin would write it: five regular expressions, and check digits where there are any. The
//! guests of other hosts use it, and natively it is a yardstick. It knows nothing of hosts.

use std::sync::LazyLock;

use regex::Regex;

/// One kind of value that is taken out.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What stands there instead.
    pub label: &'static str,
    /// Word boundaries are ASCII's: a Unicode one makes the engine slow on any text that is not ASCII.
    pub pattern: &'static str,
    /// What the pattern cannot say: check digits.
    pub check: Check,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    None,
    Luhn,
    Mod97,
}

/// E-mail addresses, cards of 16 digits, Korean resident registration numbers, IPv4 addresses, bank accounts.
pub const RULES: [Rule; 5] = [
    Rule {
        label: "[EMAIL]",
        pattern: r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
        check: Check::None,
    },
    Rule {
        label: "[CARD]",
        pattern: r"(?-u:\b)(?:[0-9]{4}[ -]?){3}[0-9]{4}(?-u:\b)",
        check: Check::Luhn,
    },
    Rule { label: "[KRN]", pattern: r"(?-u:\b)[0-9]{6}-[1-8][0-9]{6}(?-u:\b)", check: Check::None },
    Rule {
        label: "[IP]",
        pattern: concat!(
            r"(?-u:\b)(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}",
            r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?-u:\b)"
        ),
        check: Check::None,
    },
    Rule {
        label: "[IBAN]",
        pattern: r"(?-u:\b)[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}(?-u:\b)",
        check: Check::Mod97,
    },
];

static REGEXES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let compile = |it: &Rule| Regex::new(it.pattern).unwrap_or_else(|it| unreachable!("{it}"));
    RULES.iter().map(compile).collect()
});

/// The text without the values, or none when it holds none.
pub fn redact(text: &str) -> Option<String> {
    let mut redacted = None;
    for (rule, regex) in RULES.iter().zip(REGEXES.iter()) {
        let text = redacted.as_deref().unwrap_or(text);
        if let Some(it) = replace(text, rule, regex) {
            redacted = Some(it);
        }
    }
    redacted
}

fn replace(text: &str, rule: &Rule, regex: &Regex) -> Option<String> {
    let mut out = String::new();
    let mut at = 0;
    for found in regex.find_iter(text).filter(|it| rule.check.holds(it.as_str())) {
        if at == 0 {
            out.reserve(text.len());
        }
        out.push_str(&text[at..found.start()]);
        out.push_str(rule.label);
        at = found.end();
    }
    (at > 0).then(|| {
        out.push_str(&text[at..]);
        out
    })
}

impl Check {
    /// Whether what a pattern found is a value.
    pub fn holds(self, found: &str) -> bool {
        match self {
            Self::None => true,
            Self::Luhn => luhn(found) == 0,
            Self::Mod97 => found.is_ascii() && mod_97(found) == 1,
        }
    }
}

/// The sum of a card's digits, every second one from the right doubled, modulo 10. What is no digit does not count.
pub fn luhn(number: &str) -> u32 {
    let digits = number.chars().rev().filter_map(|it| it.to_digit(10));
    let weigh = |(at, digit): (usize, u32)| match digit * 2 {
        _ if at % 2 == 0 => digit,
        double if double > 9 => double - 9,
        double => double,
    };
    digits.enumerate().map(weigh).sum::<u32>() % 10
}

/// The remainder of an account's number, its first four characters last and its letters as 10 to 35.
pub fn mod_97(account: &str) -> u32 {
    let (head, tail) = account.split_at(4.min(account.len()));
    tail.chars().chain(head.chars()).filter_map(|it| it.to_digit(36)).fold(0, |rest, digit| {
        if digit < 10 { (rest * 10 + digit) % 97 } else { (rest * 100 + digit) % 97 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_the_rest_stays() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(redact(text).as_deref(), expected, "of {text:?}");
        };
        check("메일 kim@example.com, 1.12.3", Some("메일 [EMAIL], 1.12.3"));
        check("card 4111 1111 1111 1111, or", Some("card [CARD], or"));
        check("card 4111 1111 1111 1112, or", None);
        check("900101-1234567 203.0.113.77", Some("[KRN] [IP]"));
        check("DE89370400440532013000", Some("[IBAN]"));
        check("DE89370400440532013001", None);
        check("", None);
    }
}
