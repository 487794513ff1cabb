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
    component::{HasSelf, Linker},
};

use crate::{
    bindings::v0_1,
    error::{LoadError, one_line},
    instance::State,
    limits::{EPOCH, STACK_BYTES},
};

/// Compiles and links components. Cloning shares the engine.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    alerts: Arc<dyn Alerts>,
    /// The epoch advances as long as this is alive.
    ticking: Arc<()>,
}

impl Runtime {
    /// `alerts`: the channels behind the one import that plugins may be granted.
    ///
    /// # Errors
    /// When wasmtime does not support this machine, or the clock's thread cannot be started.
    pub fn new(alerts: Arc<dyn Alerts>) -> Result<Self, LoadError> {
        let mut config = Config::new();
        config.wasm_component_model(true);
        // Deadlines. Measured: 3 to 4 percent, against 6 to 8 for fuel.
        config.epoch_interruption(true);
        // Calls are synchronous; without this an empty call costs 164 ns instead of 553.
        config.concurrency_support(false);
        config.max_wasm_stack(STACK_BYTES);
        let engine = Engine::new(&config).map_err(|it| LoadError::Binding(one_line(&it)))?;
        let ticking = Arc::new(());
        let (alive, ticked) = (Arc::downgrade(&ticking), engine.clone());
        thread::Builder::new()
            .name("wasm-epoch".to_owned())
            .spawn(move || tick(&alive, &ticked))
            .map_err(|it| LoadError::Binding(it.to_string()))?;
        Ok(Self { engine, alerts, ticking })
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

    /// Everything that a component may import. Whether it is granted was checked before.
    pub(crate) fn linker(&self) -> Result<Linker<State>, LoadError> {
        let mut linker = Linker::new(&self.engine);
        v0_1::alerts::add_to_linker::<_, HasSelf<State>>(&mut linker, |it| it)
            .and_then(|()| v0_1::types::add_to_linker::<_, HasSelf<State>>(&mut linker, |it| it))
            .map_err(|it| LoadError::Binding(one_line(&it)))?;
        Ok(linker)
    }
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

impl v0_1::types::Host for State {}

impl v0_1::alerts::Host for State {
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
