//! From what a file says to what can run. Goes on after each problem, with a stand-in for what was wrong, so that all of them
//! are found; the result is used only when there were none.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use chain::{Ellipsis, Filter, Overflow};
use record::{Severity, Stream};

use super::{
    Chain, Config, Engine, Log, Model, Output, Plugin, Problems, Route, Server, Sink, Source, raw,
    suggest,
};
use crate::{builtin, env::Vars};

/// Jobs that wait for the engine: over a minute of work for a small model; a client that waits longer has gone.
const ENGINE_QUEUE: u64 = 64;
/// Records that wait for a log worker: about 4,000 requests.
const LOG_QUEUE: u64 = 65_536;
const GRACE_SECONDS: u64 = 30;
/// A chain of this name takes every request that no route matches.
const DEFAULT_CHAIN: &str = "default";

pub(super) fn check(raw: raw::Raw, folder: &Path, vars: &Vars, problems: &mut Problems) -> Config {
    let names = Names::of(&raw);
    names.check(&raw, problems);
    Config {
        server: server(&raw.server, problems),
        engine: engine(&raw.engine, folder, problems),
        log: log(&raw.log, vars, problems),
        plugins: raw
            .plugins
            .into_iter()
            .map(|(name, it)| plugin(name, it, folder, problems))
            .collect(),
        alerts: raw.alerts.into_iter().map(|(name, it)| alert(name, it, problems)).collect(),
        outputs: raw
            .outputs
            .into_iter()
            .filter_map(|(name, it)| output(name, it, folder, problems))
            .collect(),
        chains: raw
            .chains
            .into_iter()
            .map(|(name, it)| Chain { name, edit: it.edit, handle: it.handle, outputs: it.outputs })
            .collect(),
        routes: raw
            .routes
            .into_iter()
            .enumerate()
            .map(|(at, it)| route(at, it, problems))
            .collect(),
    }
}

/// What the parts of a file may call each other.
struct Names {
    plugins: BTreeSet<String>,
    alerts: BTreeSet<String>,
    outputs: BTreeSet<String>,
    chains: BTreeSet<String>,
}

impl Names {
    fn of(raw: &raw::Raw) -> Self {
        fn names<T>(pairs: &[(String, T)]) -> BTreeSet<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        }
        Self {
            plugins: names(&raw.plugins),
            alerts: names(&raw.alerts),
            outputs: names(&raw.outputs),
            chains: names(&raw.chains),
        }
    }

    /// That every name used is the name of something.
    fn check(&self, raw: &raw::Raw, problems: &mut Problems) {
        let mut known = |key: String, what: &str, name: &str, among: &BTreeSet<String>| {
            if !among.contains(name) {
                let hint = suggest(name, among.iter().map(String::as_str));
                problems.add(key, format!("no {what} named {name:?}{hint}"));
            }
        };
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
        }
        for (name, output) in &raw.outputs {
            if let Some(format) = &output.format {
                known(format!("outputs.{name}.format"), "plugin", format, &self.plugins);
            }
        }
        for (at, route) in raw.routes.iter().enumerate() {
            if let Some(chain) = &route.chain {
                known(format!("route[{at}].chain"), "chain", chain, &self.chains);
            }
        }
        for (name, plugin) in &raw.plugins {
            for (at, channel) in plugin.grant_alert.iter().flatten().enumerate() {
                let key = format!("plugins.{name}.grants.alert[{at}]");
                known(key, "alert channel", channel, &self.alerts);
            }
        }
        if !self.chains.contains(DEFAULT_CHAIN) {
            let message =
                "there is no chain for requests that no route matches: add [chains.default]";
            problems.add("chains", message);
        }
        for (name, chain) in &raw.chains {
            if chain.outputs.is_empty() {
                let message = "the chain writes nowhere: name at least one output";
                problems.add(format!("chains.{name}.outputs"), message);
            }
        }
    }
}

fn server(raw: &raw::Server, problems: &mut Problems) -> Server {
    let listen = raw.listen.as_deref().unwrap_or("127.0.0.1:8000");
    let mut limits = server::Limits::default();
    let size = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
    if let Some(it) = raw.body_mib {
        limits.body_bytes = size(it << 20);
    }
    if let Some(it) = raw.images {
        limits.images = size(it);
    }
    if let Some(it) = raw.image_megapixels {
        limits.image_pixels = it * 1_000_000;
    }
    Server {
        listen: SocketAddr::from_str(listen).unwrap_or_else(|_| {
            let message =
                format!("{listen:?} is not an address: write IP:PORT, as in \"127.0.0.1:8000\"");
            problems.add("server.listen", message);
            SocketAddr::from(([127, 0, 0, 1], 0))
        }),
        limits,
        grace: Duration::from_secs(raw.grace_seconds.unwrap_or(GRACE_SECONDS)),
    }
}

