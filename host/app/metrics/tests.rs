//! What Prometheus is given of a pipeline.

use std::{
    collections::BTreeSet,
    io,
    time::{Duration, Instant},
};

use chain::{
    Chains, Ellipsis, Filter, Formatted, Formatter, Line, Output, Overflow, Plan, Released,
    Replacer, Sink, Source, Spec, Stage,
};
use record::{Field, Record, Severity, Stream};
use regex::Regex;

use super::*;

struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: &[Line]) -> io::Result<()> {
        Ok(())
    }
}

/// A line with a dot for each record.
struct Dots;

impl Stage for Dots {}

impl Formatter for Dots {
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
        let lines = (0..batch.len()).map(|it| (it, it + 1)).collect();
        Ok(Formatted { text: ".".repeat(batch.len()), lines })
    }
}

impl Source<dyn Formatter> for Dots {
    fn name(&self) -> &str {
        "dots"
    }

    fn open(&self) -> Result<Box<dyn Formatter>, StageError> {
        Ok(Box::new(Self))
    }
}

/// A log that wrote one record to two outputs of this name and came to its end.
fn pipeline(output: &str) -> Pipeline {
    let start = || {
        let sink = Box::new(Nowhere);
        Output::start(output, Filter::default(), Overflow::Block, sink).unwrap()
    };
    let outputs = vec![start(), start()];
    let spec = Spec {
        name: "default".into(),
        editors: vec![],
        handlers: vec![],
        outputs: vec![(Arc::new(Dots), outputs.clone())],
        shadow: None,
    };
    let chains = Chains {
        chains: [("default".into(), spec)].into(),
        default: "default".into(),
        outputs,
        replacer: Replacer::new(Ellipsis::Korean, b"key"),
        keeping: None,
        level: Severity::INFO,
        failures_max: 0,
        taken_over: Default::default(),
        kept: Arc::new(()),
    };
    let clock = Arc::new(|| (0_i64, 0_i32));
    let pipeline = Pipeline::start(Plan { chains, clock, workers: 1, queue: 64 }).unwrap();
    pipeline.push(Record {
        time: 0,
        utc_offset: 0,
        severity: Severity::INFO,
        event: "request.prompt".into(),
        stream: Stream::App,
        context: None,
        seq: 0,
        stub: None,
        fields: vec![Field::new("bucksaw.prompt.text", "비밀")],
    });
    let drained = pipeline.shutdown(Instant::now() + Duration::from_secs(30));
    assert!(drained.is_complete(), "{drained:?}");
    pipeline
}

const LABEL: &str = r#"[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*""#;

