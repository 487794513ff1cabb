//! One step, laid out in rows: the new tokens of all runs, one after the other.

use candle_core::Tensor;

use super::{Capacity, Run};
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

    /// `embedded` with the features of images in the place of their tokens.
    pub(super) fn splice(&self, embedded: Tensor) -> candle_core::Result<Tensor> {
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
                    pieces.push(embedded.narrow(0, done, start - done)?);
                }
                let features = placed.features.narrow(0, first, last - first)?;
                pieces.push(features.to_dtype(embedded.dtype())?);
                done = start + (last - first);
            }
        }
        if pieces.is_empty() {
            return Ok(embedded);
        }
        if done < self.rows {
            pieces.push(embedded.narrow(0, done, self.rows - done)?);
        }
        Tensor::cat(&pieces, 0)
    }
}
