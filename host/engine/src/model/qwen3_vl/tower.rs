//! The tower of Qwen3-VL: a transformer over the patches of an image of any size.
//!
//! Patches come square by square, those that become one token behind each other. Learned positions are those of one square,
//! stretched over the image, and queries and keys are turned by the row and the column of their patch.

use candle_core::{DType, Error, Module, Result, Tensor};
use candle_nn::LayerNorm;

use super::shape::Shape;
use crate::{
    error::LoadError,
    model::{
        linear::{Linear, Targets},
        tower::{Activation, layer_norm},
        weights::{Matrix, Weights},
    },
};

const EPS: f64 = 1e-6;

/// How many scores of attention are in memory at once: those of all patches of a large image would take hundreds of gigabytes.
const SCORES: usize = 1 << 24;

/// How many patches an image has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    rows: usize,
    columns: usize,
}

pub(super) struct Tower {
    shape: Shape,
    patches: Linear,
    patch_bias: Tensor,
    /// As `f32`, whatever the rest is.
    positions: Tensor,
    blocks: Vec<Block>,
    merger: Merger,
    /// One for each entry of [`Shape::deep`].
    deep: Vec<Merger>,
}

struct Block {
    heads: usize,
    activation: Activation,
    attention_norm: LayerNorm,
    /// Queries, keys and values beside each other.
    qkv: Linear,
    output: Linear,
    mlp_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

/// Makes one token of each square.
struct Merger {
    norm: LayerNorm,
    /// The norm is over a whole square, not over each patch.
    late: bool,
    /// Width of a square.
    width: usize,
    up: Linear,
    down: Linear,
}

/// How far queries and keys turn: cosines and sines of (patches, pairs of a head), `f32`.
struct Turns {
    cosines: Tensor,
    sines: Tensor,
}

impl Tower {
    /// Reads the tensors `{prefix}…`.
    pub(super) fn new(
        shape: Shape,
        weights: &mut dyn Weights,
        prefix: &str,
    ) -> std::result::Result<Self, LoadError> {
        // No adapter changes a tower.
        let mut targets = Targets::default();
        let Shape { hidden, patch, frames, .. } = shape;
        let name = format!("{prefix}patch_embed.proj");
        let flat = (hidden, 3 * frames * patch * patch);
        let weight = weights
            .tensor(&format!("{name}.weight"), &[hidden, 3, frames, patch, patch])?
            .reshape(flat)?;
        let patches = Linear::new(&mut targets, &name, flat, Matrix::Float(weight));
        let patch_bias = weights.tensor(&format!("{name}.bias"), &[hidden])?;
        let positions = weights
            .tensor(&format!("{prefix}pos_embed.weight"), &[shape.positions, hidden])?
            .to_dtype(DType::F32)?;
        let blocks = (0..shape.layers)
            .map(|index| {
                Block::read(&shape, weights, &mut targets, &format!("{prefix}blocks.{index}."))
            })
            .collect::<std::result::Result<_, LoadError>>()?;
        let mut merger = |name: &str, late: bool| {
            let name = format!("{prefix}{name}.");
            Merger::read(&shape, weights, &mut targets, (name.as_str(), late))
        };
        let deep = (0..shape.deep.len())
            .map(|index| merger(&format!("deepstack_merger_list.{index}"), true))
            .collect::<std::result::Result<_, LoadError>>()?;
        let merger = merger("merger", false)?;
        Ok(Self { patches, patch_bias, positions, blocks, merger, deep, shape })
    }

    /// The patches of an image of (3, height, width): (patches, numbers of one), colour by colour and frame by frame.
    pub(super) fn patches(&self, image: &Tensor) -> Result<(Tensor, Grid)> {
        let Shape { patch, merge, frames, .. } = self.shape;
        let (_, height, width) = image.dims3()?;
        let square = patch * merge;
        let is_whole = |side: usize| side > 0 && side.is_multiple_of(square);
        if !is_whole(height) || !is_whole(width) {
            return Err(Error::Msg(format!("{width} x {height} pixels are no whole squares")));
        }
        let (rows, columns) = (height / patch, width / patch);
        let patches = image
            .reshape(vec![3, rows / merge, merge, patch, columns / merge, merge, patch])?
            .permute(vec![1, 4, 2, 5, 0, 3, 6])?
            .reshape((rows * columns * 3, 1, patch * patch))?
            .broadcast_as((rows * columns * 3, frames, patch * patch))?
            .reshape((rows * columns, 3 * frames * patch * patch))?;
        Ok((patches, Grid { rows, columns }))
    }

