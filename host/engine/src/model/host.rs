//! The CPU's side of the decoder: candle's tensors in and out, [`kernel`] inside, spread over the threads of rayon's pool.
//!
//! [`kernel`]: super::kernel

use candle_core::{DType, Device, Error, Result, Storage, Tensor, WithDType};
use half::{bf16, f16};
use pulp::{Arch, WithSimd};
use rayon::prelude::*;

use super::kernel::{Gated, Product, RmsNorm, Weight};

/// Below so many multiplications, waking another thread takes longer than the work.
const ALONE: usize = 1 << 16;

/// Weight rows that one thread takes at a time: a multiple of the kernel's four.
const OUTPUTS: usize = 64;

/// Whether the kernels here can calculate with the tensor.
pub(super) fn takes(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// Calls `f` with the numbers of a tensor.
pub(super) fn with_slice<T: WithDType, R>(tensor: &Tensor, f: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::Msg("a tensor is not on the CPU".to_owned()));
    };
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg("a tensor is not contiguous".to_owned()))?;
    Ok(f(&storage.as_slice::<T>()?[start..end]))
}

/// `x wᵀ` for `x` of (rows, inputs) and `w` of (outputs, inputs), which may have 16 bits.
pub(super) fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let (outputs, inputs) = w.dims2()?;
    if width != inputs {
        return Err(Error::Msg(format!("a row of {width} for a layer that takes {inputs}")));
    }
    let shape = Shape { rows, outputs, width };
    let y = match w.dtype() {
        DType::BF16 => with_slice(x, |x| with_slice::<bf16, _>(w, |w| shape.product(x, w)))??,
        DType::F16 => with_slice(x, |x| with_slice::<f16, _>(w, |w| shape.product(x, w)))??,
        _ => with_slice(x, |x| with_slice::<f32, _>(w, |w| shape.product(x, w)))??,
    };
    Tensor::from_vec(y, (rows, outputs), &Device::Cpu)
}

/// Of a product.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    outputs: usize,
    width: usize,
}

impl Shape {
    fn product<W: Weight>(self, x: &[f32], w: &[W]) -> Vec<f32> {
        let Self { rows, outputs, width } = self;
        let mut y = vec![0f32; rows * outputs];
        let threads = rayon::current_num_threads();
        if threads == 1 || rows * w.len() < ALONE {
            Product { x, w, y: &mut y, width, stride: outputs }.run();
        } else if rows == 1 {
            y.par_chunks_mut(OUTPUTS).zip(w.par_chunks(OUTPUTS * width)).for_each(|(y, w)| {
                Product { x, w, stride: y.len(), y, width }.run();
            });
        } else if rows >= 16 * threads {
            // Each thread reads all weights, for rows of its own.
            let share = rows.div_ceil(threads).next_multiple_of(3);
            y.par_chunks_mut(share * outputs).zip(x.par_chunks(share * width)).for_each(
                |(y, x)| {
                    Product { x, w, y, width, stride: outputs }.run();
                },
            );
        } else {
            let parts: Vec<Vec<f32>> = w
                .par_chunks(OUTPUTS * width)
                .map(|w| {
                    let stride = w.len() / width;
                    let mut y = vec![0f32; rows * stride];
                    Product { x, w, y: &mut y, width, stride }.run();
                    y
                })
                .collect();
            let mut first = 0;
            for part in parts {
                let stride = part.len() / rows;
                for (row, values) in part.chunks_exact(stride).enumerate() {
                    y[row * outputs + first..][..stride].copy_from_slice(values);
                }
                first += stride;
            }
        }
        y
    }
}

/// `silu(gate) * up`.
pub(super) fn gated(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let mut values = with_slice(gate, <[f32]>::to_vec)?;
    with_slice(up, |up| run(Gated { gate: &mut values, up }))?;
    Tensor::from_vec(values, gate.dims(), &Device::Cpu)
}

/// Rows of `x`, normalized.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let eps = eps as f32;
    let y = with_slice(x, |x| {
        with_slice(weight, |weight| {
            let mut y = vec![0f32; x.len()];
            run(RmsNorm { x, weight, y: &mut y, eps });
            y
        })
    })??;
    Tensor::from_vec(y, x.dims(), &Device::Cpu)
}

pub(super) fn run<Op: WithSimd>(op: Op) -> Op::Output {
    Arch::new().dispatch(op)
}
