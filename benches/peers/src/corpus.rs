//! The records: texts of four sizes as people and models write them, without and with values to take out. The same seed gives
//! the same records, and all peers read one file.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Bytes of a text; what it has is at most one word less.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// One value stands in about as many bytes: a text of 1,000 has one of each kind.
const BYTES_A_VALUE: usize = 200;

/// Records that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Case {
    pub bytes: usize,
    pub variant: Variant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    Plain,
    Pii,
}

impl Variant {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Pii => "pii",
        }
    }
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Input {
    /// Its number in the file.
    pub id: usize,
    pub case: Case,
    pub text: String,
    /// The values that have to be gone.
    pub planted: Vec<String>,
}

/// Generates `each` records of every case into a file of JSON lines.
pub fn write(path: &Path, each: usize) -> Result<()> {
    let mut random = Lcg(2026);
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    let mut id = 0;
    for bytes in SIZES {
        for variant in [Variant::Plain, Variant::Pii] {
            for _ in 0..each {
                let input = input(&mut random, id, Case { bytes, variant });
                serde_json::to_writer(&mut file, &input)?;
                file.write_all(b"\n")?;
                id += 1;
            }
        }
    }
    Ok(file.flush()?)
}

/// All records of a file, in order.
pub fn read(path: &Path) -> Result<Vec<Input>> {
    let file = BufReader::new(File::open(path)?);
    file.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

fn input(random: &mut Lcg, id: usize, case: Case) -> Input {
    let values = match case.variant {
        Variant::Plain => 0,
        Variant::Pii => (case.bytes / BYTES_A_VALUE).max(1),
    };
    let mut text = String::with_capacity(case.bytes);
    let mut planted = Vec::with_capacity(values);
    for at in 0..values {
        let end = case.bytes * (at + 1) / values;
        let (before, value) = value(random, id + at);
        let phrase = format!("{before} {value}, ");
        let room = end.saturating_sub(text.len() + phrase.len());
        let start = text.len() + random.below(room + 1);
        fill(&mut text, random, start);
        text.push_str(&phrase);
        fill(&mut text, random, end);
        planted.push(value);
    }
    fill(&mut text, random, case.bytes);
    Input { id, case, text, planted }
}

/// Words as long as there is room.
fn fill(text: &mut String, random: &mut Lcg, end: usize) {
    loop {
        let word = random.pick(WORDS);
        if text.len() + word.len() + 1 > end {
            break;
        }
        text.push_str(word);
        text.push(' ');
    }
}

/// A value of a kind, and what a person would write before it.
fn value(random: &mut Lcg, kind: usize) -> (&'static str, String) {
    match kind % 5 {
        0 => ("write to", email(random)),
        1 => ("the card", card(random)),
        2 => ("registered as", krn(random)),
        3 => ("from", ipv4(random)),
        _ => ("account", iban(random)),
    }
}

fn email(random: &mut Lcg) -> String {
    let first = random.pick(&["kim", "lee", "park", "anna", "john"]);
    let last = random.pick(&["minsu", "jiwoo", "smith", "weber"]);
    let domain = random.pick(&["example.com", "example.co.kr", "mail.example.org"]);
    format!("{first}.{last}{}@{domain}", random.below(100))
}

/// 16 digits that begin as cards do, with a check digit.
fn card(random: &mut Lcg) -> String {
    let mut digits =
        format!("{}{}", random.pick(&["4000", "4532", "5105", "5499"]), random.digits(11));
    let check = (10 - rules::luhn(&format!("{digits}0"))) % 10;
    digits.push_str(&check.to_string());
    let groups = [&digits[..4], &digits[4..8], &digits[8..12], &digits[12..]];
    groups.join(random.pick(&["", " ", "-"]))
}

/// A resident of Korea, born in the 20th or 21st century.
fn krn(random: &mut Lcg) -> String {
    let (year, month, day) = (random.below(100), 1 + random.below(12), 1 + random.below(28));
    format!("{year:02}{month:02}{day:02}-{}{}", 1 + random.below(4), random.digits(6))
}

fn ipv4(random: &mut Lcg) -> String {
    let (a, b, c, d) =
        (1 + random.below(223), random.below(256), random.below(256), random.below(256));
    format!("{a}.{b}.{c}.{d}")
}

fn iban(random: &mut Lcg) -> String {
    let (country, bank, digits) =
        [("DE", "", 18), ("GB", "WEST", 14), ("NL", "ABNA", 10)][random.below(3)];
    let account = format!("{bank}{}", random.digits(digits));
    let check = 98 - rules::mod_97(&format!("{country}00{account}"));
    format!("{country}{check:02}{account}")
}

/// Numerical Recipes' linear congruential generator: enough to mix texts, and the same everywhere.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }
}

/// Clean text is not free of digits, colons and points.
const WORDS: &[&str] = &[
    "the",
    "model",
    "answers",
    "a",
    "question",
    "about",
    "2026",
    "images",
    "of",
    "an",
    "office:",
    "three",
    "desks,",
    "two",
    "windows;",
    "and",
    "이미지에는",
    "사무실",
    "환경이",
    "보입니다.",
    "창가에",
    "책상이",
    "있고",
    "사람이",
    "앉아",
    "\"temperature\"",
    "0.7,",
    "version",
    "1.12.3",
    "-",
    "page",
    "17",
    "https://example.org/docs?page=2",
    "\n",
    "👩‍💻",
];
