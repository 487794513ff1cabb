//! What questions about stored completions need, in front of an engine as in front of other servers.

use std::sync::Arc;

use crate::{
    Limits,
    error::ApiError,
    keep::CompletionStore,
    state::{ChainFor, Config, Storing},
};

#[derive(Clone)]
pub(crate) struct Storage(Arc<Inner>);

struct Inner {
    storing: Option<Storing>,
    limits: Limits,
    chain_for: ChainFor,
}

impl Storage {
    pub(crate) fn new(config: &Config, chain_for: &ChainFor) -> Self {
        let (storing, limits) = (config.storing.clone(), config.limits.clone());
        Self(Arc::new(Inner { storing, limits, chain_for: Arc::clone(chain_for) }))
    }

    pub(crate) fn storing(&self) -> Option<&Storing> {
        self.0.storing.as_ref()
    }

    pub(super) fn store(&self) -> Result<&Arc<dyn CompletionStore>, ApiError> {
        self.storing().map(|it| &it.store).ok_or(ApiError::NoStore)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(super) fn chain_for(&self) -> &ChainFor {
        &self.0.chain_for
    }
}
