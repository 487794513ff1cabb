//! Everything that was made for one revision of the log: it lives as long as a request that began with it.

use std::sync::Arc;

use chain::Revision;

use crate::{
    config::{self, Config},
    digest::sha256,
    outputs::Outputs,
    plugins::Plugins,
    route::Routes,
};

/// What a revision keeps beside its chains.
pub struct Kept {
    pub config: Arc<Config>,
    pub plugins: Plugins,
    pub outputs: Outputs,
    pub alerts: Arc<sink::Webhooks>,
    pub routes: Routes,
    /// Of the configuration and of every component: two revisions with the same one do the same.
    pub fingerprint: String,
}

impl Kept {
    pub fn new(
        config: Config,
        plugins: Plugins,
        outputs: Outputs,
        alerts: Arc<sink::Webhooks>,
    ) -> Self {
        let routes = Routes::new(&config);
        let fingerprint = fingerprint(&config, &plugins);
        let config = Arc::new(config);
        Self { config, plugins, outputs, alerts, routes, fingerprint }
    }

    /// What this program kept with a revision.
    pub fn of(revision: &Revision) -> Option<Arc<Self>> {
        revision.chains().kept.clone().downcast().ok()
    }
}

fn fingerprint(config: &Config, plugins: &Plugins) -> String {
    let digest = |it: &config::Plugin| plugins.digest(&it.settings.name).unwrap_or_default();
    let digests: Vec<&str> = config.plugins.iter().map(digest).collect();
    // Every key is in it, and only a digest of it is kept.
    sha256(format!("{config:?}{digests:?}").as_bytes())
}
