//! From a configuration to running parts: plugins, log, engine. The only place that knows all the crates.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    sync::Arc,
    time::Instant,
};

use chain::{Output, Pipeline, Plan, RecordLayer, Replacer, Spec};
use plugin::{LoadError, Plugin, Role, Runtime};

use crate::{
    builtin,
    clock::SystemClock,
    config::{self, Config, Problems, Source},
    env::Vars,
};

/// Every plugin of a configuration, by name.
pub type Plugins = HashMap<String, Plugin>;

/// The running log, and what has to be closed with it.
pub struct Log {
    pub pipeline: Pipeline,
    alerts: Arc<sink::Webhooks>,
}

/// Loads every plugin, each described and configured once, and checks that each is used in its role.
///
/// # Errors
/// Every problem at once.
pub fn plugins(config: &Config, runtime: &Runtime) -> Result<Plugins, Problems> {
    let mut problems = Problems::default();
    let mut plugins = Plugins::new();
    for it in &config.plugins {
        match load(it, runtime) {
            Ok(plugin) => {
                plugins.insert(it.settings.name.clone(), plugin);
            }
            Err((key, message)) => {
                problems.add(format!("plugins.{}.{key}", it.settings.name), message);
            }
        }
    }
    roles(config, &plugins, &mut problems);
    if problems.0.is_empty() { Ok(plugins) } else { Err(problems) }
}

/// A plugin, or the key that is to blame and what is wrong.
fn load(config: &config::Plugin, runtime: &Runtime) -> Result<Plugin, (&'static str, String)> {
    let bytes = match &config.source {
        Source::Builtin(name) => builtin::plugin(name).unwrap_or_default().to_vec(),
        Source::File(path) => fs::read(path).map_err(|error| {
            let path = path.display();
            let next = match error.kind() {
                io::ErrorKind::NotFound => "build it, or write builtin:NAME for one that ships",
                _ => "make it readable",
            };
            ("source", format!("{path} cannot be read: {error}: {next}"))
        })?,
    };
    if let Some(wanted) = &config.sha256 {
        let found = crate::digest::sha256(&bytes);
        if *wanted != found {
            return Err((
                "sha256",
                format!("the component's is {found}: it is not the one that was meant"),
            ));
        }
    }
    Plugin::load(runtime, &bytes, config.settings.clone()).map_err(|error| {
        let key = match &error {
            LoadError::Configuration(_) | LoadError::Pattern { .. } => "config",
            LoadError::Ungranted { .. } => "grants",
            _ => "source",
        };
        (key, error.to_string())
    })
}

/// That editors edit, handlers handle and formatters format.
fn roles(config: &Config, plugins: &Plugins, problems: &mut Problems) {
    let mut check = |key: String, name: &str, role: Role| {
        let Some(plugin) = plugins.get(name) else { return };
        if plugin.role() != role {
            let (is, wanted) = (plugin.role().name(), role.name());
            problems.add(
                key,
                format!(
                    "{name:?} is a plugin of the role {is}, and this place takes the role {wanted}"
                ),
            );
        }
    };
    for chain in &config.chains {
        let lists = [("edit", &chain.edit, Role::Editor), ("handle", &chain.handle, Role::Handler)];
        for (list, names, role) in lists {
            for (at, name) in names.iter().enumerate() {
                check(format!("chains.{}.{list}[{at}]", chain.name), name, role);
            }
        }
    }
    for output in &config.outputs {
        check(format!("outputs.{}.format", output.name), &output.format, Role::Formatter);
    }
}

/// The alert channels, which plugins may be granted.
///
/// # Errors
/// When a thread cannot be started.
pub fn alerts(config: &Config) -> io::Result<Arc<sink::Webhooks>> {
    sink::Webhooks::start(config.alerts.clone()).map(Arc::new)
}

