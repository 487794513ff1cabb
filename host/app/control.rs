//! What the admin API does: it looks at the running log, and changes it.

use std::sync::Arc;

use serde_json::{Value, json};
use server::Refusal;

use crate::{
    check::describe,
    live::{Change, Live},
    metrics,
};

/// The running log as the admin API sees it.
pub struct Control(pub Arc<Live>);

impl server::Control for Control {
    fn metrics(&self) -> String {
        metrics::encode(&self.0.pipeline, self.0.cache(), self.0.store().map(|it| it.counts()))
    }

    fn state(&self) -> Value {
        let (live, kept) = (&self.0, self.0.kept());
        let revisions = live.pipeline.revisions();
        let plugins: Vec<Value> = kept
            .config
            .plugins
            .iter()
            .filter_map(|it| {
                let name = &it.settings.name;
                let plugin = kept.plugins.get(name)?;
                let about = plugin.description();
                Some(json!({
                    "name": name,
                    "plugin": about.name,
                    "version": about.version,
                    "role": plugin.role().name(),
                    "reads": plugin.reads(),
                    "sha256": kept.plugins.digest(name),
                }))
            })
            .collect();
        let stages: Vec<Value> = live.pipeline.stats().stages().iter().map(stage).collect();
        json!({
            "revision": revisions.current().number(),
            "earlier": revisions.history(),
            "with_requests": revisions.live(),
            "level": kept.config.log.level.name(),
            "chains": kept.config.chains.iter().map(describe).collect::<Vec<_>>(),
            "plugins": plugins,
            "stages": stages,
        })
    }

    fn reload(&self) -> Result<Value, Refusal> {
        match self.0.reload() {
            Ok(Change::Same) => {
                let number = self.0.pipeline.revisions().current().number();
                Ok(json!({ "changed": false, "revision": number, "at_next_start": [] }))
            }
            Ok(Change::Revised { revised, at_next_start }) => Ok(json!({
                "changed": true,
                "revision": revised.number,
                "previous": revised.previous,
                "at_next_start": at_next_start,
            })),
            Err(problems) => {
                Err(Refusal { problems: problems.0.iter().map(ToString::to_string).collect() })
            }
        }
    }

    fn rollback(&self) -> Result<Value, Refusal> {
        match self.0.rollback() {
            Ok(it) => Ok(json!({ "revision": it.number, "previous": it.previous })),
            Err(error) => Err(Refusal { problems: vec![error.to_string()] }),
        }
    }
}

/// A plugin in a chain, with what a person looks for first.
fn stage((key, stats): &(chain::stats::StageKey, Arc<chain::stats::StageStats>)) -> Value {
    use std::sync::atomic::Ordering::Relaxed;
    let failures: u64 = stats.failures.iter().map(|it| it.load(Relaxed)).sum();
    let breaker = if stats.breakers_open.load(Relaxed) > 0 { "open" } else { "closed" };
    json!({
        "chain": &*key.chain,
        "plugin": key.plugin,
        "role": key.role,
        "calls": stats.calls.load(Relaxed),
        "records": stats.records.load(Relaxed),
        "failures": failures,
        "breaker": breaker,
        "record_seconds": { "p50": stats.cost.quantile(0.5), "p99": stats.cost.quantile(0.99) },
    })
}