    /// What is seen in the patches of one image, (tokens, output * (1 + deep)): first what stands in the place of its tokens, and
    /// then what the decoder's first layers are told.
    pub(super) fn forward(&self, patches: &Tensor, grid: Grid) -> Result<Tensor> {
        let x = self.patches.forward(patches, &[])?.broadcast_add(&self.patch_bias)?;
        let places = places(grid, self.shape.merge);
        let mut x = (&x + self.positions(grid, &places)?.to_dtype(x.dtype())?)?;
        let turns = self.turns(&places)?;
        let mut deep = Vec::with_capacity(self.deep.len() + 1);
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &turns)?;
            if let Ok(at) = self.shape.deep.binary_search(&index) {
                deep.push(self.deep[at].forward(&x)?);
            }
        }
        deep.insert(0, self.merger.forward(&x)?);
        Tensor::cat(&deep, 1)
    }

    /// Learned positions for each patch, `f32` of (patches, hidden): between the four of the square that are nearest, whose corners
    /// are the image's.
    fn positions(&self, grid: Grid, places: &[(usize, usize)]) -> Result<Tensor> {
        let side = self.shape.side();
        let device = self.positions.device();
        let mut sum: Option<Tensor> = None;
        for corner in 0..4 {
            let (indexes, shares): (Vec<u32>, Vec<f32>) = places
                .iter()
                .map(|(row, column)| {
                    let (row, one) = near(*row, grid.rows, side)[corner / 2];
                    let (column, other) = near(*column, grid.columns, side)[corner % 2];
                    ((row * side + column) as u32, one * other)
                })
                .unzip();
            let shares = Tensor::from_vec(shares, (places.len(), 1), device)?;
            let rows = self.positions.index_select(&Tensor::new(indexes, device)?, 0)?;
            let rows = rows.broadcast_mul(&shares)?;
            sum = Some(match sum {
                Some(sum) => (sum + rows)?,
                None => rows,
            });
        }
        sum.ok_or_else(|| Error::Msg("a square without corners".to_owned()))
    }

    /// Half of the pairs of a head turn by the row of the patch, half by its column.
    fn turns(&self, places: &[(usize, usize)]) -> Result<Turns> {
        let half = self.shape.hidden / self.shape.heads / 2;
        let frequency = |i: usize| 1.0 / self.shape.theta.powf(i as f32 / half as f32);
        let frequencies: Vec<f32> = (0..half).step_by(2).map(frequency).collect();
        let size = places.len() * half;
        let (mut cosines, mut sines) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for (row, column) in places {
            for place in [*row, *column] {
                for frequency in &frequencies {
                    let angle = place as f32 * frequency;
                    cosines.push(angle.cos());
                    sines.push(angle.sin());
                }
            }
        }
        let device = self.positions.device();
        let table = |values: Vec<f32>| Tensor::from_vec(values, (places.len(), half), device);
        Ok(Turns { cosines: table(cosines)?, sines: table(sines)? })
    }
}

