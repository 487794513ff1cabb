//! What the file may say. Everything is optional here; what it means is decided in [`super::check`].

use super::reader::{Problems, Reader};

/// No `Debug` here: it holds the key of the admin address.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) engine: Engine,
    pub(super) log: Log,
    /// None when there is no such table.
    pub(super) admin: Option<Admin>,
    /// None when there is no such table.
    pub(super) store: Option<Store>,
    pub(super) plugins: Vec<(String, Plugin)>,
    pub(super) alerts: Vec<(String, Alert)>,
    pub(super) outputs: Vec<(String, Output)>,
    pub(super) chains: Vec<(String, Chain)>,
    pub(super) routes: Vec<Route>,
}

/// No `Debug`: it holds keys.
#[derive(Default)]
pub(super) struct Server {
    pub(super) listen: Option<String>,
    pub(super) body_mib: Option<u64>,
    pub(super) images: Option<u64>,
    pub(super) image_megapixels: Option<u64>,
    pub(super) grace_seconds: Option<u64>,
    pub(super) tenant_header: Option<String>,
    pub(super) served_model_names: Option<Vec<String>>,
    pub(super) api_keys: Option<Vec<String>>,
    pub(super) image_hosts: Option<Vec<String>>,
    pub(super) ignore_unsupported: Option<bool>,
    pub(super) base64_embeddings: Option<bool>,
    pub(super) runtime_adapters: Option<bool>,
    pub(super) request_seconds: Option<u64>,
    pub(super) receive_seconds: Option<u64>,
}

/// No `Debug` here: it holds the keys of upstreams.
#[derive(Default)]
pub(super) struct Engine {
    pub(super) kind: Option<String>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) check_seconds: Option<u64>,
    pub(super) model: Option<String>,
    pub(super) name: Option<String>,
    pub(super) adapters: Vec<(String, String)>,
    pub(super) device: Option<Vec<String>>,
    pub(super) dtype: Option<String>,
    pub(super) threads: Option<u64>,
    pub(super) queue: Option<u64>,
    pub(super) nvml_library: Option<String>,
    pub(super) dequantize: Option<bool>,
    pub(super) max_num_seqs: Option<u64>,
    pub(super) max_num_batched_tokens: Option<u64>,
    pub(super) image_tokens: Option<u64>,
    pub(super) kv_cache_mib: Option<u64>,
    pub(super) gpu_memory_utilization: Option<f64>,
    pub(super) prefix_caching: Option<bool>,
    pub(super) adapter_fallback: Option<bool>,
}

#[derive(Default)]
pub(super) struct Upstream {
    pub(super) name: Option<String>,
    pub(super) url: Option<String>,
    pub(super) api_key: Option<String>,
    pub(super) models: Option<Vec<String>>,
    pub(super) max_in_flight: Option<u64>,
    pub(super) connect_seconds: Option<u64>,
    pub(super) answer_seconds: Option<u64>,
    pub(super) idle_seconds: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) level: Option<String>,
    pub(super) locale: Option<String>,
    pub(super) workers: Option<u64>,
    pub(super) queue: Option<u64>,
    pub(super) pseudonym_key: Option<String>,
    pub(super) always: Option<Vec<String>>,
    pub(super) watch: Option<bool>,
    pub(super) cache: Option<String>,
    pub(super) rollback_after: Option<u64>,
    pub(super) replay: Option<String>,
    pub(super) response_deltas: Option<bool>,
}

#[derive(Default)]
pub(super) struct Admin {
    pub(super) listen: Option<String>,
    pub(super) key: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) path: Option<String>,
    pub(super) all: Option<bool>,
    pub(super) chain: Option<String>,
    pub(super) max_age_hours: Option<u64>,
    pub(super) max_mib: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Plugin {
    pub(super) source: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) config: Option<String>,
    pub(super) grants: Grants,
    pub(super) limits: Limits,
}

