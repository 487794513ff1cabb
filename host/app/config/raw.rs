//! What the file may say. Everything is optional here; what it means is decided in [`super::check`].

use super::reader::{Problems, Reader};

#[derive(Debug, Default)]
pub struct Raw {
    pub server: Server,
    pub engine: Engine,
    pub log: Log,
    pub plugins: Vec<(String, Plugin)>,
    pub alerts: Vec<(String, Alert)>,
    pub outputs: Vec<(String, Output)>,
    pub chains: Vec<(String, Chain)>,
    pub routes: Vec<Route>,
}

#[derive(Debug, Default)]
pub struct Server {
    pub listen: Option<String>,
    pub body_mib: Option<u64>,
    pub images: Option<u64>,
    pub image_megapixels: Option<u64>,
    pub grace_seconds: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Engine {
    pub model: Option<String>,
    pub name: Option<String>,
    pub adapters: Vec<(String, String)>,
    pub device: Option<String>,
    pub threads: Option<u64>,
    pub queue: Option<u64>,
    pub nvml_library: Option<String>,
}

#[derive(Debug, Default)]
pub struct Log {
    pub level: Option<String>,
    pub locale: Option<String>,
    pub workers: Option<u64>,
    pub queue: Option<u64>,
    pub pseudonym_key: Option<String>,
}

#[derive(Debug, Default)]
pub struct Plugin {
    pub source: Option<String>,
    pub sha256: Option<String>,
    pub config: Option<String>,
    pub grant_alert: Option<Vec<String>>,
    pub memory_mib: Option<u64>,
    pub deadline_ms: Option<u64>,
    pub setup_seconds: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Alert {
    pub webhook: Option<String>,
    pub window_seconds: Option<u64>,
    pub per_minute: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Output {
    pub sink: Option<String>,
    pub format: Option<String>,
    pub path: Option<String>,
    pub target: Option<String>,
    pub color: Option<String>,
    pub stream: Option<String>,
    pub level: Option<String>,
    pub overflow: Option<String>,
}

#[derive(Debug, Default)]
pub struct Chain {
    pub edit: Vec<String>,
    pub handle: Vec<String>,
    pub outputs: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Route {
    pub path: Option<String>,
    pub model: Option<String>,
    pub headers: Vec<(String, String)>,
    pub chain: Option<String>,
}

const DAY_SECONDS: i64 = 24 * 60 * 60;

impl Raw {
    /// Reads a whole file; every problem of form is added to `problems`.
    pub fn read(mut root: Reader<'_>, problems: &mut Problems) -> Self {
        let raw = Self {
            server: server(root.table("server", problems), problems),
            engine: engine(root.table("engine", problems), problems),
            log: log(root.table("log", problems), problems),
            plugins: each(root.tables("plugins", problems), problems, plugin),
            alerts: each(root.tables("alerts", problems), problems, alert),
            outputs: each(root.tables("outputs", problems), problems, output),
            chains: each(root.tables("chains", problems), problems, chain),
            routes: root.array("route", problems).into_iter().map(|it| route(it, problems)).collect(),
        };
        root.finish(problems);
        raw
    }
}

fn each<T>(
    tables: Vec<(String, Reader<'_>)>,
    problems: &mut Problems,
    read: fn(Reader<'_>, &mut Problems) -> T,
) -> Vec<(String, T)> {
    tables.into_iter().map(|(name, it)| (name, read(it, problems))).collect()
}

fn server(mut it: Reader<'_>, problems: &mut Problems) -> Server {
    let server = Server {
        listen: it.text("listen", problems),
        body_mib: it.number("body_mib", 1..=1024, problems),
        images: it.number("images", 1..=64, problems),
        image_megapixels: it.number("image_megapixels", 1..=1024, problems),
        grace_seconds: it.number("grace_seconds", 0..=3600, problems),
    };
    it.finish(problems);
    server
}

fn engine(mut it: Reader<'_>, problems: &mut Problems) -> Engine {
    let engine = Engine {
        model: it.text("model", problems),
        name: it.text("name", problems),
        adapters: it.map("adapters", problems),
        device: it.text("device", problems),
        threads: it.number("threads", 0..=1024, problems),
        queue: it.number("queue", 1..=100_000, problems),
        nvml_library: it.text("nvml_library", problems),
    };
    it.finish(problems);
    engine
}

fn log(mut it: Reader<'_>, problems: &mut Problems) -> Log {
    let log = Log {
        level: it.text("level", problems),
        locale: it.text("locale", problems),
        workers: it.number("workers", 1..=64, problems),
        queue: it.number("queue", 64..=10_000_000, problems),
        pseudonym_key: it.text("pseudonym_key", problems),
    };
    it.finish(problems);
    log
}

fn plugin(mut it: Reader<'_>, problems: &mut Problems) -> Plugin {
    let mut grants = it.table("grants", problems);
    let grant_alert = grants.texts("alert", problems);
    grants.finish(problems);
    let mut limits = it.table("limits", problems);
    let plugin = Plugin {
        source: it.text("source", problems),
        sha256: it.text("sha256", problems),
        config: it.json("config", problems),
        grant_alert,
        memory_mib: limits.number("memory_mib", 1..=4096, problems),
        deadline_ms: limits.number("deadline_ms", 20..=60_000, problems),
        setup_seconds: limits.number("setup_seconds", 1..=600, problems),
    };
    limits.finish(problems);
    it.finish(problems);
    plugin
}

fn alert(mut it: Reader<'_>, problems: &mut Problems) -> Alert {
    let alert = Alert {
        webhook: it.text("webhook", problems),
        window_seconds: it.number("window_seconds", 0..=DAY_SECONDS, problems),
        per_minute: it.number("per_minute", 1..=10_000, problems),
    };
    it.finish(problems);
    alert
}

fn output(mut it: Reader<'_>, problems: &mut Problems) -> Output {
    let output = Output {
        sink: it.text("sink", problems),
        format: it.text("format", problems),
        path: it.text("path", problems),
        target: it.text("target", problems),
        color: it.text("color", problems),
        stream: it.text("stream", problems),
        level: it.text("level", problems),
        overflow: it.text("overflow", problems),
    };
    it.finish(problems);
    output
}

fn chain(mut it: Reader<'_>, problems: &mut Problems) -> Chain {
    let chain = Chain {
        edit: it.texts("edit", problems).unwrap_or_default(),
        handle: it.texts("handle", problems).unwrap_or_default(),
        outputs: it.texts("outputs", problems).unwrap_or_default(),
    };
    it.finish(problems);
    chain
}

fn route(mut it: Reader<'_>, problems: &mut Problems) -> Route {
    let mut when = it.table("when", problems);
    let route = Route {
        path: when.text("path", problems),
        model: when.text("model", problems),
        headers: when.map("header", problems),
        chain: it.text("chain", problems),
    };
    when.finish(problems);
    it.finish(problems);
    route
}
