//! What the server counts of its requests, in Prometheus' text format 0.0.4: under vLLM's names, so that dashboards made for
//! it work, and under OpenTelemetry's.
//!
//! Labels are names of served models and words of closed sets. It knows no engine beyond the facts that are handed in.

mod histogram;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use engine::{Event, Finished};

use self::histogram::Histogram;

/// Seconds, as vLLM has them.
const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const BETWEEN_TOKENS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const WHOLE: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
    20_000.0, 50_000.0, 100_000.0,
];
/// OpenTelemetry's advice for `gen_ai.server.request.duration`.
const GEN_AI_SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// OpenTelemetry's advice for the time of a token.
const GEN_AI_TOKEN_SECONDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

/// How a job ended.
const REASONS: [&str; 4] = ["stop", "length", "abort", "error"];

/// The counters of all models. There are as many as models and adapters.
#[derive(Default)]
pub(crate) struct Meters {
    models: Mutex<BTreeMap<String, Arc<Model>>>,
}

/// What only one engine knows, at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Engine {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    /// Share of the cache that is in use, 0 to 1, where there is one cache to speak of.
    pub(crate) cache_usage: Option<f64>,
    pub(crate) preemptions: u64,
}

struct Model {
    /// Jobs that were handed in and have not ended.
    jobs: AtomicU64,
    prompt_tokens: AtomicU64,
    generation_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    ended: [AtomicU64; REASONS.len()],
    first_token: Histogram,
    between_tokens: Histogram,
    whole: Histogram,
    queue: Histogram,
    prefill: Histogram,
    decode: Histogram,
    inference: Histogram,
    request_prompt: Histogram,
    request_generation: Histogram,
    server_request: Histogram,
    server_first_token: Histogram,
    server_token: Histogram,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            jobs: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            generation_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            ended: [const { AtomicU64::new(0) }; REASONS.len()],
            first_token: Histogram::new(FIRST_TOKEN),
            between_tokens: Histogram::new(BETWEEN_TOKENS),
            whole: Histogram::new(WHOLE),
            queue: Histogram::new(WHOLE),
            prefill: Histogram::new(WHOLE),
            decode: Histogram::new(WHOLE),
            inference: Histogram::new(WHOLE),
            request_prompt: Histogram::new(TOKENS),
            request_generation: Histogram::new(TOKENS),
            server_request: Histogram::new(GEN_AI_SECONDS),
            server_first_token: Histogram::new(FIRST_TOKEN),
            server_token: Histogram::new(GEN_AI_TOKEN_SECONDS),
        }
    }
}

/// One job, from its begin to its end.
pub(crate) struct Watch {
    model: Arc<Model>,
    began: Instant,
    last: Option<Instant>,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(meters: &Meters, model: &str) -> Self {
        let model = meters.model(model);
        model.jobs.fetch_add(1, Relaxed);
        Self { model, began: Instant::now(), last: None, ended: false }
    }

    pub(crate) fn saw(&mut self, event: &Event) {
        match event {
            Event::Text(_) => self.token(),
            Event::Finished(finished) => self.finished(finished),
            Event::Started { .. } | Event::Failed(_) => {}
        }
    }

    pub(crate) fn failed(&mut self) {
        self.end("error");
    }

