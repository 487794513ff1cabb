//! A chat answer as server-sent events: the role, pieces of text, an empty delta with the reason, the usage if it was asked
//! for, `[DONE]`.
//!
//! The request's log lives in the stream: when the client leaves, the stream is dropped and with it the log, which says so.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode},
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use engine::{Event, Finished};
use futures_util::stream;
use serde_json::{Value, json};

use super::usage;
use crate::{
    error::ApiError,
    generate::{Events, conclude},
    params::Output,
    request_log::RequestLog,
};

/// What all chunks of an answer share.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
}

/// An answer whose generation has begun.
pub(super) struct Begun {
    pub(super) head: Head,
    pub(super) events: Events,
    /// The event that was waited for before the head of the answer went out.
    pub(super) first: Option<Event>,
    pub(super) include_usage: bool,
    /// Whether each piece of text is a record.
    pub(super) log_deltas: bool,
    pub(super) output: Option<Output>,
}

pub(super) fn respond(mut log: RequestLog, begun: Begun, keep_alive: Duration) -> Response {
    log.began(StatusCode::OK);
    let chunks = stream::unfold(Chunks::new(log, begun), |mut chunks| async move {
        let data = chunks.next().await?;
        Some((Ok::<_, Infallible>(sse::Event::default().data(data)), chunks))
    });
    let mut response =
        Sse::new(chunks).keep_alive(KeepAlive::new().interval(keep_alive)).into_response();
    // nginx would collect the whole stream first.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Chunks {
    log: RequestLog,
    begun: Begun,
    /// Made and not yet sent.
    ready: VecDeque<String>,
    text: String,
    chars: usize,
    ended: bool,
}

impl Chunks {
    fn new(log: RequestLog, begun: Begun) -> Self {
        let mut chunks = Self {
            log,
            begun,
            ready: VecDeque::new(),
            text: String::new(),
            chars: 0,
            ended: false,
        };
        chunks.push(json!({"role": "assistant", "content": ""}), None);
        if let Some(first) = chunks.begun.first.take() {
            chunks.take(first);
        }
        chunks
    }

