//! Arithmetic on slices of `f32`, for models on a CPU, with the vector instructions that the processor has.
//!
//! Every number of a result is summed up in an order of its own, whatever is computed beside it: a row has the same bits alone
//! and in a batch, in one piece of a prompt and in several.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over constant ranges are unrolled into registers"
)]

pub(super) mod quantized;

use std::ops::Range;

use half::{bf16, f16, slice::HalfFloatSliceExt as _};
use pulp::{Arch, Simd, WithSimd};

/// So many rows of activations stay in the second cache while all weights pass by.
const PANEL: usize = 48;

/// A number that a weight may be: each is an `f32` as well, so products are the same bits whichever it is.
pub(super) trait Weight: Copy + Sync {
    /// The numbers as `f32`, which may be put into `room`, of as many.
    fn widen<'a>(numbers: &'a [Self], room: &'a mut [f32]) -> &'a [f32];

    /// How many numbers of room it takes to widen so many.
    fn room(numbers: usize) -> usize {
        numbers
    }
}

impl Weight for f32 {
    #[inline(always)]
    fn widen<'a>(numbers: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        numbers
    }

    fn room(_: usize) -> usize {
        0
    }
}

impl Weight for bf16 {
    /// The upper half of an `f32`.
    #[inline(always)]
    fn widen<'a>(numbers: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
        for (wide, it) in room.iter_mut().zip(numbers) {
            *wide = f32::from_bits(u32::from(it.to_bits()) << 16);
        }
        &room[..numbers.len()]
    }
}

impl Weight for f16 {
    #[inline(always)]
    fn widen<'a>(numbers: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
        let room = &mut room[..numbers.len()];
        numbers.convert_to_f32_slice(room);
        room
    }
}

/// `y[t][o] = x[t] · w[o]` for rows of `width`; rows of `y` begin `stride` apart.
pub(super) struct Product<'a, W> {
    pub(super) x: &'a [f32],
    pub(super) w: &'a [W],
    pub(super) y: &'a mut [f32],
    pub(super) width: usize,
    pub(super) stride: usize,
}

/// The rows of `w` that begin at the output `out`, as `f32`.
#[derive(Clone, Copy)]
struct Weights<'a> {
    out: usize,
    w: &'a [f32],
}

impl<W: Weight> Product<'_, W> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }

    /// Rows of `x` with `R` rows of `w` from `out` on.
    #[inline(always)]
    fn columns<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        rows: Range<usize>,
        out: usize,
        room: &mut [f32],
    ) {
        let all = self.w;
        let w = W::widen(&all[out * self.width..(out + R) * self.width], room);
        let weights = Weights { out, w };
        let Range { start: mut row, end } = rows;
        while row + 3 <= end {
            self.tile::<S, R, 3>(simd, row, weights);
            row += 3;
        }
        match end - row {
            2 => self.tile::<S, R, 2>(simd, row, weights),
            1 => self.tile::<S, R, 1>(simd, row, weights),
            _ => {}
        }
    }

    /// `C` rows of `x` with `R` rows of weights: few enough that all sums stay in registers.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        simd: S,
        row: usize,
        Weights { out, w }: Weights<'_>,
    ) {
        let width = self.width;
        let x = &self.x[row * width..(row + C) * width];
        let vectors = width / S::F32_LANES;
        let mut xs: [&[S::f32s]; C] = [&[]; C];
        let mut ws: [&[S::f32s]; R] = [&[]; R];
        for c in 0..C {
            xs[c] = &S::as_simd_f32s(&x[c * width..(c + 1) * width]).0[..vectors];
        }
        for r in 0..R {
            ws[r] = &S::as_simd_f32s(&w[r * width..(r + 1) * width]).0[..vectors];
        }
        let zero = simd.splat_f32s(0.0);
        let mut sums = [[zero; R]; C];
        for p in 0..vectors {
            let mut values = [zero; C];
            for c in 0..C {
                values[c] = xs[c][p];
            }
            for r in 0..R {
                let weight = ws[r][p];
                for c in 0..C {
                    sums[c][r] = simd.mul_add_f32s(weight, values[c], sums[c][r]);
                }
            }
        }
        for c in 0..C {
            for r in 0..R {
                let mut sum = simd.reduce_sum_f32s(sums[c][r]);
                for p in vectors * S::F32_LANES..width {
                    sum += x[c * width + p] * w[r * width + p];
                }
                self.y[(row + c) * self.stride + out + r] = sum;
            }
        }
    }
}

