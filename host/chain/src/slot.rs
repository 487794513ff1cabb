//! One worker's place for one stage: an instance that is opened when needed, discarded when it fails, replaced when it is worn,
//! and left alone while its breaker is open.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    breaker::Breaker,
    clock::instant,
    stage::{Source, Stage, StageError},
    stats::StageStats,
};

pub(crate) struct Slot<S: ?Sized> {
    source: Arc<dyn Source<S>>,
    instance: Option<Box<S>>,
    breaker: Breaker,
    stats: Arc<StageStats>,
    counted_open: bool,
    denials: Vec<(&'static str, u64)>,
}

impl<S: ?Sized> Drop for Slot<S> {
    fn drop(&mut self) {
        if self.counted_open {
            self.stats.breakers_open.fetch_sub(1, Relaxed);
        }
    }
}

impl<S: Stage + ?Sized> Slot<S> {
    pub(crate) fn new(source: Arc<dyn Source<S>>, stats: Arc<StageStats>) -> Self {
        let breaker = Breaker::default();
        Self { source, instance: None, breaker, stats, counted_open: false, denials: Vec::new() }
    }

    pub(crate) fn name(&self) -> &str {
        self.source.name()
    }

    /// Opens an instance ahead of the first call. One that cannot be opened now is tried again then.
    pub(crate) fn warm(&mut self) {
        if self.instance.is_none() {
            self.instance = self.open().ok();
        }
    }

    /// Whether the next call should be a single record, a trial.
    pub(crate) fn on_trial(&self) -> bool {
        self.breaker.is_half_open()
    }

    /// Calls the stage with so many records. A failed call discards the instance: a trapped guest must never be entered again.
    pub(crate) fn call<T>(
        &mut self,
        records: usize,
        work: impl FnOnce(&mut S) -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        let start = instant();
        if !self.breaker.allows(start) {
            self.stats.failed(StageError::BreakerOpen);
            return Err(StageError::BreakerOpen);
        }
        let result = match self.instance.take() {
            Some(it) => Ok(it),
            None => self.open(),
        }
        .and_then(|mut instance| {
            let answer = work(&mut instance);
            let denials = instance.take_denials();
            denials.iter().for_each(|&(what, times)| self.stats.denied(what, times));
            self.denials.extend(denials);
            let answer = answer?;
            if instance.is_worn() {
                self.stats.retired.fetch_add(1, Relaxed);
            } else {
                self.instance = Some(instance);
            }
            Ok(answer)
        });
        let end = instant();
        self.stats.called(records, end - start);
        match result {
            Ok(_) => self.breaker.succeeded(),
            Err(error) => {
                self.stats.failed(error);
                if self.breaker.failed(end) {
                    self.stats.breaker_openings.fetch_add(1, Relaxed);
                }
            }
        }
        self.count_breaker();
        result
    }

    /// What the host denied its instances since this was last asked.
    pub(crate) fn take_denials(&mut self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.denials)
    }

    /// Counts this worker's breaker as open, or not any more.
    fn count_breaker(&mut self) {
        let open = self.breaker.is_half_open();
        match (self.counted_open, open) {
            (false, true) => self.stats.breakers_open.fetch_add(1, Relaxed),
            (true, false) => self.stats.breakers_open.fetch_sub(1, Relaxed),
            _ => return,
        };
        self.counted_open = open;
    }

    fn open(&self) -> Result<Box<S>, StageError> {
        self.stats.instances.fetch_add(1, Relaxed);
        self.source.open()
    }
}
