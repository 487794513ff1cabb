//! How many requests a plugin may make: a token bucket, and a number under way, for each name of a plugin. Both outlive its
//! instances and revisions: a plugin that fails on purpose gains nothing by it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Requests in a second, over time.
const PER_SECOND: f64 = 10.0;
/// Requests at once, after a pause.
const BURST: f64 = 20.0;
/// Requests under way at a time; a plugin seldom has more than one.
const IN_FLIGHT_MAX: usize = 4;

/// Names come from the configuration, and a name's limiter stays.
#[derive(Default)]
pub(crate) struct Limiters(Mutex<HashMap<String, Arc<Limiter>>>);

impl Limiters {
    pub(crate) fn of(&self, plugin: &str) -> Arc<Limiter> {
        let mut limiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limiters.entry(plugin.to_owned()).or_default().clone()
    }
}

#[derive(Default)]
pub(crate) struct Limiter(Mutex<Option<Bucket>>);

struct Bucket {
    tokens: f64,
    /// When the tokens were counted.
    at: Instant,
    in_flight: usize,
}

/// A request that may be made; as long as it is held, the request is under way.
pub(crate) struct Permit(Arc<Limiter>);

/// Which of the two was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Rate,
    InFlight,
}

impl Limiter {
    /// # Errors
    /// When there are too many requests at a time or in a time.
    pub(crate) fn take(self: &Arc<Self>, now: Instant) -> Result<Permit, Exceeded> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let it = bucket.get_or_insert(Bucket { tokens: BURST, at: now, in_flight: 0 });
        if it.in_flight >= IN_FLIGHT_MAX {
            return Err(Exceeded::InFlight);
        }
        let since = now.saturating_duration_since(it.at).as_secs_f64();
        it.tokens = (it.tokens + since * PER_SECOND).min(BURST);
        it.at = it.at.max(now);
        if it.tokens < 1.0 {
            return Err(Exceeded::Rate);
        }
        it.tokens -= 1.0;
        it.in_flight += 1;
        Ok(Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut bucket = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = bucket.as_mut() {
            it.in_flight -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_a_rate() {
        let limiter = Limiters::default().of("a");
        let start = Instant::now();
        let made = |at: Duration, tries: usize| {
            (0..tries).filter(|_| limiter.take(start + at).is_ok()).count()
        };
        assert_eq!(made(Duration::ZERO, 100), 20);
        assert_eq!(made(Duration::from_millis(50), 100), 0);
        assert_eq!(made(Duration::from_millis(250), 100), 2);
        assert_eq!(made(Duration::from_secs(60), 100), 20, "a pause fills it, and no more");
        assert_eq!(made(Duration::from_secs(1), 100), 0, "a clock that goes back fills nothing");
    }

    #[test]
    fn few_are_under_way_at_a_time() {
        let limiters = Limiters::default();
        let now = Instant::now();
        let mut held: Vec<Permit> =
            (0..4).filter_map(|_| limiters.of("a").take(now).ok()).collect();
        assert_eq!(held.len(), 4);
        assert_eq!(limiters.of("a").take(now).err(), Some(Exceeded::InFlight));
        assert!(limiters.of("b").take(now).is_ok(), "another plugin has its own");
        held.pop();
        assert!(limiters.of("a").take(now).is_ok());
    }
}
