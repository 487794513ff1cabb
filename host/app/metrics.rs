//! What the log counts about itself, as text for Prometheus. Knows neither HTTP nor who asks.
//!
//! Nothing out of a record can get in: values are numbers and times, labels are configured names and words of closed sets.
//!
//! The crate writes OpenMetrics, and what is served is Prometheus' text format 0.0.4. There, a counter's `TYPE` must name it in
//! full, `_total` included, or its samples have no type; see `Sample`. `# UNIT` and `# EOF` mean nothing there and are left
//! out: units are part of the names.

pub mod upstreams;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use chain::{
    Pipeline, StageError,
    stats::{Histogram, ShadowKey, ShadowStats, StageKey, StageStats},
};
use plugin::CacheCounts;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text::encode_registry,
    },
    metrics::MetricType,
    registry::Registry,
};

/// The counters of a running log, of the cache of compiled plugins and of the store if there are, in Prometheus' text format 0.0.4
/// (`text/plain; version=0.0.4`). It waits for nothing but short locks. Its size has a bound: [`chain::Stats`]
/// counts so many plugins apart and no more.
pub fn encode(
    pipeline: &Pipeline,
    cache: Option<CacheCounts>,
    store: Option<store::Counts>,
) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Counts::new(pipeline, cache, store)));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode_registry(&mut text, &registry);
    text
}

/// Name, help and where the number is. Names that end in `_total` are counters.
type Counter<S> = (&'static str, &'static str, fn(&S) -> &AtomicU64);

const STAGE: [Counter<StageStats>; 6] = [
    ("bucksaw_plugin_calls_total", "Calls of the plugin.", |it| &it.calls),
    ("bucksaw_plugin_records_total", "Records in those calls.", |it| &it.records),
    ("bucksaw_plugin_instances_opened_total", "Instances that were opened.", |it| &it.instances),
    (
        "bucksaw_plugin_instances_retired_total",
        "Instances that were replaced because they had grown or worked enough.",
        |it| &it.retired,
    ),
    (
        "bucksaw_plugin_breaker_openings_total",
        "Times that the plugin was left alone because it kept failing.",
        |it| &it.breaker_openings,
    ),
    (
        "bucksaw_plugin_records_lost_total",
        "Records that a handler with a thread of its own had no room or no time for.",
        |it| &it.lost,
    ),
];

const SHADOW: [Counter<ShadowStats>; 9] = [
    ("bucksaw_shadow_compared_total", "Records that both chains saw.", |it| &it.compared),
    (
        "bucksaw_shadow_skipped_total",
        "Records that the shadow did not see: its time was used up, or a text in parts was not whole.",
        |it| &it.skipped,
    ),
    ("bucksaw_shadow_different_total", "Records that the shadow treated otherwise.", |it| {
        &it.different
    }),
    (
        "bucksaw_shadow_spans_missed_total",
        "Parts of text that the chain takes out and the shadow would not.",
        |it| &it.missed,
    ),
    (
        "bucksaw_shadow_spans_added_total",
        "Parts of text that the shadow would take out and the chain does not.",
        |it| &it.added,
    ),
    (
        "bucksaw_shadow_relabelled_total",
        "Parts of text that both take out, under another label or in another form.",
        |it| &it.relabelled,
    ),
    ("bucksaw_shadow_text_changed_total", "Records whose texts come out otherwise.", |it| {
        &it.text_changed
    }),
    (
        "bucksaw_shadow_outcome_changed_total",
        "Records that one of the two drops or withholds.",
        |it| &it.outcome_changed,
    ),
    ("bucksaw_shadow_traps_total", "Calls of the shadow's editors that failed.", |it| &it.traps),
];

/// What one scrape is made of: a collector has to own it.
#[derive(Debug)]
struct Counts {
    /// Name, help and value of what has no labels.
    singles: Vec<(&'static str, &'static str, u64)>,
    /// By name, lines written and lines lost. Outputs of two revisions may have one name, and a series must not come twice.
    outputs: BTreeMap<String, (u64, u64)>,
    stages: Vec<(StageKey, Arc<StageStats>)>,
    shadows: Vec<(ShadowKey, Arc<ShadowStats>)>,
}

