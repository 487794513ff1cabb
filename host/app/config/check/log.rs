//! `[log]`: what all chains share.

use std::path::Path;

use chain::Ellipsis;
use record::Severity;

use super::{choose, severity};
use crate::{
    config::{CacheFolder, Log, Problems, raw},
    env::Vars,
};

/// Records that wait for a log worker: about 4,000 requests.
const QUEUE: u64 = 65_536;
/// Records: more than a single odd request has, and few enough that a bad change is undone in seconds.
const ROLLBACK_AFTER: u64 = 20;

pub(super) fn check(raw: &raw::Log, folder: &Path, vars: &Vars, problems: &mut Problems) -> Log {
    // The variable wins over the file, as in the guide.
    let (key, level) = match vars.get("LOG_LEVEL") {
        Some(it) => ("LOG_LEVEL", it),
        None => ("log.level", raw.level.as_deref().unwrap_or("INFO")),
    };
    let locale = raw.locale.as_deref().unwrap_or("ko");
    let locales = [("ko", Ellipsis::Korean), ("en", Ellipsis::English)];
    let level = severity(key, level, problems).unwrap_or(Severity::INFO);
    if raw.replay.as_deref() == Some("") {
        problems.add("log.replay", "empty: write the path of a file of records, or remove it");
    }
    Log {
        level,
        ellipsis: choose("log.locale", locale, &locales, problems).unwrap_or_default(),
        workers: usize::try_from(raw.workers.unwrap_or(1)).unwrap_or(1),
        queue: usize::try_from(raw.queue.unwrap_or(QUEUE)).unwrap_or(usize::MAX),
        pseudonym_key: raw.pseudonym_key.clone().unwrap_or_default(),
        always: raw.always.clone().unwrap_or_default(),
        watch: raw.watch.unwrap_or(true),
        cache: match raw.cache.as_deref() {
            None => CacheFolder::Default,
            Some("") => CacheFolder::Off,
            Some(it) => CacheFolder::At(folder.join(it)),
        },
        rollback_after: raw.rollback_after.unwrap_or(ROLLBACK_AFTER),
        replay: raw.replay.as_ref().map(|it| folder.join(it)),
        response_deltas: raw.response_deltas.unwrap_or(false),
    }
}
