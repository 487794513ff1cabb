//! A shadow chain: other editors for the same records, whose work is compared with the chain's and thrown away. It runs before
//! release, on the worker's own thread, within a share of its time, and says nothing of a record but labels and places.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use record::{Field, Record, Severity, event, field};

use crate::{
    chain::Tools,
    clock::instant,
    compare::{Difference, places},
    draft::{Draft, Drafts, State},
    editors::Editors,
    report::{Reports, internal, number},
    stage::{Editor, Source},
    stats::{ShadowKey, ShadowStats},
};

/// How often one difference of many is shown.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How often the sums are written.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Time that may be spent ahead of the share, so that a quiet server compares its first records.
const AHEAD: Duration = Duration::from_millis(50);

/// What a shadow is made of.
pub struct ShadowSpec {
    pub name: Arc<str>,
    pub editors: Vec<Arc<dyn Source<dyn Editor>>>,
    /// Part of each worker's time that it may take, over 0 and up to 1.
    pub share: f64,
}

pub(crate) struct Shadow {
    chain: Arc<str>,
    name: Arc<str>,
    editors: Editors,
    share: f64,
    stats: Arc<ShadowStats>,
    started: Instant,
    spent: Duration,
    sampled: Option<Instant>,
    sample: Option<Record>,
    reported: Instant,
    /// What was compared when the sums were last written.
    told: u64,
    clock: Arc<dyn crate::Clock>,
}

impl Shadow {
    pub(crate) fn new(spec: &ShadowSpec, chain: &Arc<str>, tools: &Tools) -> Self {
        let key = ShadowKey { chain: chain.clone(), shadow: spec.name.clone() };
        let stats = tools.stats.shadow(key);
        let (name, replacer) = (spec.name.clone(), tools.replacer.clone());
        Self {
            chain: chain.clone(),
            editors: Editors::new(&spec.editors, (&name, "shadow"), replacer, &tools.stats),
            name,
            share: spec.share,
            stats,
            started: instant(),
            spent: Duration::ZERO,
            sampled: None,
            sample: None,
            reported: instant(),
            told: 0,
            clock: tools.clock.clone(),
        }
    }

    pub(crate) fn warm(&mut self) {
        self.editors.warm();
    }

    /// Whether its share of the time allows another batch; one that it does not is counted.
    pub(crate) fn wants(&mut self, records: usize) -> bool {
        let allowed = (instant() - self.started).mul_f64(self.share);
        // What a quiet night left unused is not saved up for the morning.
        self.spent = self.spent.max(allowed.saturating_sub(AHEAD));
        let wants = self.spent <= allowed + AHEAD;
        if !wants {
            self.skip(records);
        }
        wants
    }

    /// Counts records that are not compared.
    pub(crate) fn skip(&self, records: usize) {
        self.stats.skipped.fetch_add(records as u64, Relaxed);
    }

    /// Runs a copy of a batch and compares with what became of the batch itself, in `took`.
    pub(crate) fn compare(&mut self, batch: Vec<Record>, theirs: &[Draft], took: Duration) {
        let start = instant();
        let records = batch.len() as u64;
        let mut own = Drafts::new(batch, true);
        let mut reports = Reports::new();
        self.editors.edit(&mut own, &mut reports);
        self.stats.cost.add(instant() - start, records);
        self.stats.chain_cost.add(took, records);
        self.stats.traps.fetch_add(reports.editor_failures.values().sum(), Relaxed);
        self.stats.compared.fetch_add(records, Relaxed);
        for (theirs, own) in theirs.iter().zip(&own.finish()) {
            if let Some(difference) = Difference::of(theirs, own) {
                self.count(&difference);
                self.show(&difference, theirs);
            }
        }
        self.spent += instant() - start;
    }

    /// Records that are due: a sampled difference, and the sums once a minute.
    pub(crate) fn due(&mut self, now: (i64, i32)) -> Vec<Record> {
        let sums = (instant() - self.reported >= REPORT_EVERY).then(|| self.report(now)).flatten();
        self.sample.take().into_iter().chain(sums).collect()
    }