impl Counts {
    fn new(pipeline: &Pipeline, cache: Option<CacheCounts>, store: Option<store::Counts>) -> Self {
        let mut singles = log(pipeline);
        singles.extend(store.into_iter().flat_map(stored));
        singles.extend(cache.into_iter().flat_map(compiled));
        let stats = pipeline.stats();
        let outputs = pipeline.output_counts();
        Self { singles, outputs, stages: stats.stages(), shadows: stats.shadows() }
    }
}

fn log(pipeline: &Pipeline) -> Vec<(&'static str, &'static str, u64)> {
    let (accepted, dropped) = pipeline.queue().counts();
    let (stats, revisions) = (pipeline.stats(), pipeline.revisions());
    let count = |it: &AtomicU64| it.load(Relaxed);
    vec![
        ("bucksaw_log_records_accepted_total", "Records that the queue took.", accepted),
        ("bucksaw_log_records_dropped_total", "Records that were lost on the way.", dropped),
        (
            "bucksaw_log_records_waiting",
            "Records that wait for the log workers.",
            pipeline.queue().waiting() as u64,
        ),
        (
            "bucksaw_log_records_released_total",
            "Records that passed every editor of their chain.",
            count(&stats.released),
        ),
        (
            "bucksaw_log_records_withheld_total",
            "Records that lost their content because an editor failed.",
            count(&stats.withheld),
        ),
        (
            "bucksaw_log_lines_lost_total",
            "Lines that were not written, by all outputs since the start.",
            pipeline.lost_lines(),
        ),
        (
            "bucksaw_log_revision",
            "Number of the present revision of the chains.",
            revisions.current().number(),
        ),
        (
            "bucksaw_log_revisions_live",
            "Revisions that requests hold, the present one among them.",
            revisions.live().len() as u64,
        ),
        (
            "bucksaw_log_revisions_installed_total",
            "Changes of the chains.",
            count(&stats.revisions),
        ),
        (
            "bucksaw_log_rollbacks_total",
            "Returns to an earlier revision, automatic ones included.",
            count(&stats.rollbacks),
        ),
        (
            "bucksaw_log_refusals_total",
            "Changes of the chains that were refused.",
            count(&stats.refusals),
        ),
    ]
}

fn stored(counts: store::Counts) -> [(&'static str, &'static str, u64); 6] {
    let store::Counts { stored, withheld, lost, duplicates, pruned, deleted } = counts;
    [
        ("bucksaw_store_completions_stored_total", "Completions that were stored.", stored),
        (
            "bucksaw_store_completions_withheld_total",
            "Those of them that were stored without content, since an editor failed or a part was missing.",
            withheld,
        ),
        (
            "bucksaw_store_completions_lost_total",
            "Completions that should have been stored and were not.",
            lost,
        ),
        (
            "bucksaw_store_completions_duplicate_total",
            "Completions that were not stored because one of the same id was.",
            duplicates,
        ),
        (
            "bucksaw_store_completions_pruned_total",
            "Stored completions that went because of their age, or for the room.",
            pruned,
        ),
        (
            "bucksaw_store_completions_deleted_total",
            "Stored completions that somebody deleted.",
            deleted,
        ),
    ]
}

fn compiled(cache: CacheCounts) -> [(&'static str, &'static str, u64); 4] {
    let CacheCounts { hits, misses, refused, unwritten } = cache;
    [
        ("bucksaw_plugin_cache_hits_total", "Compiled plugins that were read from disk.", hits),
        ("bucksaw_plugin_cache_misses_total", "Plugins that had to be compiled.", misses),
        (
            "bucksaw_plugin_cache_refused_total",
            "Compiled plugins on disk that were removed because they could not be trusted.",
            refused,
        ),
        (
            "bucksaw_plugin_cache_unwritten_total",
            "Compiled plugins that could not be written to disk.",
            unwritten,
        ),
    ]
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        for &(name, help, value) in &self.singles {
            value.write(encoder.encode_descriptor(name, help, None, u64::kind(name))?)?;
        }
        let about = ("bucksaw_log_output_lines_written_total", "Lines that the output wrote.");
        let outputs = || self.outputs.iter().map(|(name, it)| ([("output", name.as_str())], it));
        family(encoder, about, outputs().map(|(labels, it)| (labels, it.0)))?;
        let about = ("bucksaw_log_output_lines_lost_total", "Lines that the output did not write.");
        family(encoder, about, outputs().map(|(labels, it)| (labels, it.1)))?;
        self.encode_stages(encoder)?;
        self.encode_shadows(encoder)
    }
}

