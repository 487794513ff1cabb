//! Where the time of a record comes from. The application owns the clock; tests stop it.

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
