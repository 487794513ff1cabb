//! How much of a device's memory is free, and how much of that a cache may take.

use candle_core::Device;

use crate::cuda;

/// Of the device's memory, what the engine may use: weights, cache and steps together. As vLLM's `gpu_memory_utilization` was for
/// years; the rest is for the driver, for adapters that come later, for pieces that are too small for anything, and for others.
const SHARE: f64 = 0.9;

/// What a step needs beside weights and cache, in bytes: states of 2,048 tokens, and the logits of those who are due. Scores over
/// a context of many thousand tokens can need more; they find it in what [`SHARE`] leaves, or the step is out of memory.
const STEP: u64 = 512 << 20;

/// What a cache may take where nothing else is said: contexts of 8,192 tokens for five sequences of a model with 135 million
/// parameters. A CPU's memory is taken when it is first written to.
pub(crate) const CACHE_BYTES: usize = 2 << 30;

/// Memory of a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// How large a cache may become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CacheSize {
    Bytes(usize),
    /// What is free on a GPU when its weights are there, less what this share of its memory leaves and what a step needs. Elsewhere
    /// [`CACHE_BYTES`].
    Share(f64),
}

impl CacheSize {
    /// `bytes` goes before `share`, of which [`SHARE`] is the default.
    pub(crate) fn new(bytes: Option<usize>, share: Option<f64>) -> Self {
        bytes.map_or_else(|| Self::Share(share.unwrap_or(SHARE)), Self::Bytes)
    }

    /// In bytes, on a device that has the weights already.
    pub(crate) fn on(self, device: &Device) -> usize {
        let share = match self {
            Self::Bytes(bytes) => return bytes,
            Self::Share(share) => share,
        };
        if !device.is_cuda() {
            return CACHE_BYTES;
        }
        // What was given back counts as free once the device has come that far. If that fails, so will what follows.
        let _ = device.synchronize();
        match cuda::memory(device) {
            Some(Ok(memory)) => memory.left(share),
            _ => CACHE_BYTES,
        }
    }
}

impl Memory {
    pub(crate) fn used(self) -> u64 {
        self.total.saturating_sub(self.free)
    }

    /// What a cache may take, if the engine may use this share of the device.
    fn left(self, share: f64) -> usize {
        let kept = (self.total as f64 * (1.0 - share.clamp(0.0, 1.0))) as u64;
        let left = self.free.saturating_sub(kept).saturating_sub(STEP);
        usize::try_from(left).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_cache_leaves_what_the_share_leaves_and_what_a_step_needs() {
        let memory = |free, total| Memory { free: free * GIB, total: total * GIB };
        for (memory, share, expected) in [
            (memory(64, 80), 0.75, 44 * GIB - STEP),
            (memory(64, 80), 1.0, 64 * GIB - STEP),
            (memory(80, 80), 0.5, 40 * GIB - STEP),
            // Others have taken what is left over.
            (memory(20, 80), 0.75, 0),
            (memory(10, 80), 0.75, 0),
            (memory(0, 0), 0.9, 0),
        ] {
            assert_eq!(memory.left(share) as u64, expected, "{memory:?} {share}");
        }
        assert_eq!(memory(64, 80).used(), 16 * GIB);
        assert_eq!(Memory { free: 2, total: 1 }.used(), 0);
    }

    #[test]
    fn a_size_that_is_named_is_taken() {
        assert_eq!(CacheSize::new(Some(7), Some(0.5)), CacheSize::Bytes(7));
        assert_eq!(CacheSize::new(None, Some(0.5)), CacheSize::Share(0.5));
        assert_eq!(CacheSize::new(None, None), CacheSize::Share(0.9));
        assert_eq!(CacheSize::Bytes(7).on(&Device::Cpu), 7);
        assert_eq!(CacheSize::Share(0.5).on(&Device::Cpu), CACHE_BYTES);
    }
}
