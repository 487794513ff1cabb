//! Linear layers, and the changes that adapters make to some of their rows.

use std::{collections::HashMap, ops::Range};

use candle_core::{Module, Tensor};

use super::{
    host,
    weights::{Matrix, Weights},
};
use crate::error::LoadError;

/// `y = x Wᵀ + b`.
pub(super) struct Linear {
    /// Which layer of the model it is, for adapters.
    id: usize,
    weight: Matrix,
    bias: Option<Tensor>,
}

/// The linear layers of a model by name: what an adapter can change.
#[derive(Default)]
pub(super) struct Targets(HashMap<String, Target>);

/// A linear layer that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) id: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// The change of one layer: `y += x Aᵀ Bᵀ`, the scale being in `B` already.
pub(super) struct Pair {
    /// (rank, inputs)
    pub(super) a: Tensor,
    /// (outputs, rank)
    pub(super) b: Tensor,
}

/// Pairs by the layer that they change.
#[derive(Default)]
pub(super) struct Pairs(pub(super) HashMap<usize, Pair>);

/// Rows of a step and the adapter that they go through. Ranges follow each other.
pub(super) struct Adapted<'a> {
    pub(super) rows: Range<usize>,
    pub(super) pairs: &'a Pairs,
}

impl Targets {
    pub(super) fn get(&self, name: &str) -> Option<Target> {
        self.0.get(name).copied()
    }

    /// Enters a layer, under the name of its weight.
    fn add(&mut self, name: &str, (outputs, inputs): (usize, usize)) -> usize {
        let id = self.0.len();
        self.0.insert(name.to_owned(), Target { id, inputs, outputs });
        id
    }
}

impl Linear {
    /// Reads `{name}.weight`, and `{name}.bias` where the layer has one.
    pub(super) fn read(
        weights: &mut dyn Weights,
        targets: &mut Targets,
        name: &str,
        shape: (usize, usize),
        bias: bool,
    ) -> Result<Self, LoadError> {
        let weight = weights.matrix(&format!("{name}.weight"), shape)?;
        let bias = match bias {
            true => Some(weights.tensor(&format!("{name}.bias"), &[shape.0])?),
            false => None,
        };
        Ok(Self { bias, ..Self::new(targets, name, shape, weight) })
    }

    pub(super) fn new(
        targets: &mut Targets,
        name: &str,
        shape: (usize, usize),
        weight: Matrix,
    ) -> Self {
        Self { id: targets.add(&format!("{name}.weight"), shape), weight, bias: None }
    }

    /// `x` is (rows, inputs).
    pub(super) fn forward(
        &self,
        x: &Tensor,
        adapted: &[Adapted<'_>],
    ) -> candle_core::Result<Tensor> {
        let mut y = match &self.weight {
            Matrix::Float(weight) => product(x, weight)?,
            Matrix::Quantized(weight) => weight.forward(x)?,
            Matrix::Packed(weight) => weight.forward(x)?,
        };
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        if adapted.iter().all(|group| !group.pairs.0.contains_key(&self.id)) {
            return Ok(y);
        }
        let mut pieces = Vec::with_capacity(2 * adapted.len() + 1);
        let mut done = 0;
        for group in adapted {
            let Some(pair) = group.pairs.0.get(&self.id) else { continue };
            let Range { start, end } = group.rows;
            if done < start {
                pieces.push(y.narrow(0, done, start - done)?);
            }
            let rows = x.narrow(0, start, end - start)?;
            let change = product(&product(&rows, &pair.a)?, &pair.b)?;
            pieces.push((y.narrow(0, start, end - start)? + change)?);
            done = end;
        }
        let rows = y.dim(0)?;
        if done < rows {
            pieces.push(y.narrow(0, done, rows - done)?);
        }
        Tensor::cat(&pieces, 0)
    }
}

/// `x wᵀ`.
fn product(x: &Tensor, w: &Tensor) -> candle_core::Result<Tensor> {
    if host::takes(x) { host::product(x, w) } else { x.matmul(&w.t()?) }
}