/// Every line is of the format, each sample stands under its own name and type, no series comes twice; and all of `lines`
/// are there.
fn check(text: &str, lines: &str) {
    let comment = Regex::new(r"^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) ([^\\]+)$").unwrap();
    let sample = format!(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{{{LABEL}(,{LABEL})*\}})? ([0-9.e-]+)$");
    let sample = Regex::new(&sample).unwrap();
    let (mut family, mut kind) = ("", "");
    let (mut families, mut all) = (BTreeSet::new(), BTreeSet::new());
    assert!(text.ends_with('\n'));
    for line in text.split_terminator('\n') {
        if let Some(it) = comment.captures(line) {
            let (_, [word, name, rest]) = it.extract();
            if word == "HELP" {
                assert!(families.insert(name), "{line}");
                family = name;
            } else {
                assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                assert_eq!(name, family);
                kind = rest;
            }
            continue;
        }
        let it = sample.captures(line).unwrap_or_else(|| panic!("{line:?}"));
        let name = match kind {
            "histogram" => {
                ["_bucket", "_sum", "_count"].iter().find_map(|end| it[1].strip_suffix(*end))
            }
            _ => Some(&it[1]),
        };
        assert_eq!(name, Some(family), "{line}");
        assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(all.insert(series), "{line}");
    }
    for line in lines.lines() {
        assert!(text.split('\n').any(|it| it == line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_counters_of_a_log_are_text_for_prometheus() {
    let cache = CacheCounts { hits: 3, misses: 4, refused: 5, unwritten: 6 };
    let text = encode(&pipeline("console"), Some(cache), None);
    let lines = r#"# HELP bucksaw_log_records_accepted_total Records that the queue took.
# TYPE bucksaw_log_records_accepted_total counter
bucksaw_log_records_accepted_total 1
bucksaw_log_records_dropped_total 0
# TYPE bucksaw_log_records_waiting gauge
bucksaw_log_records_waiting 0
bucksaw_log_records_released_total 1
bucksaw_log_records_withheld_total 0
bucksaw_log_lines_lost_total 0
bucksaw_log_revision 1
bucksaw_log_revisions_live 1
bucksaw_log_revisions_installed_total 0
bucksaw_log_rollbacks_total 0
bucksaw_log_refusals_total 0
bucksaw_log_output_lines_written_total{output="console"} 2
bucksaw_log_output_lines_lost_total{output="console"} 0
bucksaw_plugin_calls_total{chain="default",plugin="dots",role="formatter"} 1
bucksaw_plugin_records_total{chain="default",plugin="dots",role="formatter"} 1
bucksaw_plugin_instances_opened_total{chain="default",plugin="dots",role="formatter"} 1
bucksaw_plugin_breakers_open{chain="default",plugin="dots",role="formatter"} 0
# TYPE bucksaw_plugin_record_seconds histogram
bucksaw_plugin_record_seconds_count{chain="default",plugin="dots",role="formatter"} 1
bucksaw_plugin_record_seconds_bucket{le="+Inf",chain="default",plugin="dots",role="formatter"} 1
bucksaw_plugin_cache_hits_total 3
bucksaw_plugin_cache_misses_total 4
bucksaw_plugin_cache_refused_total 5
bucksaw_plugin_cache_unwritten_total 6"#;
    check(&text, lines);
    assert!(!text.contains("비밀") && !text.contains("bucksaw_plugin_failures_total"), "{text}");
    assert!(!encode(&pipeline("console"), None, None).contains("_cache_"));
}

#[test]
fn labels_are_escaped_and_buckets_are_cumulative() {
    let pipeline = pipeline("콘\"솔\n");
    let plugin = "a\"b\\c\nd 1\n# EOF".to_owned();
    let stage = pipeline.stats().stage(StageKey { chain: "채팅".into(), plugin, role: "editor" });
    stage.failures[StageError::BadAnswer as usize].store(7, Relaxed);
    stage.breakers_open.store(1, Relaxed);
    stage.cost.add(Duration::from_micros(1), 1);
    stage.cost.add(Duration::from_micros(400), 4);
    stage.cost.add(Duration::from_secs(2), 1);
    let text = encode(&pipeline, None, None);
    let lines = r##"bucksaw_log_output_lines_written_total{output="콘\"솔\n"} 2
bucksaw_plugin_failures_total{chain="채팅",plugin="a\"b\\c\nd 1\n# EOF",role="editor",error="bad_answer"} 7
bucksaw_plugin_breakers_open{chain="채팅",plugin="a\"b\\c\nd 1\n# EOF",role="editor"} 1
bucksaw_plugin_record_seconds_count{chain="채팅",plugin="a\"b\\c\nd 1\n# EOF",role="editor"} 6"##;
    check(&text, lines);
    assert!(!text.contains("error=\"trap\""), "{text}");
    let bucket = r#"_record_seconds_bucket\{le="([^"]+)",chain="채팅".*\} ([0-9]+)"#;
    let buckets: Vec<(f64, u64)> = Regex::new(bucket)
        .unwrap()
        .captures_iter(&text)
        .map(|it| (it[1].parse().unwrap(), it[2].parse().unwrap()))
        .collect();
    assert_eq!(buckets, stage.cost.cumulative());
}

#[test]
fn each_number_has_its_own_name() {
    let pipeline = pipeline("console");
    let key = ShadowKey { chain: "default".into(), shadow: "next".into() };
    let it = pipeline.stats().shadow(key);
    let seen = [&it.compared, &it.skipped, &it.different, &it.missed, &it.added];
    let changed = [&it.relabelled, &it.text_changed, &it.outcome_changed, &it.traps];
    for (counter, number) in seen.into_iter().chain(changed).zip(1..) {
        counter.store(number, Relaxed);
    }
    it.cost.add(Duration::from_millis(1), 10);
    it.chain_cost.add(Duration::from_millis(1), 11);
    let lines = r#"bucksaw_shadow_compared_total{chain="default",shadow="next"} 1
bucksaw_shadow_skipped_total{chain="default",shadow="next"} 2
bucksaw_shadow_different_total{chain="default",shadow="next"} 3
bucksaw_shadow_spans_missed_total{chain="default",shadow="next"} 4
bucksaw_shadow_spans_added_total{chain="default",shadow="next"} 5
bucksaw_shadow_relabelled_total{chain="default",shadow="next"} 6
bucksaw_shadow_text_changed_total{chain="default",shadow="next"} 7
bucksaw_shadow_outcome_changed_total{chain="default",shadow="next"} 8
bucksaw_shadow_traps_total{chain="default",shadow="next"} 9
bucksaw_shadow_record_seconds_count{chain="default",shadow="next"} 10
bucksaw_shadow_chain_record_seconds_count{chain="default",shadow="next"} 11"#;
    check(&encode(&pipeline, None, None), lines);
}
