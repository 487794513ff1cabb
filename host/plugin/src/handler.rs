//! A handler component as a stage.

use std::sync::Arc;

use chain::{Handler, Released, Stage, StageError};
use wasmtime::component::Instance as Linked;

use crate::{bindings::v0_1::handler, component::Loaded, instance::Instance, pack::Packer};

pub(crate) struct HandlerInstance {
    plugin: Arc<Loaded>,
    instance: Instance,
    guest: handler::Guest,
    packer: Packer,
}

impl HandlerInstance {
    pub(crate) fn new(
        plugin: Arc<Loaded>,
        mut instance: Instance,
        linked: &Linked,
    ) -> Result<Self, StageError> {
        let guest = handler::GuestIndices::new(&plugin.pre)
            .and_then(|it| it.load(instance.store(), linked))
            .map_err(|_| StageError::Instantiate)?;
        Ok(Self { plugin, instance, guest, packer: Packer::new() })
    }
}

impl Stage for HandlerInstance {
    fn is_worn(&self) -> bool {
        self.instance.is_worn()
    }

    fn take_denials(&mut self) -> Vec<(&'static str, u64)> {
        self.instance.take_denials()
    }
}

impl Handler for HandlerInstance {
    fn handle(&mut self, batch: &[Released]) -> Result<(), StageError> {
        let setup = &self.plugin.setup;
        if self.packer.pack(batch.iter().map(|it| &**it), setup, true).is_none() {
            return Err(StageError::Memory);
        }
        self.packer.scan(&setup.patterns, self.plugin.settings.limits.work)?;
        let (guest, packed) = (&self.guest, &self.packer.batch);
        self.instance
            .enter(self.plugin.settings.limits.work, |store| {
                guest.call_handle_batch(store, packed)
            })?
            .map_err(|_| StageError::Refused)
    }
}
