//! When an upstream is left alone, and when it is tried again. It knows no clock and no network, only what happened when.
//!
//! Three failures in a row eject an upstream for a second. Then one request is its trial: if that fails, the pause doubles;
//! if it succeeds, the upstream is restored. Beside that, two looks at its health that find nothing eject it until a look
//! finds something.

use std::time::{Duration, Instant};

/// In a row: one alone may be the fault of its request.
const FAILURES_MAX: u32 = 3;
/// In a row: one alone may be a packet that got lost.
const MISSES_MAX: u32 = 2;
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// What is back should not be left alone much longer than a restart takes.
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    failures: u32,
    pause: Duration,
    misses: u32,
    sick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// One request is under way, and decides.
    Trial,
}

/// Why an upstream was ejected: words of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Unreachable,
    Broken,
    Late,
    /// 502, 503 or 504.
    Status,
    Health,
}

impl Why {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Late => "late",
            Self::Status => "status",
            Self::Health => "health",
        }
    }
}

/// What is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    /// For this long; none: until it is healthy.
    Ejected(Why, Option<Duration>),
    Restored,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { state: State::Closed, failures: 0, pause: PAUSE_MIN, misses: 0, sick: false }
    }

    /// How long it is left alone, as far as that is known; none: it may be asked.
    pub(crate) fn left_alone(&self, now: Instant) -> Option<Duration> {
        match self.state {
            _ if self.sick => Some(PAUSE_MIN),
            State::Closed => None,
            State::Open { until } if until <= now => None,
            State::Open { until } => Some(until - now),
            State::Trial => Some(PAUSE_MIN),
        }
    }

    /// Whether it counts as usable: it may be asked, or is being tried.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        !self.sick && (self.state == State::Trial || self.left_alone(now).is_none())
    }

    /// A request goes there, of which [`Self::left_alone`] said that it may. Whether it is a trial.
    pub(crate) fn begin(&mut self) -> bool {
        let is_trial = self.state != State::Closed;
        if is_trial {
            self.state = State::Trial;
        }
        is_trial
    }

    pub(crate) fn succeeded(&mut self, trial: bool) -> Option<Shift> {
        match self.state {
            State::Closed => {
                self.failures = 0;
                None
            }
            State::Trial if trial => {
                self.close();
                Some(Shift::Restored)
            }
            // Word of an older request.
            State::Trial | State::Open { .. } => None,
        }
    }

    pub(crate) fn failed(&mut self, trial: bool, why: Why, now: Instant) -> Option<Shift> {
        match self.state {
            State::Closed => {
                self.failures += 1;
                if self.failures < FAILURES_MAX {
                    return None;
                }
                self.pause = PAUSE_MIN;
            }
            State::Trial if trial => self.pause = (self.pause * 2).min(PAUSE_MAX),
            State::Trial | State::Open { .. } => return None,
        }
        self.state = State::Open { until: now + self.pause };
        Some(Shift::Ejected(why, Some(self.pause)))
    }

    /// A trial that says nothing: its client left.
    pub(crate) fn abandoned(&mut self, now: Instant) {
        if self.state == State::Trial {
            self.state = State::Open { until: now };
        }
    }

    /// A look at its health.
    pub(crate) fn probed(&mut self, alive: bool) -> Option<Shift> {
        if !alive {
            self.misses = self.misses.saturating_add(1);
            if self.sick || self.misses < MISSES_MAX {
                return None;
            }
            self.sick = true;
            let is_news = self.state == State::Closed;
            return is_news.then_some(Shift::Ejected(Why::Health, None));
        }
        self.misses = 0;
        if !std::mem::replace(&mut self.sick, false) {
            return None;
        }
        self.close();
        Some(Shift::Restored)
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.failures = 0;
        self.pause = PAUSE_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A breaker that is left alone for a second from `now` on.
    fn opened(now: Instant) -> Breaker {
        let mut it = Breaker::new();
        assert_eq!(it.failed(false, Why::Broken, now), None);
        assert_eq!(it.failed(false, Why::Broken, now), None);
        let ejected = Shift::Ejected(Why::Unreachable, Some(SECOND));
        assert_eq!(it.failed(false, Why::Unreachable, now), Some(ejected));
        it
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let now = Instant::now();
        let mut it = Breaker::new();
        for _ in 0..4 {
            it.failed(false, Why::Status, now);
            it.failed(false, Why::Status, now);
            assert_eq!(it.succeeded(false), None);
        }
        assert_eq!(it.left_alone(now), None);
        assert_eq!(opened(now).left_alone(now), Some(SECOND));
    }

    #[test]
    fn a_trial_restores_or_doubles_the_pause() {
        let now = Instant::now();
        let mut it = opened(now);
        let mut at = now;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            at += it.left_alone(at).unwrap();
            assert_eq!(it.left_alone(at), None);
            assert!(it.begin());
            // One at a time.
            assert!(it.left_alone(at).is_some() && it.is_usable(at));
            // Older requests decide nothing.
            assert_eq!((it.succeeded(false), it.failed(false, Why::Late, at)), (None, None));
            match it.failed(true, Why::Late, at) {
                Some(Shift::Ejected(Why::Late, Some(pause))) => pauses.push(pause.as_secs()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
        at += Duration::from_secs(30);
        assert!(it.begin());
        assert_eq!(it.succeeded(true), Some(Shift::Restored));
        assert!(!it.begin());
    }

    #[test]
    fn an_abandoned_trial_lets_the_next_one_try() {
        let now = Instant::now();
        let mut it = opened(now);
        assert!(it.begin());
        it.abandoned(now);
        assert_eq!(it.left_alone(now), None);
        assert!(it.begin());
    }

    #[test]
    fn health_ejects_after_two_misses_and_restores_at_once() {
        let now = Instant::now();
        let mut it = Breaker::new();
        assert_eq!(it.probed(false), None);
        assert_eq!(it.probed(true), None);
        assert_eq!(it.probed(false), None);
        assert_eq!(it.probed(false), Some(Shift::Ejected(Why::Health, None)));
        assert_eq!(it.probed(false), None);
        assert!(!it.is_usable(now));
        assert_eq!(it.probed(true), Some(Shift::Restored));
        assert!(it.is_usable(now));
        // One that is ejected already is not told of again, but when it is back.
        let mut it = opened(now);
        assert_eq!((it.probed(false), it.probed(false)), (None, None));
        assert_eq!(it.probed(true), Some(Shift::Restored));
        assert_eq!(it.left_alone(now), None);
    }

    #[test]
    fn a_look_that_finds_it_healthy_does_not_shorten_a_pause() {
        let now = Instant::now();
        let mut it = opened(now);
        assert_eq!(it.probed(true), None);
        assert_eq!(it.left_alone(now), Some(SECOND));
    }
}
