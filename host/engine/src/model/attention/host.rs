//! Attention on a CPU.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::{BLOCK_TOKENS, Heads, LayerOptions};
use crate::model::{
    Capacity,
    batch::{Batch, Span},
    host::{run, with_slice},
    kernel::{Product, RmsNorm, Softmax, WeightedSum},
};

/// Queries that are worked on at once: their scores stay in the second cache for contexts of some thousand tokens.
const TILE: usize = 48;

pub(super) struct HostCache {
    heads: Heads,
    layers: Vec<LayerCache>,
    /// A row for each place, a number for each pair.
    cosines: Vec<f32>,
    sines: Vec<f32>,
    /// The same for each row of the step, where its pairs are turned by different places.
    picked: Option<(Vec<f32>, Vec<f32>)>,
}

/// Each (block, head, token, number).
struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Some tokens of a span, for one head of keys and values.
struct Unit<'a> {
    span: &'a Span<'a>,
    head: usize,
    first: usize,
    tokens: usize,
}

impl HostCache {
    pub(super) fn new(
        heads: Heads,
        layers: usize,
        capacity: Capacity,
        (cosines, sines): (Vec<f32>, Vec<f32>),
    ) -> Self {
        let size = capacity.blocks * BLOCK_TOKENS * heads.key_value_heads * heads.size;
        let layer = || LayerCache { keys: vec![0.0; size], values: vec![0.0; size] };
        let layers = (0..layers).map(|_| layer()).collect();
        Self { heads, layers, cosines, sines, picked: None }
    }

    /// `turns` is the place that turns each pair of each row, where it is not the position.
    pub(super) fn begin(&mut self, turns: Option<Vec<u32>>) {
        let half = self.heads.size / 2;
        self.picked = turns.map(|turns| {
            let pick = |table: &[f32]| -> Vec<f32> {
                let places = turns.iter().zip((0..half).cycle());
                places.map(|(place, i)| table[*place as usize * half + i]).collect()
            };
            (pick(&self.cosines), pick(&self.sines))
        });
    }

    #[cfg(test)]
    pub(super) fn heads(&self) -> Heads {
        self.heads
    }

    pub(super) fn forward(
        &mut self,
        layer: &LayerOptions<'_>,
        [queries, keys, values]: [&Tensor; 3],
        batch: &Batch<'_>,
    ) -> Result<Tensor> {
        let heads = self.heads;
        let (query_norm, key_norm) = layer.norms.unzip();
        let scale = 1.0 / (heads.size as f32).sqrt();
        let queries = self.turned(queries, query_norm, batch, scale)?;
        let keys = self.turned(keys, key_norm, batch, 1.0)?;
        let cache = &mut self.layers[layer.index];
        with_slice(values, |values| cache.write(heads, &keys, values, batch))?;

        let group = heads.group();
        let tile = (TILE / group).max(1);
        let mut units = Vec::new();
        for span in &batch.spans {
            let length = span.run.tokens.len();
            for head in 0..heads.key_value_heads {
                for first in (0..length).step_by(tile) {
                    units.push(Unit { span, head, first, tokens: tile.min(length - first) });
                }
            }
        }
        let cache = &self.layers[layer.index];
        let find = |unit: &Unit<'_>| unit.find(heads, cache, &queries, layer.window);
        let found: Vec<Vec<f32>> = if rayon::current_num_threads() == 1 || units.len() == 1 {
            units.iter().map(find).collect()
        } else {
            units.par_iter().map(find).collect()
        };

        let width = heads.heads * heads.size;
        let mut y = vec![0f32; batch.rows * width];
        for (unit, found) in units.iter().zip(found) {
            let part = group * heads.size;
            for (token, values) in found.chunks_exact(part).enumerate() {
                let row = unit.span.first + unit.first + token;
                y[row * width + unit.head * part..][..part].copy_from_slice(values);
            }
        }
        Tensor::from_vec(y, (batch.rows, width), &Device::Cpu)
    }

