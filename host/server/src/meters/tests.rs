use std::{slice, time::Duration};

use engine::{Event, FinishReason, Finished, Piece, StepTokens};

use super::*;
use crate::choices::tests::{finished, watches};

/// The value of a sample.
fn sample<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|it| it.strip_prefix(series)?.strip_prefix(' '))
}

fn vllm(name: &str, more: &str) -> String {
    format!("vllm:{name}{{engine=\"0\",model_name=\"m\"{more}}}")
}

fn gen_ai(name: &str, operation: &str) -> String {
    format!(
        "gen_ai_server_{name}{{gen_ai_operation_name=\"{operation}\",gen_ai_provider_name=\"bucksaw\",gen_ai_request_model=\"m\"}}"
    )
}

fn check(text: &str, series: String, expected: &str) {
    assert_eq!(sample(text, &series), Some(expected), "{series}\n{text}");
}

#[test]
fn a_job_is_counted_once_however_it_ends() {
    let meters = Meters::default();
    let watch = || watches(&meters, 1).remove(0);
    let mut served = watch();
    served.saw(&Event::Started { input_tokens: 7, cached_tokens: 1 });
    served.saw(&Event::Text(Piece::default()));
    served.saw(&Event::Text(Piece::default()));
    served.saw(&Event::Finished(finished(7, 3, 100)));
    drop(served);
    drop(watch());
    let mut failed = watch();
    failed.failed();
    drop(failed);
    let _running = [watch(), watch()];

    let engine = Engine {
        running: 1,
        waiting: 1,
        blocks: 8,
        free_blocks: 4,
        block_tokens: 16,
        preemptions: 2,
        ..Engine::default()
    };
    let text = meters.encode(["other"], slice::from_ref(&engine));
    let check = |series: String, expected: &str| check(&text, series, expected);
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
    check(vllm("request_params_max_tokens_sum", ""), "60");
    check(vllm("num_preemptions_total", ""), "2");
    let cache = "vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"8\"}";
    check(cache.to_owned(), "1");
    check(gen_ai("time_per_output_token_seconds_count", "chat"), "1");
    check(gen_ai("request_duration_seconds_count", "text_completion"), "0");
    assert!(text.contains("model_name=\"other\""), "{text}");
}

