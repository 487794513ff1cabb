//! The text of a scrape.

use std::{
    fmt::Write as _,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use engine::StepTokens;

use super::{GenAi, Histogram, Meters, Model, REASONS, histogram};
use crate::operation::Operation;

/// What only one engine knows, at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Engine {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    /// Blocks of the cache, those that can be had, and how many tokens one holds. No blocks: there is no cache to speak of.
    pub(crate) blocks: usize,
    pub(crate) free_blocks: usize,
    pub(crate) block_tokens: usize,
    pub(crate) preemptions: u64,
    /// Most jobs of a step, each of which may have an adapter of its own.
    pub(crate) sequences: usize,
    pub(crate) step_tokens: StepTokens,
    /// Names of the models that are adapters.
    pub(crate) adapters: Vec<String>,
}

/// Name, help and where the number is.
type Counted = (&'static str, &'static str, fn(&Model) -> &AtomicU64);
type Measured = (&'static str, &'static str, fn(&Model) -> &Histogram);

const COUNTERS: [Counted; 2] = [
    ("vllm:prompt_tokens_total", "Number of prefill tokens processed.", |it| &it.prompt_tokens),
    ("vllm:generation_tokens_total", "Number of generation tokens processed.", |it| {
        &it.generation_tokens
    }),
];

/// Of an engine here.
const CACHE: [Counted; 2] = [
    (
        "vllm:prefix_cache_hits_total",
        "Prefix cache hits, in terms of number of cached tokens.",
        |it| &it.cached_tokens,
    ),
    (
        "vllm:prefix_cache_queries_total",
        "Prefix cache queries, in terms of number of queried tokens.",
        |it| &it.prompt_tokens,
    ),
];

const HISTOGRAMS: [Measured; 4] = [
    ("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", |it| {
        &it.first_token
    }),
    ("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", |it| {
        &it.whole
    }),
    ("vllm:request_prompt_tokens", "Number of prefill tokens processed.", |it| &it.request_prompt),
    ("vllm:request_generation_tokens", "Number of generation tokens processed.", |it| {
        &it.request_generation
    }),
];

/// Of an engine here.
const INSIDE: [Measured; 8] = [
    ("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", |it| {
        &it.between_tokens
    }),
    ("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase.", |it| {
        &it.queue
    }),
    ("vllm:request_prefill_time_seconds", "Histogram of time spent in PREFILL phase.", |it| {
        &it.prefill
    }),
    ("vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase.", |it| {
        &it.decode
    }),
    ("vllm:request_inference_time_seconds", "Histogram of time spent in RUNNING phase.", |it| {
        &it.inference
    }),
    (
        "vllm:request_max_num_generation_tokens",
        "Histogram of maximum number of requested generation tokens.",
        |it| &it.longest_generation,
    ),
    ("vllm:request_params_n", "Histogram of the n request parameter.", |it| &it.params_n),
    ("vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.", |it| {
        &it.params_max_tokens
    }),
];

/// Name, help, where the number is, which operations have it, and whether it can be seen from outside.
type GenAiMeasured =
    (&'static str, &'static str, fn(&GenAi) -> &Histogram, &'static [Operation], bool);

const GENERATIONS: &[Operation] = &[Operation::Chat, Operation::Completion];

const GEN_AI: [GenAiMeasured; 3] = [
    (
        "gen_ai_server_request_duration_seconds",
        "Duration of a request.",
        |it| &it.request,
        &Operation::ALL,
        true,
    ),
    (
        "gen_ai_server_time_to_first_token_seconds",
        "Time until the first token of an answer is known.",
        |it| &it.first_token,
        GENERATIONS,
        true,
    ),
    (
        "gen_ai_server_time_per_output_token_seconds",
        "Time of each token after the first.",
        |it| &it.token,
        GENERATIONS,
        false,
    ),
];

/// Names as labels have them, and what was counted.
type Models = [(String, Arc<Model>)];

impl Meters {
    /// `models` are served; those that nobody asked for yet are told with zeros. What is counted of requests is told of all
    /// engines together, under the first one's label. Without engines, what only they know is left out.
    pub(crate) fn encode<'a>(
        &self,
        models: impl IntoIterator<Item = &'a str>,
        engines: &[Engine],
    ) -> String {
        for name in models {
            self.model(name);
        }
        let models: Vec<_> = {
            let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
            models.iter().map(|(name, it)| (escaped(name), Arc::clone(it))).collect()
        };
        let mut text = String::new();
        jobs(&mut text, &models, engines);
        counters(&mut text, &models, &COUNTERS);
        ended(&mut text, &models);
        histograms(&mut text, &models, &HISTOGRAMS);
        if let Some(first) = engines.first() {
            counters(&mut text, &models, &CACHE);
            histograms(&mut text, &models, &INSIDE);
            caches(&mut text, &models, engines);
            steps(&mut text, &models, engines);
            adapters(&mut text, &models, first);
        }
        for (name, help, of, operations, is_outside) in GEN_AI {
            if !is_outside && engines.is_empty() {
                continue;
            }
            head(&mut text, name, help, "histogram");
            for (model, it) in &models {
                for operation in operations {
                    let label = format!(
                        "gen_ai_operation_name=\"{}\",gen_ai_provider_name=\"bucksaw\",gen_ai_request_model=\"{model}\"",
                        operation.word()
                    );
                    of(&it.gen_ai[*operation as usize]).write(&mut text, name, &label);
                }
            }
        }
        text
    }
}

fn label(model: &str) -> String {
    label_at(0, model)
}

fn label_at(engine: usize, model: &str) -> String {
    format!("engine=\"{engine}\",model_name=\"{model}\"")
}