/// Row and column of each patch, square by square.
fn places(grid: Grid, merge: usize) -> Vec<(usize, usize)> {
    let (rows, columns) = (grid.rows / merge, grid.columns / merge);
    let inside = move |square: (usize, usize)| {
        (0..merge * merge)
            .map(move |i| (square.0 * merge + i / merge, square.1 * merge + i % merge))
    };
    (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .flat_map(inside)
        .collect()
}

/// The two of `side` learned positions between which the one of `at` lies, of `count` that are stretched over them, and the share of
/// each.
fn near(at: usize, count: usize, side: usize) -> [(usize, f32); 2] {
    let place = at as f32 * (side - 1) as f32 / (count.max(2) - 1) as f32;
    let before = place.floor();
    let share = place - before;
    let index = |index: usize| index.min(side - 1);
    [(index(before as usize), 1.0 - share), (index(before as usize + 1), share)]
}

impl Block {
    fn read(
        shape: &Shape,
        weights: &mut dyn Weights,
        targets: &mut Targets,
        name: &str,
    ) -> std::result::Result<Self, LoadError> {
        let Shape { hidden, inner, heads, activation, .. } = *shape;
        let attention_norm = layer_norm(weights, &format!("{name}norm1"), hidden, EPS)?;
        let mlp_norm = layer_norm(weights, &format!("{name}norm2"), hidden, EPS)?;
        let mut linear = |part: &str, shape: (usize, usize)| {
            Linear::read(weights, targets, &format!("{name}{part}"), shape, true)
        };
        Ok(Self {
            heads,
            activation,
            qkv: linear("attn.qkv", (3 * hidden, hidden))?,
            output: linear("attn.proj", (hidden, hidden))?,
            up: linear("mlp.linear_fc1", (inner, hidden))?,
            down: linear("mlp.linear_fc2", (hidden, inner))?,
            attention_norm,
            mlp_norm,
        })
    }

    fn forward(&self, x: &Tensor, turns: &Turns) -> Result<Tensor> {
        let y = self.attention(&self.attention_norm.forward(x)?, turns)?;
        let x = (x + y)?;
        let y = self.up.forward(&self.mlp_norm.forward(&x)?, &[])?;
        let y = self.down.forward(&self.activation.forward(&y)?, &[])?;
        x + y
    }

    /// Every patch looks at every other of its image.
    fn attention(&self, x: &Tensor, turns: &Turns) -> Result<Tensor> {
        let (rows, hidden) = x.dims2()?;
        let head = hidden / self.heads;
        let qkv = self.qkv.forward(x, &[])?;
        let part = |index: usize| {
            qkv.narrow(1, index * hidden, hidden)?.contiguous()?.reshape((rows, self.heads, head))
        };
        let by_head = |x: Tensor| x.transpose(0, 1)?.contiguous();
        let turned = |x: Tensor| {
            let wide = x.unsqueeze(0)?.to_dtype(DType::F32)?;
            let wide = candle_nn::rotary_emb::rope_thd(&wide, &turns.cosines, &turns.sines)?;
            by_head(wide.squeeze(0)?.to_dtype(x.dtype())?)
        };
        let (query, key, value) = (turned(part(0)?)?, turned(part(1)?)?, by_head(part(2)?)?);
        let key = key.t()?;
        let tile = (SCORES / (self.heads * rows)).clamp(1, rows);
        let mut found = Vec::with_capacity(rows.div_ceil(tile));
        for first in (0..rows).step_by(tile) {
            let query = query.narrow(1, first, tile.min(rows - first))?.contiguous()?;
            let scores = (query.matmul(&key)? * (head as f64).powf(-0.5))?.to_dtype(DType::F32)?;
            let shares = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(value.dtype())?;
            found.push(shares.matmul(&value)?);
        }
        let y = Tensor::cat(&found, 1)?.transpose(0, 1)?.contiguous()?.reshape((rows, hidden))?;
        self.output.forward(&y, &[])
    }
}

impl Merger {
    /// Reads the tensors `{name}…` of one whose norm is `late` or not.
    fn read(
        shape: &Shape,
        weights: &mut dyn Weights,
        targets: &mut Targets,
        (name, late): (&str, bool),
    ) -> std::result::Result<Self, LoadError> {
        let width = shape.hidden * shape.merge * shape.merge;
        let normed = if late { width } else { shape.hidden };
        let norm = layer_norm(weights, &format!("{name}norm"), normed, EPS)?;
        let mut linear = |part: &str, shape: (usize, usize)| {
            Linear::read(weights, targets, &format!("{name}{part}"), shape, true)
        };
        Ok(Self {
            norm,
            late,
            width,
            up: linear("linear_fc1", (width, width))?,
            down: linear("linear_fc2", (shape.output, width))?,
        })
    }

    /// (patches, hidden) to (tokens, output).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let squares = x.elem_count() / self.width;
        let x = if self.late {
            self.norm.forward(&x.reshape((squares, self.width))?)?
        } else {
            self.norm.forward(x)?.reshape((squares, self.width))?
        };
        self.down.forward(&self.up.forward(&x, &[])?.gelu_erf()?, &[])
    }
}