#[test]
fn answers_to_one_prompt_are_one_request_with_its_parameters() {
    let meters = Meters::default();
    let mut both = watches(&meters, 2);
    both[0].saw(&Event::Finished(finished(90, 5, 100)));
    let count = |meters: &Meters, name: &str| {
        let text = meters.encode([], &[Engine::default()]);
        sample(&text, &vllm(name, "")).map(str::to_owned)
    };
    assert_eq!(count(&meters, "request_params_n_count").as_deref(), Some("0"));
    let longer = Finished { reason: FinishReason::Length, ..finished(90, 9, 100) };
    both[1].saw(&Event::Finished(longer));
    for (name, expected) in [
        ("request_params_n_count", "1"),
        ("request_params_n_sum", "2"),
        ("request_max_num_generation_tokens_count", "1"),
        ("request_max_num_generation_tokens_sum", "9"),
        // Of each answer; there was room for no more.
        ("request_params_max_tokens_count", "2"),
        ("request_params_max_tokens_sum", "20"),
    ] {
        assert_eq!(count(&meters, name).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn work_that_is_not_seen_is_counted_as_far_as_it_is_known() {
    let meters = Meters::default();
    let mut vectors = meters.watch("m", Operation::Embeddings);
    let answered =
        Answered { input_tokens: Some(5), output_tokens: Some(0), ..Answered::default() };
    vectors.answered(&answered);
    vectors.answered(&answered);
    // It turns out whose it is.
    let mut chat = meters.watch("other", Operation::Chat);
    chat.is_of(&meters, "m");
    chat.answered(&Answered {
        reason: Some("length"),
        input_tokens: None,
        output_tokens: Some(4),
        first: Some(Duration::from_millis(30)),
    });
    let mut refused = meters.watch("m", Operation::Chat);
    refused.ended_by(&crate::error::ApiError::NoStore);
    drop(refused);
    let _running = meters.watch("m", Operation::Completion);

    let text = meters.encode([], &[]);
    let check = |series: String, expected: &str| check(&text, series, expected);
    for (reason, expected) in [("stop", "1"), ("length", "1"), ("abort", "0"), ("error", "0")] {
        check(vllm("request_success_total", &format!(",finished_reason=\"{reason}\"")), expected);
    }
    check(vllm("num_requests_running", ""), "1");
    check(vllm("prompt_tokens_total", ""), "5");
    check(vllm("generation_tokens_total", ""), "4");
    check(vllm("request_generation_tokens_count", ""), "1");
    check(vllm("e2e_request_latency_seconds_count", ""), "2");
    check(vllm("time_to_first_token_seconds_sum", ""), "0.03");
    check(gen_ai("request_duration_seconds_count", "embeddings"), "1");
    check(gen_ai("request_duration_seconds_count", "chat"), "1");
    check(gen_ai("time_to_first_token_seconds_count", "chat"), "1");
    check("vllm:num_requests_running{engine=\"0\",model_name=\"other\"}".to_owned(), "0");
    for hidden in ["waiting", "cache", "queue_time", "iteration", "per_output_token", "params"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
}

#[test]
fn adapters_at_work_and_tokens_of_steps_are_told_as_vllm_tells_them() {
    let meters = Meters::default();
    let mut step_tokens = StepTokens::default();
    step_tokens.counts[1] = 2;
    step_tokens.counts[13] = 1;
    step_tokens.sum = 20_009;
    let engine = Engine {
        sequences: 7,
        step_tokens,
        adapters: vec!["m".to_owned(), "sql".to_owned()],
        ..Engine::default()
    };
    let told = |meters: &Meters| {
        let text = meters.encode(["base", "m", "sql"], slice::from_ref(&engine));
        let line = text.lines().find(|it| it.starts_with("vllm:lora_requests_info{")).unwrap();
        let (labels, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().unwrap() > 1.7e9, "{line}");
        labels.to_owned()
    };
    let labels = |running: &str, waiting: &str| {
        format!(
            "vllm:lora_requests_info{{max_lora=\"7\",running_lora_adapters=\"{running}\",waiting_lora_adapters=\"{waiting}\"}}"
        )
    };
    assert_eq!(told(&meters), labels("", ""));
    let mut job = watches(&meters, 1).remove(0);
    assert_eq!(told(&meters), labels("", "m"));
    job.saw(&Event::Started { input_tokens: 1, cached_tokens: 0 });
    let _vectors = meters.watch("sql", Operation::Embeddings);
    let _base = meters.watch("base", Operation::Chat);
    assert_eq!(told(&meters), labels("m,sql", ""));
    drop(job);
    assert_eq!(told(&meters), labels("sql", ""));

    let text = meters.encode([], slice::from_ref(&engine));
    let of_first = |name: &str, bound: &str| {
        let labels = "engine=\"0\",model_name=\"base\"";
        let series = format!("vllm:iteration_tokens_total_{name}{{{labels}{bound}}}");
        sample(&text, &series).map(str::to_owned)
    };
    assert_eq!(of_first("bucket", ",le=\"1\"").as_deref(), Some("0"));
    assert_eq!(of_first("bucket", ",le=\"8\"").as_deref(), Some("2"));
    assert_eq!(of_first("bucket", ",le=\"16384\"").as_deref(), Some("2"));
    assert_eq!(of_first("count", "").as_deref(), Some("3"));
    assert_eq!(of_first("sum", "").as_deref(), Some("20009"));
}

#[test]
fn there_are_so_many_models_and_no_more() {
    let meters = Meters::default();
    for it in 0..MODELS_MAX + 50 {
        drop(meters.watch(&it.to_string(), Operation::Chat));
    }
    let text = meters.encode([], &[]);
    let models = text.lines().filter(|it| it.starts_with("vllm:num_requests_running{"));
    assert_eq!(models.count(), MODELS_MAX + 1);
    let others =
        "vllm:request_success_total{engine=\"0\",model_name=\"unknown\",finished_reason=\"abort\"}";
    assert_eq!(sample(&text, others), Some("50"));
}

#[test]
fn each_family_is_described_once_and_each_series_comes_once() {
    let engine = || Engine { blocks: 1, ..Engine::default() };
    for engines in [vec![], vec![engine()], vec![engine(), engine()]] {
        let text = Meters::default().encode(["m", "a\"b\\c"], &engines);
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
        assert_eq!(text.contains("kv_cache_usage"), !engines.is_empty(), "{text}");
    }
    let nothing = Meters::default().encode(["m"], &[Engine::default()]);
    assert!(!nothing.contains("kv_cache_usage"), "nothing is known of it: {nothing}");
}

#[test]
fn each_engine_tells_of_itself() {
    let meters = Meters::default();
    let _a: Vec<_> = (0..3).map(|_| meters.watch("a", Operation::Chat)).collect();
    let _b: Vec<_> = (0..4).map(|_| meters.watch("b", Operation::Chat)).collect();
    let cache = Engine { waiting: 1, blocks: 8, block_tokens: 16, ..Engine::default() };
    let engines = [
        Engine { running: 2, free_blocks: 6, preemptions: 5, ..cache.clone() },
        Engine { running: 3, free_blocks: 4, ..cache },
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
    assert_eq!(value("iteration_tokens_total_count", 1, "a"), Some(0.0));
    for engine in 0..2 {
        let info = format!(
            "cache_config_info{{block_size=\"16\",engine=\"{engine}\",num_gpu_blocks=\"8\"}} 1"
        );
        assert!(text.contains(&info), "{info}: {text}");
    }
}
