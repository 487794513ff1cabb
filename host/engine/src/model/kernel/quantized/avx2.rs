//! The products by AVX2.

use std::arch::x86_64::{__m256, __m256i};

use pulp::{NullaryFnOnce, cast, x86::V3};

use super::{Bits, Format, GROUP, PAIRS, PerOutput, Product, Row};

/// Rows of activations that go through a group of weights together: what is unpacked of the weights stays in registers.
const ROWS: usize = 4;

/// So many rows of activations stay in the first cache while the groups pass by.
const PANEL: usize = 16;

pub(super) fn run(simd: V3, product: Product<'_>) {
    match product.w.format {
        Format::Four => simd.vectorize(Kernel { simd, product, format: Four }),
        Format::FourAndLeast => simd.vectorize(Kernel { simd, product, format: FourAndLeast }),
        Format::Eight => simd.vectorize(Kernel { simd, product, format: Eight }),
    }
}

/// What differs between formats. `N` pairs share a vector.
trait Weigh<const N: usize>: Copy {
    const FORMAT: Format;

    /// Pairs of 16-bit numbers.
    fn unpack(simd: V3, vector: &Bits) -> [__m256i; N];
}

#[derive(Clone, Copy)]
struct Four;
#[derive(Clone, Copy)]
struct FourAndLeast;
#[derive(Clone, Copy)]
struct Eight;

#[inline(always)]
fn nibbles(simd: V3, vector: &Bits) -> [__m256i; 4] {
    let avx2 = simd.avx2;
    let mask = simd.avx._mm256_set1_epi16(15);
    let packed: __m256i = cast(vector.0);
    [
        avx2._mm256_and_si256(packed, mask),
        avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(packed), mask),
        avx2._mm256_and_si256(avx2._mm256_srli_epi16::<8>(packed), mask),
        avx2._mm256_srli_epi16::<12>(packed),
    ]
}

impl Weigh<4> for Four {
    const FORMAT: Format = Format::Four;

    #[inline(always)]
    fn unpack(simd: V3, vector: &Bits) -> [__m256i; 4] {
        nibbles(simd, vector)
    }
}

impl Weigh<4> for FourAndLeast {
    const FORMAT: Format = Format::FourAndLeast;

    #[inline(always)]
    fn unpack(simd: V3, vector: &Bits) -> [__m256i; 4] {
        nibbles(simd, vector)
    }
}

impl Weigh<2> for Eight {
    const FORMAT: Format = Format::Eight;

    #[inline(always)]
    fn unpack(simd: V3, vector: &Bits) -> [__m256i; 2] {
        let packed: __m256i = cast(vector.0);
        let low = simd.avx2._mm256_slli_epi16::<8>(packed);
        [simd.avx2._mm256_srai_epi16::<8>(low), simd.avx2._mm256_srai_epi16::<8>(packed)]
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
    quants: &'a [Bits],
    scales: &'a [PerOutput],
    least: &'a [PerOutput],
}

macro_rules! kernel {
    ($format:ty, $pairs:literal) => {
        impl NullaryFnOnce for Kernel<'_, $format> {
            type Output = ();

            #[inline(always)]
            fn call(self) {
                calculate::<$format, $pairs>(self.simd, self.product, self.format);
            }
        }
    };
}

kernel!(Four, 4);
kernel!(FourAndLeast, 4);
kernel!(Eight, 2);

#[inline(always)]
fn calculate<F: Weigh<N>, const N: usize>(simd: V3, product: Product<'_>, format: F) {
    let Product { x, rows, w, y, stride } = product;
    let (blocks, vectors) = (x.blocks, F::FORMAT.vectors());
    let first = rows.start;
    let mut panel = rows.start;
    while panel < rows.end {
        let end = (panel + PANEL).min(rows.end);
        for group in 0..w.scales.len() / blocks {
            let range = group * blocks..(group + 1) * blocks;
            let least = F::FORMAT == Format::FourAndLeast;
            let weights = Group {
                quants: &w.quants[range.start * vectors..range.end * vectors],
                scales: &w.scales[range.clone()],
                least: if least { &w.least[range] } else { &[] },
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

/// Two products of 16 bits are added up in 32, and 16 pairs of a block as well: 128 times 32,767 times 32 is below 2^31.
#[inline(always)]
fn tile<F: Weigh<N>, const N: usize, const C: usize>(
    simd: V3,
    _: F,
    weights: Group<'_>,
    rows: &[Row<'_>; C],
) -> [__m256; C] {
    let (avx, avx2) = (simd.avx, simd.avx2);
    let mut sums = [avx._mm256_setzero_ps(); C];
    for b in 0..weights.scales.len() {
        let vectors = &weights.quants[b * (PAIRS / N)..(b + 1) * (PAIRS / N)];
        let mut dots = [avx._mm256_setzero_si256(); C];
        for v in 0..PAIRS / N {
            let pairs = F::unpack(simd, &vectors[v]);
            for c in 0..C {
                for p in 0..N {
                    let x = avx._mm256_set1_epi32(rows[c].pairs[b][v * N + p]);
                    dots[c] = avx2._mm256_add_epi32(dots[c], avx2._mm256_madd_epi16(pairs[p], x));
                }
            }
        }
        let scale: __m256 = cast(weights.scales[b].0);
        for c in 0..C {
            let (of_block, sum) = (rows[c].scales[b], rows[c].sums[b]);
            let mut dot = dots[c];
            if F::FORMAT == Format::Four {
                dot = avx2._mm256_sub_epi32(dot, avx._mm256_set1_epi32(8 * sum));
            }
            let both = avx._mm256_mul_ps(scale, avx._mm256_set1_ps(of_block));
            sums[c] = simd.fma._mm256_fmadd_ps(avx._mm256_cvtepi32_ps(dot), both, sums[c]);
            if F::FORMAT == Format::FourAndLeast {
                let all = avx._mm256_set1_ps(sum as f32 * of_block);
                sums[c] = simd.fma._mm256_fmadd_ps(cast(weights.least[b].0), all, sums[c]);
            }
        }
    }
    sums
}
