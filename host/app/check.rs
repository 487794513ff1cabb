//! `bucksaw check`: every problem of a configuration, without serving anything.

use std::{
    fs,
    io::{Write, stdout},
    path::Path,
};

use anyhow::{Context, Result};
use chain::escape::escape;
use plugin::Runtime;

use crate::{
    assemble, cache, cli,
    config::{Config, Model, Problems, Sink},
    env::Vars,
    load::{Invalid, Source},
    plugins::Plugins,
};

/// Characters of a plugin's own words that are shown.
const OWN_CHARS_MAX: usize = 300;

/// Prints what the configuration selects when it is good.
///
/// # Errors
/// [`Invalid`], with every problem; or the file or the console cannot be used.
pub fn check(args: &cli::Check) -> Result<()> {
    let vars = Vars::load(Path::new("."))?;
    let source = Source::find(&args.file)?;
    let config = source.parse(&vars)?;
    let mut problems = missing_files(&config);
    // Channels are not started: nothing is posted by a check.
    let cache = cache::open(&config.log.cache, &vars).ok();
    let runtime = Runtime::new(std::sync::Arc::new(()), cache)?;
    let plugins = match Plugins::load(&config, &runtime, &Plugins::default()) {
        Ok(it) => it,
        Err(more) => {
            problems.0.extend(more.0);
            Plugins::default()
        }
    };
    if let Err(more) = assemble::engine_config(&config.engine) {
        problems.0.extend(more.0);
    }
    if !problems.0.is_empty() {
        return Err(Invalid { name: source.name, problems }.into());
    }
    let mut out = stdout().lock();
    writeln!(out, "{} is good", source.name)?;
    for it in config.upstreams.iter().flat_map(|it| &it.upstreams) {
        let models = match it.models.as_slice() {
            [] => "the models that it lists".to_owned(),
            models => models.join(", "),
        };
        writeln!(out, "  upstream {}: {} ({models})", it.name, it.url)?;
    }
    for it in &config.plugins {
        let name = &it.settings.name;
        let Some(plugin) = plugins.get(name) else { continue };
        let about = plugin.description();
        let (role, reads) = (plugin.role().name(), plugin.reads().join(", "));
        // What a plugin says of itself must not look like more than that.
        let own = |text: &str| {
            let short: String = text.chars().take(OWN_CHARS_MAX).collect();
            escape(&short).into_owned()
        };
        let (own_name, version, reads) = (own(&about.name), own(&about.version), own(&reads));
        writeln!(out, "  plugin {name}: {own_name} {version} ({role}; reads {reads})")?;
    }
    for it in &config.chains {
        writeln!(out, "  chain {}", describe(it))?;
    }
    out.flush().context("standard output")
}

/// A chain in one line: `default: redact > truncate > console, app-file`.
pub fn describe(chain: &crate::config::Chain) -> String {
    let mut stages = chain.edit.clone();
    if !chain.handle.is_empty() {
        stages.push(format!("({})", chain.handle.join(", ")));
    }
    if !chain.outputs.is_empty() {
        stages.push(chain.outputs.join(", "));
    }
    if let Some(it) = &chain.shadow {
        stages.push(format!("shadow {}", it.chain));
    }
    format!("{}: {}", chain.name, stages.join(" > "))
}

/// Models and folders of log files that are not there.
fn missing_files(config: &Config) -> Problems {
    let mut problems = Problems::default();
    let mut exists = |key: String, path: &Path, what: &str| {
        if let Err(error) = fs::metadata(path) {
            problems.add(key, format!("{what} {} cannot be used: {error}", path.display()));
        }
    };
    let models =
        config.engine.adapters.iter().map(|(name, it)| (format!("engine.adapters.{name}"), it));
    for (key, model) in models.chain([("engine.model".to_owned(), &config.engine.model)]) {
        if let Model::Folder(path) | Model::Gguf(path) = model {
            exists(key, path, "the model");
        }
    }
    let outputs = config.outputs.iter().filter_map(|it| match &it.sink {
        Sink::File(path) => Some((format!("outputs.{}.path", it.name), path)),
        Sink::Console { .. } => None,
    });
    let store = config.store.iter().map(|it| ("store.path".to_owned(), &it.path));
    for (key, path) in outputs.chain(store) {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        exists(key, folder.unwrap_or(Path::new(".")), "the folder");
    }
    problems
}
