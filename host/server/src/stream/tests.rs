use engine::{EngineError, Logprob, TokenLogprob};
use serde_json::json;

use super::*;
use crate::{
    choices::tests::{choices, finished},
    request_log::tests::{Seen, arrival, seen_of},
};

/// Writes what it is told, in brackets.
struct Plain(usize);

impl Writer for Plain {
    fn begin(&mut self) -> Vec<Value> {
        (0..self.0).map(|at| json!({"begin": at})).collect()
    }

    fn piece(&mut self, choice: usize, piece: &Piece) -> Vec<Value> {
        let is_nothing = piece.text.is_empty() && piece.logprobs.is_empty();
        if is_nothing { Vec::new() } else { vec![json!({"at": choice, "text": piece.text})] }
    }

    fn finish(&mut self, choice: usize, finished: &Finished) -> Vec<Value> {
        vec![json!({"at": choice, "reason": finished.reason.as_str()})]
    }

    fn empty(&self) -> Value {
        json!({"choices": []})
    }
}

fn end() -> Event {
    Event::Finished(finished(3, 2, 20))
}

fn text(it: &str) -> Event {
    Event::Text(Piece { text: it.to_owned(), logprobs: Vec::new() })
}

/// The data of all events of a stream, and all records.
fn run_whole(jobs: Vec<Vec<Event>>, options: Options) -> (Vec<String>, Vec<Seen>) {
    let mut sent = Vec::new();
    let records = seen_of(|| {
        let count = jobs.len();
        let running = Running {
            choices: choices(jobs),
            per_prompt: count,
            prompts: Vec::new(),
            images: Vec::new(),
        };
        let begun = Begun { writer: Plain(count), running, first: None, options };
        let mut chunks = Chunks::new(RequestLog::new(arrival()), begun);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        while let Some(data) = runtime.block_on(chunks.next()) {
            sent.push(data);
        }
    });
    (sent, records)
}

/// The data of all events of a stream, and the terminal record.
fn run(jobs: Vec<Vec<Event>>, options: Options) -> (Vec<String>, String) {
    let (sent, records) = run_whole(jobs, options);
    let terminal: Vec<_> = records
        .into_iter()
        .map(|it| it.name)
        .filter(|it| record::event::TERMINAL.contains(&it.as_str()))
        .collect();
    assert_eq!(terminal.len(), 1, "{terminal:?}");
    (sent, terminal.concat())
}

#[test]
fn a_stream_is_what_its_writer_writes_and_done() {
    let (sent, terminal) =
        run(vec![vec![text("he"), text(""), text("y"), end()]], Options::default());
    let expected = [
        json!({"begin": 0}).to_string(),
        json!({"at": 0, "text": "he"}).to_string(),
        json!({"at": 0, "text": "y"}).to_string(),
        json!({"at": 0, "reason": "stop"}).to_string(),
        "[DONE]".to_owned(),
    ];
    assert_eq!(sent, expected);
    assert_eq!(terminal, record::event::REQUEST_FINISHED);
}

#[tokio::test]
async fn a_stream_that_waits_says_that_it_is_there() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let watches = crate::choices::tests::watches(&crate::meters::Meters::default(), 1);
    let choices = Choices::new(vec![receiver], watches, None);
    let running = Running { choices, per_prompt: 1, prompts: Vec::new(), images: Vec::new() };
    let options = Options::default();
    let begun = Begun { writer: Plain(1), running, first: None, options };
    let response = begun.respond(RequestLog::new(arrival()), Duration::from_millis(5));
    let mut data = response.into_body().into_data_stream();
    let mut read = async || {
        let bytes = futures_util::StreamExt::next(&mut data).await.unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    assert_eq!(read().await, "data: {\"begin\":0}\n\n");
    // Comments, which clients pass over, for as long as nothing comes.
    assert_eq!(read().await, ":\n\n");
    assert_eq!(read().await, ":\n\n");
    sender.send(end()).unwrap();
    let mut last = read().await;
    while last == ":\n\n" {
        last = read().await;
    }
    assert!(last.contains("\"reason\":\"stop\""), "{last}");
}

#[test]
fn several_answers_come_between_each_other_and_end_once() {
    let jobs = vec![vec![text("a"), text("b"), end()], vec![text("x"), end()]];
    let (sent, records) = run_whole(jobs, Options { log_deltas: false, ..Options::default() });
    let order: Vec<Value> = sent.iter().filter_map(|it| serde_json::from_str(it).ok()).collect();
    let at: Vec<_> = order.iter().filter_map(|it| it["at"].as_u64()).collect();
    assert_eq!(at, [0, 1, 0, 1, 0]);
    assert_eq!(sent.iter().filter(|it| *it == "[DONE]").count(), 1);
    let of = |name: &str| records.iter().filter(|it| it.name == name).count();
    assert_eq!(of(record::event::REQUEST_FINISHED), 1);
    let contents: Vec<_> = records
        .iter()
        .filter(|it| it.name == record::event::RESPONSE_CONTENT && it.level == "INFO")
        .filter_map(|it| it.get(record::field::RESPONSE_TEXT))
        .collect();
    assert_eq!(contents, ["ab", "x"]);
    let performance =
        records.iter().find(|it| it.name == record::event::REQUEST_PERFORMANCE).unwrap();
    assert_eq!(performance.get(record::field::OUTPUT_TOKENS), Some("4"));
    assert_eq!(performance.get(record::field::INPUT_TOKENS), Some("3"));
}

#[test]
fn usage_and_metrics_come_in_a_chunk_of_their_own_when_asked_for() {
    let options = Options { include_usage: true, include_metrics: true, ..Options::default() };
    let (sent, _) = run(vec![vec![text("a"), end()], vec![end()]], options);
    let last: Value = serde_json::from_str(&sent[sent.len() - 2]).unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 7);
    assert_eq!(last["metrics"]["generation_time_ms"], 20.0);
    let before: Value = serde_json::from_str(&sent[1]).unwrap();
    assert!(before.get("usage").is_some_and(Value::is_null));
}

#[test]
fn each_piece_of_text_is_a_record_when_asked_for() {
    use record::{event, field};
    let check = |log_deltas: bool, expected: &[&str]| {
        let empty = Piece {
            text: String::new(),
            logprobs: vec![TokenLogprob {
                token: Logprob { id: 1, logprob: 0.0, bytes: vec![0xea] },
                top: Vec::new(),
            }],
        };
        let events = vec![text("hi "), text("안"), Event::Text(empty), text("녕"), end()];
        let (_, records) = run_whole(vec![events], Options { log_deltas, ..Options::default() });
        let deltas: Vec<_> = records.iter().filter(|it| it.name == event::RESPONSE_DELTA).collect();
        let texts: Vec<_> = deltas.iter().filter_map(|it| it.get(field::RESPONSE_DELTA)).collect();
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
    let check = |jobs: Vec<Vec<Event>>, code: &str| {
        let (sent, terminal) = run(jobs, Options::default());
        let last: Value = serde_json::from_str(sent.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], code);
        assert_eq!(terminal, record::event::REQUEST_FAILED);
    };
    let memory = || Event::Failed(EngineError::OutOfMemory("no room".to_owned()));
    check(vec![vec![text("a"), memory()]], "out_of_memory");
    check(vec![vec![text("a"), end()], vec![memory()]], "out_of_memory");
    check(vec![vec![text("a")]], "engine_gone");
}
