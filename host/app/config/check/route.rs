//! `[[route]]`: which requests take which chain. How a request is matched is the business of [`crate::route`].

use super::severity;
use crate::config::{Problems, Route, raw};

/// `at`: the place of the route among all of them.
pub(super) fn check(at: usize, raw: raw::Route, problems: &mut Problems) -> Route {
    let when = format!("route[{at}].when");
    if raw.chain.is_none() {
        problems.add(
            format!("route[{at}].chain"),
            "missing: name the chain that matching requests take",
        );
    }
    // What could not be read was meant to say when.
    if says_nothing(&raw) && !problems.concern(&when) {
        let message = "it matches every request: say when, by path, model, adapter, tenant, header, \
                       level or sample";
        problems.add(&*when, message);
    }
    if raw.path.as_ref().is_some_and(|it| !it.starts_with('/')) {
        problems.add(format!("{when}.path"), "a path starts with /, as in \"/vision\"");
    }
    let level = raw.level.as_deref();
    Route {
        level: level.and_then(|it| severity(&format!("{when}.level"), it, problems)),
        path: raw.path,
        model: raw.model,
        adapter: raw.adapter,
        tenant: raw.tenant,
        headers: raw.headers.into_iter().map(|(name, it)| (name.to_lowercase(), it)).collect(),
        sample: raw.sample,
        chain: raw.chain.unwrap_or_default(),
    }
}

fn says_nothing(raw: &raw::Route) -> bool {
    let texts = [&raw.path, &raw.model, &raw.adapter, &raw.tenant, &raw.level];
    texts.iter().all(|it| it.is_none()) && raw.headers.is_empty() && raw.sample.is_none()
}
