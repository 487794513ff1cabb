//! Logits to the next token. It knows no tensor and no text.
//!
//! The order is that of vLLM's sampler (`vllm/v1/sample/sampler.py`): what the constraint allows, logit bias, penalties
//! (repetition, frequency, presence), temperature, min-p, top-k, top-p. Log probabilities are those of the model, before any of it.

pub(crate) mod mask;
mod nucleus;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use self::mask::Mask;
use crate::{error::EngineError, job::Sampling};

/// Below this there is no chance left for any token but the likeliest, only overflow.
const GREEDY_BELOW: f64 = 1e-5;
/// What OpenAI's API allows.
const TOP_LOGPROBS_MAX: usize = 20;

/// Chooses the tokens of one answer. The same seed, logits and settings give the same tokens, whatever else is computed at
/// the same time: it has a random generator of its own.
pub(crate) struct Sampler {
    settings: Sampling,
    random: ChaCha8Rng,
    mask: Option<Box<dyn Mask>>,
    /// Tokens of the prompt, where the repetition penalty asks for them.
    prompt: HashSet<u32>,
    /// How often the answer has each token, where a penalty asks for it.
    answer: HashMap<u32, u32>,
    /// A copy of the logits that can be changed.
    work: Vec<f32>,
}

/// The token after the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) token: u32,
    /// The constraint is fulfilled, and nothing may follow.
    pub(crate) complete: bool,
    /// Where [`Sampling::logprobs`] asks for it.
    pub(crate) logprobs: Option<Logprobs>,
}

/// Natural logarithms of probabilities.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Logprobs {
    pub(crate) token: f32,
    /// The likeliest tokens, the likeliest first.
    pub(crate) top: Vec<(u32, f32)>,
}

impl Sampler {
    pub(crate) fn new(settings: &Sampling, prompt: &[u32], mask: Option<Box<dyn Mask>>) -> Self {
        let repeats = repetition(settings).is_some();
        Self {
            settings: settings.clone(),
            random: ChaCha8Rng::seed_from_u64(settings.seed),
            mask,
            prompt: if repeats { prompt.iter().copied().collect() } else { HashSet::new() },
            answer: HashMap::new(),
            work: Vec::new(),
        }
    }

    /// A token, by the logits of the whole vocabulary.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Result<Chosen, EngineError> {
        let token = self.choose(logits)?;
        let logprobs = self.settings.logprobs.map(|top| logprobs(logits, token, top));
        if self.counts_answer() {
            *self.answer.entry(token).or_default() += 1;
        }
        let complete = match &mut self.mask {
            Some(mask) => mask.accept(token)?,
            None => false,
        };
        Ok(Chosen { token, complete, logprobs })
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        let temperature = self.settings.temperature;
        let greedy = temperature.is_nan() || temperature < GREEDY_BELOW;
        if greedy && !self.changes_logits() {
            return likeliest(logits).ok_or_else(no_token);
        }
        self.work.clear();
        self.work.extend_from_slice(logits);
        if let Some(mask) = &mut self.mask {
            mask.allow(&mut self.work)?;
        }
        self.bias();
        self.penalize();
        if greedy {
            return likeliest(&self.work).ok_or_else(no_token);
        }
        for logit in &mut self.work {
            *logit = (f64::from(*logit) / temperature) as f32;
        }
        // 53 bits: every number of this form below 1 is a float.
        let chance = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        nucleus::draw(&self.work, &self.settings, chance).ok_or_else(no_token)
    }

    fn changes_logits(&self) -> bool {
        self.mask.is_some() || !self.settings.logit_bias.is_empty() || self.counts_answer()
    }

    fn counts_answer(&self) -> bool {
        let it = &self.settings;
        it.presence_penalty != 0.0 || it.frequency_penalty != 0.0 || repetition(it).is_some()
    }

    fn bias(&mut self) {
        for (token, bias) in &self.settings.logit_bias {
            if let Some(logit) = self.work.get_mut(*token as usize) {
                *logit += bias;
            }
        }
    }

    fn penalize(&mut self) {
        if let Some(penalty) = repetition(&self.settings) {
            let answer = self.answer.keys().filter(|it| !self.prompt.contains(it));
            for token in self.prompt.iter().chain(answer) {
                if let Some(logit) = self.work.get_mut(*token as usize) {
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                }
            }
        }
        let (frequency, presence) =
            (self.settings.frequency_penalty, self.settings.presence_penalty);
        for (token, count) in &self.answer {
            if let Some(logit) = self.work.get_mut(*token as usize) {
                *logit -= (f64::from(*count) * frequency + presence) as f32;
            }
        }
    }
}

/// The repetition penalty where it does anything.
fn repetition(settings: &Sampling) -> Option<f32> {
    settings.repetition_penalty.map(|it| it as f32).filter(|it| *it > 0.0 && *it != 1.0)
}

/// The token with the largest logit, the first of several. None where no token is left.
fn likeliest(logits: &[f32]) -> Option<u32> {
    let mut best = (None, f32::NEG_INFINITY);
    for (token, logit) in (0..).zip(logits) {
        if *logit > best.1 {
            best = (Some(token), *logit);
        }
    }
    best.0
}

fn no_token() -> EngineError {
    EngineError::Internal("no token is possible: the logits are no numbers, or all excluded".into())
}

fn logprobs(logits: &[f32], token: u32, top: usize) -> Logprobs {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|it| f64::from(*it - max).exp()).sum();
    let all = f64::from(max) + sum.ln();
    let logprob = |logit: f32| (f64::from(logit) - all) as f32;
    let top = nucleus::largest(logits, top.min(TOP_LOGPROBS_MAX))
        .into_iter()
        .map(|(token, logit)| (token, logprob(logit)))
        .collect();
    let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    Logprobs { token: logprob(own), top }
}
