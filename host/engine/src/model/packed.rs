//! Quantized weights in the order in which [`quantized`](super::kernel::quantized) multiplies with them.
//!
//! The formats are llama.cpp's `Q4_0`, `Q4_1` and `Q8_0` (ggml-common.h): blocks of 32 numbers of a row, each with a scale of 16
//! bits. Others stay with candle, whose kernels for them are good.

use candle_core::{
    Device, Error, Result, Tensor,
    quantized::{GgmlDType, QTensor},
};
use rayon::prelude::*;

use super::{
    host::with_slice,
    kernel::quantized::{Activations, BLOCK, Bits, Format, GROUP, PerOutput, Product, Weights},
};

/// Below so many multiplications, waking another thread takes longer than the work.
const ALONE: usize = 1 << 17;
/// Groups that one thread takes at a time.
const GROUPS: usize = 16;

/// A matrix of (outputs, inputs).
pub(super) struct Packed {
    outputs: usize,
    inputs: usize,
    format: Format,
    quants: Vec<Bits>,
    scales: Vec<PerOutput>,
    least: Vec<PerOutput>,
}

/// One block of a row.
#[derive(Clone, Copy)]
struct Block {
    scale: f32,
    least: f32,
    /// As [`Format`] writes them: 0 to 15, or an `i8`.
    quants: [u8; BLOCK],
}

impl Block {
    fn read(format: Format, bytes: &[u8]) -> Self {
        let half = |at: usize| half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
        let mut quants = [0; BLOCK];
        let mut nibbles = |from: usize| {
            for i in 0..BLOCK / 2 {
                quants[i] = bytes[from + i] & 15;
                quants[i + BLOCK / 2] = bytes[from + i] >> 4;
            }
        };
        let least = match format {
            Format::Four => {
                nibbles(2);
                0.0
            }
            Format::FourAndLeast => {
                nibbles(4);
                half(2)
            }
            Format::Eight => {
                quants.copy_from_slice(&bytes[2..2 + BLOCK]);
                0.0
            }
        };
        Self { scale: half(0), least, quants }
    }
}

fn bytes_of_block(format: Format) -> usize {
    match format {
        Format::Four => 18,
        Format::FourAndLeast => 20,
        Format::Eight => 34,
    }
}

impl Packed {
    /// None for what candle has to multiply with.
    pub(super) fn new(tensor: &QTensor) -> Result<Option<Self>> {
        let format = match tensor.dtype() {
            GgmlDType::Q4_0 => Format::Four,
            GgmlDType::Q4_1 => Format::FourAndLeast,
            GgmlDType::Q8_0 => Format::Eight,
            _ => return Ok(None),
        };
        if !tensor.device().is_cpu() {
            return Ok(None);
        }
        let (outputs, inputs) = tensor.shape().dims2()?;
        let (blocks, size) = (inputs / BLOCK, bytes_of_block(format));
        let bytes = tensor.data()?;
        if !inputs.is_multiple_of(BLOCK) || bytes.len() != outputs * blocks * size {
            return Err(Error::Msg(format!("{} bytes are no {outputs} rows", bytes.len())));
        }
        let groups = outputs.div_ceil(GROUP);
        let mut packed = Self {
            outputs,
            inputs,
            format,
            quants: Vec::with_capacity(groups * blocks * format.vectors()),
            scales: Vec::with_capacity(groups * blocks),
            least: Vec::new(),
        };
        // Outputs that fill up the last group are nothing.
        let nothing = Block { scale: 0.0, least: 0.0, quants: [0; BLOCK] };
        for group in 0..groups {
            for block in 0..blocks {
                let read = |o: usize| {
                    let output = group * GROUP + o;
                    if output >= outputs {
                        return nothing;
                    }
                    Block::read(format, &bytes[(output * blocks + block) * size..][..size])
                };
                packed.push(&std::array::from_fn(read));
            }
        }
        Ok(Some(packed))
    }

    /// The same block of each output of a group.
    fn push(&mut self, group: &[Block; GROUP]) {
        let pairs = self.format.pairs();
        for vector in 0..self.format.vectors() {
            // Each output's two halves, and in each as many pairs as share it, the first in the lowest bits.
            self.quants.push(Bits(std::array::from_fn(|i| {
                let (output, half) = (i / 2, i % 2);
                let bits = |p: usize| {
                    let quant = group[output].quants[2 * (vector * pairs + p) + half];
                    u16::from(quant) << (p * 16 / pairs)
                };
                (0..pairs).map(bits).fold(0, |all, bits| all | bits)
            })));
        }
        self.scales.push(PerOutput(group.map(|it| it.scale)));
        if self.format == Format::FourAndLeast {
            self.least.push(PerOutput(group.map(|it| it.least)));
        }
    }

