//! What answers requests: an engine in this process, or other servers.

use anyhow::{Result, anyhow};
use axum::Router;
use upstream::Pool;

use crate::config::Config;

/// What the server stands in front of.
pub(crate) enum Behind {
    Engine(engine::Engine),
    Upstreams(Pool),
}

impl Behind {
    /// Loads the model, or looks at the upstreams once. `engine` is unused when upstreams are configured.
    pub(crate) fn start(
        config: &Config,
        engine: engine::Config,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Self> {
        match &config.upstreams {
            Some(it) => Ok(Self::Upstreams(runtime.block_on(Pool::start(it.clone()))?)),
            None => {
                let engine = engine::start(engine)
                    .map_err(|error| anyhow!("the model cannot be loaded: {error}"))?;
                Ok(Self::Engine(engine))
            }
        }
    }

    pub(crate) fn router(&self, config: server::Config, chain_for: server::ChainFor) -> Router {
        match self {
            Self::Engine(it) => server::router(it.handle(), config, chain_for),
            Self::Upstreams(it) => server::front_router(it.clone(), config, chain_for),
        }
    }

    pub(crate) fn pool(&self) -> Option<Pool> {
        match self {
            Self::Engine(_) => None,
            Self::Upstreams(it) => Some(it.clone()),
        }
    }

    /// What the log says of the device at the start.
    pub(crate) fn notice(&self) -> String {
        match self {
            Self::Engine(it) => it.gpu_summary().to_string(),
            Self::Upstreams(it) => {
                format!("{} of {} upstreams are usable", it.usable(), it.counts().len())
            }
        }
    }

    /// What a person sees at the start.
    pub(crate) fn welcome(&self, config: &Config) -> String {
        match self {
            Self::Engine(it) => {
                let mut text = String::new();
                for model in it.models().iter() {
                    let parent = model
                        .parent
                        .as_ref()
                        .map_or(String::new(), |it| format!(", adapter of {it}"));
                    let vision = if model.vision { ", reads images" } else { "" };
                    text += &format!(
                        "  model      {} ({}{vision}{parent})\n",
                        model.name, model.family
                    );
                }
                text += &format!("  device     {}\n", it.device_name());
                text + &format!("  gpu        {}\n", it.gpu_summary())
            }
            Self::Upstreams(pool) => {
                let counts = pool.counts();
                let upstreams = config.upstreams.iter().flat_map(|it| &it.upstreams);
                let lines = upstreams.zip(&counts).map(|(it, now)| {
                    let state = if now.usable { "" } else { ", not there yet" };
                    format!("  upstream   {} ({}{state})\n", it.name, it.url)
                });
                let mut text: String = lines.collect();
                for (name, _) in pool.models() {
                    text += &format!("  model      {}\n", chain::escape::escape(&name));
                }
                text
            }
        }
    }

    pub(crate) fn shutdown(self) {
        match self {
            Self::Engine(it) => it.shutdown(),
            // Its looks at upstreams ended with the runtime.
            Self::Upstreams(_) => {}
        }
    }
}
