//! One store with one guest in it. Every entry has a deadline; after a failure the instance must be dropped.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chain::{Alerts, StageError};
use wasmtime::{
    Store, Trap,
    component::{Instance as Linked, InstancePre},
};

use crate::{
    component::Grants,
    http::{GuestHttp, Outbound},
    limits::{Limiter, Limits},
    runtime::epochs,
    state::StateGrant,
};

/// What the host keeps beside a guest.
pub(crate) struct GuestState {
    pub(crate) limiter: Limiter,
    pub(crate) alerts: Arc<dyn Alerts>,
    /// Empty, and none, while the guest is set up, so that a plugin which is only tried changes nothing.
    pub(crate) granted_channels: Vec<String>,
    pub(crate) state: Option<StateGrant>,
    pub(crate) http: GuestHttp,
}

/// What is lent to a guest when set-up has ended.
#[derive(Clone, Default)]
pub(crate) struct Lent {
    pub(crate) state: Option<StateGrant>,
    pub(crate) outbound: Option<Outbound>,
}

pub(crate) struct Instance {
    store: Store<GuestState>,
    limits: Limits,
    /// Entries since set-up ended.
    calls: u64,
}

impl Instance {
    /// Instantiates a component within the deadline for setting up.
    pub(crate) fn new(
        pre: &InstancePre<GuestState>,
        limits: &Limits,
        alerts: Arc<dyn Alerts>,
        http: GuestHttp,
    ) -> Result<(Self, Linked), StageError> {
        let state = GuestState {
            limiter: Limiter::new(limits),
            alerts,
            granted_channels: Vec::new(),
            state: None,
            http,
        };
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|it| &mut it.limiter);
        store.epoch_deadline_trap();
        let mut instance = Self { store, limits: *limits, calls: 0 };
        let linked = instance
            .enter(limits.setup, |store| pre.instantiate(store))
            .map_err(|it| if it == StageError::Trap { StageError::Instantiate } else { it })?;
        Ok((instance, linked))
    }

    /// Ends set-up: from here the guest has what it was granted, and its wear is counted.
    pub(crate) fn settle(&mut self, grants: &Grants, lent: Lent) {
        let guest = self.store.data_mut();
        guest.granted_channels.clone_from(&grants.alert);
        guest.limiter.settle();
        guest.state = lent.state;
        guest.http.lend(lent.outbound);
        self.calls = 0;
    }

    /// Whether it has grown or worked more than its limits let one instance. Reads two numbers.
    pub(crate) fn is_worn(&self) -> bool {
        self.calls >= self.limits.calls_max.max(1)
            || self.store.data().limiter.grown() > self.limits.high_water
    }

    /// What the host denied the guest since this was last asked.
    pub(crate) fn take_denials(&mut self) -> Vec<(&'static str, u64)> {
        self.store.data().http.take_denials()
    }

    /// The store, for binding exports; nothing is called through it.
    pub(crate) fn store(&mut self) -> &mut Store<GuestState> {
        &mut self.store
    }

    /// One entry into the guest: the call itself with its allocations and its post-return.
    pub(crate) fn enter<T>(
        &mut self,
        deadline: Duration,
        call: impl FnOnce(&mut Store<GuestState>) -> wasmtime::Result<T>,
    ) -> Result<T, StageError> {
        self.calls = self.calls.saturating_add(1);
        self.store.set_epoch_deadline(epochs(deadline));
        // Waiting for the network is no wasm, which is all that the epoch stops.
        self.store.data_mut().http.begin(Instant::now() + deadline);
        let runtime = self.store.data().http.runtime();
        let _entered = runtime.as_ref().map(|it| it.enter());
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
