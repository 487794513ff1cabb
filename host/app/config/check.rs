//! From what a file says to what can run. Goes on after each problem, with a stand-in for what was wrong, so that all of them
//! are found; the result is used only when there were none.
//!
//! Each table of the file has a module here; [`names`] looks at what they call each other.

mod admin;
mod chain;
mod engine;
mod grant;
mod log;
mod names;
mod output;
mod plugin;
mod route;
mod server;
mod store;
mod upstream;

use std::{net::SocketAddr, path::Path, str::FromStr};

use record::Severity;

use super::{Config, Problems, raw};
use crate::env::Vars;

pub(super) fn check(raw: raw::Raw, folder: &Path, vars: &Vars, problems: &mut Problems) -> Config {
    names::check(&raw, problems);
    let chains = chain::check(&raw, problems);
    let server = server::check(&raw.server, problems);
    let engine = engine::check(&raw.engine, folder, problems);
    let upstreams = upstream::check(&raw.engine, problems);
    upstream::unused(&raw, problems);
    let log = log::check(&raw.log, folder, vars, problems);
    Config {
        admin: raw.admin.map(|it| admin::check(it, server.listen, problems)),
        store: raw.store.map(|it| store::check(it, folder, problems)),
        plugins: raw
            .plugins
            .into_iter()
            .map(|(name, it)| plugin::check(name, it, folder, problems))
            .collect(),
        alerts: raw
            .alerts
            .into_iter()
            .map(|(name, it)| output::alert(name, it, problems))
            .collect(),
        outputs: raw
            .outputs
            .into_iter()
            .filter_map(|(name, it)| output::check(name, it, folder, problems))
            .collect(),
        routes: raw
            .routes
            .into_iter()
            .enumerate()
            .map(|(at, it)| route::check(at, it, problems))
            .collect(),
        server,
        engine,
        upstreams,
        log,
        chains,
    }
}

/// An address to listen on, or a problem that shows `example`.
fn address(key: &str, text: &str, example: &str, problems: &mut Problems) -> SocketAddr {
    SocketAddr::from_str(text).unwrap_or_else(|_| {
        let message = format!("{text:?} is not an address: write IP:PORT, as in {example:?}");
        problems.add(key, message);
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn severity(key: &str, text: &str, problems: &mut Problems) -> Option<Severity> {
    text.parse()
        .map_err(|error: record::ParseSeverityError| problems.add(key, error.to_string()))
        .ok()
}

/// The value of a word, or a problem that lists the words.
fn choose<T: Copy>(
    key: &str,
    text: &str,
    choices: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, it)| *it);
    if found.is_none() {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        problems.add(key, format!("{text:?} is not one of {}", names.join(", ")));
    }
    found
}

fn mebibytes(it: u64) -> usize {
    usize::try_from(it << 20).unwrap_or(usize::MAX)
}
