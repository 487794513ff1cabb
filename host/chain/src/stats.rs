//! What the log counts about itself: names, numbers and times, never anything out of a record.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::stage::StageError;

/// Different plugins in different chains that are counted apart: a server whose configuration is changed all day stays
/// bounded. What is over it is counted together, under `other`.
const STAGES_MAX: usize = 4096;
/// The same for pairs of a chain and its shadow.
const SHADOWS_MAX: usize = 256;

/// The counters of a running log; shared by all its workers and revisions.
#[derive(Debug, Default)]
pub struct Stats {
    stages: Mutex<BTreeMap<StageKey, Arc<StageStats>>>,
    shadows: Mutex<BTreeMap<ShadowKey, Arc<ShadowStats>>>,
    pub withheld: AtomicU64,
    pub released: AtomicU64,
    pub revisions: AtomicU64,
    pub rollbacks: AtomicU64,
    pub refusals: AtomicU64,
}

/// Whose counters they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StageKey {
    pub chain: Arc<str>,
    pub plugin: String,
    /// `editor`, `formatter`, `handler` or `shadow`.
    pub role: &'static str,
}

/// A chain and the one that is its shadow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShadowKey {
    pub chain: Arc<str>,
    pub shadow: Arc<str>,
}

/// One plugin in one chain.
#[derive(Debug, Default)]
pub struct StageStats {
    pub calls: AtomicU64,
    pub records: AtomicU64,
    /// Failed calls by what went wrong, in the order of [`StageError::ALL`].
    pub failures: [AtomicU64; StageError::ALL.len()],
    /// Instances that were opened.
    pub instances: AtomicU64,
    /// Instances that were replaced because they had grown or worked enough.
    pub retired: AtomicU64,
    pub breaker_openings: AtomicU64,
    /// Workers whose breaker is open.
    pub breakers_open: AtomicU64,
    /// Records that a handler with a thread of its own had no room or no time for.
    pub lost: AtomicU64,
    /// What the host denied the plugin, by word.
    denials: Mutex<BTreeMap<&'static str, u64>>,
    /// Time of a record: a call's time by its records.
    pub cost: Histogram,
}

/// What a shadow chain did otherwise than its chain.
#[derive(Debug, Default)]
pub struct ShadowStats {
    /// Records that both chains saw.
    pub compared: AtomicU64,
    /// Records that the shadow did not see, since its share of the time was used up; and texts in parts that never were whole.
    pub skipped: AtomicU64,
    pub different: AtomicU64,
    /// Parts of text that the chain takes out and the shadow would not.
    pub missed: AtomicU64,
    /// Parts that the shadow would take out and the chain does not.
    pub added: AtomicU64,
    /// Parts that both take out under another label, or in another form.
    pub relabelled: AtomicU64,
    /// Records whose texts come out otherwise.
    pub text_changed: AtomicU64,
    /// Records that one of the two drops or withholds.
    pub outcome_changed: AtomicU64,
    /// Calls of the shadow's editors that failed.
    pub traps: AtomicU64,
    pub cost: Histogram,
    pub chain_cost: Histogram,
}

impl Stats {
    /// The counters of a plugin; the same ones each time.
    pub fn stage(&self, key: StageKey) -> Arc<StageStats> {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match stages.len() {
            STAGES_MAX.. if !stages.contains_key(&key) => {
                StageKey { chain: "other".into(), plugin: "other".to_owned(), role: key.role }
            }
            _ => key,
        };
        stages.entry(key).or_default().clone()
    }

    pub fn shadow(&self, key: ShadowKey) -> Arc<ShadowStats> {
        let mut shadows = self.shadows.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match shadows.len() {
            SHADOWS_MAX.. if !shadows.contains_key(&key) => {
                ShadowKey { chain: "other".into(), shadow: "other".into() }
            }
            _ => key,
        };
        shadows.entry(key).or_default().clone()
    }

    /// All plugins that were counted, in order.
    pub fn stages(&self) -> Vec<(StageKey, Arc<StageStats>)> {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.iter().map(|(key, it)| (key.clone(), it.clone())).collect()
    }

    pub fn shadows(&self) -> Vec<(ShadowKey, Arc<ShadowStats>)> {
        let shadows = self.shadows.lock().unwrap_or_else(PoisonError::into_inner);
        shadows.iter().map(|(key, it)| (key.clone(), it.clone())).collect()
    }
}

impl StageStats {
    pub(crate) fn called(&self, records: usize, took: Duration) {
        let records = records.max(1) as u64;
        self.calls.fetch_add(1, Relaxed);
        self.records.fetch_add(records, Relaxed);
        self.cost.add(took, records);
    }

    /// What the host denied the plugin: a word of a closed set, and how often.
    pub fn denials(&self) -> BTreeMap<&'static str, u64> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn denied(&self, what: &'static str, times: u64) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        *denials.entry(what).or_default() += times;
    }

    pub(crate) fn failed(&self, error: StageError) {
        self.failures[error as usize].fetch_add(1, Relaxed);
    }
}

/// Nanoseconds in powers of two: from 256 ns, the cheapest call there is, to a quarter of a second.
const BUCKETS: usize = 22;
const FIRST_BITS: u32 = 8;

/// Times in buckets, each twice as wide as the one before.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts `times` equal parts of a time.
    pub fn add(&self, took: Duration, times: u64) {
        let total = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let each = total / times.max(1);
        let bits = (u64::BITS - each.leading_zeros()).saturating_sub(FIRST_BITS) as usize;
        self.buckets[bits.min(BUCKETS - 1)].fetch_add(times, Relaxed);
        self.nanoseconds.fetch_add(total, Relaxed);
    }

    /// Upper bound in seconds, and how many lie at or under it, for each bucket; the last one has no bound.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut sum = 0;
        let bounds = (0..BUCKETS).map(|it| match it {
            it if it == BUCKETS - 1 => f64::INFINITY,
            it => (1_u64 << (FIRST_BITS as usize + it)) as f64 / 1e9,
        });
        bounds
            .zip(&self.buckets)
            .map(|(bound, count)| {
                sum += count.load(Relaxed);
                (bound, sum)
            })
            .collect()
    }

    pub fn seconds(&self) -> f64 {
        self.nanoseconds.load(Relaxed) as f64 / 1e9
    }

    /// The bound, in seconds, that this share of the times is at or under; none when nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let buckets = self.cumulative();
        let total = buckets.last()?.1;
        let wanted = (total as f64 * share).ceil() as u64;
        (total > 0).then(|| buckets.iter().find(|(_, sum)| *sum >= wanted).map(|it| it.0))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_that_bounds_them() {
        let check = |nanoseconds: u64, bound: f64| {
            let histogram = Histogram::default();
            histogram.add(Duration::from_nanos(nanoseconds * 10), 10);
            assert_eq!(histogram.quantile(0.5), Some(bound), "{nanoseconds}");
            assert_eq!(histogram.cumulative().last(), Some(&(f64::INFINITY, 10)));
        };
        check(0, 256e-9);
        check(255, 256e-9);
        check(256, 512e-9);
        check(1_000, 1024e-9);
        check(1 << 40, f64::INFINITY);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn the_number_of_counted_plugins_is_bounded() {
        let stats = Stats::default();
        for number in 0..2 * STAGES_MAX {
            let plugin = number.to_string();
            stats.stage(StageKey { chain: "c".into(), plugin, role: "editor" });
        }
        assert_eq!(stats.stages().len(), STAGES_MAX + 1);
    }
}
