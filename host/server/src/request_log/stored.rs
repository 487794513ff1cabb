//! What goes to the store: each text of a completion as a record of its own, then one that says that it is whole.
//!
//! These records are no part of the log (`bucksaw::store`): no output shows them, and the log's level does not concern them. They
//! go through the same chain, or through the one that is configured for them, and are made only when somebody wants them.

use engine::Finished;
use record::{event, field};
use tracing::Span;

use super::RequestLog;
use crate::{
    chat::message::{Call, Message, Reading, finish_reason},
    stored::wish::{Kept, Wish, Wished, next_batch},
};

const STORE_TARGET: &str = "bucksaw::store";

/// One choice of the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) index: usize,
    pub(crate) text: &'a str,
    pub(crate) finished: &'a Finished,
}

/// One choice of the answer, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct StoredChoice {
    pub(crate) index: usize,
    pub(crate) finish_reason: &'static str,
    /// None where there are calls alone.
    pub(crate) content: Option<String>,
    pub(crate) calls: Vec<Call>,
}

/// Tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) images: u64,
}

impl RequestLog {
    /// What the client wants to have stored, for the time when there is an answer.
    pub(crate) fn wished(&mut self, wished: Wished) {
        match wished {
            Wished::Nothing => {}
            Wished::NoStore => self.facts.store = Some("no_store"),
            Wished::TooLong => self.facts.store = Some("too_long"),
            Wished::Store(wish) => {
                self.facts.store = Some("not_sent");
                self.wish = Some(wish);
            }
        }
    }

    /// Sends the completion to the store, if it is to be stored. Says nothing the second time.
    pub(crate) fn store(&mut self, answers: &[Answer<'_>], finished: &Finished) {
        let Some(wish) = self.wish.take() else { return };
        let read = |it: &Answer<'_>| {
            let (format, index) = (wish.format, it.index);
            let Message { content, calls } =
                Message::read(it.text, Reading { format, response_id: &wish.id, index });
            let finish_reason = finish_reason(it.finished, calls.len());
            StoredChoice { index, finish_reason, content, calls }
        };
        let choices: Vec<_> = answers.iter().map(read).collect();
        let counted = Counted {
            input: finished.input_tokens as u64,
            output: finished.output_tokens as u64,
            images: finished.image_tokens as u64,
        };
        self.send(&wish, &choices, Some(counted));
    }

    /// The same of an answer that somebody else gave. `read` adds to the wish what only that says; without choices, not all of the
    /// answer is there, and nothing is sent.
    pub(crate) fn store_relayed(
        &mut self,
        read: impl FnOnce(&mut Wish) -> Option<(Vec<StoredChoice>, Option<Counted>)>,
    ) {
        let Some(mut wish) = self.wish.take() else { return };
        match read(&mut wish) {
            Some((choices, counted)) => self.send(&wish, &choices, counted),
            None => self.facts.store = Some("incomplete"),
        }
    }

    fn send(&mut self, wish: &Wish, choices: &[StoredChoice], counted: Option<Counted>) {
        self.facts.store = Some("sent");
        let span = self.span();
        let batch = next_batch();
        let mut records = send_messages(span, batch, &wish.messages);
        for it in choices {
            tracing::info!(
                target: STORE_TARGET,
                parent: span,
                event = event::STORE_PART,
                { field::STORE_BATCH } = batch,
                { field::STORE_CHOICE } = it.index as u64,
                { field::FINISH_REASON } = it.finish_reason,
                { field::STORE_TEXT } = it.content.as_deref(),
            );
            for (at, call) in it.calls.iter().enumerate() {
                tracing::info!(
                    target: STORE_TARGET,
                    parent: span,
                    event = event::STORE_PART,
                    { field::STORE_BATCH } = batch,
                    { field::STORE_CHOICE } = it.index as u64,
                    { field::STORE_CALL } = at as u64,
                    { field::STORE_CALL_ID } = call.id.as_str(),
                    { field::STORE_KEY } = call.name.as_str(),
                    { field::STORE_TEXT } = call.arguments.as_str(),
                );
            }
            records += 1 + it.calls.len() as u64;
        }
        records += send_metadata(span, batch, &wish.metadata);
        send_last(span, (batch, records), wish, counted);
    }

    /// Sends new metadata of a stored completion.
    pub(crate) fn store_update(&mut self, batch: i64, row: i64, metadata: &[(String, String)]) {
        let span = self.span();
        let records = send_metadata(span, batch, metadata);
        tracing::info!(
            target: STORE_TARGET,
            parent: span,
            event = event::STORE_UPDATE,
            { field::STORE_BATCH } = batch,
            { field::STORE_RECORDS } = records,
            { field::STORE_ROW } = row,
        );
    }
}