    /// The sums, if anything was compared since they were last told.
    pub(crate) fn report(&mut self, now: (i64, i32)) -> Option<Record> {
        self.reported = instant();
        let it = &self.stats;
        let compared = it.compared.load(Relaxed) + it.skipped.load(Relaxed);
        if compared == self.told {
            return None;
        }
        self.told = compared;
        let mut fields =
            vec![Field::new(field::CHAIN, &*self.chain), Field::new(field::SHADOW, &*self.name)];
        let counts = [
            ("bucksaw.shadow.compared", &it.compared),
            ("bucksaw.shadow.skipped", &it.skipped),
            ("bucksaw.shadow.different", &it.different),
            ("bucksaw.shadow.spans_missed", &it.missed),
            ("bucksaw.shadow.spans_added", &it.added),
            ("bucksaw.shadow.relabelled", &it.relabelled),
            ("bucksaw.shadow.text_changed", &it.text_changed),
            ("bucksaw.shadow.outcome_changed", &it.outcome_changed),
            ("bucksaw.shadow.traps", &it.traps),
        ];
        let counts = counts.map(|(name, it)| Field::new(name, number(it.load(Relaxed))));
        fields.extend(counts);
        let costs = [
            ("bucksaw.shadow.cost_us.p50", &it.cost, 0.5),
            ("bucksaw.shadow.cost_us.p99", &it.cost, 0.99),
            ("bucksaw.shadow.chain_cost_us.p50", &it.chain_cost, 0.5),
            ("bucksaw.shadow.chain_cost_us.p99", &it.chain_cost, 0.99),
        ];
        let costs = costs.iter().filter_map(|(name, cost, share)| {
            Some(Field::new(*name, cost.quantile(*share)? * 1e6))
        });
        fields.extend(costs);
        Some(internal(now, Severity::INFO, event::SHADOW_REPORT, fields))
    }

    fn count(&self, difference: &Difference) {
        let add = |counter: &std::sync::atomic::AtomicU64, by: usize| {
            counter.fetch_add(by as u64, Relaxed);
        };
        add(&self.stats.different, 1);
        add(&self.stats.missed, difference.missed.len());
        add(&self.stats.added, difference.added.len());
        add(&self.stats.relabelled, difference.relabelled.len());
        add(&self.stats.text_changed, usize::from(difference.text_changed));
        add(&self.stats.outcome_changed, usize::from(difference.outcome.is_some()));
    }

    /// Keeps a difference to be shown, unless another one was shown just now.
    fn show(&mut self, difference: &Difference, theirs: &Draft) {
        if self.sampled.is_some_and(|it| instant() - it < SAMPLE_EVERY) {
            return;
        }
        let (State::Open(record) | State::Stub(record, _)) = &theirs.state else { return };
        self.sampled = Some(instant());
        let mut fields = vec![
            Field::new(field::CHAIN, &*self.chain),
            Field::new(field::SHADOW, &*self.name),
            Field::new(field::SHADOW_EVENT, record.event.to_string()),
        ];
        let taken = difference.missed.iter().chain(&difference.added);
        let names: BTreeSet<&str> = taken
            .chain(&difference.relabelled)
            .filter_map(|it| record.fields.get(it.field))
            .map(|it| it.name.as_ref())
            .collect();
        if !names.is_empty() {
            let names: Vec<&str> = names.into_iter().collect();
            fields.push(Field::new(field::SHADOW_FIELD, names.join(", ")));
        }
        for (name, taken) in
            [(field::SHADOW_MISSED, &difference.missed), (field::SHADOW_ADDED, &difference.added)]
        {
            if !taken.is_empty() {
                fields.push(Field::new(name, places(taken)));
            }
        }
        if let Some((theirs, own)) = difference.outcome {
            fields.push(Field::new(field::SHADOW_OUTCOME, format!("{theirs}, shadow {own}")));
        }
        let now = self.clock.now();
        self.sample = Some(internal(now, Severity::INFO, event::SHADOW_DIFFERENCE, fields));
    }
}
