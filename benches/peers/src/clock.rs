//! Processor time, which other programs on the machine do not add to.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What all threads of this process have used: some peers do their work on threads of their own.
pub fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let part = |it: i64| u64::try_from(it).unwrap_or_default();
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}
