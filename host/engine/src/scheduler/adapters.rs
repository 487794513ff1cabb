//! Adapters that come and go while the engine runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{Leaving, Scheduler, panic_text};
use crate::{
    checkpoint::Files, engine::ServedModel, error::AdapterChangeError, events, load::unix_time,
};

impl Scheduler {
    pub(super) fn load_adapter(
        &mut self,
        name: &str,
        folder: PathBuf,
    ) -> Result<ServedModel, AdapterChangeError> {
        let leaving = self.leaving.iter().any(|it| it.served.model.name == name);
        if leaving || self.registry.find(name).is_some() {
            return Err(AdapterChangeError::Taken(name.to_owned()));
        }
        if !self.registry.has_room() {
            return Err(AdapterChangeError::TooMany);
        }
        let files = Files::Folder(folder);
        let loaded = catch_unwind(AssertUnwindSafe(|| self.model.load_adapter(name, &files)));
        let info = match loaded {
            Ok(loaded) => loaded.map_err(|error| AdapterChangeError::Load(error.to_string()))?,
            Err(panic) => return Err(AdapterChangeError::Load(panic_text(panic.as_ref()))),
        };
        let base = self.registry.base();
        let model = ServedModel {
            name: name.to_owned(),
            parent: Some(base.name.clone()),
            created: unix_time(),
            ..base
        };
        self.registry.add(model.clone(), info.modules);
        events::adapter_changed(format!("adapter {name} is served: {} modules", info.modules));
        Ok(model)
    }

    pub(super) fn unload_adapter(
        &mut self,
        name: &str,
        reply: oneshot::Sender<Result<(), AdapterChangeError>>,
    ) {
        match self.registry.remove(name) {
            Some(served) => self.leaving.push(Leaving { served, reply }),
            None => {
                let _ = reply.send(Err(AdapterChangeError::Unknown(name.to_owned())));
            }
        }
    }

    /// Unloads adapters whose last job is gone.
    pub(super) fn drain(&mut self) {
        let is_free = |it: &mut Leaving| Arc::strong_count(&it.served) == 1;
        for Leaving { served, reply } in self.leaving.extract_if(.., is_free) {
            self.model.unload_adapter(&served.model.name);
            events::adapter_changed(format!("adapter {} is gone", served.model.name));
            let _ = reply.send(Ok(()));
        }
    }
}
