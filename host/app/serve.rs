//! `bucksaw serve`: load, listen, serve, and end in order: requests first, then the engine, then the log.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use plugin::Runtime;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    assemble,
    behind::Behind,
    cache, cli,
    config::{self, CacheFolder, Config, DEFAULT_CHAIN, Problem, Problems},
    control::Control,
    env::Vars,
    live::{Live, Read},
    load::{Invalid, Source},
    revision::Kept,
    signals,
    stored::Served,
    watch, welcome,
};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration has problems, a model cannot be loaded, or the address cannot be listened on.
pub fn serve(args: &cli::Serve) -> Result<()> {
    let reader = Reader { args: args.clone() };
    let (config, vars) = reader.read()?;
    let source = Source::find(&args.file)?;
    let invalid = |problems| Invalid { name: source.name.clone(), problems };
    set_variables(&config.engine);

    let alerts = Arc::new(sink::Webhooks::start(config.alerts.clone())?);
    let cache = cache::open(&config.log.cache, &vars);
    let no_cache = cache.as_ref().err().map(ToString::to_string);
    let runtime = Runtime::new(alerts.clone(), cache.ok())?;
    let engine_config = assemble::engine_config(&config.engine).map_err(invalid)?;
    let read: Read = Box::new(move || reader.read_or_problem());
    let live = Live::start(config, &vars, &runtime, alerts, read).map_err(invalid)?;
    let live = Arc::new(live);
    tracing_subscriber::registry()
        .with(live.pipeline.layer())
        .try_init()
        .context("the log cannot be installed")?;
    log_panics();
    if let Some(why) = no_cache.filter(|_| live.kept().config.log.cache != CacheFolder::Off) {
        notice(format!("plugins are compiled at each start: {why}"));
    }
    if live.kept().config.log.watch
        && let Err(error) = watch::follow(&live, source.path().map(Path::to_owned))
    {
        notice(format!("changes of files are not followed: {error}"));
    }

    let result = run(engine_config, &live);
    // Whatever happened, what was logged is written.
    let grace = live.kept().config.server.grace;
    let drained = live.shutdown(Instant::now() + grace);
    welcome::farewell(drained);
    result
}

/// Reads the configuration, at the start and again, each time with what was typed.
struct Reader {
    args: cli::Serve,
}

impl Reader {
    fn read(&self) -> Result<(Config, Vars)> {
        let vars = Vars::load(Path::new("."))?;
        let mut source = Source::find(&self.args.file)?;
        source.text = override_keys(&source.text, &self.args)?;
        let config = source.parse(&vars)?;
        Ok((config, vars))
    }

    /// Where a file that cannot be read is a problem like any other.
    fn read_or_problem(&self) -> Result<(Config, Vars), Invalid> {
        self.read().map_err(|error| match error.downcast::<Invalid>() {
            Ok(it) => it,
            Err(error) => Invalid {
                name: "the configuration".to_owned(),
                problems: Problems(vec![Problem {
                    key: String::new(),
                    message: format!("{error:#}"),
                }]),
            },
        })
    }
}

fn notice(text: String) {
    tracing::warn!(target: "bucksaw", event = "server.started", bucksaw.notice = text);
}

fn run(engine_config: engine::Config, live: &Arc<Live>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let behind = Behind::start(&live.kept().config, engine_config, &runtime)?;
    let result = runtime.block_on(listen(&behind, live));
    // A change that an operator asked for may take minutes; the end does not wait for it.
    runtime.shutdown_timeout(LAST_CALL);
    behind.shutdown();
    tracing::info!(target: "bucksaw", event = "server.stopped", bucksaw.notice = "server stopped");
    result
}

async fn listen(behind: &Behind, live: &Arc<Live>) -> Result<()> {
    let kept = live.kept();
    let config = &kept.config;
    let listener = bind("server.listen", config.server.listen).await?;
    let address = listener.local_addr()?;
    let hangup = live.clone();
    signals::on_hangup(move || hangup.pipeline.outputs().iter().for_each(|it| it.reopen()))?;
    let control = Arc::new(Control { live: live.clone(), upstreams: behind.pool() });
    let metrics = control.clone();
    let router = behind.router(
        server::Config {
            limits: config.server.limits.clone(),
            metrics: Arc::new(move || server::Control::metrics(&*metrics)),
            log_deltas: config.log.response_deltas,
            storing: live.store().map(|it| server::Storing {
                store: Arc::new(Served(it.clone())),
                all: config.store.as_ref().is_some_and(|it| it.all),
            }),
            served_model_names: config.server.served_model_names.clone(),
            api_keys: config.server.api_keys.clone(),
            runtime_adapters: config.server.runtime_adapters,
            ignore_unsupported: config.server.ignore_unsupported,
            base64_embeddings: config.server.base64_embeddings,
        },
        chain_for(live),
    );
    let patience =
        server::Patience { head: config.server.limits.head_time, grace: config.server.grace };
    let admin = match &config.admin {
        Some(it) => Some(admin(it, control, patience).await?),
        None => None,
    };
    announce(config, behind, address);
    server::serve(listener, router, signals::shutdown()?, patience).await?;
    if let Some(admin) = admin {
        admin.await??;
    }
    Ok(())
}

