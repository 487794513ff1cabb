//! Attention for devices other than a CPU: by flash attention, or by candle's own operations.

use candle_core::{DType, Device, Result, Tensor};

use super::{BLOCK_TOKENS, Heads, LayerOptions, flash::Ragged};
use crate::model::{
    Capacity,
    batch::{Batch, Span},
};

pub(super) struct DeviceCache {
    heads: Heads,
    /// Keys and values of each layer, (slots, heads * size).
    layers: Vec<(Tensor, Tensor)>,
    cosines: Tensor,
    sines: Tensor,
    /// Whether all sequences of a step are one call of flash attention.
    pub(super) flash: bool,
    step: Option<Step>,
}

/// What all layers of a step share.
struct Step {
    cosines: Tensor,
    sines: Tensor,
    /// Where each number of the new keys goes: (rows, heads * size).
    targets: Tensor,
    slots: Slots,
}

/// Where the tokens of a step's spans are in the cache.
enum Slots {
    /// Of each span.
    Each(Vec<Tensor>),
    /// Of one span after the other.
    All(Tensor, Ragged),
}

impl DeviceCache {
    pub(super) fn new(
        heads: Heads,
        layers: usize,
        capacity: Capacity,
        (cosines, sines): (Vec<f32>, Vec<f32>),
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let half = heads.size / 2;
        let table = |values: Vec<f32>| {
            let places = values.len() / half;
            Tensor::from_vec(values, (places, half), device)?.to_dtype(dtype)
        };
        let shape = (capacity.blocks * BLOCK_TOKENS, heads.key_value_heads * heads.size);
        let zeros = || Tensor::zeros(shape, dtype, device);
        Ok(Self {
            heads,
            layers: (0..layers).map(|_| Ok((zeros()?, zeros()?))).collect::<Result<_>>()?,
            cosines: table(cosines)?,
            sines: table(sines)?,
            flash: false,
            step: None,
        })
    }