#[derive(Debug, Default)]
pub(super) struct Grants {
    pub(super) alert: Option<Vec<String>>,
    pub(super) state_kib: Option<u64>,
    pub(super) http: Option<Vec<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) memory_mib: Option<u64>,
    pub(super) high_water_mib: Option<u64>,
    pub(super) calls_max: Option<u64>,
    pub(super) deadline_ms: Option<u64>,
    pub(super) setup_seconds: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Alert {
    pub(super) webhook: Option<String>,
    pub(super) window_seconds: Option<u64>,
    pub(super) per_minute: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) sink: Option<String>,
    pub(super) format: Option<String>,
    pub(super) path: Option<String>,
    pub(super) target: Option<String>,
    pub(super) color: Option<String>,
    pub(super) stream: Option<String>,
    pub(super) level: Option<String>,
    pub(super) overflow: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) edit: Vec<String>,
    pub(super) handle: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) allow_raw_content: Option<bool>,
    pub(super) shadow: Option<String>,
    pub(super) shadow_share: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct Route {
    pub(super) path: Option<String>,
    pub(super) model: Option<String>,
    pub(super) adapter: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) level: Option<String>,
    pub(super) sample: Option<f64>,
    pub(super) chain: Option<String>,
}

/// Ten years.
const MAX_AGE_HOURS: i64 = 10 * 366 * 24;
/// A tebibyte.
const MAX_STORE_MIB: i64 = 1 << 20;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Batches: years of a busy server, and a number that a person can read.
const CALLS_MAX: i64 = 1_000_000_000;

