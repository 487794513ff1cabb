//! One worker's place for one stage: an instance that is opened when needed, discarded when it fails, and left alone while its
//! breaker is open.

use std::{sync::Arc, time::Instant};

use crate::{
    breaker::Breaker,
    stage::{Source, StageError},
};

pub(crate) struct Slot<S: ?Sized> {
    source: Arc<dyn Source<S>>,
    instance: Option<Box<S>>,
    breaker: Breaker,
}

impl<S: ?Sized> Slot<S> {
    pub(crate) fn new(source: Arc<dyn Source<S>>) -> Self {
        Self { source, instance: None, breaker: Breaker::default() }
    }

    pub(crate) fn name(&self) -> &str {
        self.source.name()
    }

    /// Whether the next call should be a single record, a trial.
    pub(crate) fn on_trial(&self) -> bool {
        self.breaker.is_half_open()
    }

    /// Calls the stage. A failed call discards the instance: a trapped guest must never be entered again.
    pub(crate) fn call<T>(
        &mut self,
        work: impl FnOnce(&mut S) -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        if !self.breaker.allows(Instant::now()) {
            return Err(StageError::BreakerOpen);
        }
        let result = match self.instance.take() {
            Some(it) => Ok(it),
            None => self.source.open(),
        }
        .and_then(|mut instance| {
            let answer = work(&mut instance)?;
            self.instance = Some(instance);
            Ok(answer)
        });
        match result {
            Ok(_) => self.breaker.succeeded(),
            Err(_) => {
                self.breaker.failed(Instant::now());
            }
        }
        result
    }
}