fn engine(raw: &raw::Engine, folder: &Path, problems: &mut Problems) -> Engine {
    let device = raw.device.as_deref().unwrap_or("auto");
    let cuda = device.strip_prefix("cuda:").and_then(|it| it.parse().ok());
    let device = match (device, cuda) {
        ("auto", _) => engine::DeviceChoice::Auto,
        ("cpu", _) => engine::DeviceChoice::Cpu,
        ("cuda", _) => engine::DeviceChoice::Cuda(0),
        (_, Some(it)) => engine::DeviceChoice::Cuda(it),
        _ => {
            let message = format!("{device:?} is not a device: write auto, cpu or cuda:0");
            problems.add("engine.device", message);
            engine::DeviceChoice::Cpu
        }
    };
    Engine {
        model: model(raw.model.as_deref().unwrap_or("demo"), folder),
        name: raw.name.clone(),
        adapters: raw.adapters.iter().map(|(name, it)| (name.clone(), model(it, folder))).collect(),
        device,
        threads: usize::try_from(raw.threads.unwrap_or(0)).unwrap_or(0),
        queue: usize::try_from(raw.queue.unwrap_or(ENGINE_QUEUE)).unwrap_or(usize::MAX),
        nvml_library: raw.nvml_library.as_ref().map(|it| folder.join(it)),
        dequantize: raw.dequantize,
    }
}

/// `demo`, a `.gguf` file, a folder, or else the id of a model on the hub: `owner/name`.
fn model(text: &str, folder: &Path) -> Model {
    let path = folder.join(text);
    let looks_like_id = text.split('/').count() == 2 && !text.starts_with(['.', '/', '~']);
    match text {
        "demo" | "builtin:demo" => Model::Demo,
        "demo-ko" | "builtin:demo-ko" => Model::DemoKorean,
        _ if text.ends_with(".gguf") => Model::Gguf(path),
        _ if looks_like_id && !path.exists() => Model::Hub(text.to_owned()),
        _ => Model::Folder(path),
    }
}

fn log(raw: &raw::Log, vars: &Vars, problems: &mut Problems) -> Log {
    // The variable wins over the file, as in the guide.
    let (key, level) = match vars.get("LOG_LEVEL") {
        Some(it) => ("LOG_LEVEL", it),
        None => ("log.level", raw.level.as_deref().unwrap_or("INFO")),
    };
    let locale = raw.locale.as_deref().unwrap_or("ko");
    Log {
        level: severity(key, level, problems).unwrap_or(Severity::INFO),
        ellipsis: choose(
            "log.locale",
            locale,
            &[("ko", Ellipsis::Korean), ("en", Ellipsis::English)],
            problems,
        )
        .unwrap_or_default(),
        workers: usize::try_from(raw.workers.unwrap_or(1)).unwrap_or(1),
        queue: usize::try_from(raw.queue.unwrap_or(LOG_QUEUE)).unwrap_or(usize::MAX),
        pseudonym_key: raw.pseudonym_key.clone().unwrap_or_default(),
    }
}

fn plugin(name: String, raw: raw::Plugin, folder: &Path, problems: &mut Problems) -> Plugin {
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
    let default = plugin::Limits::default();
    let limits = plugin::Limits {
        memory: raw
            .memory_mib
            .map_or(default.memory, |it| usize::try_from(it << 20).unwrap_or(usize::MAX)),
        work: raw.deadline_ms.map_or(default.work, Duration::from_millis),
        setup: raw.setup_seconds.map_or(default.setup, Duration::from_secs),
    };
    let settings = plugin::Settings {
        config: raw.config.unwrap_or_else(|| "{}".to_owned()),
        limits,
        grants: plugin::Grants { alert: raw.grant_alert.unwrap_or_default() },
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

fn alert(name: String, raw: raw::Alert, problems: &mut Problems) -> sink::Channel {
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

fn output(
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

fn route(at: usize, raw: raw::Route, problems: &mut Problems) -> Route {
    if raw.chain.is_none() {
        problems.add(
            format!("route[{at}].chain"),
            "missing: name the chain that matching requests take",
        );
    }
    if raw.path.is_none() && raw.model.is_none() && raw.headers.is_empty() {
        let message = "it matches every request: say when, by path, model or header";
        problems.add(format!("route[{at}].when"), message);
    }
    if raw.path.as_ref().is_some_and(|it| !it.starts_with('/')) {
        problems.add(format!("route[{at}].when.path"), "a path starts with /, as in \"/vision\"");
    }
    Route {
        path: raw.path,
        model: raw.model,
        headers: raw.headers.into_iter().map(|(name, it)| (name.to_lowercase(), it)).collect(),
        chain: raw.chain.unwrap_or_default(),
    }
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