impl<W: Weight> WithSimd for Product<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let rows = self.x.len() / self.width;
        let outputs = self.w.len() / self.width;
        let mut room = vec![0f32; W::room(4 * self.width)];
        let mut first = 0;
        while first < rows {
            let end = (first + PANEL).min(rows);
            let mut out = 0;
            while out + 4 <= outputs {
                self.columns::<S, 4>(simd, first..end, out, &mut room);
                out += 4;
            }
            while out < outputs {
                self.columns::<S, 1>(simd, first..end, out, &mut room);
                out += 1;
            }
            first = end;
        }
    }
}

/// `y[q] += sum over j of p[q][j] * v[j]` for rows of `width`; rows of `p` begin `stride` apart.
pub(super) struct WeightedSum<'a> {
    pub(super) p: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) width: usize,
    pub(super) stride: usize,
}

impl WeightedSum<'_> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }

    /// `Q` rows of `y`, `D` vectors of each from vector `column` on.
    #[inline(always)]
    fn tile<S: Simd, const Q: usize, const D: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
    ) {
        let width = self.width;
        let vectors = width / S::F32_LANES;
        let keys = self.v.len() / width;
        let mut weights: [&[f32]; Q] = [&[]; Q];
        for q in 0..Q {
            weights[q] = &self.p[(row + q) * self.stride..][..keys];
        }
        let mut sums = [[simd.splat_f32s(0.0); D]; Q];
        for q in 0..Q {
            let y = S::as_simd_f32s(&self.y[(row + q) * width..][..width]).0;
            sums[q].copy_from_slice(&y[column..column + D]);
        }
        for j in 0..keys {
            let values = &S::as_simd_f32s(&self.v[j * width..(j + 1) * width]).0[..vectors];
            let values = &values[column..column + D];
            for q in 0..Q {
                let weight = simd.splat_f32s(weights[q][j]);
                for d in 0..D {
                    sums[q][d] = simd.mul_add_f32s(weight, values[d], sums[q][d]);
                }
            }
        }
        for q in 0..Q {
            let y = S::as_mut_simd_f32s(&mut self.y[(row + q) * width..][..width]).0;
            y[column..column + D].copy_from_slice(&sums[q]);
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const Q: usize>(&mut self, simd: S, row: usize) {
        let vectors = self.width / S::F32_LANES;
        let mut column = 0;
        while column + 4 <= vectors {
            self.tile::<S, Q, 4>(simd, row, column);
            column += 4;
        }
        while column < vectors {
            self.tile::<S, Q, 1>(simd, row, column);
            column += 1;
        }
        let keys = self.v.len() / self.width;
        for q in row..row + Q {
            for d in vectors * S::F32_LANES..self.width {
                let mut sum = self.y[q * self.width + d];
                for j in 0..keys {
                    sum += self.p[q * self.stride + j] * self.v[j * self.width + d];
                }
                self.y[q * self.width + d] = sum;
            }
        }
    }
}

impl WithSimd for WeightedSum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let rows = self.y.len() / self.width;
        let mut row = 0;
        while row + 3 <= rows {
            self.rows::<S, 3>(simd, row);
            row += 3;
        }
        while row < rows {
            self.rows::<S, 1>(simd, row);
            row += 1;
        }
    }
}

/// `row` becomes its softmax.
pub(super) struct Softmax<'a>(pub(super) &'a mut [f32]);

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut largest = [f32::NEG_INFINITY; 8];
        let (chunks, rest) = self.0.as_chunks_mut::<8>();
        for chunk in chunks.iter() {
            for lane in 0..8 {
                largest[lane] = largest[lane].max(chunk[lane]);
            }
        }
        let mut peak = f32::NEG_INFINITY;
        for value in largest.iter().chain(rest.iter()) {
            peak = peak.max(*value);
        }
        let mut sums = [0f32; 8];
        for chunk in chunks.iter_mut() {
            for lane in 0..8 {
                chunk[lane] = exp(chunk[lane] - peak);
                sums[lane] += chunk[lane];
            }
        }
        let mut total = 0.0;
        for sum in sums {
            total += sum;
        }
        for value in rest.iter_mut() {
            *value = exp(*value - peak);
            total += *value;
        }
        let share = 1.0 / total;
        for value in self.0 {
            *value *= share;
        }
    }
}

