//! Records of requests that nobody made, with texts of 100 bytes to 20 kB: most are clean, some hold what an editor has to find.
//! The same seed gives the same records, on every machine. It knows no chain and no file.

mod text;

use std::{iter, sync::Arc};

use record::{Field, Record, RequestContext, Severity, Stream, event, field};

use self::text::{Random, text};

/// The first record: 2026-01-01T00:00:00Z, on a clock of Seoul.
const START: i64 = 1_767_225_600_000_000_000;
const UTC_OFFSET: i32 = 9 * 60 * 60;

const ROUTE: &str = "/v1/chat/completions";

/// So many records, request after request; of the last one there may be only a part.
pub(super) fn records(count: u64, seed: u64, chain: Arc<str>) -> impl Iterator<Item = Record> {
    let mut random = Random(seed);
    let mut time = START;
    let requests = iter::repeat_with(move || {
        let made = request(&mut random, &chain, time);
        time += 1_000_000_000;
        made
    });
    requests.flatten().take(usize::try_from(count).unwrap_or(usize::MAX))
}

/// A request that is being made.
struct Request {
    context: Arc<RequestContext>,
    time: i64,
    records: Vec<Record>,
}

impl Request {
    fn add(&mut self, event: &'static str, severity: Severity, fields: Vec<Field>) {
        let seq = self.context.next_seq();
        let of_engine = matches!(event, event::LORA_RESOLVED | event::GPU_MEMORY);
        self.records.push(Record {
            time: self.time + i64::from(seq) * 1_000_000,
            utc_offset: UTC_OFFSET,
            severity,
            event: event.into(),
            stream: if of_engine { Stream::Engine } else { Stream::App },
            context: Some(self.context.clone()),
            seq,
            stub: None,
            fields,
        });
    }
}

/// The records of one request: most end well, some are rejected, fail or are cancelled.
fn request(random: &mut Random, chain: &Arc<str>, time: i64) -> Vec<Record> {
    let (a, b) = (random.draw(), random.draw());
    let (high, low) = (a >> 32, b & 0xffff_ffff_ffff);
    let id = format!("{high:08x}-{:04x}-4000-8000-{low:012x}", a & 0xffff);
    let context = Arc::new(RequestContext::new(id, chain.clone()));
    let mut it = Request { context, time, records: Vec::new() };
    let (prompt, answer) = (text(random), text(random));
    let (outcome, end, status, severity) = match random.below(20) {
        0 => ("rejected", event::REQUEST_REJECTED, 400_i64, Severity::WARNING),
        1 => ("failed", event::REQUEST_FAILED, 500, Severity::ERROR),
        2 => ("cancelled", event::REQUEST_CANCELLED, 499, Severity::WARNING),
        _ => ("finished", event::REQUEST_FINISHED, 200, Severity::INFO),
    };
    received(&mut it, random, prompt.len());
    if outcome != "rejected" {
        asked(&mut it, random, prompt);
    }
    if outcome == "finished" {
        answered(&mut it, random, answer);
    }
    let status = Field::new(field::HTTP_RESPONSE_STATUS_CODE, status);
    let mut ending = vec![Field::new(field::HTTP_ROUTE, ROUTE), status.clone()];
    if matches!(outcome, "rejected" | "failed") {
        ending.push(Field::new(field::ERROR_TYPE, "invalid_value"));
        ending.push(Field::new(field::EXCEPTION_MESSAGE, text(random)));
    }
    it.add(end, severity, ending);
    let total = Field::new(field::ENDPOINT_TOTAL_MS, random.number(20..9_000) as f64 / 4.0);
    it.add(event::REQUEST_TOTAL, Severity::INFO, vec![total.clone()]);
    let outcome = Field::new(field::OUTCOME, outcome);
    it.add(event::REQUEST_SUMMARY, Severity::INFO, vec![status, outcome, total]);
    it.records
}

fn received(it: &mut Request, random: &mut Random, bytes: usize) {
    let address = format!("203.0.113.{}", random.number(1..255));
    let fields = vec![
        Field::new(field::HTTP_REQUEST_METHOD, "POST"),
        Field::new(field::HTTP_ROUTE, ROUTE),
        Field::new(field::URL_PATH, ROUTE),
        Field::new(field::CLIENT_ADDRESS, address),
        Field::new(field::USER_AGENT_ORIGINAL, "OpenAI/Python 3.3.1"),
        Field::new(field::HTTP_REQUEST_BODY_SIZE, count(bytes)),
        Field::new(field::REQUEST_MODEL, "demo"),
        Field::new(field::REQUEST_STREAM, random.below(2) == 0),
    ];
    it.add(event::REQUEST_RECEIVED, Severity::INFO, fields);
}

