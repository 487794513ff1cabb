//! A circuit breaker: a stage that keeps failing is not called for a while, so that a broken plugin costs stubs, not time.

use std::time::{Duration, Instant};

/// Failures in a row that open the breaker: enough for one poison record and a retry or two, few enough that a plugin which
/// loops until its deadline costs well under a second.
const FAILURES_MAX: u32 = 5;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// A plugin that was repaired outside is noticed within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Closed, open until a time, or half-open (the time has come: one trial call).
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// How often it opened since the last success: the exponent of the backoff.
    openings: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether the stage may be called at this time.
    pub fn allows(&self, now: Instant) -> bool {
        self.open_until.is_none_or(|it| now >= it)
    }

    /// Whether the next call is a trial: one record, not a batch.
    pub fn is_half_open(&self) -> bool {
        self.open_until.is_some()
    }

    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Counts a failure; the answer says whether the breaker opened by it.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failures += 1;
        if self.failures < FAILURES_MAX && self.open_until.is_none() {
            return false;
        }
        let backoff = BACKOFF_MIN.saturating_mul(1 << self.openings.min(6)).min(BACKOFF_MAX);
        self.openings += 1;
        self.open_until = Some(now + backoff);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_backs_off() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        for _ in 1..FAILURES_MAX {
            assert!(!breaker.failed(now));
            assert!(breaker.allows(now));
        }
        assert!(breaker.failed(now));
        assert!(!breaker.allows(now));
        let later = now + BACKOFF_MIN;
        assert!(breaker.allows(later) && breaker.is_half_open());
        assert!(breaker.failed(later), "a failed trial opens it again at once");
        assert!(!breaker.allows(later + BACKOFF_MIN));
        assert!(breaker.allows(later + 2 * BACKOFF_MIN));
        breaker.succeeded();
        assert!(breaker.allows(later) && !breaker.is_half_open());
    }
}
