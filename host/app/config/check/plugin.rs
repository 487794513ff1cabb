//! `[plugins.NAME]`: where a component is, and what it may use. It is not opened here.

use std::{path::Path, time::Duration};

use super::{grant, mebibytes};
use crate::{
    builtin,
    config::{Plugin, Problems, Source, raw, suggest},
};

pub(super) fn check(
    name: String,
    raw: raw::Plugin,
    folder: &Path,
    problems: &mut Problems,
) -> Plugin {
    let key = |it: &str| format!("plugins.{name}.{it}");
    let source = match raw.source.as_deref() {
        Some(it) => source(&key("source"), it, folder, problems),
        // [plugins.redact] without a source means the one that ships.
        None if builtin::plugin(&name).is_some() => Source::Builtin(name.clone()),
        None => {
            let known = builtin::plugin_names().collect::<Vec<_>>().join(", builtin:");
            let message =
                format!("missing: write a path to a component, or one of builtin:{known}");
            problems.add(key("source"), message);
            Source::Builtin(String::new())
        }
    };
    let hex = |it: &String| it.len() == 64 && it.bytes().all(|it| it.is_ascii_hexdigit());
    if raw.sha256.as_ref().is_some_and(|it| !hex(it)) {
        problems.add(key("sha256"), "a SHA-256 is 64 hexadecimal digits: take it from sha256sum");
    }
    let with_http = raw.grants.http.as_ref().is_some_and(|it| !it.is_empty());
    let settings = plugin::Settings {
        config: raw.config.unwrap_or_else(|| "{}".to_owned()),
        limits: limits(&key("limits"), &raw.limits, with_http, problems),
        grants: grant::check(&key("grants"), raw.grants, problems),
        name,
    };
    Plugin { source, sha256: raw.sha256.map(|it| it.to_lowercase()), settings }
}

fn source(key: &str, text: &str, folder: &Path, problems: &mut Problems) -> Source {
    let Some(name) = text.strip_prefix("builtin:") else {
        return Source::File(folder.join(text));
    };
    if builtin::plugin(name).is_none() {
        let hint = suggest(name, builtin::plugin_names());
        problems.add(key, format!("no built-in plugin named {name:?}{hint}"));
    }
    Source::Builtin(name.to_owned())
}

/// What a call may take of a plugin that may make requests: one takes up to 5 s, and it holds up nobody else.
const WITH_HTTP: Duration = Duration::from_secs(10);

fn limits(
    key: &str,
    raw: &raw::Limits,
    with_http: bool,
    problems: &mut Problems,
) -> plugin::Limits {
    let default = plugin::Limits::default();
    let work = if with_http { WITH_HTTP } else { default.work };
    let memory = raw.memory_mib.map_or(default.memory, mebibytes);
    // Most batches take less than a quarter, and the next one needs room.
    let high_water = raw.high_water_mib.map_or(memory / 4, mebibytes);
    if high_water > memory {
        let message = format!(
            "more than the plugin may have: write at most {}, or raise memory_mib",
            memory >> 20
        );
        problems.add(format!("{key}.high_water_mib"), message);
    }
    plugin::Limits {
        memory,
        work: raw.deadline_ms.map_or(work, Duration::from_millis),
        setup: raw.setup_seconds.map_or(default.setup, Duration::from_secs),
        high_water,
        calls_max: raw.calls_max.unwrap_or(default.calls_max),
    }
}
