//! What the admin API does: it looks at the running log, and changes it.

use std::sync::Arc;

use record::Severity;
use serde_json::{Value, json};
use server::{LevelOf, LevelWish, Refusal};
use upstream::Pool;

use crate::{
    check::describe,
    live::{Change, Live},
    metrics,
};

/// The running log as the admin API sees it.
pub struct Control {
    pub live: Arc<Live>,
    /// None: the engine is here.
    pub upstreams: Option<Pool>,
}

impl server::Control for Control {
    fn metrics(&self) -> String {
        let store = self.live.store().map(|it| it.counts());
        let mut text = metrics::encode(&self.live.pipeline, self.live.cache(), store);
        if let Some(it) = &self.upstreams {
            text += &metrics::upstreams::encode(it.counts());
        }
        text
    }

    fn state(&self) -> Value {
        let (live, kept) = (&self.live, self.live.kept());
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
        let counts = self.upstreams.as_ref().map(Pool::counts).unwrap_or_default();
        let upstreams: Vec<Value> = counts.iter().map(upstream).collect();
        json!({
            "revision": revisions.current().number(),
            "earlier": revisions.history(),
            "with_requests": revisions.live(),
            "levels": live.levels.told(&live.pipeline, kept.config.log.level),
            "chains": kept.config.chains.iter().map(describe).collect::<Vec<_>>(),
            "plugins": plugins,
            "stages": stages,
            "upstreams": upstreams,
        })
    }

    fn reload(&self) -> Result<Value, Refusal> {
        match self.live.reload() {
            Ok(Change::Same) => {
                let number = self.live.pipeline.revisions().current().number();
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
        match self.live.rollback() {
            Ok(it) => Ok(json!({ "revision": it.number, "previous": it.previous })),
            Err(error) => Err(Refusal { problems: vec![error.to_string()] }),
        }
    }

    fn set_level(&self, wish: LevelWish) -> Result<Value, Refusal> {
        let live = &self.live;
        // The value of a header is the operator's affair.
        let of = match &wish.of {
            LevelOf::Streams => "the log".to_owned(),
            LevelOf::Stream(it) => format!("the stream {}", it.name()),
            LevelOf::Header { name, .. } => format!("requests with a certain {name}"),
        };
        let level = wish.level.map_or("what is configured", Severity::name);
        live.levels
            .set(&live.pipeline, wish)
            .map_err(|error| Refusal { problems: vec![error.to_string()] })?;
        tracing::warn!(
            target: "bucksaw",
            event = "admin.called",
            bucksaw.notice = format!("an operator set the level of {of} to {level}")
        );
        Ok(live.levels.told(&live.pipeline, live.kept().config.log.level))
    }
}

fn upstream(it: &upstream::Counts) -> Value {
    json!({
        "name": &*it.name,
        "usable": it.usable,
        "in_flight": it.in_flight,
        "attempts": it.attempts,
        "failures": it.failures,
        "ejections": it.ejections,
    })
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
