//! One store with one guest in it. Every entry has a deadline; after a failure the instance must be dropped.

use std::{sync::Arc, time::Duration};

use chain::{Alerts, StageError};
use wasmtime::{
    Store, Trap,
    component::{Instance as Linked, InstancePre},
};

use crate::{
    component::Grants,
    limits::{Limiter, Limits},
    runtime::epochs,
};

/// What the host keeps beside a guest.
pub(crate) struct State {
    pub(crate) limiter: Limiter,
    pub(crate) alerts: Arc<dyn Alerts>,
    pub(crate) granted_channels: Vec<String>,
}

pub(crate) struct Instance {
    store: Store<State>,
}

impl Instance {
    /// Instantiates a component within the deadline for setting up.
    pub(crate) fn new(
        pre: &InstancePre<State>,
        limits: &Limits,
        grants: &Grants,
        alerts: Arc<dyn Alerts>,
    ) -> Result<(Self, Linked), StageError> {
        let state =
            State { limiter: Limiter::new(limits), alerts, granted_channels: grants.alert.clone() };
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|it| &mut it.limiter);
        store.epoch_deadline_trap();
        let mut instance = Self { store };
        let linked = instance
            .enter(limits.setup, |store| pre.instantiate(store))
            .map_err(|it| if it == StageError::Trap { StageError::Instantiate } else { it })?;
        Ok((instance, linked))
    }

    /// The store, for binding exports; nothing is called through it.
    pub(crate) fn store(&mut self) -> &mut Store<State> {
        &mut self.store
    }

    /// One entry into the guest: the call itself with its allocations and its post-return.
    pub(crate) fn enter<T>(
        &mut self,
        deadline: Duration,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, StageError> {
        self.store.set_epoch_deadline(epochs(deadline));
        call(&mut self.store).map_err(|it| self.classify(&it))
    }

    /// What happened, of a closed set: wasmtime's own text is not repeated.
    fn classify(&self, error: &wasmtime::Error) -> StageError {
        let trap = error.downcast_ref::<Trap>();
        match trap {
            Some(Trap::Interrupt) => StageError::Deadline,
            Some(Trap::StackOverflow) => StageError::Stack,
            _ if self.store.data().limiter.refused => StageError::Memory,
            Some(_) => StageError::Trap,
            // Not a trap: what the guest answered could not be lifted.
            None => StageError::BadAnswer,
        }
    }
}
