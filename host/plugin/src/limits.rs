//! What a guest may use. Every entry into it is bounded in time, memory, stack and tables.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// How often the epoch advances: the grain of every deadline.
pub(crate) const EPOCH: Duration = Duration::from_millis(10);
/// Stack of a guest: recursion in a formatter is shallow, and wasmtime's default is 512 KiB as well.
pub(crate) const STACK_BYTES: usize = 512 << 10;
/// Elements of a table: a large guest has a few thousand functions.
const TABLE_ELEMENTS_MAX: usize = 20_000;

/// Limits of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes; all of its memories together.
    pub memory: usize,
    /// One batch: edit, format or handle.
    pub work: Duration,
    /// Instantiate, describe and configure, each.
    pub setup: Duration,
    /// Growth of linear memory since the end of set-up, in bytes, over which an instance is worn: memory never shrinks, so
    /// one large batch would be kept for ever. A plugin that starts large, with a table of words, isn't worn by that.
    pub high_water: usize,
    /// Batches after which an instance is worn, whatever it did: a bound on what a leak or a broken heap can come to. 0 counts
    /// as 1.
    pub calls_max: u64,
}

impl Default for Limits {
    /// 64 MiB holds a batch of 64 records of 100 kB several times over. Half a second is hundreds of times what a batch
    /// takes, so that a busy machine is not mistaken for a loop. A guest in an interpreted language may take seconds to start.
    /// A quarter of the memory is more than most batches take, and leaves room for the next one. A million batches take hours,
    /// and a new instance a millisecond.
    fn default() -> Self {
        let memory = 64 << 20;
        Self {
            memory,
            work: Duration::from_millis(500),
            setup: Duration::from_secs(10),
            high_water: memory / 4,
            calls_max: 1_000_000,
        }
    }
}

/// The limiter of one store, which also remembers that it said no: the trap that follows looks like any other.
pub(crate) struct Limiter {
    /// Bytes that all memories of the store may still grow by.
    left: usize,
    /// What was left when set-up had ended.
    settled: usize,
    pub(crate) refused: bool,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { left: limits.memory, settled: limits.memory, refused: false }
    }

    /// Set-up has ended: what memory grows by is counted from here.
    pub(crate) fn settle(&mut self) {
        self.settled = self.left;
    }

    /// Bytes that the memories have grown by since.
    pub(crate) fn grown(&self) -> usize {
        self.settled - self.left
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let left = self.left.checked_sub(desired - current);
        self.refused |= left.is_none();
        self.left = left.unwrap_or(self.left);
        Ok(left.is_some())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= TABLE_ELEMENTS_MAX;
        self.refused |= !allowed;
        Ok(allowed)
    }

    /// A component with an adapter has two or three core instances.
    fn instances(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        4
    }

    fn tables(&self) -> usize {
        16
    }
}
