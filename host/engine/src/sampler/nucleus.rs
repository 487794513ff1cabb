//! A token drawn out of the likeliest ones: min-p, top-k, top-p. The whole vocabulary is looked at, never sorted.

use std::cmp::Ordering;

use crate::job::Sampling;

/// How many tokens are sorted at first when only some of the likeliest are wanted: usually enough for top-p.
const FIRST: usize = 64;

/// A token by a number from 0 to 1. None where no token is possible.
///
/// Tokens are gone through by their number and not by their probability: where two are nearly as likely, rounding would
/// change their places, and with them what a seed says.
pub(super) fn draw(logits: &[f32], settings: &Sampling, chance: f64) -> Option<u32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return None;
    }
    let least = match settings.min_p {
        Some(share) if share > 0.0 => max + share.min(1.0).ln() as f32,
        _ => f32::NEG_INFINITY,
    };
    let top_k = settings.top_k.filter(|k| *k > 0 && *k < logits.len());
    let top_p = settings.top_p.filter(|p| *p < 1.0).map(|p| p.max(0.0));
    let possible =
        (0..).zip(logits.iter().copied()).filter(|(_, it)| it.is_finite() && *it >= least);
    if top_k.is_none() && top_p.is_none() {
        return pick(possible, max, chance);
    }
    let mut possible: Vec<(u32, f32)> = possible.collect();
    if let Some(k) = top_k {
        keep_largest(&mut possible, k);
    }
    if let Some(p) = top_p {
        keep_share(&mut possible, p, max);
    }
    possible.sort_unstable_by_key(|(token, _)| *token);
    pick(possible.into_iter(), max, chance)
}

/// The `count` largest, the largest first.
pub(super) fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (token, logit) in (0..).zip(logits.iter().copied()) {
        if best.len() == count && best.last().is_none_or(|it| compare(&(token, logit), it).is_ge())
        {
            continue;
        }
        let at = best.partition_point(|it| compare(it, &(token, logit)).is_lt());
        best.insert(at, (token, logit));
        best.truncate(count);
    }
    best
}

/// By the logit, the largest first; of equal ones the token with the smaller number.
fn compare(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn keep_largest(possible: &mut Vec<(u32, f32)>, count: usize) {
    if count < possible.len() {
        possible.select_nth_unstable_by(count, compare);
        possible.truncate(count);
    }
}

/// Keeps the fewest of the likeliest whose probabilities together are at least `share` of all; always one.
fn keep_share(possible: &mut Vec<(u32, f32)>, share: f64, max: f32) {
    let all: f64 = possible.iter().map(|(_, logit)| weight(*logit, max)).sum();
    let mut count = FIRST;
    loop {
        let sorted = count.min(possible.len());
        if sorted < possible.len() {
            possible.select_nth_unstable_by(sorted, compare);
        }
        possible[..sorted].sort_unstable_by(compare);
        let mut sum = 0.0;
        let needed = possible[..sorted].iter().position(|(_, logit)| {
            sum += weight(*logit, max);
            sum >= share * all
        });
        match needed {
            Some(last) => return possible.truncate(last + 1),
            None if sorted == possible.len() => return,
            None => count *= 8,
        }
    }
}

fn pick(possible: impl Iterator<Item = (u32, f32)> + Clone, max: f32, chance: f64) -> Option<u32> {
    let all: f64 = possible.clone().map(|(_, logit)| weight(logit, max)).sum();
    let mut left = chance * all;
    let mut last = None;
    for (token, logit) in possible {
        let weight = weight(logit, max);
        if weight > 0.0 {
            last = Some(token);
        }
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

fn weight(logit: f32, max: f32) -> f64 {
    f64::from(logit - max).exp()
}
