//! The products by AVX2.

use std::arch::x86_64::{__m256, __m256i};

use pulp::{NullaryFnOnce, cast, x86::V3};

use super::{Bytes, Format, GROUP, PerOutput, Product, QUADS, Row};

/// Rows of activations that go through a group of weights together: what is unpacked of the weights stays in registers.
const ROWS: usize = 4;

/// So many rows of activations stay in the first cache while the groups pass by.
const PANEL: usize = 32;

pub(super) fn run(simd: V3, product: Product<'_>) {
    match product.w.format {
        Format::Four => simd.vectorize(Kernel::<Four> { simd, product, format: Four }),
        Format::FourAndLeast => {
            simd.vectorize(Kernel::<FourAndLeast> { simd, product, format: FourAndLeast });
        }
        Format::Eight => simd.vectorize(Kernel::<Eight> { simd, product, format: Eight }),
    }
}

/// What differs between formats.
trait Weigh: Copy {
    const VECTORS: usize;
    const LEAST: bool;

    /// The quads of a block.
    fn unpack(simd: V3, vectors: &[Bytes]) -> [__m256i; QUADS];

    /// Sums of products of a block, for each output of the group; `sum` is that of the activations.
    fn dot(simd: V3, weights: &[__m256i; QUADS], quads: &[i32; QUADS], sum: i32) -> __m256i;
}

#[derive(Clone, Copy)]
struct Four;
#[derive(Clone, Copy)]
struct FourAndLeast;
#[derive(Clone, Copy)]
struct Eight;

#[inline(always)]
fn unpack_nibbles(simd: V3, vectors: &[Bytes]) -> [__m256i; QUADS] {
    let avx2 = simd.avx2;
    let mask = simd.avx._mm256_set1_epi8(15);
    let mut quads = [mask; QUADS];
    for j in 0..QUADS / 2 {
        let packed: __m256i = cast(vectors[j].0);
        quads[j] = avx2._mm256_and_si256(packed, mask);
        quads[j + QUADS / 2] = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(packed), mask);
    }
    quads
}

/// Weights up to 15: eight sums of two products by 127 at most fit into 16 bits.
#[inline(always)]
fn dot_small(simd: V3, weights: &[__m256i; QUADS], quads: &[i32; QUADS]) -> __m256i {
    let (avx, avx2) = (simd.avx, simd.avx2);
    let mut sums = avx._mm256_setzero_si256();
    for j in 0..QUADS {
        let x = avx._mm256_set1_epi32(quads[j]);
        sums = avx2._mm256_add_epi16(sums, avx2._mm256_maddubs_epi16(weights[j], x));
    }
    avx2._mm256_madd_epi16(sums, avx._mm256_set1_epi16(1))
}

impl Weigh for Four {
    const VECTORS: usize = Format::Four.vectors();
    const LEAST: bool = false;

    #[inline(always)]
    fn unpack(simd: V3, vectors: &[Bytes]) -> [__m256i; QUADS] {
        unpack_nibbles(simd, vectors)
    }

    #[inline(always)]
    fn dot(simd: V3, weights: &[__m256i; QUADS], quads: &[i32; QUADS], sum: i32) -> __m256i {
        let dot = dot_small(simd, weights, quads);
        simd.avx2._mm256_sub_epi32(dot, simd.avx._mm256_set1_epi32(8 * sum))
    }
}

impl Weigh for FourAndLeast {
    const VECTORS: usize = Format::FourAndLeast.vectors();
    const LEAST: bool = true;

    #[inline(always)]
    fn unpack(simd: V3, vectors: &[Bytes]) -> [__m256i; QUADS] {
        unpack_nibbles(simd, vectors)
    }

    #[inline(always)]
    fn dot(simd: V3, weights: &[__m256i; QUADS], quads: &[i32; QUADS], _: i32) -> __m256i {
        dot_small(simd, weights, quads)
    }
}

impl Weigh for Eight {
    const VECTORS: usize = Format::Eight.vectors();
    const LEAST: bool = false;