    /// `turns` is the place that turns each pair of each row, where it is not the position.
    pub(super) fn begin(&mut self, batch: &Batch<'_>, turns: Option<Vec<u32>>) -> Result<()> {
        let device = self.cosines.device();
        let (cosines, sines) = match turns {
            None => {
                let positions = Tensor::new(batch.positions(), device)?;
                (self.cosines.index_select(&positions, 0)?, self.sines.index_select(&positions, 0)?)
            }
            Some(turns) => {
                let turns = Tensor::from_vec(turns, (batch.rows, self.heads.size / 2), device)?;
                (self.cosines.gather(&turns, 0)?, self.sines.gather(&turns, 0)?)
            }
        };
        let slots = |span: &Span<'_>, from: usize| -> Vec<u32> {
            (from..span.end()).map(|token| span.slot(token, BLOCK_TOKENS) as u32).collect()
        };
        let new: Vec<u32> =
            batch.spans.iter().flat_map(|span| slots(span, span.run.position)).collect();
        let width = self.heads.key_value_heads * self.heads.size;
        let targets = Tensor::new(new, device)?.unsqueeze(1)?.expand((batch.rows, width))?;
        self.step = Some(Step {
            cosines,
            sines,
            targets: targets.contiguous()?,
            slots: if self.flash {
                let all: Vec<u32> = batch.spans.iter().flat_map(|span| slots(span, 0)).collect();
                Slots::All(Tensor::new(all, device)?, Ragged::new(&batch.spans, device)?)
            } else {
                let each = batch.spans.iter().map(|span| Tensor::new(slots(span, 0), device));
                Slots::Each(each.collect::<Result<_>>()?)
            },
        });
        Ok(())
    }

    pub(super) fn forward(
        &mut self,
        layer: &LayerOptions<'_>,
        [queries, keys, values]: [&Tensor; 3],
        batch: &Batch<'_>,
    ) -> Result<Tensor> {
        let Some(step) = &self.step else {
            return Err(candle_core::Error::Msg("a step that did not begin".to_owned()));
        };
        let heads = self.heads;
        let (query_norm, key_norm) = layer.norms.unzip();
        let turned = |tensor: &Tensor, count: usize, norm: Option<&Tensor>| {
            let mut tensor = tensor.contiguous()?.reshape((batch.rows, count, heads.size))?;
            if let Some(weight) = norm {
                tensor = candle_nn::ops::rms_norm(&tensor, weight, heads.eps as f32)?;
            }
            let tensor = tensor.unsqueeze(0)?;
            candle_nn::rotary_emb::rope_thd(&tensor, &step.cosines, &step.sines)?.squeeze(0)
        };
        let queries = turned(queries, heads.heads, query_norm)?;
        let keys = turned(keys, heads.key_value_heads, key_norm)?;
        let width = heads.key_value_heads * heads.size;
        let (all_keys, all_values) = &self.layers[layer.index];
        all_keys.scatter_set(&step.targets, &keys.reshape((batch.rows, width))?, 0)?;
        all_values.scatter_set(&step.targets, &values.contiguous()?, 0)?;

        let slots = match &step.slots {
            Slots::Each(slots) => slots,
            Slots::All(slots, ragged) => {
                let all = |cache: &Tensor| {
                    let rows = cache.index_select(slots, 0)?;
                    rows.reshape(((), heads.key_value_heads, heads.size))
                };
                let (keys, values) = (all(all_keys)?, all(all_values)?);
                let found = ragged.find(layer.window, [&queries, &keys, &values])?;
                return found.reshape((batch.rows, heads.heads * heads.size));
            }
        };
        let mut found = Vec::with_capacity(batch.spans.len());
        for (span, slots) in batch.spans.iter().zip(slots) {
            let queries = queries.narrow(0, span.first, span.run.tokens.len())?;
            let keys = all_keys.index_select(slots, 0)?;
            let values = all_values.index_select(slots, 0)?;
            found.push(self.find(layer.window, span, [&queries, &keys, &values])?);
        }
        Tensor::cat(&found, 0)
    }

    /// What the queries of one span find in the keys and values of its sequence.
    fn find(
        &self,
        window: Option<usize>,
        span: &Span<'_>,
        [queries, keys, values]: [&Tensor; 3],
    ) -> Result<Tensor> {
        let Heads { heads, key_value_heads, size, .. } = self.heads;
        let group = self.heads.group();
        let (tokens, seen) = (span.run.tokens.len(), span.end());
        let by_head = |tensor: &Tensor| {
            tensor.reshape((seen, key_value_heads, size))?.transpose(0, 1)?.contiguous()
        };
        let (keys, values) = (by_head(keys)?, by_head(values)?);
        let queries = queries
            .reshape((tokens, key_value_heads, group, size))?
            .permute((1, 2, 0, 3))?
            .reshape((key_value_heads, group * tokens, size))?
            .contiguous()?;
        let scale = 1.0 / (size as f64).sqrt();
        let mut scores = (queries.matmul(&keys.t()?)? * scale)?.to_dtype(DType::F32)?;
        if tokens > 1 || window.is_some() {
            let mask: Vec<f32> = (span.run.position..seen)
                .flat_map(|at| {
                    let first = window.map_or(0, |window| (at + 1).saturating_sub(window));
                    (0..seen).map(move |key| match key >= first && key <= at {
                        true => 0.0,
                        false => f32::NEG_INFINITY,
                    })
                })
                .collect();
            let mask = Tensor::from_vec(mask, (tokens, seen), scores.device())?;
            scores = scores.reshape((heads, tokens, seen))?.broadcast_add(&mask)?;
            scores = scores.reshape((key_value_heads, group * tokens, seen))?;
        }
        let shares = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(values.dtype())?;
        shares
            .matmul(&values)?
            .reshape((key_value_heads, group, tokens, size))?
            .permute((2, 0, 1, 3))?
            .reshape((tokens, heads * size))
    }
}
