use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, Once},
};

use axum::http::HeaderValue;
use tracing::{
    Event, Subscriber,
    field::Visit,
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use super::*;
use crate::state::Chosen;

/// One event or span: its name, its level and all fields as text.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) level: String,
    /// Whether it is an event under a request's span.
    pub(crate) in_request: bool,
    fields: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "event" {
            self.name = value.to_owned();
        } else {
            self.fields.push((field.name().to_owned(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.fields.push((field.name().to_owned(), format!("{value:?}")));
    }
}

#[derive(Clone, Default)]
struct Capture {
    events: Arc<Mutex<Vec<Seen>>>,
    spans: Arc<Mutex<Vec<Seen>>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().target() == TARGET {
            let name = attributes.metadata().name().to_owned();
            let mut seen = Seen { name, ..Seen::default() };
            attributes.record(&mut seen);
            self.spans.lock().unwrap().push(seen);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // What goes to the store is seen beside the log.
        if ![TARGET, "bucksaw::store"].contains(&event.metadata().target()) {
            return;
        }
        let mut seen = Seen {
            level: event.metadata().level().to_string(),
            in_request: context.event_span(event).is_some_and(|it| it.name() == "request"),
            ..Seen::default()
        };
        event.record(&mut seen);
        self.events.lock().unwrap().push(seen);
    }
}

/// The events and the spans that `run` makes.
fn captured(run: impl FnOnce()) -> (Vec<Seen>, Vec<Seen>) {
    // While a program has one subscriber, `tracing` asks the thread that comes to an event first whether anybody wants it: a
    // test beside this one, which has none, would answer for this one.
    static ALL: Once = Once::new();
    ALL.call_once(|| tracing::subscriber::set_global_default(Registry::default()).unwrap());
    let capture = Capture::default();
    tracing::subscriber::with_default(Registry::default().with(capture.clone()), run);
    let taken = |it: &Mutex<Vec<Seen>>| std::mem::take(&mut *it.lock().unwrap());
    (taken(&capture.events), taken(&capture.spans))
}

pub(crate) fn seen_of(run: impl FnOnce()) -> Vec<Seen> {
    captured(run).0
}

/// Names of the events that `run` makes, in order.
pub(crate) fn events_of(run: impl FnOnce()) -> Vec<String> {
    seen_of(run).into_iter().map(|it| it.name).collect()
}

pub(crate) fn arrival() -> Arrival {
    let mut headers = HeaderMap::new();
    headers.insert("x-stainless-retry-count", HeaderValue::from_static("2"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("17"));
    Arrival {
        started: Instant::now(),
        ids: RequestIds::from_headers(&headers),
        method: "POST".to_owned(),
        route: Some("/vision"),
        path: "/vision".to_owned(),
        client: Some("127.0.0.1".to_owned()),
        trace: Trace::of(&headers),
        headers,
        chain_for: chain_for(),
        cut: None,
    }
}

/// A chain that is called like the request, in revision 7.
pub(crate) fn chain_for() -> ChainFor {
    Arc::new(|it: &RouteRequest<'_>| Chosen {
        chain: it.request_id.into(),
        revision: 7,
        level: None,
    })
}

/// Runs something with a log, and checks the tail: exactly one terminal record, then total, then summary.
fn check(run: impl FnOnce(RequestLog), terminal: &str, level: &str, status: &str) -> Vec<Seen> {
    let seen = seen_of(|| {
        let log = RequestLog::new(arrival());
        let _ = catch_unwind(AssertUnwindSafe(|| run(log)));
    });
    let names: Vec<_> = seen.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names.first(), Some(&event::REQUEST_RECEIVED));
    assert_eq!(names.iter().filter(|it| event::TERMINAL.contains(it)).count(), 1, "{names:?}");
    let tail = [terminal, event::REQUEST_TOTAL, event::REQUEST_SUMMARY];
    assert_eq!(names[names.len() - 3..], tail);
    assert!(seen.iter().all(|it| it.in_request));

    let end = &seen[seen.len() - 3];
    assert_eq!(end.level, level);
    assert_eq!(end.get(field::HTTP_RESPONSE_STATUS_CODE), Some(status));
    let summary = &seen[seen.len() - 1];
    assert_eq!(summary.get(field::HTTP_RESPONSE_STATUS_CODE), Some(status));
    assert_eq!(summary.get(field::OUTCOME), terminal.strip_prefix("request."));
    seen
}

#[test]
fn every_way_to_end_has_exactly_one_terminal_record() {
    let cancelled = event::REQUEST_CANCELLED;
    check(|mut log| log.finish(StatusCode::OK), event::REQUEST_FINISHED, "INFO", "200");
    check(drop, cancelled, "WARN", "499");
    check(|mut log| log.began(StatusCode::OK), cancelled, "WARN", "200");
    check(|mut log| log.refuse(&ApiError::BodyAborted), cancelled, "WARN", "499");
    let reject = |mut log: RequestLog| log.refuse(&ApiError::BodyTooLarge { limit: 1 });
    check(reject, event::REQUEST_REJECTED, "WARN", "413");
    let stop = |mut log: RequestLog| log.refuse(&ApiError::ShuttingDown);
    check(stop, event::REQUEST_REJECTED, "WARN", "503");
    let fail = |mut log: RequestLog| log.refuse(&ApiError::EngineGone);
    check(fail, event::REQUEST_FAILED, "ERROR", "500");
    let twice = |mut log: RequestLog| {
        log.finish(StatusCode::OK);
        log.refuse(&ApiError::EngineGone);
    };
    check(twice, event::REQUEST_FINISHED, "INFO", "200");
    fn panics(_log: RequestLog) {
        panic!("a bug");
    }
    let seen = check(panics, event::REQUEST_FAILED, "ERROR", "500");
    assert_eq!(seen[seen.len() - 3].get(field::ERROR_TYPE), Some("panic"));
}

#[test]
fn the_span_says_which_chain_of_which_revision() {
    let (_, spans) = captured(|| {
        let mut log = RequestLog::new(arrival());
        log.received(None, false);
        log.received(Some("again"), true);
    });
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(span.name, "request");
    assert_eq!(span.get("request_id").map(str::len), Some(36));
    assert_eq!(span.get("chain"), span.get("request_id"));
    assert_eq!(span.get("revision"), Some("7"));
}

#[test]
fn running_out_of_memory_is_critical() {
    let error = || ApiError::from(engine::EngineError::OutOfMemory("no room".to_owned()));
    let run = |mut log: RequestLog| log.refuse(&error());
    let seen = check(run, event::REQUEST_FAILED, "ERROR", "503");
    assert_eq!(seen[seen.len() - 3].get("severity.number"), Some("21"));
}

#[test]
fn the_first_record_says_who_asks_for_what() {
    let run = |mut log: RequestLog| {
        log.body(19);
        log.received(Some("demo"), true);
        log.received(Some("again"), false);
        log.finish(StatusCode::OK);
    };
    let seen = check(run, event::REQUEST_FINISHED, "INFO", "200");
    let expected = [
        (field::HTTP_REQUEST_METHOD, "POST"),
        (field::HTTP_ROUTE, "/vision"),
        (field::CLIENT_ADDRESS, "127.0.0.1"),
        (field::HTTP_REQUEST_BODY_SIZE, "19"),
        (field::RETRY_COUNT, "2"),
        (field::REQUEST_MODEL, "demo"),
        (field::REQUEST_STREAM, "true"),
    ];
    for (name, value) in expected {
        assert_eq!(seen[0].get(name), Some(value), "{name}");
    }
    // What was not sent is absent, not empty.
    assert_eq!(seen[0].get(field::USER_AGENT_ORIGINAL), None);
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_prompt_is_counted_in_scalars_and_says_more_at_debug() {
    let run = |mut log: RequestLog| {
        log.prompt(&PromptFacts { text: "안녕 👋", messages: 1, images: 0, vision_tag: false });
    };
    let seen = check(run, event::REQUEST_CANCELLED, "WARN", "499");
    let prompts: Vec<_> = seen.iter().filter(|it| it.name == event::REQUEST_PROMPT).collect();
    assert_eq!(prompts[0].get(field::PROMPT_CHARS), Some("4"));
    assert_eq!(prompts[0].get(field::PROMPT_TEXT), Some("안녕 👋"));
    assert_eq!(prompts[0].get(field::CODE_STACK), None);
    assert_eq!(prompts[1].level, "DEBUG");
    assert_eq!(prompts[1].get(field::PROMPT_VISION_TAG), Some("false"));
    assert!(prompts[1].get(field::CODE_STACK).unwrap().contains("request_log/tests.rs:"));
    assert_eq!(seen[seen.len() - 1].get(field::PROMPT_CHARS), Some("4"));
}
