//! That every name that a part of the file uses is the name of something.

use std::collections::BTreeSet;

use crate::{
    builtin,
    config::{Problems, raw, suggest},
};

/// What the parts of a file may call each other.
struct Names {
    adapters: BTreeSet<String>,
    plugins: BTreeSet<String>,
    alerts: BTreeSet<String>,
    outputs: BTreeSet<String>,
    chains: BTreeSet<String>,
}

pub(super) fn check(raw: &raw::Raw, problems: &mut Problems) {
    Names::of(raw).check(raw, problems);
}

impl Names {
    fn of(raw: &raw::Raw) -> Self {
        fn names<T>(pairs: &[(String, T)]) -> BTreeSet<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        }
        Self {
            adapters: names(&raw.engine.adapters),
            plugins: names(&raw.plugins),
            alerts: names(&raw.alerts),
            outputs: names(&raw.outputs),
            chains: names(&raw.chains),
        }
    }

    fn check(&self, raw: &raw::Raw, problems: &mut Problems) {
        let mut known = |key: String, what: &str, name: &str, among: &BTreeSet<String>| {
            if !among.contains(name) {
                let mut hint = suggest(name, among.iter().map(String::as_str));
                if what == "plugin" && builtin::plugin(name).is_some() {
                    hint = format!(": add [plugins.{name}] with source = \"builtin:{name}\"");
                }
                problems.add(key, format!("no {what} named {name:?}{hint}"));
            }
        };
        for (at, name) in raw.log.always.iter().flatten().enumerate() {
            known(format!("log.always[{at}]"), "plugin", name, &self.plugins);
        }
        for (name, chain) in &raw.chains {
            let lists = [
                ("edit", &chain.edit, "plugin", &self.plugins),
                ("handle", &chain.handle, "plugin", &self.plugins),
                ("outputs", &chain.outputs, "output", &self.outputs),
            ];
            for (list, items, what, among) in lists {
                for (at, item) in items.iter().enumerate() {
                    known(format!("chains.{name}.{list}[{at}]"), what, item, among);
                }
            }
            if let Some(shadow) = &chain.shadow {
                known(format!("chains.{name}.shadow"), "chain", shadow, &self.chains);
            }
        }
        for (name, output) in &raw.outputs {
            if let Some(format) = &output.format {
                known(format!("outputs.{name}.format"), "plugin", format, &self.plugins);
            }
        }
        if let Some(chain) = raw.store.as_ref().and_then(|it| it.chain.as_ref()) {
            known("store.chain".to_owned(), "chain", chain, &self.chains);
        }
        for (at, route) in raw.routes.iter().enumerate() {
            if let Some(chain) = &route.chain {
                known(format!("route[{at}].chain"), "chain", chain, &self.chains);
            }
            if let Some(adapter) = &route.adapter {
                known(format!("route[{at}].when.adapter"), "adapter", adapter, &self.adapters);
            }
        }
        for (name, plugin) in &raw.plugins {
            for (at, channel) in plugin.grants.alert.iter().flatten().enumerate() {
                let key = format!("plugins.{name}.grants.alert[{at}]");
                known(key, "alert channel", channel, &self.alerts);
            }
        }
    }
}
