//! The wasmtime engine that all plugins share, and the clock of their deadlines.

use std::{
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use chain::{Alert, AlertError, Alerts};
use record::Severity;
use wasmtime::{
    Config, Engine,
    component::{Component, HasSelf, Linker},
};

use crate::{
    bindings::v0_1,
    cache::Cache,
    compile::compile,
    error::{LoadError, one_line},
    http::{self, Network},
    instance::GuestState,
    limits::{EPOCH, STACK_BYTES},
    state::{Refusal, StateGrant, States},
};

/// Compiles and links components. Cloning shares the engine, the cache and the plugins' stores.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    alerts: Arc<dyn Alerts>,
    cache: Option<Arc<Cache>>,
    states: Arc<States>,
    network: Network,
    /// The epoch advances as long as this is alive.
    ticking: Arc<()>,
}

impl Runtime {
    /// `alerts`: the channels that plugins may be granted. `cache`: where compiled components are kept; without one, each is
    /// compiled when it is loaded.
    ///
    /// # Errors
    /// When wasmtime does not support this machine, or the clock's thread cannot be started.
    pub fn new(alerts: Arc<dyn Alerts>, cache: Option<Cache>) -> Result<Self, LoadError> {
        let engine = Engine::new(&config()).map_err(|it| LoadError::Binding(one_line(&it)))?;
        let ticking = Arc::new(());
        let (alive, ticked) = (Arc::downgrade(&ticking), engine.clone());
        thread::Builder::new()
            .name("wasm-epoch".to_owned())
            .spawn(move || tick(&alive, &ticked))
            .map_err(|it| LoadError::Binding(it.to_string()))?;
        let (cache, states) = (cache.map(Arc::new), Arc::default());
        Ok(Self { engine, alerts, cache, states, network: Network::default(), ticking })
    }

    /// The same engine, cache and stores, with other alert channels.
    #[must_use]
    pub fn with_alerts(&self, alerts: Arc<dyn Alerts>) -> Self {
        Self { alerts, ..self.clone() }
    }

    /// The same engine and cache, with no alert channel, no network and stores of its own: for trying a plugin without effect.
    #[must_use]
    pub fn aside(&self) -> Self {
        let network = self.network.closed();
        Self { alerts: Arc::new(()), states: Arc::default(), network, ..self.clone() }
    }

    /// Where compiled components are kept, for its counts.
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_deref()
    }

    /// The component of these bytes, out of the cache if it is there.
    pub(crate) fn component(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        let component = match &self.cache {
            Some(it) => it.component(&self.engine, bytes),
            None => compile(&self.engine, bytes),
        };
        component.map_err(|it| LoadError::NotComponent(one_line(&it)))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Keeps the epoch advancing: without it no deadline ever comes.
    pub(crate) fn ticking(&self) -> Arc<()> {
        self.ticking.clone()
    }

    pub(crate) fn alerts(&self) -> Arc<dyn Alerts> {
        self.alerts.clone()
    }

    /// The stores of all plugins.
    pub(crate) fn states(&self) -> &States {
        &self.states
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Everything that a component may import, WASI's part only for one `with_http`. Whether it is granted was checked before.
    pub(crate) fn linker(&self, with_http: bool) -> Result<Linker<GuestState>, LoadError> {
        let mut linker = Linker::new(&self.engine);
        v0_1::alerts::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |it| it)
            .and_then(|()| {
                v0_1::state::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |it| it)
            })
            .and_then(|()| {
                v0_1::types::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |it| it)
            })
            .and_then(|()| if with_http { http::link(&mut linker) } else { Ok(()) })
            .map_err(|it| LoadError::Binding(one_line(&it)))?;
        Ok(linker)
    }
}

/// How the engine compiles and runs.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // Deadlines. Measured: 3 to 4 percent, against 6 to 8 for fuel.
    config.epoch_interruption(true);
    // Calls are synchronous; without this an empty call costs 164 ns instead of 553.
    config.concurrency_support(false);
    config.max_wasm_stack(STACK_BYTES);
    config
}

fn tick(alive: &Weak<()>, engine: &Engine) {
    while alive.strong_count() > 0 {
        thread::sleep(EPOCH);
        engine.increment_epoch();
    }
}

/// Epochs in a duration, at least two: the first one may be about to end.
pub(crate) fn epochs(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis() / EPOCH.as_millis()).unwrap_or(u64::MAX >> 1).max(1) + 1
}

impl v0_1::types::Host for GuestState {}

impl v0_1::alerts::Host for GuestState {
    fn send(&mut self, channel: String, alert: v0_1::alerts::Alert) -> u32 {
        if !self.granted_channels.contains(&channel) {
            return 1;
        }
        let alert = Alert {
            key: alert.key,
            severity: Severity::from_number(u8::try_from(alert.severity).unwrap_or(u8::MAX)),
            title: alert.title,
            body: alert.body,
        };
        match self.alerts.send(&channel, alert) {
            Ok(()) => 0,
            Err(AlertError::NoChannel) => 1,
            Err(AlertError::Full) => 2,
        }
    }
}

impl v0_1::state::Host for GuestState {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        self.state.as_ref()?.get(&key)
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> u32 {
        let stored = self.granted_state().and_then(|it| it.set(key, value));
        stored.map_or_else(Refusal::number, |()| 0)
    }

    fn remove(&mut self, key: String) {
        if let Some(it) = &self.state {
            it.remove(&key);
        }
    }

    fn add(&mut self, key: String, by: i64) -> Result<i64, u32> {
        self.granted_state().and_then(|it| it.add(key, by)).map_err(Refusal::number)
    }
}

impl GuestState {
    fn granted_state(&self) -> Result<&StateGrant, Refusal> {
        self.state.as_ref().ok_or(Refusal::Ungranted)
    }
}
