//! What plugins of all roles share: a description, a configuration, and the instance that a component holds.

use std::cell::RefCell;

use serde::{Deserialize, de::DeserializeOwned};

use crate::{Description, Diagnostic, Setup, config};

/// The number that a component answers with when it is given work before it was configured.
pub const UNCONFIGURED: u32 = 1;

/// Who a plugin is and how it is set up. Implement it beside [`Editor`](crate::Editor),
/// [`Formatter`](crate::Formatter) or [`Handler`](crate::Handler).
pub trait Plugin: Sized + 'static {
    /// The shape of the configuration. Derive `Deserialize` with `#[serde(default, deny_unknown_fields)]`, so that an empty
    /// configuration works and a misspelt key is refused by name. [`NoConfig`] when there is nothing to say.
    type Config: DeserializeOwned;

    /// Fixed when the component is built. [`describe!`](crate::describe) takes name and version from the manifest.
    fn description() -> Description;

    /// Checks the configuration and says what the plugin wants to read.
    fn configure(config: Self::Config) -> Result<(Self, Setup), Vec<Diagnostic>>;
}

/// The configuration of a plugin that has none: `{}`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// A [`Description`] with the name and version of the crate that calls it.
#[macro_export]
macro_rules! describe {
    ($summary:expr, $config_schema:expr $(,)?) => {
        $crate::plugin::describe(
            ::core::env!("CARGO_PKG_NAME"),
            ::core::env!("CARGO_PKG_VERSION"),
            $summary,
            $config_schema,
        )
    };
}

/// What [`describe!`](crate::describe) calls.
pub fn describe(name: &str, version: &str, summary: &str, config_schema: &str) -> Description {
    Description {
        name: name.to_owned(),
        version: version.to_owned(),
        summary: summary.to_owned(),
        config_schema: config_schema.to_owned(),
    }
}

/// One thing that is wrong with a configuration.
pub fn diagnostic(key: impl Into<String>, message: impl Into<String>) -> Diagnostic {
    Diagnostic { key: key.into(), message: message.into() }
}

/// Parses the JSON and configures a plugin with it.
pub fn configure<P: Plugin>(json: &str) -> Result<(P, Setup), Vec<Diagnostic>> {
    P::configure(config::parse(json)?)
}

/// The configured plugin of a component; empty until `configure` has succeeded.
#[derive(Debug)]
pub struct Instance<P>(RefCell<Option<P>>);

impl<P> Instance<P> {
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Runs `work` on the plugin; none before it was configured.
    pub fn with<R>(&self, work: impl FnOnce(&mut P) -> R) -> Option<R> {
        // A component is not entered while it runs, so the cell is never borrowed here.
        self.0.try_borrow_mut().ok()?.as_mut().map(work)
    }
}

impl<P: Plugin> Instance<P> {
    /// Configures anew. A refused configuration leaves the plugin as it was.
    pub fn configure(&self, json: &str) -> Result<Setup, Vec<Diagnostic>> {
        let (plugin, setup) = configure::<P>(json)?;
        if let Ok(mut it) = self.0.try_borrow_mut() {
            *it = Some(plugin);
        }
        Ok(setup)
    }
}

impl<P> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}