/// The admin API, on an address of its own, until the server is asked to end.
async fn admin(
    config: &config::Admin,
    control: Arc<Control>,
    patience: server::Patience,
) -> Result<tokio::task::JoinHandle<std::io::Result<()>>> {
    let key = server::Key::new(&config.key)
        .ok_or_else(|| anyhow!("admin.key cannot be sent in a header"))?;
    let listener = bind("admin.listen", config.listen).await?;
    let address = listener.local_addr()?;
    tracing::info!(
        target: "bucksaw",
        event = "server.started",
        bucksaw.notice = format!("admin API on http://{address}")
    );
    let router = server::admin_router(control, key);
    Ok(tokio::spawn(server::serve(listener, router, signals::shutdown()?, patience)))
}

async fn bind(key: &str, address: SocketAddr) -> Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: stop what uses it, or set {key}"))
}

fn announce(config: &Config, behind: &Behind, address: SocketAddr) {
    tracing::info!(
        target: "bucksaw",
        event = "server.started",
        bucksaw.notice = format!("listening on http://{address}")
    );
    tracing::info!(
        target: "bucksaw",
        event = "server.started",
        bucksaw.stream = "engine",
        bucksaw.notice = behind.notice()
    );
    welcome::welcome(config, behind, address);
}

/// The chain of a request, by the routes of the revision in force, which it then keeps.
fn chain_for(live: &Arc<Live>) -> server::ChainFor {
    let live = live.clone();
    let revisions = live.pipeline.revisions().clone();
    let default: Arc<str> = DEFAULT_CHAIN.into();
    Arc::new(move |request| {
        let revision = revisions.current();
        let kept = Kept::of(&revision);
        let chain = kept.map_or_else(|| default.clone(), |it| it.routes.choose(request));
        let level = live.levels.of(request.headers);
        server::Chosen { chain, revision: revision.number(), level }
    })
}

/// What was typed wins over the file. Going through its text, it is checked as if it stood there.
fn override_keys(text: &str, args: &cli::Serve) -> Result<String, Invalid> {
    let overrides = [("server", "listen", &args.listen), ("engine", "model", &args.model)];
    if overrides.iter().all(|(_, _, value)| value.is_none()) {
        return Ok(text.to_owned());
    }
    // A file that is no TOML is reported when it is parsed as a configuration.
    let Ok(mut table) = text.parse::<toml::Table>() else { return Ok(text.to_owned()) };
    for (section, key, value) in overrides {
        let Some(value) = value else { continue };
        let entry = table.entry(section).or_insert_with(|| toml::Table::new().into());
        if let Some(it) = entry.as_table_mut() {
            it.insert(key.to_owned(), from_here(value).into());
        }
    }
    if args.model.is_some() {
        forget_adapters(&mut table);
    }
    toml::to_string(&table).map_err(|error| Invalid {
        name: "the command line".to_owned(),
        problems: Problems(vec![Problem { key: String::new(), message: error.to_string() }]),
    })
}

/// Adapters belong to the configured model, and routes by adapter to them.
fn forget_adapters(table: &mut toml::Table) {
    if let Some(toml::Value::Table(it)) = table.get_mut("engine") {
        it.remove("adapters");
    }
    if let Some(toml::Value::Array(it)) = table.get_mut("route") {
        it.retain(|it| it.get("when").and_then(|it| it.get("adapter")).is_none());
    }
}

/// A path that was typed is meant from the working folder, one in the file from the file's.
fn from_here(value: &str) -> String {
    let path = Path::new(value);
    let whole =
        (value != "demo" && path.exists()).then(|| std::path::absolute(path).ok()).flatten();
    whole.and_then(|it| it.to_str().map(str::to_owned)).unwrap_or_else(|| value.to_owned())
}

/// A panic's message may hold what a person wrote: it goes through the chain as a record, and to no console.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        let place = info.location().map(ToString::to_string);
        tracing::error!(
            target: "bucksaw",
            event = "exception",
            severity.number = u64::from(record::Severity::CRITICAL.number()),
            error.type = "panic",
            exception.message = message,
            bucksaw.code.stack = place
        );
    }));
}

/// candle takes some of its settings from the environment and from nowhere else.
#[expect(
    unsafe_code,
    reason = "the program has one thread yet, so nobody reads the environment meanwhile"
)]
fn set_variables(config: &config::Engine) {
    let variables = engine::thread_variables(config.threads);
    for (name, value) in variables {
        // SAFETY: called before the first thread is started, see above.
        unsafe { std::env::set_var(name, value) };
    }
}

/// How long work beside requests may take to end.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How long the log may take to drain after a command that is not a server.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);
