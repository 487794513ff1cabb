//! Made-up texts, and the chance that they are made of.

use std::ops::Range;

/// Bytes of a text: over it, nothing new happens in a chain but more of the same.
const TEXT_BYTES_MAX: usize = 20_000;
/// Bytes of a word or of something to take out, with the space behind it; none has more.
const WORD_BYTES_MAX: usize = 100;
/// Share of texts that hold something to take out: about what a support desk sees.
const DIRTY_PERCENT: usize = 15;

/// Ordinary words of two languages, and what is odd in texts: line ends, terminal escapes, joined emoji, other directions.
const WORDS: &[&str] = &[
    "the",
    "model",
    "answers",
    "a",
    "question",
    "about",
    "three",
    "desks,",
    "two",
    "windows;",
    "and",
    "version",
    "1.12.3",
    "of",
    "2026",
    "page",
    "17",
    "\"temperature\":",
    "0.7,",
    "https://example.org/docs?page=2",
    "이미지에는",
    "사무실",
    "환경이",
    "보입니다.",
    "창가에",
    "책상이",
    "있고",
    "사람이",
    "앉아",
    "안녕하세요,",
    "\n",
    "\r\n",
    "\t",
    "\u{1b}[31mred\u{1b}[0m",
    "👩‍💻",
    "🇰🇷",
    "e\u{301}te\u{301}",
    "\u{202e}abc\u{202c}",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==",
];
/// What editors look for; none of it is anybody's.
const SECRETS: &[&str] = &[
    "4111 1111 1111 1111",
    "5555-5555-5555-4444",
    "900101-1234567",
    "203.0.113.77",
    "DE89370400440532013000",
    "sk-proj-abcDEF0123456789abcDEF0123456789",
    "AKIAIOSFODNN7EXAMPLE",
];
const NAMES: &[&str] = &["kim.minsu", "lee", "park_jiwoo", "choi-dev", "anna+news"];
const HOSTS: &[&str] = &["example.com", "example.co.kr", "mail.example.org"];

/// Words of 100 bytes to 20 kB. Of 100 texts, 80 have up to a kilobyte, 18 up to eight, 2 up to twenty.
pub(super) fn text(random: &mut Random) -> String {
    let bytes = match random.below(100) {
        0..80 => 100 + random.below(900),
        80..98 => 1_000 + random.below(7_000),
        // The last word may go over it.
        _ => 8_000 + random.below(TEXT_BYTES_MAX - WORD_BYTES_MAX - 8_000),
    };
    let dirty = random.below(100) < DIRTY_PERCENT;
    // Where the next thing to take out comes.
    let mut next = if dirty { random.below(bytes) } else { usize::MAX };
    let mut text = String::with_capacity(bytes + WORD_BYTES_MAX);
    while text.len() < bytes {
        if text.len() >= next {
            text.push_str(&secret(random));
            next = text.len() + 100 + random.below(2_000);
        } else {
            text.push_str(random.pick(WORDS));
        }
        text.push(' ');
    }
    text
}

fn secret(random: &mut Random) -> String {
    match random.below(4) {
        0 => {
            let (name, host) = (random.pick(NAMES), random.pick(HOSTS));
            format!("{name}{}@{host}", random.number(1..100))
        }
        1 => format!("010-{}-{}", random.number(1_000..10_000), random.number(1_000..10_000)),
        _ => random.pick(SECRETS).to_owned(),
    }
}

/// SplitMix64: short, the same everywhere, and every seed is as good as another.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// Less than `end`, which is over 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.draw() % end as u64) as usize
    }

    /// Out of a range that is not empty.
    pub(super) fn number(&mut self, range: Range<i64>) -> i64 {
        range.start + (self.draw() % range.start.abs_diff(range.end)).cast_signed()
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len())]
    }
}