    /// The data of the next server-sent event.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(data);
            }
            if self.ended {
                return None;
            }
            match self.begun.events.recv().await {
                Some(event) => self.take(event),
                None => self.fail(&ApiError::EngineGone),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Started { .. } => {}
            Event::Text(text) if text.is_empty() => {}
            Event::Text(text) => {
                self.chars += text.chars().count();
                self.log.sent(self.chars);
                if self.begun.log_deltas {
                    self.log.delta(&text);
                }
                self.push(json!({"content": text}), None);
                self.text.push_str(&text);
            }
            Event::Finished(finished) => self.finish(&finished),
            Event::Failed(error) => self.fail(&error.into()),
        }
    }

    fn finish(&mut self, finished: &Finished) {
        conclude(&mut self.log, &self.text, finished, self.begun.output);
        self.log.finish(StatusCode::OK);
        self.push(json!({}), Some(finished.reason.as_str()));
        if self.begun.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = usage(finished);
            self.ready.push_back(chunk.to_string());
        }
        self.ready.push_back("[DONE]".to_owned());
        self.ended = true;
    }

    /// The status went out long ago: an error is an event of the stream.
    fn fail(&mut self, error: &ApiError) {
        self.log.refuse(error);
        self.ready.push_back(error.body().to_string());
        self.ended = true;
    }

    fn push(&mut self, delta: Value, reason: Option<&str>) {
        let choice =
            json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        let chunk = self.chunk(choice);
        self.ready.push_back(chunk.to_string());
    }

    fn chunk(&self, choices: Value) -> Value {
        let head = &self.begun.head;
        let mut chunk = json!({
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
            "choices": choices,
        });
        if self.begun.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

#[cfg(test)]
mod tests {
    use engine::{EngineError, FinishReason, Timings};
    use tokio::sync::mpsc;

    use super::*;
    use crate::request_log::tests::{Seen, arrival, seen_of};

    fn finished() -> Event {
        Event::Finished(Finished {
            reason: FinishReason::Stop,
            input_tokens: 3,
            output_tokens: 2,
            image_tokens: 0,
            timings: Timings {
                queue: Duration::ZERO,
                prefill: Duration::from_millis(10),
                first_token: Duration::from_millis(10),
                decode: Duration::from_millis(10),
                generation: Duration::from_millis(20),
            },
        })
    }

    fn text(it: &str) -> Event {
        Event::Text(it.to_owned())
    }

    /// The data of all events of a stream, and all records.
    fn run_whole(
        first: Option<Event>,
        events: Vec<Event>,
        include_usage: bool,
        log_deltas: bool,
    ) -> (Vec<String>, Vec<Seen>) {
        let mut sent = Vec::new();
        let records = seen_of(|| {
            let (tx, rx) = mpsc::unbounded_channel();
            for event in events {
                tx.send(event).unwrap();
            }
            drop(tx);
            let head = Head { id: "chatcmpl-1".to_owned(), created: 7, model: "m".to_owned() };
            let begun = Begun { head, events: rx, first, include_usage, log_deltas, output: None };
            let mut chunks = Chunks::new(RequestLog::new(arrival()), begun);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            while let Some(data) = runtime.block_on(chunks.next()) {
                sent.push(data);
            }
        });
        (sent, records)
    }

    /// The data of all events of a stream, and the terminal record.
    fn run(first: Option<Event>, events: Vec<Event>, include_usage: bool) -> (Vec<String>, String) {
        let (sent, records) = run_whole(first, events, include_usage, false);
        let terminal: Vec<_> = records
            .into_iter()
            .map(|it| it.name)
            .filter(|it| record::event::TERMINAL.contains(&it.as_str()))
            .collect();
        assert_eq!(terminal.len(), 1, "{terminal:?}");
        (sent, terminal.concat())
    }

    #[test]
    fn a_stream_begins_with_the_role_and_ends_with_the_reason_and_done() {
        let started = Some(Event::Started { input_tokens: 3 });
        let (sent, terminal) =
            run(started, vec![text("he"), text(""), text("y"), finished()], false);
        let chunks: Vec<Value> =
            sent.iter().filter_map(|it| serde_json::from_str(it).ok()).collect();
        let deltas: Vec<_> = chunks.iter().map(|it| it["choices"][0]["delta"].clone()).collect();
        let expected = [
            json!({"role": "assistant", "content": ""}),
            json!({"content": "he"}),
            json!({"content": "y"}),
            json!({}),
        ];
        assert_eq!(deltas, expected);
        assert!(chunks.iter().all(|it| it["id"] == "chatcmpl-1" && it["created"] == 7));
        assert!(chunks.iter().all(|it| it.get("usage").is_none()));
        assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
        assert_eq!(sent.last().map(String::as_str), Some("[DONE]"));
        assert_eq!(terminal, record::event::REQUEST_FINISHED);
    }

    #[test]
    fn usage_comes_in_a_chunk_of_its_own_when_asked_for() {
        let (sent, _) = run(None, vec![text("a"), finished()], true);
        let usage: Value = serde_json::from_str(&sent[sent.len() - 2]).unwrap();
        assert_eq!(usage["choices"], json!([]));
        assert_eq!(usage["usage"]["total_tokens"], 5);
        let before: Value = serde_json::from_str(&sent[1]).unwrap();
        assert!(before["usage"].is_null());
    }

    #[test]
    fn each_piece_of_text_is_a_record_when_asked_for() {
        use record::{event, field};
        let check = |log_deltas: bool, expected: &[&str]| {
            let events = vec![text("안"), text(""), text("녕"), finished()];
            let (_, records) = run_whole(Some(text("hi ")), events, false, log_deltas);
            let deltas: Vec<_> =
                records.iter().filter(|it| it.name == event::RESPONSE_DELTA).collect();
            let texts: Vec<_> =
                deltas.iter().filter_map(|it| it.get(field::RESPONSE_DELTA)).collect();
            assert_eq!(texts, expected);
            assert!(deltas.iter().all(|it| it.level == "INFO" && it.in_request));
            // The whole comes at the end all the same.
            let whole = records.iter().find(|it| it.name == event::RESPONSE_CONTENT).unwrap();
            assert_eq!(whole.get(field::RESPONSE_TEXT), Some("hi 안녕"));
        };
        check(true, &["hi ", "안", "녕"]);
        check(false, &[]);
    }

    #[test]
    fn an_error_inside_a_stream_is_an_event_and_the_last() {
        let check = |events: Vec<Event>, code: &str| {
            let (sent, terminal) = run(None, events, false);
            let last: Value = serde_json::from_str(sent.last().unwrap()).unwrap();
            assert_eq!(last["error"]["code"], code);
            assert_eq!(terminal, record::event::REQUEST_FAILED);
        };
        let memory = EngineError::OutOfMemory("no room".to_owned());
        let code = memory.error_type();
        check(vec![text("a"), Event::Failed(memory)], code);
        check(vec![text("a")], "engine_gone");
    }
}
