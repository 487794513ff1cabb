//! `bucksaw serve`: load, listen, serve, and end in order: requests first, then the engine, then the log.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use plugin::Runtime;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    assemble, cli,
    config::{self, Config, Model, Problem, Problems, Route},
    env::Vars,
    load::{Invalid, Source},
    signals, welcome,
};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration has problems, a model cannot be loaded, or the address cannot be listened on.
pub fn serve(args: &cli::Serve) -> Result<()> {
    let vars = Vars::load(Path::new("."))?;
    let mut source = Source::find(&args.file)?;
    source.text = override_keys(&source.text, args)?;
    let config = source.parse(&vars)?;
    let invalid = |problems| Invalid { name: source.name.clone(), problems };
    set_variables(&config.engine);

    let alerts = assemble::alerts(&config)?;
    let runtime = Runtime::new(alerts.clone())?;
    let plugins = assemble::plugins(&config, &runtime).map_err(invalid)?;
    let engine_config = assemble::engine_config(&config.engine).map_err(invalid)?;
    let log = assemble::log(&config, &plugins, alerts, &vars).map_err(invalid)?;
    let level = config.log.level;
    tracing_subscriber::registry()
        .with(log.layer(level).with_filter(chain::targets(level)))
        .try_init()
        .context("the log cannot be installed")?;
    log_panics();

    let result = run(&config, engine_config, &log);
    // Whatever happened, what was logged is written.
    let drained = log.shutdown(Instant::now() + config.server.grace);
    welcome::farewell(drained);
    result
}

fn run(config: &Config, engine_config: engine::Config, log: &assemble::Log) -> Result<()> {
    let engine = engine::start(engine_config)
        .map_err(|error| anyhow!("the model cannot be loaded: {error}"))?;
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(listen(config, &engine, log));
    engine.shutdown();
    tracing::info!(target: "bucksaw", event = "server.stopped", bucksaw.notice = "server stopped");
    result
}

async fn listen(config: &Config, engine: &engine::Engine, log: &assemble::Log) -> Result<()> {
    let address = config.server.listen;
    let listener = tokio::net::TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: stop what uses it, or set server.listen")
    })?;
    let address = listener.local_addr()?;
    let outputs = log.pipeline.outputs();
    signals::on_hangup(move || outputs.iter().for_each(|it| it.reopen()))?;
    let router = server::router(
        engine.handle(),
        server::Config { limits: config.server.limits.clone() },
        chain_for(&config.routes),
    );
    announce(config, engine, address);
    server::serve(listener, router, signals::shutdown()?, config.server.grace).await?;
    Ok(())
}

fn announce(config: &Config, engine: &engine::Engine, address: SocketAddr) {
    tracing::info!(
        target: "bucksaw",
        event = "server.started",
        bucksaw.notice = format!("listening on http://{address}")
    );
    tracing::info!(
        target: "bucksaw",
        event = "server.started",
        bucksaw.stream = "engine",
        bucksaw.notice = engine.gpu_summary().to_string()
    );
    welcome::welcome(config, engine, address);
}

/// The chain of the first route that matches, or the default one.
fn chain_for(routes: &[Route]) -> server::ChainFor {
    let default: Arc<str> = "default".into();
    let routes: Vec<(Route, Arc<str>)> =
        routes.iter().map(|it| (it.clone(), it.chain.as_str().into())).collect();
    Arc::new(move |request| {
        let matching = routes.iter().find(|(route, _)| matches(route, request));
        matching.map_or(&default, |(_, chain)| chain).clone()
    })
}

fn matches(route: &Route, request: &server::RouteRequest<'_>) -> bool {
    let header = |(name, value): &(String, String)| {
        request.headers.get(name).is_some_and(|it| it.as_bytes() == value.as_bytes())
    };
    route.path.as_deref().is_none_or(|it| it == request.path)
        && route.model.as_deref().is_none_or(|it| Some(it) == request.model)
        && route.headers.iter().all(header)
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
            // Adapters belong to the configured model.
            if key == "model" {
                it.remove("adapters");
            }
            it.insert(key.to_owned(), from_here(value).into());
        }
    }
    toml::to_string(&table).map_err(|error| Invalid {
        name: "the command line".to_owned(),
        problems: Problems(vec![Problem { key: String::new(), message: error.to_string() }]),
    })
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

/// A GGUF file up to this size becomes floats (8 times as many bytes) when it is loaded. candle multiplies quantized weights
/// with 8-bit activations; for a small model that noise changes answers, and floats are faster as well (measured with
/// SmolLM2-135M in Q4_1: about 1.4 times). A large model would not fit.
const DEQUANTIZE_BYTES_MAX: u64 = 512 << 20;

/// candle takes some of its settings from the environment and from nowhere else.
#[expect(
    unsafe_code,
    reason = "the program has one thread yet, so nobody reads the environment meanwhile"
)]
fn set_variables(config: &config::Engine) {
    let mut variables = engine::thread_variables(config.threads);
    if let Model::Gguf(path) = &config.model {
        let small = || std::fs::metadata(path).is_ok_and(|it| it.len() <= DEQUANTIZE_BYTES_MAX);
        if config.dequantize.unwrap_or_else(small) {
            variables.push(("CANDLE_DEQUANTIZE_ALL", "1".to_owned()));
        }
    }
    for (name, value) in variables {
        // SAFETY: called before the first thread is started, see above.
        unsafe { std::env::set_var(name, value) };
    }
}

/// How long the log may take to drain after a command that is not a server.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);
