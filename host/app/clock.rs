//! The machine's clock and time zone.

use std::{
    sync::atomic::{AtomicI32, AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::{Timestamp, tz::TimeZone};

/// Offsets change at most on the quarter of an hour, so one is looked up once a minute and not for every record.
const LOOK_UP_SECONDS: i64 = 60;

/// Wall-clock time in the zone of the machine (`TZ`, or `/etc/localtime`).
pub struct SystemClock {
    zone: TimeZone,
    minute: AtomicI64,
    offset: AtomicI32,
}

impl SystemClock {
    pub fn new() -> Self {
        Self {
            zone: TimeZone::system(),
            minute: AtomicI64::new(i64::MIN),
            offset: AtomicI32::new(0),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl chain::Clock for SystemClock {
    fn now(&self) -> (i64, i32) {
        // A clock before 1970 is a broken clock; its records say 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        let minute = nanoseconds / 1_000_000_000 / LOOK_UP_SECONDS;
        if self.minute.swap(minute, Ordering::Relaxed) != minute {
            let at = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
            self.offset.store(self.zone.to_offset(at).seconds(), Ordering::Relaxed);
        }
        (nanoseconds, self.offset.load(Ordering::Relaxed))
    }
}
