//! A formatter component as a stage.

use std::sync::Arc;

use chain::{Formatted, Formatter, Released, Stage, StageError};
use wasmtime::component::Instance as Linked;

use crate::{bindings::v0_1::formatter, component::Loaded, instance::Instance, pack::Packer};

pub(crate) struct FormatterInstance {
    plugin: Arc<Loaded>,
    instance: Instance,
    guest: formatter::Guest,
    packer: Packer,
}

impl FormatterInstance {
    pub(crate) fn new(
        plugin: Arc<Loaded>,
        mut instance: Instance,
        linked: &Linked,
    ) -> Result<Self, StageError> {
        let guest = formatter::GuestIndices::new(&plugin.pre)
            .and_then(|it| it.load(instance.store(), linked))
            .map_err(|_| StageError::Instantiate)?;
        Ok(Self { plugin, instance, guest, packer: Packer::new() })
    }
}

impl Stage for FormatterInstance {
    fn is_worn(&self) -> bool {
        self.instance.is_worn()
    }
}

impl Formatter for FormatterInstance {
    fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
        let setup = &self.plugin.setup;
        if self.packer.pack(batch.iter().map(|it| &**it), setup, true).is_none() {
            return Err(StageError::Memory);
        }
        self.packer.scan(&setup.patterns, self.plugin.settings.limits.work)?;
        let (guest, packed) = (&self.guest, &self.packer.batch);
        let formatted = self.instance.enter(self.plugin.settings.limits.work, |store| {
            guest.call_format_batch(store, packed)
        })?;
        let lines =
            formatted.lines.iter().map(|it| (it.record as usize, it.end as usize)).collect();
        Ok(Formatted { text: formatted.text, lines })
    }
}
