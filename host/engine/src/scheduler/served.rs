//! The names under which jobs run: the model and its adapters. Adapters come and go while the engine runs.

use std::sync::{Arc, PoisonError, RwLock};

use crate::engine::ServedModel;

/// Each costs memory for its weights, and a place in every list of models: more than any team serves from one process.
const ADAPTERS_MAX: usize = 256;

/// What a job runs on. Jobs hold it, so whoever holds the only one knows that no job is left.
pub(crate) struct Served {
    pub(crate) model: ServedModel,
    /// None is the model alone.
    pub(crate) adapter: Option<Adapter>,
}

pub(crate) struct Adapter {
    /// No other adapter has had it, nor an earlier one of the same name.
    pub(crate) id: u64,
    /// How many of the model's matrices it changes.
    pub(crate) modules: usize,
}

/// All names, for any thread.
pub(crate) struct Registry(RwLock<Lists>);

struct Lists {
    base: ServedModel,
    served: Vec<Arc<Served>>,
    /// The same for callers, who may keep it.
    models: Arc<[ServedModel]>,
    adapters_so_far: u64,
}

impl Registry {
    pub(crate) fn new(model: ServedModel) -> Self {
        let models = Arc::from([model.clone()]);
        let base = model.clone();
        let served = vec![Arc::new(Served { model, adapter: None })];
        Self(RwLock::new(Lists { base, served, models, adapters_so_far: 0 }))
    }

    /// The model without adapters.
    pub(crate) fn base(&self) -> ServedModel {
        self.read().base.clone()
    }

    /// The model first, then its adapters in the order in which they came.
    pub(crate) fn models(&self) -> Arc<[ServedModel]> {
        Arc::clone(&self.read().models)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Served>> {
        self.read().served.iter().find(|it| it.model.name == name).map(Arc::clone)
    }

    /// Whether there is room for one more adapter.
    pub(crate) fn has_room(&self) -> bool {
        self.read().served.len() <= ADAPTERS_MAX
    }

    /// Serves an adapter. Its name is no one's yet.
    pub(crate) fn add(&self, model: ServedModel, modules: usize) {
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        lists.adapters_so_far += 1;
        let adapter = Some(Adapter { id: lists.adapters_so_far, modules });
        lists.served.push(Arc::new(Served { model, adapter }));
        lists.refresh();
    }

    /// Serves an adapter no longer: no new job finds it.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Served>> {
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let at =
            lists.served.iter().position(|it| it.adapter.is_some() && it.model.name == name)?;
        let served = lists.served.remove(at);
        lists.refresh();
        Some(served)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Lists> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    fn refresh(&mut self) {
        self.models = self.served.iter().map(|it| it.model.clone()).collect();
    }
}
