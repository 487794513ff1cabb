//! Logits to the next token.

#[cfg(test)]
mod tests;

use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling as Rule};

use crate::{error::EngineError, job::Sampling};

/// Below this there is no chance left for any token but the likeliest, only overflow.
const GREEDY_BELOW: f64 = 1e-4;

/// Chooses tokens. The same seed, logits and settings give the same tokens.
pub(crate) struct Sampler(LogitsProcessor);

impl Sampler {
    pub(crate) fn new(sampling: &Sampling) -> Self {
        Self(LogitsProcessor::from_sampling(sampling.seed, rule(sampling)))
    }

    /// A token of `logits`, `f32` of shape (vocabulary,). This waits for the device.
    pub(crate) fn next(&mut self, logits: &Tensor) -> Result<u32, EngineError> {
        Ok(self.0.sample(logits)?)
    }
}

fn rule(sampling: &Sampling) -> Rule {
    let temperature = sampling.temperature;
    if temperature.is_nan() || temperature < GREEDY_BELOW {
        return Rule::ArgMax;
    }
    let top_k = sampling.top_k.filter(|k| *k > 0);
    let top_p = sampling.top_p.filter(|p| *p > 0.0 && *p < 1.0);
    match (top_k, top_p) {
        (None, None) => Rule::All { temperature },
        (Some(k), None) => Rule::TopK { k, temperature },
        (None, Some(p)) => Rule::TopP { p, temperature },
        (Some(k), Some(p)) => Rule::TopKThenTopP { k, p, temperature },
    }
}