fn asked(it: &mut Request, random: &mut Random, prompt: String) {
    let images = random.number(0..3);
    let fields = vec![
        Field::new(field::PROMPT_CHARS, count(prompt.chars().count())),
        Field::new(field::PROMPT_TEXT, prompt),
        Field::new(field::IMAGES, images),
    ];
    it.add(event::REQUEST_PROMPT, Severity::INFO, fields);
    for index in 0..images {
        let fields = vec![
            Field::new(field::IMAGE_INDEX, index),
            Field::new(field::IMAGE_WIDTH, random.number(64..2_048)),
            Field::new(field::IMAGE_HEIGHT, random.number(64..2_048)),
            Field::new(field::IMAGE_MODE, "RGB"),
        ];
        it.add(event::REQUEST_IMAGE, Severity::INFO, fields);
    }
    let fields =
        vec![Field::new(field::MAX_TOKENS, 512_i64), Field::new(field::TEMPERATURE, 0.7_f64)];
    it.add(event::REQUEST_PARAMS, Severity::INFO, fields);
    let fields = vec![
        Field::new(field::GPU_PHASE, "before"),
        Field::new(field::GPU_MEMORY_USAGE, random.number(1 << 30..1 << 34)),
        Field::new(field::GPU_MEMORY_LIMIT, 1_i64 << 34),
    ];
    it.add(event::GPU_MEMORY, Severity::INFO, fields);
}

fn answered(it: &mut Request, random: &mut Random, answer: String) {
    let fields = vec![
        Field::new(field::RESPONSE_CHARS, count(answer.chars().count())),
        Field::new(field::RESPONSE_TEXT, answer),
        Field::new(field::FINISH_REASON, "stop"),
    ];
    it.add(event::RESPONSE_CONTENT, Severity::INFO, fields);
    let fields = vec![
        Field::new(field::GENERATION_MS, random.number(10..9_000)),
        Field::new(field::INPUT_TOKENS, random.number(10..4_000)),
        Field::new(field::OUTPUT_TOKENS, random.number(10..512)),
        Field::new(field::TOKENS_PER_SECOND, random.number(100..900) as f64 / 10.0),
    ];
    it.add(event::REQUEST_PERFORMANCE, Severity::INFO, fields);
}

fn count(it: usize) -> i64 {
    i64::try_from(it).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use record::Value;

    use super::*;

    fn made(count: u64, seed: u64) -> Vec<Record> {
        records(count, seed, "default".into()).collect()
    }

    fn texts(records: &[Record]) -> impl Iterator<Item = &str> {
        records.iter().flat_map(|it| &it.fields).filter_map(|it| match &it.value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    #[test]
    fn everything_that_a_chain_has_to_deal_with_is_there() {
        let records = made(10_000, 0);
        let wanted = ["@example.com", "4111 1111", "010-", "AKIA", "사람이", "👩‍💻", "\n", "\u{1b}["];
        for wanted in wanted {
            assert!(texts(&records).any(|it| it.contains(wanted)), "{wanted:?}");
        }
        for event in event::TERMINAL {
            assert!(records.iter().any(|it| it.event == event), "{event}");
        }
        assert!(texts(&records).any(|it| it.len() > 10_000));
    }

    proptest! {
        #[test]
        fn any_seed_gives_whole_requests_and_the_same_ones_again(
            seed in any::<u64>(),
            count in 0_u64..60,
        ) {
            let records = made(count, seed);
            prop_assert_eq!(records.len() as u64, count);
            prop_assert_eq!(format!("{:?}", made(count, seed)), format!("{:?}", &records));
            prop_assert!(texts(&records).all(|it| it.len() <= 20_000));
            let mut seq = 0;
            for (at, it) in records.iter().enumerate() {
                seq = if it.event == event::REQUEST_RECEIVED { 0 } else { seq + 1 };
                prop_assert_eq!(it.seq, seq);
                let after = records.get(at + 1);
                prop_assert!(after.is_none_or(|after| after.time > it.time));
                // What ends a request is followed by two sums, and by nothing else of it.
                if event::TERMINAL.contains(&it.event.as_ref()) {
                    let sums = [event::REQUEST_TOTAL, event::REQUEST_SUMMARY, event::REQUEST_RECEIVED];
                    prop_assert!(records[at + 1..].iter().zip(sums).all(|(it, sum)| it.event == sum));
                }
            }
        }
    }
}
