//! Whole pipelines, from the queue to the sink: order, panics, and formatters that do not work.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{chains, record, start};
use crate::Pipeline;

fn pipeline(written: &Arc<Mutex<Vec<String>>>, formatter: &'static str) -> Pipeline {
    start(chains(written, formatter, None))
}

/// Pushes texts through a whole pipeline and gives what its sink wrote.
fn pipe(texts: &[&str], formatter: &'static str) -> Vec<String> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = pipeline(&written, formatter);
    texts.iter().for_each(|it| pipeline.push(record(it)));
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(30));
    assert!(drained.is_complete(), "{drained:?}");
    assert_eq!(drained.accepted, texts.len() as u64);
    pipeline.push(record("late"));
    assert_eq!(pipeline.queue().counts().1, 1, "a record after the end is counted as dropped");
    Arc::try_unwrap(written)
        .map_or_else(|it| it.lock().unwrap().clone(), |it| it.into_inner().unwrap())
}

#[test]
fn a_drained_pipeline_has_written_everything_in_order() {
    let texts: Vec<String> = (0..3000).map(|it| it.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(pipe(&texts, "lines"), texts);
}

#[test]
fn a_panic_costs_one_batch_and_is_counted() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = pipeline(&written, "lines");
    pipeline.push(record("bug"));
    while pipeline.queue().counts().1 == 0 {
        std::thread::yield_now();
    }
    pipeline.push(record("next"));
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(30));
    assert_eq!((drained.in_time, drained.accepted, drained.dropped), (true, 2, 1));
    let written = written.lock().unwrap();
    assert!(written.iter().any(|it| it == "next"), "{written:?}");
}

#[test]
fn lines_are_escaped_and_a_broken_formatter_falls_back_to_json() {
    assert_eq!(pipe(&["a\nb"], "lines"), ["a\\nb"]);
    for broken in ["broken", "liar"] {
        let lines = pipe(&["a\nb"], broken);
        let json: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(json["attributes"]["bucksaw.prompt.text"], "a\nb", "{broken}");
        assert_eq!(json["severity_text"], "INFO");
    }
}