/// What takes the place of what plugins take out.
pub fn replacer(config: &config::Log) -> Replacer {
    let random;
    let key = match config.pseudonym_key.as_bytes() {
        // No key: pseudonyms of this run only. Two random UUIDs hold 244 random bits.
        [] => {
            random =
                [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
            &random
        }
        key => key,
    };
    Replacer::new(config.ellipsis, key)
}

/// Opens the outputs and starts the log.
///
/// # Errors
/// A problem for each output that cannot be opened.
pub fn log(
    config: &Config,
    plugins: &Plugins,
    alerts: Arc<sink::Webhooks>,
    vars: &Vars,
) -> Result<Log, Problems> {
    let mut problems = Problems::default();
    let mut outputs: BTreeMap<&str, Arc<Output>> = BTreeMap::new();
    for it in &config.outputs {
        match open(it, vars) {
            Ok(output) => {
                outputs.insert(&it.name, output);
            }
            Err(error) => {
                let (key, what) = match &it.sink {
                    config::Sink::File(path) => ("path", path.display().to_string()),
                    config::Sink::Console { .. } => ("sink", "the console".to_owned()),
                };
                problems.add(
                    format!("outputs.{}.{key}", it.name),
                    format!("{what} cannot be opened: {error}"),
                );
            }
        }
    }
    if !problems.0.is_empty() {
        return Err(problems);
    }
    let chains = config
        .chains
        .iter()
        .map(|it| (Arc::from(it.name.as_str()), spec(it, config, plugins, &outputs)));
    let plan = Plan {
        chains: chains.collect(),
        default: "default".into(),
        outputs: config
            .outputs
            .iter()
            .filter_map(|it| outputs.get(it.name.as_str()).cloned())
            .collect(),
        replacer: replacer(&config.log),
        clock: Arc::new(SystemClock::new()),
        workers: config.log.workers,
        queue: config.log.queue,
    };
    match Pipeline::start(plan) {
        Ok(pipeline) => Ok(Log { pipeline, alerts }),
        Err(error) => {
            problems.add("log.workers", format!("a thread cannot be started: {error}"));
            Err(problems)
        }
    }
}

fn open(config: &config::Output, vars: &Vars) -> io::Result<Arc<Output>> {
    let sink: Box<dyn chain::Sink> = match &config.sink {
        config::Sink::Console { target, color } => {
            Box::new(sink::Console::new(*target, *color, vars.get("NO_COLOR").is_some()))
        }
        config::Sink::File(path) => Box::new(sink::File::open(path)?),
    };
    Output::start(&config.name, config.filter, config.overflow, sink)
}

/// A chain of loaded plugins and open outputs; outputs of one format share one formatter.
fn spec(
    chain: &config::Chain,
    config: &Config,
    plugins: &Plugins,
    open: &BTreeMap<&str, Arc<Output>>,
) -> Spec {
    let mut by_format: Vec<(&str, Vec<Arc<Output>>)> = Vec::new();
    for output in
        chain.outputs.iter().filter_map(|name| config.outputs.iter().find(|it| it.name == *name))
    {
        let Some(near) = open.get(output.name.as_str()).cloned() else { continue };
        match by_format.iter_mut().find(|(it, _)| *it == output.format) {
            Some((_, outputs)) => outputs.push(near),
            None => by_format.push((&output.format, vec![near])),
        }
    }
    Spec {
        name: chain.name.as_str().into(),
        editors: chain.edit.iter().filter_map(|it| plugins.get(it)?.editor()).collect(),
        handlers: chain.handle.iter().filter_map(|it| plugins.get(it)?.handler()).collect(),
        outputs: by_format
            .into_iter()
            .filter_map(|(format, outputs)| Some((plugins.get(format)?.formatter()?, outputs)))
            .collect(),
    }
}

impl Log {
    /// The `tracing` layer that feeds the log.
    pub fn layer(&self, level: record::Severity) -> RecordLayer {
        let it = &self.pipeline;
        RecordLayer::new(it.queue(), it.clock(), level, it.default_chain())
    }

    /// Runs what was logged through its chains, writes it, and posts the alerts that wait, before the deadline.
    pub fn shutdown(&self, deadline: Instant) -> chain::Drained {
        let drained = self.pipeline.shutdown(deadline);
        self.alerts.close(deadline);
        drained
    }
}

/// The engine's part of a configuration, in its own terms.
pub fn engine_config(config: &config::Engine) -> Result<engine::Config, Problems> {
    let mut problems = Problems::default();
    let model = match &config.model {
        config::Model::Demo => engine::ModelSource::Embedded(builtin::DEMO),
        config::Model::Folder(it) => engine::ModelSource::Folder(it.clone()),
        config::Model::Gguf(it) => engine::ModelSource::Gguf(it.clone()),
        config::Model::Hub(it) => engine::ModelSource::Hub(it.clone()),
        config::Model::DemoKorean => {
            problems.add("engine.model", "demo-ko is an adapter: write model = \"demo\"");
            engine::ModelSource::Embedded(builtin::DEMO)
        }
    };
    let mut adapters = Vec::with_capacity(config.adapters.len());
    for (name, source) in &config.adapters {
        let source = match source {
            config::Model::DemoKorean => engine::AdapterSource::Embedded(builtin::DEMO_KOREAN),
            config::Model::Folder(it) => engine::AdapterSource::Folder(it.clone()),
            other => {
                let message = format!(
                    "{other:?} is not an adapter: write the path of a folder with an adapter_config.json"
                );
                problems.add(format!("engine.adapters.{name}"), message);
                continue;
            }
        };
        adapters.push(engine::Adapter { name: name.clone(), source });
    }
    let own_name = (config.model == config::Model::Demo).then(|| "demo".to_owned());
    let engine = engine::Config {
        model,
        name: config.name.clone().or(own_name),
        adapters,
        device: config.device,
        queue: config.queue,
        threads: config.threads,
        nvml_library: config.nvml_library.clone(),
    };
    if problems.0.is_empty() { Ok(engine) } else { Err(problems) }
}
