use proptest::prelude::*;

use super::{Sampler, logprobs, mask::Mask, nucleus};
use crate::{error::EngineError, job::Sampling};

const LOGITS: [f32; 5] = [0.1, 2.0, 0.3, 1.9, -4.0];

fn warm() -> Sampling {
    Sampling { temperature: 1.0, seed: 7, ..Sampling::default() }
}

fn say(settings: &Sampling, prompt: &[u32], tokens: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(settings, prompt, None);
    (0..tokens).map(|_| sampler.next(&LOGITS).unwrap().token).collect()
}

#[test]
fn one_seed_gives_one_sequence() {
    let settings = warm();
    assert_eq!(say(&settings, &[], 32), say(&settings, &[], 32));
    assert_ne!(say(&settings, &[], 32), say(&Sampling { seed: 8, ..settings }, &[], 32));
}

#[test]
fn settings_limit_what_is_said() {
    for (settings, expected) in [
        (Sampling { temperature: 0.0, ..warm() }, &[1][..]),
        (Sampling { temperature: f64::NAN, ..warm() }, &[1]),
        (Sampling { temperature: 1e-9, ..warm() }, &[1]),
        (Sampling { temperature: 0.1, top_k: Some(1), ..warm() }, &[1]),
        (Sampling { top_k: Some(2), ..warm() }, &[1, 3]),
        (Sampling { top_p: Some(0.0), ..warm() }, &[1]),
        (Sampling { top_p: Some(0.5), ..warm() }, &[1, 3]),
        (Sampling { top_k: Some(0), top_p: Some(0.8), ..warm() }, &[1, 3]),
        (Sampling { min_p: Some(0.15), ..warm() }, &[1, 2, 3]),
        (Sampling { min_p: Some(1.0), ..warm() }, &[1]),
        (Sampling { top_k: Some(3), top_p: Some(0.99), ..warm() }, &[1, 2, 3]),
        (Sampling { logit_bias: vec![(4, 100.0), (99, 1.0)], ..warm() }, &[4]),
        (Sampling { logit_bias: vec![(1, -100.0)], temperature: 0.0, ..warm() }, &[3]),
    ] {
        let mut said = say(&settings, &[], 400);
        said.sort_unstable();
        said.dedup();
        assert_eq!(said, expected, "{settings:?}");
    }
}

#[test]
fn penalties_keep_tokens_from_coming_again() {
    let greedy = Sampling::default();
    for (settings, prompt, expected) in [
        (Sampling { presence_penalty: 0.2, ..greedy.clone() }, &[][..], [1, 3, 1, 1]),
        (Sampling { frequency_penalty: 0.2, ..greedy.clone() }, &[], [1, 3, 1, 3]),
        (Sampling { frequency_penalty: -1.0, ..greedy.clone() }, &[], [1, 1, 1, 1]),
        (Sampling { repetition_penalty: Some(2.0), ..greedy.clone() }, &[1], [3, 1, 1, 1]),
        (Sampling { repetition_penalty: Some(30.0), ..greedy.clone() }, &[1, 3], [2, 0, 1, 1]),
        (Sampling { repetition_penalty: Some(1.0), ..greedy.clone() }, &[1], [1, 1, 1, 1]),
    ] {
        assert_eq!(say(&settings, prompt, 4), expected, "{settings:?}");
    }
}

/// Allows one token after the other.
struct Only(Vec<u32>);