    /// Heads, normalized where they are, turned by their positions, and multiplied by `scale`.
    fn turned(
        &self,
        tensor: &Tensor,
        norm: Option<&Tensor>,
        batch: &Batch<'_>,
        scale: f32,
    ) -> Result<Vec<f32>> {
        let Heads { size, eps, .. } = self.heads;
        let mut heads = with_slice(tensor, <[f32]>::to_vec)?;
        if let Some(weight) = norm {
            let x = heads.clone();
            let eps = eps as f32;
            with_slice(weight, |weight| run(RmsNorm { x: &x, weight, y: &mut heads, eps }))?;
        }
        let half = size / 2;
        let width = heads.len() / batch.rows;
        // Where each row's cosines and sines are.
        let (cosines, sines, places): (_, _, Vec<u32>) = match &self.picked {
            None => (&self.cosines, &self.sines, batch.positions()),
            Some((cosines, sines)) => (cosines, sines, (0..batch.rows as u32).collect()),
        };
        for (row, place) in heads.chunks_exact_mut(width).zip(places) {
            let at = place as usize * half;
            let (cosines, sines) = (&cosines[at..at + half], &sines[at..at + half]);
            for head in row.chunks_exact_mut(size) {
                let (left, right) = head.split_at_mut(half);
                for i in 0..half {
                    let (a, b) = (left[i] * scale, right[i] * scale);
                    left[i] = a * cosines[i] - b * sines[i];
                    right[i] = b * cosines[i] + a * sines[i];
                }
            }
        }
        Ok(heads)
    }
}

impl LayerCache {
    fn write(&mut self, heads: Heads, keys: &[f32], values: &[f32], batch: &Batch<'_>) {
        let Heads { key_value_heads, size, .. } = heads;
        let width = key_value_heads * size;
        for span in &batch.spans {
            for token in 0..span.run.tokens.len() {
                let slot = span.slot(span.run.position + token, BLOCK_TOKENS);
                let (block, index) = (slot / BLOCK_TOKENS, slot % BLOCK_TOKENS);
                for head in 0..key_value_heads {
                    let from = (span.first + token) * width + head * size;
                    let to = ((block * key_value_heads + head) * BLOCK_TOKENS + index) * size;
                    self.keys[to..to + size].copy_from_slice(&keys[from..from + size]);
                    self.values[to..to + size].copy_from_slice(&values[from..from + size]);
                }
            }
        }
    }
}

impl Unit<'_> {
    /// What its queries find: (token, head of the group, number).
    fn find(
        &self,
        heads: Heads,
        cache: &LayerCache,
        queries: &[f32],
        window: Option<usize>,
    ) -> Vec<f32> {
        let Heads { key_value_heads, size, .. } = heads;
        let group = heads.group();
        let part = group * size;
        let width = heads.heads * size;
        let mut mine = Vec::with_capacity(self.tokens * part);
        for token in 0..self.tokens {
            let row = self.span.first + self.first + token;
            mine.extend_from_slice(&queries[row * width + self.head * part..][..part]);
        }

        // Tokens before `start` are out of sight for all of these queries, the ones from `end` on are yet to come.
        let position = self.span.run.position + self.first;
        let end = position + self.tokens;
        let sight = |at: usize| window.map_or(0, |window| (at + 1).saturating_sub(window));
        let start = sight(position) / BLOCK_TOKENS * BLOCK_TOKENS;
        let seen = end - start;
        let rows = self.tokens * group;
        let blocks: Vec<_> = (start..end)
            .step_by(BLOCK_TOKENS)
            .map(|at| {
                let block = self.span.run.blocks[at / BLOCK_TOKENS] as usize;
                let from = (block * key_value_heads + self.head) * BLOCK_TOKENS * size;
                let tokens = BLOCK_TOKENS.min(end - at);
                (at - start, from..from + tokens * size)
            })
            .collect();

        let mut scores = vec![0f32; rows * seen];
        for (at, range) in &blocks {
            let (w, y) = (&cache.keys[range.clone()], &mut scores[*at..]);
            Product { x: &mine, w, y, width: size, stride: seen }.run();
        }
        for (query, scores) in scores.chunks_exact_mut(seen).enumerate() {
            let at = position + query / group;
            let (first, last) = (sight(at).max(start) - start, at + 1 - start);
            scores[..first].fill(0.0);
            scores[last..].fill(0.0);
            run(Softmax(&mut scores[first..last]));
        }
        let mut found = vec![0f32; rows * size];
        for (at, range) in &blocks {
            let (p, v) = (&scores[*at..], &cache.values[range.clone()]);
            WeightedSum { p, v, y: &mut found, width: size, stride: seen }.run();
        }
        found
    }
}