/// `gate[i] = silu(gate[i]) * up[i]`.
pub(super) struct Gated<'a> {
    pub(super) gate: &'a mut [f32],
    pub(super) up: &'a [f32],
}

impl WithSimd for Gated<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }
}

/// Rows of `x`, each divided by its root mean square and multiplied by `weight`, into `y`.
pub(super) struct RmsNorm<'a> {
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) eps: f32,
}

impl WithSimd for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.weight.len();
        for (x, y) in self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width)) {
            let (chunks, rest) = x.as_chunks::<8>();
            let mut sums = [0f32; 8];
            for chunk in chunks {
                for lane in 0..8 {
                    sums[lane] += chunk[lane] * chunk[lane];
                }
            }
            let mut total = 0.0;
            for sum in sums {
                total += sum;
            }
            for value in rest {
                total += value * value;
            }
            let scale = 1.0 / (total / width as f32 + self.eps).sqrt();
            for i in 0..width {
                y[i] = x[i] * scale * self.weight[i];
            }
        }
    }
}

/// `e` to the power of `x`, within two units of the last place: an even power of two times a polynomial. Plain arithmetic, so
/// that loops over it become vector instructions.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding and subtracting it rounds to whole numbers.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let power = x * std::f32::consts::LOG2_E + ROUND - ROUND;
    // ln 2 in two parts, so that the rest keeps its last bits.
    let rest = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let mut sum = 1.987_569_1e-4;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * rest + factor;
    }
    let value = sum * rest * rest + rest + 1.0;
    value * f32::from_bits(((power as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() <= 1e-5 * (1.0 + a.abs().max(b.abs()))
    }

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 40_503 + seed * 977) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    proptest! {
        #[test]
        fn products_are_sums_of_products(rows in 1usize..9, outputs in 1usize..11, width in 1usize..40) {
            let (x, w) = (values(rows * width, 1), values(outputs * width, 2));
            let mut y = vec![0.0; rows * outputs];
            Product { x: &x, w: &w, y: &mut y, width, stride: outputs }.run();
            for t in 0..rows {
                let mut alone = vec![0.0; outputs];
                let row = &x[t * width..(t + 1) * width];
                Product { x: row, w: &w, y: &mut alone, width, stride: outputs }.run();
                prop_assert_eq!(&alone, &y[t * outputs..(t + 1) * outputs], "a row depends on others");
                for o in 0..outputs {
                    let plain: f32 = (0..width).map(|p| row[p] * w[o * width + p]).sum();
                    prop_assert!(close(plain, alone[o]), "{} {}", plain, alone[o]);
                }
            }
        }

        #[test]
        fn weighted_sums_are_sums(rows in 1usize..8, keys in 1usize..20, width in 1usize..80) {
            let (p, v) = (values(rows * keys, 3), values(keys * width, 4));
            let mut y = vec![0.5; rows * width];
            WeightedSum { p: &p, v: &v, y: &mut y, width, stride: keys }.run();
            for q in 0..rows {
                for d in 0..width {
                    let plain: f32 = (0..keys).map(|j| p[q * keys + j] * v[j * width + d]).sum();
                    prop_assert!(close(plain + 0.5, y[q * width + d]));
                }
            }
        }
    }

    #[test]
    fn exponentials_are_right() {
        for i in -8_700..8_800 {
            let x = i as f32 / 100.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - expected).abs() <= 3e-7 * expected, "{x}: {found} {expected}");
        }
    }

    #[test]
    fn rows_become_shares_and_gates() {
        let mut row = values(19, 5);
        let total: f32 = row.iter().map(|x| x.exp()).sum();
        let expected: Vec<f32> = row.iter().map(|x| x.exp() / total).collect();
        Arch::new().dispatch(Softmax(&mut row));
        assert!(row.iter().zip(&expected).all(|(a, b)| close(*a, *b)));

        let (mut gate, up) = (values(19, 6), values(19, 7));
        let expected: Vec<f32> =
            gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        Arch::new().dispatch(Gated { gate: &mut gate, up: &up });
        assert!(gate.iter().zip(&expected).all(|(a, b)| close(*a, *b)));
    }
}
