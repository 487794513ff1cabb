use engine::Piece;

use super::*;
use crate::choices::tests::finished;

/// The value of a sample.
fn sample<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|it| it.strip_prefix(series)?.strip_prefix(' '))
}

fn vllm(name: &str, more: &str) -> String {
    format!("vllm:{name}{{engine=\"0\",model_name=\"m\"{more}}}")
}

#[test]
fn a_job_is_counted_once_however_it_ends() {
    let meters = Meters::default();
    let mut served = Watch::new(&meters, "m");
    served.saw(&Event::Text(Piece::default()));
    served.saw(&Event::Text(Piece::default()));
    served.saw(&Event::Finished(finished(7, 3, 100)));
    drop(served);
    drop(Watch::new(&meters, "m"));
    let mut failed = Watch::new(&meters, "m");
    failed.failed();
    drop(failed);
    let _running = [Watch::new(&meters, "m"), Watch::new(&meters, "m")];

    let engine = Engine { running: 1, waiting: 1, cache_usage: Some(0.5), preemptions: 2 };
    let text = meters.encode(["other"], &[engine]);
    let check = |series: String, expected: &str| {
        assert_eq!(sample(&text, &series), Some(expected), "{series}\n{text}");
    };
    for (reason, expected) in [("stop", "1"), ("length", "0"), ("abort", "1"), ("error", "1")] {
        check(vllm("request_success_total", &format!(",finished_reason=\"{reason}\"")), expected);
    }
    check(vllm("num_requests_running", ""), "1");
    check(vllm("num_requests_waiting", ""), "1");
    check(vllm("kv_cache_usage_perc", ""), "0.5");
    check(vllm("prompt_tokens_total", ""), "7");
    check(vllm("generation_tokens_total", ""), "3");
    check(vllm("prefix_cache_hits_total", ""), "1");
    check(vllm("inter_token_latency_seconds_count", ""), "1");
    check(vllm("time_to_first_token_seconds_bucket", ",le=\"0.04\""), "0");
    check(vllm("time_to_first_token_seconds_bucket", ",le=\"0.06\""), "1");
    check(vllm("time_to_first_token_seconds_bucket", ",le=\"+Inf\""), "1");
    check(vllm("time_to_first_token_seconds_sum", ""), "0.05");
    check(vllm("request_prompt_tokens_bucket", ",le=\"5\""), "0");
    check(vllm("request_prompt_tokens_bucket", ",le=\"10\""), "1");
    assert!(text.contains("gen_ai_server_time_per_output_token_seconds_count{"), "{text}");
    assert!(text.contains("model_name=\"other\""), "{text}");
}

#[test]
fn each_family_is_described_once_and_each_series_comes_once() {
    let text = Meters::default().encode(["m", "a\"b\\c"], &[Engine::default()]);
    let mut series: Vec<_> = text
        .lines()
        .filter(|it| !it.starts_with('#'))
        .map(|it| it.rsplit_once(' ').unwrap().0)
        .collect();
    let count = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), count);
    let mut types: Vec<_> = text.lines().filter(|it| it.starts_with("# TYPE")).collect();
    let count = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), count);
    assert!(text.contains("model_name=\"a\\\"b\\\\c\""), "{text}");
    assert!(!text.contains("kv_cache_usage"), "nothing is known of it: {text}");
}

#[test]
fn each_engine_tells_of_itself() {
    let meters = Meters::default();
    let _a: Vec<_> = (0..3).map(|_| Watch::new(&meters, "a")).collect();
    let _b: Vec<_> = (0..4).map(|_| Watch::new(&meters, "b")).collect();
    let engines = [
        Engine { running: 2, waiting: 1, cache_usage: Some(0.25), preemptions: 5 },
        Engine { running: 3, waiting: 1, cache_usage: Some(0.5), preemptions: 0 },
    ];
    let text = meters.encode([], &engines);
    let value = |name: &str, engine: usize, model: &str| {
        let series = format!("vllm:{name}{{engine=\"{engine}\",model_name=\"{model}\"}}");
        sample(&text, &series).map(|it| it.parse::<f64>().unwrap())
    };
    let sum = |name: &str, engine: usize| {
        value(name, engine, "a").unwrap() + value(name, engine, "b").unwrap()
    };
    for (engine, running) in [(0, 2.0), (1, 3.0)] {
        assert_eq!(sum("num_requests_waiting", engine), 1.0, "{text}");
        assert_eq!(sum("num_requests_running", engine), running, "{text}");
    }
    for (model, jobs) in [("a", 3.0), ("b", 4.0)] {
        let of = |name: &str| (0..2).map(|it| value(name, it, model).unwrap()).sum::<f64>();
        assert_eq!(of("num_requests_waiting") + of("num_requests_running"), jobs, "{text}");
    }
    assert_eq!(value("kv_cache_usage_perc", 0, "b"), Some(0.25));
    assert_eq!(value("kv_cache_usage_perc", 1, "a"), Some(0.5));
    assert_eq!(value("num_preemptions_total", 0, "a"), Some(5.0));
    assert_eq!(value("num_preemptions_total", 1, "a"), Some(0.0));
}