    fn token(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.model.between_tokens.add((now - last).as_secs_f64());
        }
    }

    fn finished(&mut self, finished: &Finished) {
        self.end(finished.reason.as_str());
        let (model, timings) = (&self.model, &finished.timings);
        let count = |counter: &AtomicU64, tokens: usize| {
            counter.fetch_add(tokens as u64, Relaxed);
        };
        count(&model.prompt_tokens, finished.input_tokens);
        count(&model.generation_tokens, finished.output_tokens);
        count(&model.cached_tokens, finished.cached_tokens);
        let whole = self.began.elapsed().as_secs_f64();
        let first = timings.first_token.as_secs_f64();
        model.whole.add(whole);
        model.server_request.add(whole);
        model.queue.add(timings.queue.as_secs_f64());
        model.prefill.add(timings.prefill.as_secs_f64());
        model.decode.add(timings.decode.as_secs_f64());
        model.inference.add(timings.generation.as_secs_f64());
        model.request_prompt.add(finished.input_tokens as f64);
        model.request_generation.add(finished.output_tokens as f64);
        if finished.output_tokens > 0 {
            model.first_token.add(first);
            model.server_first_token.add(first);
        }
        if finished.output_tokens > 1 {
            let each = timings.decode.as_secs_f64() / (finished.output_tokens - 1) as f64;
            model.server_token.add(each);
        }
    }

    fn end(&mut self, reason: &str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.model.jobs.fetch_sub(1, Relaxed);
        if let Some(at) = REASONS.iter().position(|it| *it == reason) {
            self.model.ended[at].fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Watch {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        self.end("abort");
    }
}

/// Name, help and where the number is.
type Counted = (&'static str, &'static str, fn(&Model) -> &AtomicU64);
type Measured = (&'static str, &'static str, fn(&Model) -> &Histogram);

const COUNTERS: [Counted; 3] = [
    ("vllm:prompt_tokens_total", "Number of prefill tokens processed.", |it| &it.prompt_tokens),
    ("vllm:generation_tokens_total", "Number of generation tokens processed.", |it| {
        &it.generation_tokens
    }),
    (
        "vllm:prefix_cache_hits_total",
        "Prefix cache hits, in terms of number of cached tokens.",
        |it| &it.cached_tokens,
    ),
];

const HISTOGRAMS: [Measured; 9] = [
    ("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", |it| {
        &it.first_token
    }),
    ("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", |it| {
        &it.between_tokens
    }),
    ("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", |it| {
        &it.whole
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
    ("vllm:request_prompt_tokens", "Number of prefill tokens processed.", |it| &it.request_prompt),
    ("vllm:request_generation_tokens", "Number of generation tokens processed.", |it| {
        &it.request_generation
    }),
];

const GEN_AI: [Measured; 3] = [
    ("gen_ai_server_request_duration_seconds", "Duration of a request.", |it| &it.server_request),
    (
        "gen_ai_server_time_to_first_token_seconds",
        "Time until the first token of an answer is known.",
        |it| &it.server_first_token,
    ),
    ("gen_ai_server_time_per_output_token_seconds", "Time of each token after the first.", |it| {
        &it.server_token
    }),
];

impl Meters {
    fn model(&self, name: &str) -> Arc<Model> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(models.entry(name.to_owned()).or_default())
    }

    /// `models` are served; those that nobody asked for yet are told with zeros. What is counted of requests is told of all
    /// `engines` together, under the first one's label.
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
        let label = |name: &str| format!("engine=\"0\",model_name=\"{name}\"");
        let mut text = String::new();
        gauges(&mut text, &models, engines);
        for (name, help, of) in COUNTERS {
            head(&mut text, name, help, "counter");
            for (model, it) in &models {
                let _ = writeln!(text, "{name}{{{}}} {}", label(model), of(it).load(Relaxed));
            }
        }
        let queries = "vllm:prefix_cache_queries_total";
        head(
            &mut text,
            queries,
            "Prefix cache queries, in terms of number of queried tokens.",
            "counter",
        );
        for (model, it) in &models {
            let _ =
                writeln!(text, "{queries}{{{}}} {}", label(model), it.prompt_tokens.load(Relaxed));
        }
        let success = "vllm:request_success_total";
        head(&mut text, success, "Count of successfully processed requests.", "counter");
        for (model, it) in &models {
            for (reason, count) in REASONS.iter().zip(&it.ended) {
                let count = count.load(Relaxed);
                let label = label(model);
                let _ = writeln!(text, "{success}{{{label},finished_reason=\"{reason}\"}} {count}");
            }
        }
        for (name, help, of) in HISTOGRAMS {
            head(&mut text, name, help, "histogram");
            for (model, it) in &models {
                of(it).write(&mut text, name, &label(model));
            }
        }
        for (name, help, of) in GEN_AI {
            head(&mut text, name, help, "histogram");
            for (model, it) in &models {
                let label = format!(
                    "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"bucksaw\",gen_ai_request_model=\"{model}\""
                );
                of(it).write(&mut text, name, &label);
            }
        }
        text
    }
}

/// What each engine does, by model. An engine has one queue for all models, and does not tell them apart: what waits is told of
/// the first that have jobs, and taken off what runs; the sums of each engine and of each model are right.
fn gauges(text: &mut String, models: &[(String, Arc<Model>)], engines: &[Engine]) {
    let label = |engine: usize, model: &str| format!("engine=\"{engine}\",model_name=\"{model}\"");
    let mut left: Vec<u64> = models.iter().map(|(_, it)| it.jobs.load(Relaxed)).collect();
    let waiting: Vec<_> = engines.iter().map(|it| take(&mut left, it.waiting as u64)).collect();
    let last = engines.len().saturating_sub(1);
    let running: Vec<_> = engines
        .iter()
        .enumerate()
        // Between two steps an engine knows less than the requests do: what is left is the last one's.
        .map(|(at, it)| take(&mut left, if at == last { u64::MAX } else { it.running as u64 }))
        .collect();
    for (name, help, counts) in [
        ("vllm:num_requests_running", "Number of requests in model execution batches.", running),
        ("vllm:num_requests_waiting", "Number of requests waiting to be processed.", waiting),
    ] {
        head(text, name, help, "gauge");
        for (engine, counts) in counts.iter().enumerate() {
            for ((model, _), count) in models.iter().zip(counts) {
                let _ = writeln!(text, "{name}{{{}}} {count}", label(engine, model));
            }
        }
    }
    let name = "vllm:num_preemptions_total";
    head(text, name, "Cumulative number of preemptions from the engine.", "counter");
    if let Some((model, _)) = models.first() {
        for (engine, it) in engines.iter().enumerate() {
            let _ = writeln!(text, "{name}{{{}}} {}", label(engine, model), it.preemptions);
        }
    }
    if engines.iter().any(|it| it.cache_usage.is_some()) {
        let name = "vllm:kv_cache_usage_perc";
        head(text, name, "KV-cache usage. 1 means 100 percent usage.", "gauge");
        for (engine, it) in engines.iter().enumerate() {
            let Some(usage) = it.cache_usage else { continue };
            for (model, _) in models {
                let _ = writeln!(text, "{name}{{{}}} {usage}", label(engine, model));
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

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// As the format wants the value of a label.
fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
