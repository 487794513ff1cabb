//! Ten thousand records as a server makes them: the events of a request in turn, texts of 100 bytes to 100 kB, most of them clean.
//! The same seed gives the same records.

use record::{Field, Record, RequestContext, Severity, Stream, event, field};
use std::sync::Arc;

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
}

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
const SECRETS: &[&str] = &[
    "kim.minsu@example.co.kr",
    "010-1234-5678",
    "4111 1111 1111 1111",
    "900101-1234567",
    "203.0.113.77",
    "sk-proj-abcDEF0123456789abcDEF0123456789",
    "DE89370400440532013000",
    "AKIAIOSFODNN7EXAMPLE",
];

/// Share of texts that hold something to take out, in percent.
const DIRTY_PERCENT: usize = 15;

pub(crate) fn corpus(records: usize) -> Vec<Record> {
    let mut random = Lcg(2026);
    let mut all = Vec::with_capacity(records);
    while all.len() < records {
        let id =
            format!("{:08x}-0000-4000-8000-{:012x}", random.below(1 << 31), random.below(1 << 31));
        let context = Arc::new(RequestContext::new(id, "default".into()));
        let prompt = text(&mut random);
        let response = text(&mut random);
        let events: [(&'static str, Vec<Field>); 8] = [
            (
                event::REQUEST_RECEIVED,
                vec![
                    Field::new(field::HTTP_REQUEST_METHOD, "POST"),
                    Field::new(field::HTTP_ROUTE, "/v1/chat/completions"),
                    Field::new(field::URL_PATH, "/v1/chat/completions"),
                    Field::new(field::CLIENT_ADDRESS, "127.0.0.1"),
                    Field::new(field::USER_AGENT_ORIGINAL, "OpenAI/Python 3.3.1"),
                    Field::new(field::HTTP_REQUEST_BODY_SIZE, prompt.len() as i64),
                    Field::new(field::REQUEST_MODEL, "demo"),
                ],
            ),
            (
                event::REQUEST_PROMPT,
                vec![
                    Field::new(field::PROMPT_CHARS, prompt.chars().count() as i64),
                    Field::new(field::PROMPT_TEXT, prompt),
                    Field::new(field::IMAGES, 1_i64),
                ],
            ),
            (
                event::REQUEST_PARAMS,
                vec![Field::new(field::MAX_TOKENS, 512_i64), Field::new(field::TEMPERATURE, 0.7)],
            ),
            (
                event::RESPONSE_CONTENT,
                vec![
                    Field::new(field::RESPONSE_CHARS, response.chars().count() as i64),
                    Field::new(field::RESPONSE_TEXT, response),
                    Field::new(field::FINISH_REASON, "stop"),
                ],
            ),
            (
                event::REQUEST_PERFORMANCE,
                vec![
                    Field::new(field::GENERATION_MS, 1850_i64),
                    Field::new(field::INPUT_TOKENS, 84_i64),
                    Field::new(field::OUTPUT_TOKENS, 145_i64),
                    Field::new(field::TOKENS_PER_SECOND, 78.4),
                ],
            ),
            (event::REQUEST_FINISHED, vec![Field::new(field::HTTP_RESPONSE_STATUS_CODE, 200_i64)]),
            (event::REQUEST_TOTAL, vec![Field::new(field::ENDPOINT_TOTAL_MS, 2156.0)]),
            (
                event::REQUEST_SUMMARY,
                vec![
                    Field::new(field::OUTCOME, "finished"),
                    Field::new(field::RESPONSE_MODEL, "demo"),
                    Field::new(field::INPUT_TOKENS, 84_i64),
                    Field::new(field::OUTPUT_TOKENS, 145_i64),
                ],
            ),
        ];
        for (event, fields) in events {
            all.push(Record {
                time: 1_736_400_625_123_000_000 + all.len() as i64,
                utc_offset: 32_400,
                severity: Severity::INFO,
                event: event.into(),
                stream: Stream::App,
                context: Some(context.clone()),
                seq: context.next_seq(),
                stub: None,
                fields,
            });
        }
    }
    all.truncate(records);
    all
}

/// Of 100 texts, 80 have up to a kilobyte, 18 up to ten, 2 up to a hundred.
fn text(random: &mut Lcg) -> String {
    let bytes = match random.below(100) {
        0..80 => 100 + random.below(900),
        80..98 => 1_000 + random.below(9_000),
        _ => 10_000 + random.below(90_000),
    };
    let dirty = random.below(100) < DIRTY_PERCENT;
    let mut text = String::with_capacity(bytes + 64);
    while text.len() < bytes {
        text.push_str(random.pick(WORDS));
        text.push(' ');
        if dirty && random.below(60) == 0 {
            text.push_str(random.pick(SECRETS));
            text.push(' ');
        }
    }
    text
}
