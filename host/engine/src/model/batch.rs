//! One step, laid out in rows: the new tokens of all runs, one after the other.

use candle_core::Tensor;

use super::{
    Capacity, Placed, Run,
    places::{Axis, places},
};
use crate::error::EngineError;

/// The runs of a step, those of one adapter beside each other.
pub(super) struct Batch<'a> {
    pub(super) spans: Vec<Span<'a>>,
    /// How many rows it has.
    pub(super) rows: usize,
}

/// A run and where its rows are.
pub(super) struct Span<'a> {
    pub(super) run: Run<'a>,
    /// Its place among the caller's runs.
    pub(super) place: usize,
    /// Its first row.
    pub(super) first: usize,
}

impl Span<'_> {
    /// How many of its tokens are in the cache after the step.
    pub(super) fn end(&self) -> usize {
        self.run.position + self.run.tokens.len()
    }

    /// Where the cache has a token of it: block and index in it.
    pub(super) fn slot(&self, token: usize, block_tokens: usize) -> usize {
        self.run.blocks[token / block_tokens] as usize * block_tokens + token % block_tokens
    }
}

impl<'a> Batch<'a> {
    /// Refuses runs that would read or write where they have no business.
    pub(super) fn new(
        runs: &[Run<'a>],
        context: usize,
        capacity: Capacity,
    ) -> Result<Self, EngineError> {
        let wrong = |reason: &str| Err(EngineError::Internal(format!("a run {reason}")));
        for run in runs {
            let end = run.position + run.tokens.len();
            if run.tokens.is_empty() {
                return wrong("without tokens");
            }
            if end > context {
                return wrong("goes on after the context is full");
            }
            if run.blocks.len() * capacity.block_tokens < end {
                return wrong("has too few blocks");
            }
            if run.blocks.iter().any(|block| *block as usize >= capacity.blocks) {
                return wrong("has a block that the cache does not have");
            }
            let mut free = 0;
            for placed in run.images {
                let (first, last) = placed.rows;
                let after = placed.at + last.saturating_sub(first);
                if first > last || placed.at < free || after > run.tokens.len() {
                    return wrong("has images that do not fit among its tokens");
                }
                free = after;
            }
            let mut free = 0;
            for area in run.areas {
                let extent = area.extent;
                if area.at < free || extent.rows == 0 || extent.columns == 0 {
                    return wrong("has images in each other's places");
                }
                free = area.end();
            }
        }
        if runs.is_empty() {
            return Err(EngineError::Internal("a step without runs".into()));
        }
        let mut order: Vec<usize> = (0..runs.len()).collect();
        order.sort_by_key(|place| runs[*place].adapter);
        let mut rows = 0;
        let mut spans = Vec::with_capacity(runs.len());
        for place in order {
            let run = runs[place];
            spans.push(Span { run, place, first: rows });
            rows += run.tokens.len();
        }
        Ok(Self { spans, rows })
    }

    pub(super) fn tokens(&self) -> Vec<u32> {
        self.spans.iter().flat_map(|span| span.run.tokens).copied().collect()
    }

    /// Position of each row in its sequence.
    pub(super) fn positions(&self) -> Vec<u32> {
        let of = |span: &Span<'_>| span.run.position as u32..span.end() as u32;
        self.spans.iter().flat_map(of).collect()
    }

    /// For each pair of each row the place that turns it, where `axes` are the pairs'. None where every pair of a row has the same,
    /// its position: in a step without images.
    pub(super) fn turns(&self, axes: &[Axis]) -> Option<Vec<u32>> {
        if self.spans.iter().all(|span| span.run.areas.is_empty()) {
            return None;
        }
        let of = |span: &Span<'_>| places(span.run.areas, span.run.position, span.end());
        let rows = self.spans.iter().flat_map(of);
        Some(rows.flat_map(|place| axes.iter().map(move |axis| place[*axis as usize])).collect())
    }

    /// `embedded` with the features of images in the place of their tokens.
    pub(super) fn splice(&self, embedded: Tensor) -> candle_core::Result<Tensor> {
        let width = embedded.dim(1)?;
        self.at_images(embedded, |_, features| features.narrow(1, 0, width))
    }

    /// What features have beside the first columns is added, `width` columns after each of the first layers. `layer` is the one
    /// that made `x`.
    pub(super) fn deepen(&self, x: Tensor, layer: usize) -> candle_core::Result<Tensor> {
        let width = x.dim(1)?;
        let from = (layer + 1) * width;
        let is_deep = |placed: &Placed<'_>| placed.features.dims().last() >= Some(&(from + width));
        if !self.spans.iter().flat_map(|span| span.run.images).any(is_deep) {
            return Ok(x);
        }
        self.at_images(x, |rows, features| {
            if features.dim(1)? < from + width {
                return Ok(rows);
            }
            let more = features.narrow(1, from, width)?.contiguous()?.to_dtype(rows.dtype())?;
            rows + more
        })
    }

    /// `x` with other rows where images are: what `change` makes of those of `x` and of the features that stand there.
    fn at_images(
        &self,
        x: Tensor,
        change: impl Fn(Tensor, &Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let mut pieces = Vec::new();
        let mut done = 0;
        for span in &self.spans {
            for placed in span.run.images {
                let (first, last) = placed.rows;
                let start = span.first + placed.at;
                if first == last {
                    continue;
                }
                if done < start {
                    pieces.push(x.narrow(0, done, start - done)?);
                }
                let rows = x.narrow(0, start, last - first)?;
                let features = placed.features.narrow(0, first, last - first)?;
                pieces.push(change(rows, &features)?.to_dtype(x.dtype())?);
                done = start + (last - first);
            }
        }
        if pieces.is_empty() {
            return Ok(x);
        }
        if done < self.rows {
            pieces.push(x.narrow(0, done, self.rows - done)?);
        }
        Tensor::cat(&pieces, 0)?.contiguous()
    }
}

impl Run<'_> {
    /// Every image token has its features, and nothing else has.
    pub(super) fn check_images(&self, image_token: u32) -> Result<(), EngineError> {
        let is_image = |token: &u32| *token == image_token;
        let places = self.tokens.iter().filter(|token| is_image(token)).count();
        let mut placed = 0;
        for image in self.images {
            let (first, last) = image.rows;
            let rows = last.saturating_sub(first);
            let tokens = self.tokens.get(image.at..image.at + rows);
            if !tokens.is_some_and(|tokens| tokens.iter().all(is_image)) {
                return Err(EngineError::Internal("features without image tokens".into()));
            }
            placed += rows;
        }
        if placed == places {
            return Ok(());
        }
        Err(EngineError::Internal("image tokens without an image".into()))
    }
}
