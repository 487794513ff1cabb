//! What a record costs in a chain: the time of the chain's stages, batch by batch. Reading records and comparing what came out of
//! two chains is not in it.

use std::{collections::HashMap, sync::Arc};

use chain::{Spec, Stats};

/// Batches that are timed: millions of records, and half a megabyte.
const BATCHES_MAX: usize = 65_536;

/// The costs of one chain.
pub(super) struct Costs {
    stats: Arc<Stats>,
    /// By formatter, how many outputs take its lines. A comparison formats for each of them, a server once for all.
    outputs: HashMap<String, usize>,
    /// Seconds of all batches so far.
    spent: f64,
    /// Seconds of a record, for each batch.
    batches: Vec<f64>,
}

impl Costs {
    /// `stats` are those that the chain counts in, and no other one.
    pub(super) fn new(spec: &Spec, stats: Arc<Stats>) -> Self {
        let outputs =
            spec.outputs.iter().map(|(it, outputs)| (it.name().to_owned(), outputs.len()));
        Self { stats, outputs: outputs.collect(), spent: 0.0, batches: Vec::new() }
    }

    /// Notes what was spent since the last batch, on so many records.
    pub(super) fn add(&mut self, records: usize) {
        let now = self.seconds();
        let before = std::mem::replace(&mut self.spent, now);
        if self.batches.len() < BATCHES_MAX {
            self.batches.push((self.spent - before) / records.max(1) as f64);
        }
    }

    /// Seconds of a record in the middle batch, and in the one that a hundredth of them is slower than; none without a batch.
    pub(super) fn quantiles(&self) -> Option<(f64, f64)> {
        // The first batch opens the plugins' instances, so it is counted only where there is no other.
        let mut batches = match self.batches.as_slice() {
            [_, rest @ ..] if !rest.is_empty() => rest.to_vec(),
            all => all.to_vec(),
        };
        batches.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (batches.len() * percent).div_ceil(100);
            batches.get(rank.saturating_sub(1)).copied()
        };
        at(50).zip(at(99))
    }

    fn seconds(&self) -> f64 {
        let stages = self.stats.stages();
        let seconds = stages.iter().map(|(key, it)| {
            let outputs = self.outputs.get(&key.plugin).filter(|_| key.role == "formatter");
            it.cost.seconds() / outputs.copied().unwrap_or(1).max(1) as f64
        });
        seconds.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_batch_counts_only_where_it_is_alone() {
        let check = |batches: &[f64], want: Option<(f64, f64)>| {
            let stats = Arc::default();
            let (outputs, batches) = (HashMap::new(), batches.to_vec());
            let costs = Costs { stats, outputs, spent: 0.0, batches };
            assert_eq!(costs.quantiles(), want);
        };
        check(&[], None);
        check(&[9.0], Some((9.0, 9.0)));
        check(&[9.0, 1.0], Some((1.0, 1.0)));
        check(&[9.0, 3.0, 1.0, 2.0], Some((2.0, 3.0)));
        let hundred: Vec<f64> = (0..=100_i32).map(f64::from).collect();
        check(&hundred, Some((50.0, 99.0)));
    }
}
