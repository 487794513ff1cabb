//! Attention over a cache of blocks.
//!
//! On a CPU, keys and values lie as (block, head, token, number), and each head of each sequence is read where it lies. On other
//! devices they are tensors of one row for each token, gathered for every step.

mod device;
mod flash;
mod host;

use candle_core::{DType, Device, Result, Tensor};

use self::{device::DeviceCache, host::HostCache};
use super::{Capacity, batch::Batch, config::DecoderConfig, places::Axis};

/// How many tokens a block holds: prefixes are shared in steps of it.
pub(super) const BLOCK_TOKENS: usize = 16;

/// What one layer's attention needs beside queries, keys and values.
pub(super) struct LayerOptions<'a> {
    pub(super) index: usize,
    /// How many tokens each looks back on, itself included.
    pub(super) window: Option<usize>,
    /// Weights by which queries and keys are normalized, each of the size of a head.
    pub(super) norms: Option<(&'a Tensor, &'a Tensor)>,
}

/// Sizes of heads.
#[derive(Clone, Copy)]
struct Heads {
    heads: usize,
    key_value_heads: usize,
    size: usize,
    eps: f64,
}

impl Heads {
    /// How many heads share keys and values.
    fn group(self) -> usize {
        self.heads / self.key_value_heads
    }
}

/// Keys and values of all sequences.
pub(super) struct Attention {
    cache: Cache,
    capacity: Capacity,
    /// By which coordinate of a token each pair of a head is turned, where they differ.
    axes: Option<Vec<Axis>>,
}

enum Cache {
    Host(HostCache),
    Device(DeviceCache),
}

impl Attention {
    /// A cache of about `bytes`, but for one whole context at least. Memory of a CPU is taken when it is first written to.
    pub(super) fn new(
        config: &DecoderConfig,
        device: &Device,
        dtype: DType,
        bytes: usize,
    ) -> Result<Self> {
        let heads = Heads {
            heads: config.heads,
            key_value_heads: config.key_value_heads,
            size: config.head,
            eps: config.eps,
        };
        let token = 2 * config.layers() * config.key_value_heads * config.head;
        let tokens = bytes / (token * dtype.size_in_bytes());
        let least = config.context.div_ceil(BLOCK_TOKENS);
        let blocks = (tokens / BLOCK_TOKENS).clamp(least, least * super::SEQUENCES);
        let capacity = Capacity { block_tokens: BLOCK_TOKENS, blocks, sequences: super::SEQUENCES };
        let tables = config.rope.tables(config.context);
        let cache = if device.is_cpu() && dtype == DType::F32 {
            Cache::Host(HostCache::new(heads, config.layers(), capacity, tables))
        } else {
            let layers = config.layers();
            let mut cache = DeviceCache::new(heads, layers, capacity, tables, device, dtype)?;
            cache.flash = flash::serves(device, dtype, heads.size);
            Cache::Device(cache)
        };
        Ok(Self { cache, capacity, axes: config.rope.axes().map(<[Axis]>::to_vec) })
    }

    /// The same, empty, as it would be on another device, with flash attention or without.
    #[cfg(test)]
    pub(super) fn on_other_device(&self, config: &DecoderConfig, flash: bool) -> Result<Self> {
        let Cache::Host(host) = &self.cache else {
            return Err(candle_core::Error::Msg("it is on one".to_owned()));
        };
        let (heads, layers, tables) =
            (host.heads(), config.layers(), config.rope.tables(config.context));
        let (device, dtype) = (&Device::Cpu, DType::F32);
        let mut cache = DeviceCache::new(heads, layers, self.capacity, tables, device, dtype)?;
        cache.flash = flash;
        let axes = self.axes.clone();
        Ok(Self { cache: Cache::Device(cache), capacity: self.capacity, axes })
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// What every layer of a step needs.
    pub(super) fn begin(&mut self, batch: &Batch<'_>) -> Result<()> {
        let turns = self.axes.as_ref().and_then(|axes| batch.turns(axes));
        match &mut self.cache {
            Cache::Host(cache) => {
                cache.begin(turns);
                Ok(())
            }
            Cache::Device(cache) => cache.begin(batch, turns),
        }
    }

    /// Turns queries and keys, (rows, heads * size), by their positions, enters keys and values into the cache, and returns what
    /// the queries find there: (rows, heads * size).
    pub(super) fn forward(
        &mut self,
        layer: &LayerOptions<'_>,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        batch: &Batch<'_>,
    ) -> Result<Tensor> {
        match &mut self.cache {
            Cache::Host(cache) => cache.forward(layer, [queries, keys, values], batch),
            Cache::Device(cache) => cache.forward(layer, [queries, keys, values], batch),
        }
    }
}