fn send_messages(span: &Span, batch: i64, messages: &[Kept]) -> u64 {
    let mut records = 0;
    for (at, message) in messages.iter().enumerate() {
        let role = message.role.as_str();
        // A message without parts is one all the same.
        for part in 0..message.parts.len().max(1) {
            let it = message.parts.get(part);
            tracing::info!(
                target: STORE_TARGET,
                parent: span,
                event = event::STORE_PART,
                { field::STORE_BATCH } = batch,
                { field::STORE_MESSAGE } = at as u64,
                { field::STORE_MESSAGE_PART } = part as u64,
                { field::STORE_ROLE } = role,
                { field::STORE_KIND } = it.map(|it| if it.is_some() { "text" } else { "image" }),
                { field::STORE_TEXT } = it.and_then(|it| it.as_deref()),
            );
            records += 1;
        }
        // A client may call a call whatever it likes: here, ids are content.
        for (place, call) in message.calls.iter().enumerate() {
            tracing::info!(
                target: STORE_TARGET,
                parent: span,
                event = event::STORE_PART,
                { field::STORE_BATCH } = batch,
                { field::STORE_MESSAGE } = at as u64,
                { field::STORE_CALL } = place as u64,
                { field::STORE_ROLE } = role,
                { field::STORE_KIND } = "call",
                { field::STORE_KEY } = call.name.as_str(),
                { field::STORE_TEXT } = call.arguments.as_str(),
                { field::STORE_VALUE } = call.id.as_str(),
            );
            records += 1;
        }
        if let Some(id) = &message.call_id {
            tracing::info!(
                target: STORE_TARGET,
                parent: span,
                event = event::STORE_PART,
                { field::STORE_BATCH } = batch,
                { field::STORE_MESSAGE } = at as u64,
                { field::STORE_ROLE } = role,
                { field::STORE_KIND } = "call_id",
                { field::STORE_VALUE } = id.as_str(),
            );
            records += 1;
        }
    }
    records
}

fn send_metadata(span: &Span, batch: i64, metadata: &[(String, String)]) -> u64 {
    for (key, value) in metadata {
        tracing::info!(
            target: STORE_TARGET,
            parent: span,
            event = event::STORE_METADATA,
            { field::STORE_BATCH } = batch,
            { field::STORE_KEY } = key.as_str(),
            { field::STORE_VALUE } = value.as_str(),
        );
    }
    metadata.len() as u64
}