impl Mask for Only {
    fn allow(&mut self, logits: &mut [f32]) -> Result<(), EngineError> {
        for (token, logit) in (0..).zip(logits) {
            if self.0.last() != Some(&token) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<bool, EngineError> {
        assert_eq!(self.0.pop(), Some(token));
        Ok(self.0.is_empty())
    }
}

#[test]
fn a_mask_has_the_last_word() {
    for temperature in [0.0, 2.0] {
        let settings = Sampling {
            temperature,
            top_k: Some(1),
            logit_bias: vec![(1, 50.0)],
            logprobs: Some(1),
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(&settings, &[], Some(Box::new(Only(vec![0, 4]))));
        let first = sampler.next(&LOGITS).unwrap();
        assert_eq!((first.token, first.complete), (4, false));
        // The model's own opinion.
        assert_eq!(first.logprobs.unwrap().top[0].0, 1);
        let second = sampler.next(&LOGITS).unwrap();
        assert_eq!((second.token, second.complete), (0, true));
        assert!(sampler.next(&LOGITS).is_err());
    }
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    for temperature in [0.0, 1.0] {
        let mut sampler = Sampler::new(&Sampling { temperature, ..warm() }, &[], None);
        for logits in [&[f32::NAN; 4][..], &[f32::NEG_INFINITY; 4], &[]] {
            assert!(sampler.next(logits).is_err(), "{logits:?}");
        }
        assert_eq!(sampler.next(&[f32::NAN, 1.0]).unwrap().token, 1);
    }
}

/// Softmax and everything after it, by sorting.
fn naive(logits: &[f32], settings: &Sampling) -> Vec<(u32, f64)> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: &f32| f64::from(*logit - max).exp();
    let mut all: Vec<(u32, f64)> = (0..).zip(logits.iter().map(weight)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let least = settings.min_p.unwrap_or(0.0);
    all.retain(|(_, weight)| *weight >= least);
    all.truncate(settings.top_k.filter(|k| *k > 0).unwrap_or(usize::MAX));
    if let Some(p) = settings.top_p.filter(|p| *p < 1.0) {
        let sum: f64 = all.iter().map(|it| it.1).sum();
        let mut before = 0.0;
        all.retain(|(_, weight)| {
            let keep = before < p * sum;
            before += weight;
            keep
        });
    }
    let sum: f64 = all.iter().map(|it| it.1).sum();
    all.sort_by_key(|it| it.0);
    all.into_iter().map(|(token, weight)| (token, weight / sum)).collect()
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    // In steps that are far from rounding, and often equal.
    prop::collection::vec((-40..40i32).prop_map(|it| it as f32 / 8.0), 1..200)
}

proptest! {
    #[test]
    fn draws_are_those_of_the_plain_way(
        logits in logits(),
        top_k in prop::option::of(0..210usize),
        top_p in prop::option::of(0.05..1.0f64),
        min_p in prop::option::of(0.013..0.9f64),
        chance in 0.0..1.0f64,
    ) {
        let settings = Sampling { top_k, top_p, min_p, ..Sampling::default() };
        let token = nucleus::draw(&logits, &settings, chance).unwrap();
        // The token in whose part of the line from 0 to 1 the chance falls, give or take rounding.
        let mut end = 0.0;
        let mut near = Vec::new();
        for (token, probability) in naive(&logits, &settings) {
            if chance >= end - 1e-9 && chance < end + probability + 1e-9 {
                near.push(token);
            }
            end += probability;
        }
        prop_assert!(near.contains(&token), "{} is none of {:?}", token, near);
    }

    #[test]
    fn logprobs_are_those_of_the_plain_way(logits in logits(), top in 0..30usize, which: prop::sample::Index) {
        let token = which.index(logits.len()) as u32;
        let found = logprobs(&logits, token, top);
        let mut all: Vec<(u32, f64)> = naive(&logits, &Sampling::default());
        let own = all[token as usize].1.ln();
        prop_assert!((f64::from(found.token) - own).abs() < 1e-4);
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(top.min(20));
        prop_assert_eq!(
            found.top.iter().map(|it| it.0).collect::<Vec<_>>(),
            all.iter().map(|it| it.0).collect::<Vec<_>>()
        );
        for (found, expected) in found.top.iter().zip(all) {
            prop_assert!((f64::from(found.1) - expected.1.ln()).abs() < 1e-4);
        }
    }
}
