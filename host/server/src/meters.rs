//! What the server counts of its requests, in Prometheus' text format 0.0.4: under vLLM's names, so that dashboards made for
//! it work, and under OpenTelemetry's.
//!
//! Labels are names of served models and words of closed sets. It knows no engine beyond the facts that are handed in; in front of
//! other servers there is none, and what cannot be seen from outside is left out.
//!
//! # Layout
//! - `watch`: one piece of work. `histogram`: how often a number was how large. `text`: what is served.

mod histogram;
#[cfg(test)]
mod tests;
mod text;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use self::histogram::Histogram;
pub(crate) use self::{
    text::Engine,
    watch::{Answered, Asked, Watch},
};
use crate::operation::Operation;

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

/// As vLLM has it.
const ANSWERS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];
/// How a job ended.
const REASONS: [&str; 4] = ["stop", "length", "abort", "error"];

/// Adapters come and go, and so do the lists of other servers: those that come later are counted together.
const MODELS_MAX: usize = 1024;

/// What a model is called that is not told apart.
pub(crate) const UNKNOWN_MODEL: &str = "unknown";

/// The counters of all models. There are as many as models and adapters, up to a bound.
#[derive(Default)]
pub(crate) struct Meters {
    models: Mutex<BTreeMap<String, Arc<Model>>>,
}

struct Model {
    /// Jobs that were handed in and have not ended, and those of them that have not started.
    jobs: AtomicU64,
    waiting: AtomicU64,
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
    longest_generation: Histogram,
    params_n: Histogram,
    params_max_tokens: Histogram,
    /// By operation.
    gen_ai: [GenAi; Operation::ALL.len()],
}

struct GenAi {
    request: Histogram,
    first_token: Histogram,
    token: Histogram,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            jobs: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
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
            longest_generation: Histogram::new(TOKENS),
            params_n: Histogram::new(ANSWERS),
            params_max_tokens: Histogram::new(TOKENS),
            gen_ai: Operation::ALL.map(|_| GenAi {
                request: Histogram::new(GEN_AI_SECONDS),
                first_token: Histogram::new(FIRST_TOKEN),
                token: Histogram::new(GEN_AI_TOKEN_SECONDS),
            }),
        }
    }
}

impl Meters {
    fn model(&self, name: &str) -> Arc<Model> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let has_place = models.len() < MODELS_MAX || models.contains_key(name);
        let name = if has_place { name } else { UNKNOWN_MODEL };
        Arc::clone(models.entry(name.to_owned()).or_default())
    }
}
