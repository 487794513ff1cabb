//! What a text must hold for a regular expression to match in it: a few literals, one of which stands in every match. They are
//! read off the expression's syntax, wherever in it they are: rules for secrets begin with `[\w.-]{0,50}` more often than with
//! the name that they look for.

use std::{cmp::Reverse, collections::BTreeSet, mem};

use regex_syntax::hir::{Class, Hir, HirKind};

/// Literals of one expression: a list of names, each with its forms in Unicode (`(?i)k` also is the sign for Kelvin).
const LITERALS_MAX: usize = 64;
/// Bytes of a literal that are looked for: more say no more of ordinary text.
const BYTES_MAX: usize = 16;
/// Shorter ones stand in too many texts: finding them costs more than it saves.
const BYTES_MIN: usize = 3;
/// Characters of a class that are told apart: letters in both cases, quotes, separators.
const CLASS_MAX: u32 = 8;
/// Repetitions that are written out.
const REPEATS_MAX: u32 = 8;

/// Literals whose ASCII letters are in lower case.
pub(crate) type Literals = BTreeSet<Vec<u8>>;

/// One of these stands in whatever the expression matches, if the case of ASCII letters is not looked at. None when nothing that
/// is worth looking for must be there.
pub(crate) fn required(regex: &str) -> Option<Literals> {
    let literals = literals(regex).filter(|it| shortest(it) >= BYTES_MIN)?;
    Some(literals.into_iter().map(shortened).collect())
}

/// The same, however short they are.
fn literals(regex: &str) -> Option<Literals> {
    // What cannot be parsed was not compiled either.
    Needs::of(&regex_syntax::parse(regex).ok()?).required()
}

/// What is known of a part of an expression.
#[derive(Clone, Default)]
struct Needs {
    /// Everything that it can match, when that is little.
    exact: Option<Literals>,
    /// One of these stands in everything that it can match.
    any: Option<Literals>,
}

impl Needs {
    fn exact(literals: Literals) -> Self {
        Self { exact: Some(literals), any: None }
    }

    /// It matches the empty text and nothing else.
    fn nothing() -> Self {
        Self::exact(Literals::from([Vec::new()]))
    }

    fn of(hir: &Hir) -> Self {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Self::nothing(),
            HirKind::Literal(it) => Self::exact(Literals::from([it.0.to_ascii_lowercase()])),
            HirKind::Class(it) => characters(it).map_or_else(Self::default, Self::exact),
            HirKind::Capture(it) => Self::of(&it.sub),
            HirKind::Repetition(it) => Self::of(&it.sub).repeated(it.min, it.max),
            HirKind::Concat(all) => Self::joined(all.iter().map(Self::of)),
            HirKind::Alternation(all) => Self::either(all.iter().map(Self::of)),
        }
    }

    fn required(self) -> Option<Literals> {
        better(self.exact, self.any)
    }

    fn repeated(self, min: u32, max: Option<u32>) -> Self {
        match (min, max) {
            (_, Some(0)) => Self::nothing(),
            (0, Some(1)) => Self::either([Self::nothing(), self].into_iter()),
            (0, _) => Self::default(),
            (1..=REPEATS_MAX, Some(max)) if max == min => {
                Self::joined(std::iter::repeat_n(self, min as usize))
            }
            _ => Self { exact: None, any: self.required() },
        }
    }

    /// One after the other. Neighbours of which all is known become longer literals; the best of all of them is kept.
    fn joined(parts: impl Iterator<Item = Self>) -> Self {
        let empty = Literals::from([Vec::new()]);
        let (mut run, mut best, mut whole) = (empty.clone(), None, true);
        for part in parts {
            let longer = part.exact.as_ref().and_then(|it| cross(&run, it));
            if let Some(longer) = longer {
                run = longer;
                continue;
            }
            whole = false;
            let next = part.exact.unwrap_or_else(|| empty.clone());
            best = better(best, Some(mem::replace(&mut run, next)));
            best = better(best, part.any);
        }
        if whole { Self::exact(run) } else { Self { exact: None, any: better(best, Some(run)) } }
    }

    fn either(parts: impl Iterator<Item = Self>) -> Self {
        let (mut exact, mut any) = (Some(Literals::new()), Some(Literals::new()));
        for part in parts {
            exact = union(exact, part.exact.clone());
            any = union(any, part.required());
        }
        Self { exact, any }
    }
}

/// The characters of a class, when they are few.
fn characters(class: &Class) -> Option<Literals> {
    match class {
        Class::Unicode(it) => {
            let size = |from: char, to: char| u32::from(to) - u32::from(from) + 1;
            let count: u32 = it.ranges().iter().map(|it| size(it.start(), it.end())).sum();
            let all = it.ranges().iter().flat_map(|it| it.start()..=it.end());
            let text = |it: char| it.to_ascii_lowercase().to_string().into_bytes();
            (count <= CLASS_MAX).then(|| all.map(text).collect())
        }
        Class::Bytes(it) => {
            let size = |from: u8, to: u8| u32::from(to) - u32::from(from) + 1;
            let count: u32 = it.ranges().iter().map(|it| size(it.start(), it.end())).sum();
            let all = it.ranges().iter().flat_map(|it| it.start()..=it.end());
            (count <= CLASS_MAX).then(|| all.map(|it| vec![it.to_ascii_lowercase()]).collect())
        }
    }
}