impl Counts {
    fn encode_stages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let stages = || self.stages.iter().map(|(key, it)| (stage_labels(key), it));
        for (name, help, of) in STAGE {
            let samples = stages().map(|(labels, it)| (labels, of(it).load(Relaxed)));
            family(encoder, (name, help), samples)?;
        }
        let about = (
            "bucksaw_plugin_failures_total",
            "Calls that failed, by what went wrong; breaker_open: calls that were not even made.",
        );
        let failures = stages().flat_map(|([chain, plugin, role], it)| {
            let counts = StageError::ALL.into_iter().zip(&it.failures);
            counts.filter_map(move |(error, count)| {
                let count = count.load(Relaxed);
                (count > 0).then(|| ([chain, plugin, role, ("error", error.name())], count))
            })
        });
        family(encoder, about, failures)?;
        let about = (
            "bucksaw_plugin_denials_total",
            "What the host denied the plugin, or could not do for it, by what it was.",
        );
        let denials = stages().flat_map(|([chain, plugin, role], it)| {
            let samples = it.denials().into_iter();
            samples.map(move |(what, times)| ([chain, plugin, role, ("what", what)], times))
        });
        family(encoder, about, denials)?;
        let about = (
            "bucksaw_plugin_breakers_open",
            "Workers that leave the plugin alone because it kept failing.",
        );
        let open = |it: &StageStats| it.breakers_open.load(Relaxed);
        family(encoder, about, stages().map(|(labels, it)| (labels, open(it))))?;
        let about = ("bucksaw_plugin_record_seconds", "Time of a call, by its records.");
        family(encoder, about, stages().map(|(labels, it)| (labels, &it.cost)))
    }

    fn encode_shadows(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shadows = || self.shadows.iter().map(|(key, it)| (shadow_labels(key), it));
        for (name, help, of) in SHADOW {
            let samples = shadows().map(|(labels, it)| (labels, of(it).load(Relaxed)));
            family(encoder, (name, help), samples)?;
        }
        let about = ("bucksaw_shadow_record_seconds", "Time of the shadow, by the records.");
        family(encoder, about, shadows().map(|(labels, it)| (labels, &it.cost)))?;
        let about = (
            "bucksaw_shadow_chain_record_seconds",
            "Time of the chain's own editors for the same records, by the records.",
        );
        family(encoder, about, shadows().map(|(labels, it)| (labels, &it.chain_cost)))
    }
}

fn stage_labels(key: &StageKey) -> [(&'static str, &str); 3] {
    [("chain", &*key.chain), ("plugin", key.plugin.as_str()), ("role", key.role)]
}

fn shadow_labels(key: &ShadowKey) -> [(&'static str, &str); 2] {
    [("chain", &*key.chain), ("shadow", &*key.shadow)]
}

/// Name and help once, then a sample for each set of labels; nothing at all when there is none.
fn family<L: EncodeLabelSet, V: Sample>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    samples: impl IntoIterator<Item = (L, V)>,
) -> fmt::Result {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, V::kind(name))?;
    for (labels, value) in samples {
        value.write(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// What can stand behind a name and its labels.
trait Sample {
    fn kind(name: &str) -> MetricType;

    fn write(self, encoder: MetricEncoder<'_>) -> fmt::Result;
}

impl Sample for u64 {
    fn kind(name: &str) -> MetricType {
        if name.ends_with("_total") { MetricType::Counter } else { MetricType::Gauge }
    }

    /// Counters as well: the crate would end a counter's samples in `_total`, but not its `TYPE`. A gauge's samples have the
    /// name that they are given.
    fn write(self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self)
    }
}

impl Sample for &Histogram {
    fn kind(_: &str) -> MetricType {
        MetricType::Histogram
    }

    fn write(self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let cumulative = self.cumulative();
        let count = cumulative.last().map_or(0, |(_, sum)| *sum);
        // The crate wants each bucket alone, and sums them up itself.
        let mut before = 0;
        let alone = |(bound, sum): (f64, u64)| (bound, sum - std::mem::replace(&mut before, sum));
        let buckets: Vec<(f64, u64)> = cumulative.into_iter().map(alone).collect();
        encoder.encode_histogram::<NoLabelSet>(self.seconds(), count, &buckets, None)
    }
}

#[cfg(test)]
mod tests;