fn send_last(span: &Span, (batch, records): (i64, u64), wish: &Wish, counted: Option<Counted>) {
    tracing::info!(
        target: STORE_TARGET,
        parent: span,
        event = event::STORE_COMPLETION,
        { field::STORE_BATCH } = batch,
        { field::STORE_RECORDS } = records,
        { field::STORE_CREATED } = wish.created,
        { field::RESPONSE_ID } = wish.id.as_str(),
        { field::RESPONSE_MODEL } = wish.model.as_str(),
        { field::INPUT_TOKENS } = counted.map(|it| it.input),
        { field::OUTPUT_TOKENS } = counted.map(|it| it.output),
        { field::STORE_IMAGE_TOKENS } = counted.map(|it| it.images),
        { field::SEED } = wish.seed,
        { field::TEMPERATURE } = wish.temperature,
        { field::TOP_P } = wish.top_p,
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::StatusCode;
    use engine::{FinishReason, Timings, ToolFormat};

    use super::*;
    use crate::request_log::tests::{Seen, arrival, seen_of};

    fn wish() -> Box<Wish> {
        let text = |it: &str| Some(it.to_owned());
        let call = Call {
            id: "c1".to_owned(),
            name: "weather".to_owned(),
            arguments: "{\"a\":1}".to_owned(),
        };
        Box::new(Wish {
            id: "chatcmpl-1".to_owned(),
            created: 7,
            model: "m".to_owned(),
            format: Some(ToolFormat::Hermes),
            messages: vec![
                Kept {
                    role: "user".to_owned(),
                    parts: vec![text("look"), None],
                    ..Kept::default()
                },
                Kept { role: "assistant".to_owned(), calls: vec![call], ..Kept::default() },
                Kept {
                    role: "tool".to_owned(),
                    parts: vec![text("rain")],
                    call_id: text("c1"),
                    ..Kept::default()
                },
            ],
            metadata: vec![("k".to_owned(), "v".to_owned())],
            seed: Some(-1),
            temperature: None,
            top_p: Some(0.5),
        })
    }

    fn finished() -> Finished {
        Finished {
            reason: FinishReason::Stop,
            input_tokens: 3,
            output_tokens: 2,
            image_tokens: 1,
            cached_tokens: 0,
            timings: Timings {
                queue: Duration::ZERO,
                prefill: Duration::ZERO,
                first_token: Duration::ZERO,
                decode: Duration::ZERO,
                generation: Duration::ZERO,
            },
        }
    }

    fn run(wished: Wished, is_answered: bool) -> Vec<Seen> {
        seen_of(|| {
            let mut log = RequestLog::new(arrival());
            log.wished(wished);
            for _ in 0..2 {
                let finished = finished();
                let text = "hi<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
                if is_answered {
                    log.store(&[Answer { index: 0, text, finished: &finished }], &finished);
                }
            }
            log.finish(StatusCode::OK);
        })
    }

    fn status(seen: &[Seen]) -> Option<&str> {
        seen.iter().find(|it| it.name == event::REQUEST_SUMMARY)?.get(field::STORE_STATUS)
    }

    #[test]
    fn each_text_is_a_record_and_the_last_one_says_how_many() {
        let seen = run(Wished::Store(wish()), true);
        let sent: Vec<&Seen> = seen.iter().filter(|it| it.name.starts_with("store.")).collect();
        let told: Vec<[&str; 5]> = sent
            .iter()
            .map(|it| {
                let get = |name| it.get(name).unwrap_or("-");
                let text = it.get(field::STORE_TEXT).unwrap_or(get(field::STORE_VALUE));
                let at = it.get(field::STORE_MESSAGE).unwrap_or(get(field::STORE_CHOICE));
                [it.name.as_str(), at, get(field::STORE_ROLE), get(field::STORE_KIND), text]
            })
            .collect();
        let expected = [
            ["store.part", "0", "user", "text", "look"],
            ["store.part", "0", "user", "image", "-"],
            ["store.part", "1", "assistant", "-", "-"],
            ["store.part", "1", "assistant", "call", "{\"a\":1}"],
            ["store.part", "2", "tool", "text", "rain"],
            ["store.part", "2", "tool", "call_id", "c1"],
            ["store.part", "0", "-", "-", "hi"],
            ["store.part", "0", "-", "-", "{}"],
            ["store.metadata", "-", "-", "-", "v"],
            ["store.completion", "-", "-", "-", "-"],
        ];
        assert_eq!(told, expected);
        let last = sent.last().unwrap();
        assert_eq!(last.get(field::STORE_RECORDS), Some("9"));
        assert_eq!(sent[3].get(field::STORE_KEY), Some("weather"));
        assert_eq!(sent[3].get(field::STORE_VALUE), Some("c1"));
        assert_eq!(sent[6].get(field::FINISH_REASON), Some("tool_calls"));
        assert_eq!(sent[7].get(field::STORE_KEY), Some("f"));
        assert_eq!((last.get(field::SEED), last.get(field::TEMPERATURE)), (Some("-1"), None));
        let batch = last.get(field::STORE_BATCH);
        assert!(sent.iter().all(|it| it.in_request && it.get(field::STORE_BATCH) == batch));
        assert_eq!(status(&seen), Some("sent"));
    }

    #[test]
    fn without_an_answer_or_a_store_nothing_is_sent_and_the_summary_says_so() {
        let check = |wished: Wished, is_answered: bool, want: Option<&str>| {
            let seen = run(wished, is_answered);
            assert!(seen.iter().all(|it| !it.name.starts_with("store.")));
            assert_eq!(status(&seen), want);
        };
        check(Wished::Nothing, true, None);
        check(Wished::NoStore, true, Some("no_store"));
        check(Wished::TooLong, true, Some("too_long"));
        check(Wished::Store(wish()), false, Some("not_sent"));
    }
    #[test]
    fn what_was_not_heard_whole_is_not_sent() {
        let run = |answer: Option<(Vec<StoredChoice>, Option<Counted>)>| {
            seen_of(|| {
                let mut log = RequestLog::new(arrival());
                log.wished(Wished::Store(wish()));
                log.store_relayed(|wish| {
                    wish.id = "chatcmpl-theirs".to_owned();
                    answer
                });
                log.finish(StatusCode::OK);
            })
        };
        let seen = run(None);
        assert!(seen.iter().all(|it| !it.name.starts_with("store.")));
        assert_eq!(status(&seen), Some("incomplete"));
        let choice = StoredChoice {
            index: 0,
            finish_reason: "stop",
            content: Some("hi".to_owned()),
            calls: Vec::new(),
        };
        let seen = run(Some((vec![choice], None)));
        assert_eq!(status(&seen), Some("sent"));
        let last = seen.iter().find(|it| it.name == event::STORE_COMPLETION).unwrap();
        assert_eq!(last.get(field::RESPONSE_ID), Some("chatcmpl-theirs"));
        // What nobody counted is no zero.
        assert_eq!(last.get(field::INPUT_TOKENS), None);
    }
}