fn counters(text: &mut String, models: &Models, all: &[Counted]) {
    for &(name, help, of) in all {
        head(text, name, help, "counter");
        for (model, it) in models {
            let _ = writeln!(text, "{name}{{{}}} {}", label(model), of(it).load(Relaxed));
        }
    }
}

fn histograms(text: &mut String, models: &Models, all: &[Measured]) {
    for &(name, help, of) in all {
        head(text, name, help, "histogram");
        for (model, it) in models {
            of(it).write(text, name, &label(model));
        }
    }
}

fn ended(text: &mut String, models: &Models) {
    let name = "vllm:request_success_total";
    head(text, name, "Count of successfully processed requests.", "counter");
    for (model, it) in models {
        for (reason, count) in REASONS.iter().zip(&it.ended) {
            let (label, count) = (label(model), count.load(Relaxed));
            let _ = writeln!(text, "{name}{{{label},finished_reason=\"{reason}\"}} {count}");
        }
    }
}

/// What each engine does, by model. An engine has one queue for all models, and does not tell them apart: what waits is told of
/// the first that have jobs, and taken off what runs; the sums of each engine and of each model are right.
fn jobs(text: &mut String, models: &Models, engines: &[Engine]) {
    let mut left: Vec<u64> = models.iter().map(|(_, it)| it.jobs.load(Relaxed)).collect();
    let waiting: Vec<_> = engines.iter().map(|it| take(&mut left, it.waiting as u64)).collect();
    let others = engines.split_last().map_or(&[][..], |(_, others)| others);
    let mut running: Vec<_> = others.iter().map(|it| take(&mut left, it.running as u64)).collect();
    // Between two steps an engine knows less than the requests do: what is left is the last one's, or nobody's here.
    running.push(left);
    for (name, help, counts) in [
        ("vllm:num_requests_running", "Number of requests in model execution batches.", running),
        ("vllm:num_requests_waiting", "Number of requests waiting to be processed.", waiting),
    ] {
        if counts.is_empty() {
            continue;
        }
        head(text, name, help, "gauge");
        for (engine, counts) in counts.iter().enumerate() {
            for ((model, _), count) in models.iter().zip(counts) {
                let _ = writeln!(text, "{name}{{{}}} {count}", label_at(engine, model));
            }
        }
    }
}

/// Takes up to so many jobs, of the first models first. Returns how many of each.
fn take(jobs: &mut [u64], mut wanted: u64) -> Vec<u64> {
    jobs.iter_mut()
        .map(|it| {
            let taken = wanted.min(*it);
            *it -= taken;
            wanted -= taken;
            taken
        })
        .collect()
}

fn caches(text: &mut String, models: &Models, engines: &[Engine]) {
    let engines: Vec<_> = engines.iter().enumerate().filter(|(_, it)| it.blocks > 0).collect();
    if engines.is_empty() {
        return;
    }
    let name = "vllm:kv_cache_usage_perc";
    head(text, name, "KV-cache usage. 1 means 100 percent usage.", "gauge");
    for (at, it) in &engines {
        let free = it.free_blocks.min(it.blocks);
        let usage = (it.blocks - free) as f64 / it.blocks as f64;
        for (model, _) in models {
            let _ = writeln!(text, "{name}{{{}}} {usage}", label_at(*at, model));
        }
    }
    let name = "vllm:cache_config_info";
    head(text, name, "Information of the LLMEngine CacheConfig", "gauge");
    for (at, it) in &engines {
        let (size, blocks) = (it.block_tokens, it.blocks);
        let _ = writeln!(
            text,
            "{name}{{block_size=\"{size}\",engine=\"{at}\",num_gpu_blocks=\"{blocks}\"}} 1"
        );
    }
}

/// What is one for all models is told of the first.
fn steps(text: &mut String, models: &Models, engines: &[Engine]) {
    let Some((model, _)) = models.first() else { return };
    let name = "vllm:num_preemptions_total";
    head(text, name, "Cumulative number of preemptions from the engine.", "counter");
    for (at, it) in engines.iter().enumerate() {
        let _ = writeln!(text, "{name}{{{}}} {}", label_at(at, model), it.preemptions);
    }
    let name = "vllm:iteration_tokens_total";
    head(text, name, "Histogram of number of tokens per engine_step.", "histogram");
    let bounds = StepTokens::BOUNDS.map(|it| it as f64);
    for (at, it) in engines.iter().enumerate() {
        let StepTokens { counts, sum } = it.step_tokens;
        histogram::samples(text, (name, &label_at(at, model)), &bounds, (counts, sum as f64));
    }
}

/// As vLLM tells of its adapters, for routers that read it: which ones are at work is in the labels, and the value is the time.
fn adapters(text: &mut String, models: &Models, engine: &Engine) {
    if engine.adapters.is_empty() {
        return;
    }
    let adapters: Vec<String> = engine.adapters.iter().map(|it| escaped(it)).collect();
    let named = |is_meant: fn(u64, u64) -> bool| {
        let names = models.iter().filter(|(name, it)| {
            let (jobs, waiting) = (it.jobs.load(Relaxed), it.waiting.load(Relaxed));
            adapters.contains(name) && is_meant(jobs, waiting)
        });
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
    };
    let running = named(|jobs, waiting| jobs > waiting);
    let waiting = named(|_, waiting| waiting > 0);
    let most = engine.sequences;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64());
    let name = "vllm:lora_requests_info";
    head(text, name, "Running stats on lora requests.", "gauge");
    let _ = writeln!(
        text,
        "{name}{{max_lora=\"{most}\",running_lora_adapters=\"{running}\",waiting_lora_adapters=\"{waiting}\"}} {now}"
    );
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// As the format wants the value of a label.
fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