impl Raw {
    /// Reads a whole file; every problem of form is added to `problems`.
    pub(super) fn read(mut root: Reader<'_>, problems: &mut Problems) -> Self {
        let raw = Self {
            server: server(root.table("server", problems), problems),
            engine: engine(root.table("engine", problems), problems),
            log: log(root.table("log", problems), problems),
            admin: root.optional_table("admin", problems).map(|it| admin(it, problems)),
            store: root.optional_table("store", problems).map(|it| store(it, problems)),
            plugins: each(root.tables("plugins", problems), problems, plugin),
            alerts: each(root.tables("alerts", problems), problems, alert),
            outputs: each(root.tables("outputs", problems), problems, output),
            chains: each(root.tables("chains", problems), problems, chain),
            routes: root
                .array("route", problems)
                .into_iter()
                .map(|it| route(it, problems))
                .collect(),
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
        tenant_header: it.text("tenant_header", problems),
        served_model_names: it.texts("served_model_names", problems),
        api_keys: it.texts("api_keys", problems),
        image_hosts: it.texts("image_hosts", problems),
        ignore_unsupported: it.flag("ignore_unsupported", problems),
        base64_embeddings: it.flag("base64_embeddings", problems),
        runtime_adapters: it.flag("runtime_adapters", problems),
        request_seconds: it.number("request_seconds", 0..=DAY_SECONDS, problems),
        receive_seconds: it.number("receive_seconds", 1..=3600, problems),
    };
    it.finish(problems);
    server
}

fn engine(mut it: Reader<'_>, problems: &mut Problems) -> Engine {
    let engine = Engine {
        kind: it.text("kind", problems),
        upstreams: it
            .array("upstream", problems)
            .into_iter()
            .map(|it| upstream(it, problems))
            .collect(),
        check_seconds: it.number("check_seconds", 1..=3600, problems),
        model: it.text("model", problems),
        name: it.text("name", problems),
        adapters: it.map("adapters", problems),
        device: it.text_or_texts("device", problems),
        dtype: it.text("dtype", problems),
        threads: it.number("threads", 0..=1024, problems),
        queue: it.number("queue", 1..=100_000, problems),
        nvml_library: it.text("nvml_library", problems),
        dequantize: it.flag("dequantize", problems),
        max_num_seqs: it.number("max_num_seqs", 1..=4096, problems),
        max_num_batched_tokens: it.number("max_num_batched_tokens", 1..=131_072, problems),
        // An image may be 200 times as long as it is high.
        image_tokens: it.number("image_tokens", 256..=65_536, problems),
        kv_cache_mib: it.number("kv_cache_mib", 1..=16_777_216, problems),
        gpu_memory_utilization: it.share("gpu_memory_utilization", problems),
        prefix_caching: it.flag("prefix_caching", problems),
        adapter_fallback: it.flag("adapter_fallback", problems),
    };
    it.finish(problems);
    engine
}

fn upstream(mut it: Reader<'_>, problems: &mut Problems) -> Upstream {
    let upstream = Upstream {
        name: it.text("name", problems),
        url: it.text("url", problems),
        api_key: it.text("api_key", problems),
        models: it.texts("models", problems),
        max_in_flight: it.number("max_in_flight", 1..=100_000, problems),
        connect_seconds: it.number("connect_seconds", 1..=60, problems),
        answer_seconds: it.number("answer_seconds", 1..=DAY_SECONDS, problems),
        idle_seconds: it.number("idle_seconds", 1..=DAY_SECONDS, problems),
    };
    it.finish(problems);
    upstream
}

fn log(mut it: Reader<'_>, problems: &mut Problems) -> Log {
    let log = Log {
        level: it.text("level", problems),
        locale: it.text("locale", problems),
        workers: it.number("workers", 1..=64, problems),
        queue: it.number("queue", 64..=10_000_000, problems),
        pseudonym_key: it.text("pseudonym_key", problems),
        always: it.texts("always", problems),
        watch: it.flag("watch", problems),
        cache: it.text("cache", problems),
        rollback_after: it.number("rollback_after", 0..=1_000_000, problems),
        replay: it.text("replay", problems),
        response_deltas: it.flag("response_deltas", problems),
    };
    it.finish(problems);
    log
}

fn admin(mut it: Reader<'_>, problems: &mut Problems) -> Admin {
    let admin = Admin { listen: it.text("listen", problems), key: it.text("key", problems) };
    it.finish(problems);
    admin
}

fn store(mut it: Reader<'_>, problems: &mut Problems) -> Store {
    let store = Store {
        path: it.text("path", problems),
        all: it.flag("all", problems),
        chain: it.text("chain", problems),
        max_age_hours: it.number("max_age_hours", 1..=MAX_AGE_HOURS, problems),
        max_mib: it.number("max_mib", 1..=MAX_STORE_MIB, problems),
    };
    it.finish(problems);
    store
}

fn plugin(mut it: Reader<'_>, problems: &mut Problems) -> Plugin {
    let plugin = Plugin {
        grants: grants(it.table("grants", problems), problems),
        source: it.text("source", problems),
        sha256: it.text("sha256", problems),
        config: it.json("config", problems),
        limits: limits(it.table("limits", problems), problems),
    };
    it.finish(problems);
    plugin
}

fn grants(mut it: Reader<'_>, problems: &mut Problems) -> Grants {
    let grants = Grants {
        alert: it.texts("alert", problems),
        state_kib: it.number("state_kib", 1..=65_536, problems),
        http: it.texts("http", problems),
    };
    it.finish(problems);
    grants
}

fn limits(mut it: Reader<'_>, problems: &mut Problems) -> Limits {
    let limits = Limits {
        memory_mib: it.number("memory_mib", 1..=4096, problems),
        high_water_mib: it.number("high_water_mib", 1..=4096, problems),
        calls_max: it.number("calls_max", 1..=CALLS_MAX, problems),
        deadline_ms: it.number("deadline_ms", 20..=60_000, problems),
        setup_seconds: it.number("setup_seconds", 1..=600, problems),
    };
    it.finish(problems);
    limits
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
        allow_raw_content: it.flag("allow_raw_content", problems),
        shadow: it.text("shadow", problems),
        shadow_share: it.share("shadow_share", problems),
    };
    it.finish(problems);
    chain
}

fn route(mut it: Reader<'_>, problems: &mut Problems) -> Route {
    let mut when = it.table("when", problems);
    let route = Route {
        path: when.text("path", problems),
        model: when.text("model", problems),
        adapter: when.text("adapter", problems),
        tenant: when.text("tenant", problems),
        headers: when.map("header", problems),
        level: when.text("level", problems),
        sample: when.share("sample", problems),
        chain: it.text("chain", problems),
    };
    when.finish(problems);
    it.finish(problems);
    route
}
