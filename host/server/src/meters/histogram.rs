//! How often a number was how large.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts by upper bounds. Adding waits for nobody.
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One more than `bounds`: what is over the last.
    counts: Vec<AtomicU64>,
    /// In millionths, so that it can be added to at once.
    sum: AtomicU64,
}

const PARTS: f64 = 1e6;

impl Histogram {
    /// `bounds` grow.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, value: f64) {
        let at = self.bounds.partition_point(|it| *it < value);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add((value * PARTS) as u64, Relaxed);
    }

    pub(super) fn write(&self, text: &mut String, name: &str, labels: &str) {
        let counts = self.counts.iter().map(|it| it.load(Relaxed));
        let sum = self.sum.load(Relaxed) as f64 / PARTS;
        samples(text, (name, labels), self.bounds, (counts, sum));
    }
}

/// The samples of a histogram, cumulative as the format wants them. There is one count more than there are bounds.
pub(super) fn samples(
    text: &mut String,
    (name, labels): (&str, &str),
    bounds: &[f64],
    (counts, sum): (impl IntoIterator<Item = u64>, f64),
) {
    let mut below = 0;
    for (at, count) in counts.into_iter().enumerate() {
        below += count;
        let bound = bounds.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {below}");
}
