//! Chains: what each runs, and what they are to each other. That the names in them exist is the business of `names`.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Chain, DEFAULT_CHAIN, Problems, Shadow, raw};

/// A tenth of a log worker's time: enough to see many records of a server that is not at its limit, and no reason for one that
/// is to lose any.
const SHADOW_SHARE: f64 = 0.1;

pub(super) fn check(raw: &raw::Raw, problems: &mut Problems) -> Vec<Chain> {
    if raw.chains.iter().all(|(name, _)| name != DEFAULT_CHAIN) {
        let message = "there is no chain for requests that no route matches: add [chains.default]";
        problems.add("chains", message);
    }
    let uses = Uses::of(raw);
    let always = raw.log.always.as_deref().unwrap_or_default();
    raw.chains.iter().map(|(name, it)| chain(name, it, always, &uses, problems)).collect()
}

/// What chains are named for, other than by themselves.
struct Uses<'a> {
    /// The names of shadows, and whose.
    shadows: BTreeMap<&'a str, &'a str>,
    routed: BTreeSet<&'a str>,
    /// The chain of what is stored.
    stored: Option<&'a str>,
}

impl<'a> Uses<'a> {
    fn of(raw: &'a raw::Raw) -> Self {
        let shadow = |(name, it): &'a (String, raw::Chain)| {
            let shadow = it.shadow.as_deref().filter(|it| it != name)?;
            Some((shadow, name.as_str()))
        };
        Self {
            shadows: raw.chains.iter().filter_map(shadow).collect(),
            routed: raw.routes.iter().filter_map(|it| it.chain.as_deref()).collect(),
            stored: raw.store.as_ref().and_then(|it| it.chain.as_deref()),
        }
    }

    /// Whether a chain is a shadow and nothing else, so that nothing ever leaves it.
    fn only_shadow(&self, name: &str) -> bool {
        self.shadows.contains_key(name) && !self.takes_requests(name) && self.stored != Some(name)
    }

    fn takes_requests(&self, name: &str) -> bool {
        self.routed.contains(name) || name == DEFAULT_CHAIN
    }

    /// Whether a chain needs no outputs, since all that it lets through goes to the store.
    fn only_store(&self, name: &str) -> bool {
        self.stored == Some(name) && !self.takes_requests(name)
    }
}

fn chain(
    name: &str,
    raw: &raw::Chain,
    always: &[String],
    uses: &Uses<'_>,
    problems: &mut Problems,
) -> Chain {
    let key = |it: &str| format!("chains.{name}.{it}");
    let own = raw.edit.iter().filter(|it| !always.contains(it));
    let edit: Vec<String> = always.iter().chain(own).cloned().collect();
    let allow_raw_content = raw.allow_raw_content.unwrap_or(false);
    if !uses.only_shadow(name) {
        if raw.outputs.is_empty() && !uses.only_store(name) {
            let message = "the chain writes nowhere: name at least one output";
            problems.add(key("outputs"), message);
        }
        // What could not be read may have been an editor.
        let unread = problems.concern(&key("edit")) || problems.concern("log.always");
        if edit.is_empty() && !allow_raw_content && !unread {
            let message = "content would reach the outputs as it is: add an editor such as \"redact\", or write \
                           allow_raw_content = true";
            problems.add(key("edit"), message);
        }
    }
    Chain {
        name: name.to_owned(),
        edit,
        own_edit: raw.edit.clone(),
        handle: raw.handle.clone(),
        outputs: raw.outputs.clone(),
        allow_raw_content,
        shadow: shadow(name, raw, uses, problems),
    }
}

fn shadow(
    name: &str,
    raw: &raw::Chain,
    uses: &Uses<'_>,
    problems: &mut Problems,
) -> Option<Shadow> {
    let key = format!("chains.{name}.shadow");
    let Some(shadow) = &raw.shadow else {
        if raw.shadow_share.is_some() && !problems.concern(&key) {
            let message =
                "there is no shadow that could take it: write shadow = \"<chain>\", or remove it";
            problems.add(format!("{key}_share"), message);
        }
        return None;
    };
    if shadow == name {
        problems.add(key, "a chain cannot be its own shadow: name another chain");
    } else if let Some(of) = uses.shadows.get(name) {
        let message = format!(
            "this chain is the shadow of {of:?}, and a shadow has none of its own: remove one of the two"
        );
        problems.add(key, message);
    }
    Some(Shadow { chain: shadow.clone(), share: raw.shadow_share.unwrap_or(SHADOW_SHARE) })
}
