//! `[outputs.NAME]` and `[alerts.NAME]`: where lines and alerts go. Nothing is opened here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chain::{Filter, Overflow};
use record::Stream;

use super::{choose, severity};
use crate::config::{Output, Problems, Sink, raw, suggest};

pub(super) fn alert(name: String, raw: raw::Alert, problems: &mut Problems) -> sink::Channel {
    let key = format!("alerts.{name}.webhook");
    match raw.webhook.as_deref() {
        None => problems.add(key, "missing: write the address to post alerts to"),
        Some(it) if !it.starts_with("http://") && !it.starts_with("https://") => {
            problems.add(
                key,
                "not an address that can be posted to: it must start with https:// or http://",
            );
        }
        Some(_) => {}
    }
    sink::Channel {
        url: raw.webhook.unwrap_or_default(),
        window: Duration::from_secs(raw.window_seconds.unwrap_or(300)),
        per_minute: u32::try_from(raw.per_minute.unwrap_or(10)).unwrap_or(u32::MAX),
        name,
    }
}

pub(super) fn check(
    name: String,
    raw: raw::Output,
    folder: &Path,
    problems: &mut Problems,
) -> Option<Output> {
    let key = |it: &str| format!("outputs.{name}.{it}");
    let sink = match raw.sink.as_deref() {
        Some("console") => console(&key, &raw, problems),
        Some("file") => file(&key, &raw, folder, problems),
        other => {
            let message = match other {
                Some(it) => format!("no sink named {it:?}{}", suggest(it, ["console", "file"])),
                None => "missing: write console or file".to_owned(),
            };
            problems.add(key("sink"), message);
            None
        }
    };
    if raw.format.is_none() {
        problems.add(
            key("format"),
            "missing: name the plugin that formats, such as \"guide\" or \"json\"",
        );
    }
    let streams = [("app", Some(Stream::App)), ("engine", Some(Stream::Engine)), ("all", None)];
    let policies = [("block", Overflow::Block), ("drop-oldest", Overflow::DropOldest)];
    let filter = Filter {
        stream: raw
            .stream
            .as_deref()
            .and_then(|it| choose(&key("stream"), it, &streams, problems)?),
        severity: raw.level.as_deref().and_then(|it| severity(&key("level"), it, problems)),
    };
    let overflow =
        raw.overflow.as_deref().and_then(|it| choose(&key("overflow"), it, &policies, problems));
    Some(Output {
        sink: sink?,
        format: raw.format?,
        filter,
        overflow: overflow.unwrap_or_default(),
        name,
    })
}

fn console(
    key: &dyn Fn(&str) -> String,
    raw: &raw::Output,
    problems: &mut Problems,
) -> Option<Sink> {
    if raw.path.is_some() {
        problems.add(key("path"), "a console has no path: remove it, or write sink = \"file\"");
    }
    let targets = [("stdout", sink::Target::Stdout), ("stderr", sink::Target::Stderr)];
    let colors = [
        ("auto", sink::Color::Auto),
        ("always", sink::Color::Always),
        ("never", sink::Color::Never),
    ];
    let target =
        choose(&key("target"), raw.target.as_deref().unwrap_or("stdout"), &targets, problems);
    let color = choose(&key("color"), raw.color.as_deref().unwrap_or("auto"), &colors, problems);
    Some(Sink::Console { target: target?, color: color? })
}

fn file(
    key: &dyn Fn(&str) -> String,
    raw: &raw::Output,
    folder: &Path,
    problems: &mut Problems,
) -> Option<Sink> {
    for (name, set) in [("target", raw.target.is_some()), ("color", raw.color.is_some())] {
        if set {
            problems
                .add(key(name), "only a console has one: remove it, or write sink = \"console\"");
        }
    }
    if raw.path.is_none() {
        problems.add(key("path"), "missing: write where the file is to be");
    }
    raw.path.as_ref().map(|it| Sink::File(PathBuf::from(folder).join(it)))
}
