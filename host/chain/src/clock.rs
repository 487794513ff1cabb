//! Where the time of a record comes from. The application owns the clock; tests stop it.

use std::time::Instant;
#[cfg(test)]
use std::{cell::Cell, time::Duration};

/// Wall-clock time with the machine's offset from UTC.
pub trait Clock: Send + Sync {
    /// Unix time in nanoseconds, and seconds east of UTC.
    fn now(&self) -> (i64, i32);
}

impl<F: Fn() -> (i64, i32) + Send + Sync> Clock for F {
    fn now(&self) -> (i64, i32) {
        self()
    }
}

/// What time it is for breakers and shadows.
#[cfg(not(test))]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
thread_local! {
    static STOPPED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What time it is for breakers and shadows: a test can stop it for its own thread.
#[cfg(test)]
pub(crate) fn instant() -> Instant {
    STOPPED.get().unwrap_or_else(Instant::now)
}

/// Stops the time of this thread, so much later.
#[cfg(test)]
pub(crate) fn pass(time: Duration) {
    STOPPED.set(Some(instant() + time));
}