    /// The weights as numbers.
    pub(super) fn floats(&self) -> Result<Tensor> {
        let blocks = self.inputs / BLOCK;
        let mut values = vec![0f32; self.outputs * self.inputs];
        for (output, row) in values.chunks_exact_mut(self.inputs).enumerate() {
            let (group, o) = (output / GROUP * blocks, output % GROUP);
            for (b, numbers) in row.chunks_exact_mut(BLOCK).enumerate() {
                let w = self.of_blocks(group + b, group + b + 1);
                for (i, number) in numbers.iter_mut().enumerate() {
                    *number = w.number(o, i);
                }
            }
        }
        Tensor::from_vec(values, (self.outputs, self.inputs), &Device::Cpu)
    }

    /// `x wᵀ` for `x` of (rows, inputs), in `f32`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        if width != self.inputs {
            let inputs = self.inputs;
            return Err(Error::Msg(format!("a row of {width} for a layer that takes {inputs}")));
        }
        let x = with_slice(x, |x| Activations::new(x, width))?;
        Tensor::from_vec(self.product(&x, rows), (rows, self.outputs), &Device::Cpu)
    }

    fn product(&self, x: &Activations, rows: usize) -> Vec<f32> {
        let groups = self.outputs.div_ceil(GROUP);
        let stride = groups * GROUP;
        let threads = rayon::current_num_threads();
        let mut y = vec![0f32; rows * stride];
        if threads == 1 || rows * self.outputs * self.inputs < ALONE {
            Product { x, rows: 0..rows, w: self.weights(0, groups), y: &mut y, stride }.run();
        } else if rows == 1 {
            y.par_chunks_mut(GROUPS * GROUP).enumerate().for_each(|(at, y)| {
                let (from, count, stride) = (at * GROUPS, y.len() / GROUP, y.len());
                let w = self.weights(from, from + count);
                Product { x, rows: 0..1, w, y, stride }.run();
            });
        } else {
            // Each thread reads all weights, for rows of its own.
            let share = rows.div_ceil(threads);
            y.par_chunks_mut(share * stride).enumerate().for_each(|(at, y)| {
                let rows = at * share..rows.min((at + 1) * share);
                Product { x, rows, w: self.weights(0, groups), y, stride }.run();
            });
        }
        if stride != self.outputs {
            let whole = std::mem::take(&mut y);
            y.reserve_exact(rows * self.outputs);
            whole.chunks_exact(stride).for_each(|row| y.extend_from_slice(&row[..self.outputs]));
        }
        y
    }

    /// Of groups.
    fn weights(&self, from: usize, to: usize) -> Weights<'_> {
        let blocks = self.inputs / BLOCK;
        self.of_blocks(from * blocks, to * blocks)
    }

    fn of_blocks(&self, from: usize, to: usize) -> Weights<'_> {
        let vectors = self.format.vectors();
        Weights {
            format: self.format,
            quants: &self.quants[from * vectors..to * vectors],
            scales: &self.scales[from..to],
            least: if self.least.is_empty() { &[] } else { &self.least[from..to] },
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Module as _, quantized::QMatMul};

    use super::*;

    fn tensor(rows: usize, columns: usize, seed: u32) -> Tensor {
        let value = |i: u32| ((i.wrapping_mul(40_503) ^ seed) % 2003) as f32 / 1001.5 - 1.0;
        let values: Vec<f32> = (0..(rows * columns) as u32).map(value).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn largest(x: &Tensor) -> f32 {
        x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn products_are_those_of_the_weights() {
        let check = |dtype: GgmlDType, outputs: usize, inputs: usize, rows: usize| {
            let weights = QTensor::quantize(&tensor(outputs, inputs, 7), dtype).unwrap();
            let floats = weights.dequantize(&Device::Cpu).unwrap();
            let packed = Packed::new(&weights).unwrap().unwrap();
            let x = tensor(rows, inputs, 99);
            let y = packed.forward(&x).unwrap();
            assert_eq!(y.dims(), [rows, outputs]);
            assert_eq!(largest(&(packed.floats().unwrap() - &floats).unwrap()), 0.0);
            let exact = x.matmul(&floats.t().unwrap()).unwrap();
            let error = largest(&(&y - &exact).unwrap());
            // Errors of 15 bits add up like the root of their number.
            let allowed = 1e-4 * (inputs as f32).sqrt();
            assert!(error < allowed, "{dtype:?} {outputs}x{inputs}: {error} > {allowed}");
            // candle has 8 bits.
            let candles = QMatMul::from_qtensor(weights).unwrap().forward(&x).unwrap();
            let theirs = largest(&(candles - exact).unwrap());
            assert!(error < theirs, "{dtype:?}: {error}, candle's {theirs}");
        };
        for dtype in [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q8_0] {
            check(dtype, 8, 32, 1);
            check(dtype, 5, 64, 3);
            check(dtype, 203, 576, 9);
            check(dtype, 512, 1536, 33);
        }
    }

    #[test]
    fn other_types_are_candles() {
        let weights = QTensor::quantize(&tensor(4, 256, 1), GgmlDType::Q4K).unwrap();
        assert!(Packed::new(&weights).unwrap().is_none());
    }
}
