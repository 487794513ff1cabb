//! Loading the plugins of a configuration, and checking that each can stand where the configuration puts it. What another
//! revision loaded already is taken over.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
};

use plugin::{LoadError, Plugin, Role, Runtime};

use crate::{
    builtin,
    config::{self, Chain, Config, Problems, Source},
    digest::sha256,
    fixtures,
};

/// Every plugin of a configuration, by name.
#[derive(Default)]
pub struct Plugins(HashMap<String, Loaded>);

struct Loaded {
    plugin: Plugin,
    settings: plugin::Settings,
    /// SHA-256 of the component.
    digest: String,
    /// SHA-256 of its fixtures; empty without any.
    examples: String,
    taken_over: bool,
}

impl Plugins {
    /// Loads every plugin, each described and configured once, and checks that each is used in its role. `before` are those of
    /// the running revision.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load(config: &Config, runtime: &Runtime, before: &Self) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut plugins = Self::default();
        for it in &config.plugins {
            match load(it, runtime, before) {
                Ok(loaded) => {
                    plugins.0.insert(it.settings.name.clone(), loaded);
                }
                Err((key, message)) => {
                    problems.add(format!("plugins.{}.{key}", it.settings.name), message);
                }
            }
        }
        plugins.check_roles(config, &mut problems);
        plugins.check_content(config, &mut problems);
        if problems.0.is_empty() { Ok(plugins) } else { Err(problems) }
    }

    pub fn get(&self, name: &str) -> Option<&Plugin> {
        self.0.get(name).map(|it| &it.plugin)
    }

    /// SHA-256 of a plugin's component, in lower-case hexadecimal.
    pub fn digest(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|it| it.digest.as_str())
    }

    /// Names of those that the revision before had in the same form.
    pub fn taken_over(&self) -> BTreeSet<String> {
        let same = self.0.iter().filter(|(_, it)| it.taken_over);
        same.map(|(name, _)| name.clone()).collect()
    }

    /// Names of those that format.
    pub fn formatters(&self) -> impl Iterator<Item = &str> {
        let formats = self.0.iter().filter(|(_, it)| it.plugin.role() == Role::Formatter);
        formats.map(|(name, _)| name.as_str())
    }

    /// That editors edit, handlers handle and formatters format.
    fn check_roles(&self, config: &Config, problems: &mut Problems) {
        let mut check = |key: String, name: &str, role: Role| {
            let Some(plugin) = self.get(name) else { return };
            if plugin.role() != role {
                let (is, wanted) = (plugin.role().name(), role.name());
                let message = format!(
                    "{name:?} is a plugin of the role {is}, and this place takes the role {wanted}"
                );
                problems.add(key, message);
            }
        };
        for (at, name) in config.log.always.iter().enumerate() {
            check(format!("log.always[{at}]"), name, Role::Editor);
        }
        for chain in &config.chains {
            let lists =
                [("edit", &chain.own_edit, Role::Editor), ("handle", &chain.handle, Role::Handler)];
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

    /// That no content reaches an output without an editor that could take a secret out of it, unless somebody said so.
    fn check_content(&self, config: &Config, problems: &mut Problems) {
        let raw = |chain: &&Chain| !chain.allow_raw_content && !chain.outputs.is_empty();
        for chain in config.chains.iter().filter(raw) {
            let editors: Option<Vec<&Plugin>> = chain.edit.iter().map(|it| self.get(it)).collect();
            // One that could not be loaded, or is no editor, is a problem that is told already.
            let Some(editors) = editors else { continue };
            if editors.iter().any(|it| it.role() != Role::Editor || it.takes_out_content()) {
                continue;
            }
            let message = "content would reach outputs as it is, since none of its editors reads all content and takes out \
                           secrets: add an editor such as \"redact\", or write allow_raw_content = true";
            problems.add(format!("chains.{}.edit", chain.name), message);
        }
    }
}

/// A plugin, or the key that is to blame and what is wrong.
fn load(
    config: &config::Plugin,
    runtime: &Runtime,
    before: &Plugins,
) -> Result<Loaded, (&'static str, String)> {
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
    let digest = sha256(&bytes);
    if config.sha256.as_ref().is_some_and(|it| *it != digest) {
        let message = format!("the component's is {digest}: it is not the one that was meant");
        return Err(("sha256", message));
    }
    let settings = config.settings.clone();
    // One that reaches out is loaded anew: what it reaches may have changed.
    let reaches_out = settings.grants != plugin::Grants::default();
    let examples = match &config.source {
        Source::File(path) => fs::read(path.with_extension("fixtures.jsonl")).ok(),
        Source::Builtin(_) => None,
    };
    let examples = examples.map(|it| sha256(&it)).unwrap_or_default();
    let same = |it: &&Loaded| {
        !reaches_out && it.digest == digest && it.examples == examples && it.settings == settings
    };
    if let Some(it) = before.0.get(&settings.name).filter(same) {
        return Ok(Loaded {
            plugin: it.plugin.clone(),
            settings,
            digest,
            examples,
            taken_over: true,
        });
    }
    let plugin = Plugin::load(runtime, &bytes, settings.clone()).map_err(|error| {
        let key = match &error {
            LoadError::Configuration(_) | LoadError::Pattern { .. } | LoadError::Labels(_) => {
                "config"
            }
            LoadError::Ungranted { .. } => "grants",
            _ => "source",
        };
        (key, error.to_string())
    })?;
    if let Source::File(path) = &config.source {
        fixtures::run(&runtime.aside(), &bytes, path, &settings).map_err(|it| ("source", it))?;
    }
    Ok(Loaded { plugin, settings, digest, examples, taken_over: false })
}