    #[inline(always)]
    fn unpack(_: V3, vectors: &[Bytes]) -> [__m256i; QUADS] {
        std::array::from_fn(|j| cast(vectors[j].0))
    }

    /// One factor has to be unsigned: the weight gives its sign to the activation. Two products by 127 fit into 16 bits, but
    /// no more.
    #[inline(always)]
    fn dot(simd: V3, weights: &[__m256i; QUADS], quads: &[i32; QUADS], _: i32) -> __m256i {
        let (avx, avx2) = (simd.avx, simd.avx2);
        let one = avx._mm256_set1_epi16(1);
        let mut sums = avx._mm256_setzero_si256();
        for j in 0..QUADS {
            let x = avx2._mm256_sign_epi8(avx._mm256_set1_epi32(quads[j]), weights[j]);
            let pairs = avx2._mm256_maddubs_epi16(avx2._mm256_abs_epi8(weights[j]), x);
            sums = avx2._mm256_add_epi32(sums, avx2._mm256_madd_epi16(pairs, one));
        }
        sums
    }
}

struct Kernel<'a, F> {
    simd: V3,
    product: Product<'a>,
    format: F,
}

/// Weights of one group.
#[derive(Clone, Copy)]
struct Group<'a> {
    quants: &'a [Bytes],
    scales: &'a [PerOutput],
    least: &'a [PerOutput],
}

impl<F: Weigh> NullaryFnOnce for Kernel<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, product, format } = self;
        let Product { x, rows, w, y, stride } = product;
        let blocks = x.blocks;
        let first = rows.start;
        let mut panel = rows.start;
        while panel < rows.end {
            let end = (panel + PANEL).min(rows.end);
            for group in 0..w.scales.len() / blocks {
                let range = group * blocks..(group + 1) * blocks;
                let weights = Group {
                    quants: &w.quants[range.start * F::VECTORS..range.end * F::VECTORS],
                    scales: &w.scales[range.clone()],
                    least: if F::LEAST { &w.least[range] } else { &[] },
                };
                let mut write = |row: usize, sums: __m256| {
                    let at = (row - first) * stride + group * GROUP;
                    y[at..at + GROUP].copy_from_slice(&cast::<__m256, [f32; GROUP]>(sums));
                };
                let mut row = panel;
                while row + ROWS <= end {
                    let rows: [Row<'_>; ROWS] = std::array::from_fn(|c| x.row(row + c));
                    let sums = tile(simd, format, weights, &rows);
                    for c in 0..ROWS {
                        write(row + c, sums[c]);
                    }
                    row += ROWS;
                }
                while row < end {
                    write(row, tile(simd, format, weights, &[x.row(row)])[0]);
                    row += 1;
                }
            }
            panel = end;
        }
    }
}

#[inline(always)]
fn tile<F: Weigh, const C: usize>(
    simd: V3,
    _: F,
    weights: Group<'_>,
    rows: &[Row<'_>; C],
) -> [__m256; C] {
    let avx = simd.avx;
    let mut sums = [avx._mm256_setzero_ps(); C];
    let blocks = weights.scales.len();
    for b in 0..blocks {
        let quads = F::unpack(simd, &weights.quants[b * F::VECTORS..(b + 1) * F::VECTORS]);
        let scale: __m256 = cast(weights.scales[b].0);
        for c in 0..C {
            let row = &rows[c];
            let dot = F::dot(simd, &quads, &row.quads[b], row.sums[b]);
            let both = avx._mm256_mul_ps(scale, avx._mm256_set1_ps(row.scales[b]));
            sums[c] = simd.fma._mm256_fmadd_ps(avx._mm256_cvtepi32_ps(dot), both, sums[c]);
            if F::LEAST {
                let all = avx._mm256_set1_ps(row.sums[b] as f32 * row.scales[b]);
                sums[c] = simd.fma._mm256_fmadd_ps(cast(weights.least[b].0), all, sums[c]);
            }
        }
    }
    sums
}