/// Each of the first with each of the second behind it; none when that is too much.
fn cross(first: &Literals, second: &Literals) -> Option<Literals> {
    let longest = |it: &Literals| it.iter().map(Vec::len).max().unwrap_or_default();
    let bytes = (longest(first), longest(second));
    let long = bytes.0 > 0 && bytes.1 > 0 && bytes.0 + bytes.1 > BYTES_MAX;
    if long || first.len() * second.len() > LITERALS_MAX {
        return None;
    }
    let pairs = first.iter().flat_map(|a| second.iter().map(move |b| (a, b)));
    Some(pairs.map(|(a, b)| [a.as_slice(), b.as_slice()].concat()).collect())
}

/// All of both, when both are known and that is not too much.
fn union(first: Option<Literals>, second: Option<Literals>) -> Option<Literals> {
    let (mut all, more) = first.zip(second)?;
    all.extend(more);
    (all.len() <= LITERALS_MAX).then_some(all)
}

/// Those that fewer texts hold, as far as one can tell: the longer ones, or else the fewer. The empty one says nothing.
fn better(first: Option<Literals>, second: Option<Literals>) -> Option<Literals> {
    let known = [first, second].into_iter().flatten().filter(|it| shortest(it) > 0);
    known.max_by_key(|it| (shortest(it).min(BYTES_MAX), Reverse(it.len())))
}

/// What matches nothing at all needs more than any text has.
fn shortest(literals: &Literals) -> usize {
    literals.iter().map(Vec::len).min().unwrap_or(usize::MAX)
}

/// Where a literal stands, its beginning does.
fn shortened(mut literal: Vec<u8>) -> Vec<u8> {
    literal.truncate(BYTES_MAX);
    literal
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use regex::Regex;

    use super::*;

    #[test]
    fn the_literals_that_must_be_there() {
        let check = |regex: &str, expected: Option<&[&str]>| {
            let found = required(regex);
            let expected =
                expected.map(|it| it.iter().map(|it| it.as_bytes().to_vec()).collect::<Literals>());
            assert_eq!(found, expected, "{regex}");
        };
        check("abc", Some(&["abc"]));
        check("E-[0-9]{6}", None);
        check("EMP-[0-9]{6}", Some(&["emp-"]));
        check("[a-z]{0,20}(?:token|password)[ =:]{1,3}[a-f0-9]{32}", Some(&["password", "token"]));
        check("(?i)client", Some(&["client"]));
        check("(?i)key", Some(&["key", "\u{212a}ey"]));
        check("api[_-]?key", Some(&["api-key", "api_key", "apikey"]));
        check("(?:token|[0-9]+)x", None);
        check("(?:token)?", None);
        check("(?:token)+[0-9]", Some(&["token"]));
        check("(?:ab){3}", Some(&["ababab"]));
        check(r"\babcd\b|^efgh$", Some(&["abcd", "efgh"]));
        check("a-very-long-literal-in-it", Some(&["a-very-long-lite"]));
        check("", None);
        check(r"[^\s\S]", Some(&[]));
        check("(", None);
    }

    /// Expressions that have all forms of syntax in them, over few characters, so that they match now and then.
    fn regexes() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "[abks_]{1,4}",
            "[abks]{1,3}".prop_map(|it| format!("(?i:{it})")),
            Just("[ab]".to_owned()),
            Just("[a-z]".to_owned()),
            Just(".".to_owned()),
            Just(r"(?-u:\b)".to_owned()),
            Just(String::new()),
        ];
        leaf.prop_recursive(3, 24, 3, |inner| {
            let times = prop_oneof![
                Just("?"),
                Just("*"),
                Just("+"),
                Just("{0}"),
                Just("{2}"),
                Just("{1,3}"),
                Just("{9}"),
            ];
            prop_oneof![
                vec(inner.clone(), 1..4).prop_map(|it| it.concat()),
                vec(inner.clone(), 1..4).prop_map(|it| format!("(?:{})", it.join("|"))),
                (inner, times).prop_map(|(it, times)| format!("(?:{it}){times}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn nothing_matches_without_them(
            regex in regexes(),
            texts in vec("[abkKsS_\u{212a}\u{17f}]{0,12}", 1..20),
        ) {
            let Some(literals) = literals(&regex) else { return Ok(()) };
            // Some are too large.
            let Ok(compiled) = Regex::new(&regex) else { return Ok(()) };
            for text in texts.iter().filter(|it| compiled.is_match(it)) {
                let lower = text.to_ascii_lowercase();
                let holds = |it: &Vec<u8>| lower.as_bytes().windows(it.len()).any(|part| part == it);
                prop_assert!(literals.iter().any(holds), "{regex:?} {text:?} {literals:?}");
            }
        }
    }
}
