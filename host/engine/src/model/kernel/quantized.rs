//! Products of quantized weights with rows of activations, which are turned into 16-bit numbers for it. 8 bits, as llama.cpp has
//! them, make noise that changes what small models say; with 16 it is no more than that of `f32`.
//!
//! Weights lie so that one vector holds the same two inputs of eight outputs: sums of outputs stay in lanes of their own, and
//! nothing is added up across a vector. As in [`super`], a row has the same bits whatever is computed beside it.

#[cfg(target_arch = "x86_64")]
mod avx2;

/// So many numbers of a row share a scale.
pub(in super::super) const BLOCK: usize = 32;
/// Outputs whose weights lie together.
pub(in super::super) const GROUP: usize = 8;
/// Two inputs of eight outputs.
const PAIRS: usize = BLOCK / 2;
/// The largest number that an activation becomes.
const LARGEST: f32 = 32_767.0;

/// One vector of weights: 16 bits for each output and each half of a pair.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(in super::super) struct Bits(pub(in super::super) [u16; 2 * GROUP]);

/// One number for each output of a group.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(in super::super) struct PerOutput(pub(in super::super) [f32; GROUP]);

/// How the weights of a block are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Format {
    /// 0 to 15 for -8 to 7, times a scale: four pairs a vector, the first in the lowest bits.
    Four,
    /// The same, as 0 to 15, plus a least value.
    FourAndLeast,
    /// -128 to 127, times a scale: two pairs a vector.
    Eight,
}

impl Format {
    /// Pairs that share a vector.
    pub(in super::super) const fn pairs(self) -> usize {
        match self {
            Self::Four | Self::FourAndLeast => 4,
            Self::Eight => 2,
        }
    }

    /// Vectors of a block.
    pub(in super::super) const fn vectors(self) -> usize {
        PAIRS / self.pairs()
    }
}

/// Weights of whole groups: blocks of the first group, then of the next.
#[derive(Clone, Copy)]
pub(in super::super) struct Weights<'a> {
    pub(in super::super) format: Format,
    pub(in super::super) quants: &'a [Bits],
    pub(in super::super) scales: &'a [PerOutput],
    /// Empty but for [`Format::FourAndLeast`].
    pub(in super::super) least: &'a [PerOutput],
}

impl Weights<'_> {
    /// A number of the first block: of an output of the group, for an input of the block.
    pub(in super::super) fn number(&self, output: usize, input: usize) -> f32 {
        let quant = weight(self.format, self.quants, output, input);
        let scale = self.scales[0].0[output];
        match self.format {
            Format::Four => (quant - 8) as f32 * scale,
            Format::FourAndLeast => quant as f32 * scale + self.least[0].0[output],
            Format::Eight => quant as f32 * scale,
        }
    }
}

/// Rows of activations in 16 bits.
pub(in super::super) struct Activations {
    blocks: usize,
    /// The first of a pair in the lower half.
    pairs: Vec<[i32; PAIRS]>,
    scales: Vec<f32>,
    /// Of the 16-bit numbers of each block.
    sums: Vec<i32>,
}

impl Activations {
    /// `width` is a multiple of [`BLOCK`].
    pub(in super::super) fn new(x: &[f32], width: usize) -> Self {
        let (chunks, _) = x.as_chunks::<BLOCK>();
        let mut made = Self {
            blocks: width / BLOCK,
            pairs: Vec::with_capacity(chunks.len()),
            scales: Vec::with_capacity(chunks.len()),
            sums: Vec::with_capacity(chunks.len()),
        };
        for chunk in chunks {
            let largest = chunk.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let scale = largest / LARGEST;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let mut numbers = [0i16; BLOCK];
            for (number, x) in numbers.iter_mut().zip(chunk) {
                // What is no number becomes 0, and its scale says what it was.
                *number = (x * inverse).round_ties_even().clamp(-LARGEST, LARGEST) as i16;
            }
            let (pairs, _) = numbers.as_chunks::<2>();
            let mut packed = [0; PAIRS];
            for (packed, [first, second]) in packed.iter_mut().zip(pairs) {
                let [a, b] = first.to_le_bytes();
                let [c, d] = second.to_le_bytes();
                *packed = i32::from_le_bytes([a, b, c, d]);
            }
            made.pairs.push(packed);
            made.scales.push(if chunk.iter().all(|x| x.is_finite()) { scale } else { f32::NAN });
            made.sums.push(numbers.iter().map(|it| i32::from(*it)).sum());
        }
        made
    }

    fn row(&self, row: usize) -> Row<'_> {
        let blocks = row * self.blocks..(row + 1) * self.blocks;
        Row {
            pairs: &self.pairs[blocks.clone()],
            scales: &self.scales[blocks.clone()],
            sums: &self.sums[blocks],
        }
    }
}

#[derive(Clone, Copy)]
struct Row<'a> {
    pairs: &'a [[i32; PAIRS]],
    scales: &'a [f32],
    sums: &'a [i32],
}

/// `y[t][o] = x[t] · w[o]` for `rows` of `x`; rows of `y` begin `stride` apart and have a number for each output of the groups.
pub(in super::super) struct Product<'a> {
    pub(in super::super) x: &'a Activations,
    pub(in super::super) rows: std::ops::Range<usize>,
    pub(in super::super) w: Weights<'a>,
    pub(in super::super) y: &'a mut [f32],
    pub(in super::super) stride: usize,
}

impl Product<'_> {
    pub(in super::super) fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            return avx2::run(simd, self);
        }
        self.run_plain();
    }

    /// In numbers, one by one: for other processors, and what the vectors are tested against.
    fn run_plain(self) {
        let Weights { format, quants, scales, least } = self.w;
        let blocks = self.x.blocks;
        for (t, row) in self.rows.clone().enumerate() {
            let row = self.x.row(row);
            for group in 0..scales.len() / blocks {
                let mut sums = [0f32; GROUP];
                for b in 0..blocks {
                    let at = group * blocks + b;
                    let vectors = &quants[at * format.vectors()..][..format.vectors()];
                    for (o, sum) in sums.iter_mut().enumerate() {
                        let mut dot = 0;
                        for i in 0..BLOCK {
                            dot += weight(format, vectors, o, i) * activation(&row.pairs[b], i);
                        }
                        if format == Format::Four {
                            dot -= 8 * row.sums[b];
                        }
                        let scale = scales[at].0[o] * row.scales[b];
                        *sum = (dot as f32).mul_add(scale, *sum);
                        if format == Format::FourAndLeast {
                            let all = row.sums[b] as f32 * row.scales[b];
                            *sum = least[at].0[o].mul_add(all, *sum);
                        }
                    }
                }
                self.y[t * self.stride + group * GROUP..][..GROUP].copy_from_slice(&sums);
            }
        }
    }
}

fn activation(pairs: &[i32; PAIRS], input: usize) -> i32 {
    let [a, b, c, d] = pairs[input / 2].to_le_bytes();
    i32::from(i16::from_le_bytes(if input.is_multiple_of(2) { [a, b] } else { [c, d] }))
}

/// As it is written: what is to be added to it is not.
fn weight(format: Format, vectors: &[Bits], output: usize, input: usize) -> i32 {
    let (pair, half) = (input / 2, input % 2);
    let bits = vectors[pair / format.pairs()].0[2 * output + half];
    let at = pair % format.pairs();
    match format {
        Format::Eight => i32::from(bits.to_le_bytes()[at].cast_signed()),
        Format::Four | Format::FourAndLeast => i32::from(bits >> (4 * at) & 15),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(seed: usize) -> u8 {
        (seed.wrapping_mul(2_654_435_761) >> 7) as u8
    }

    fn scale(seed: usize) -> PerOutput {
        PerOutput(std::array::from_fn(|o| f32::from(number(seed * 8 + o)) / 1000.0 - 0.1))
    }

    proptest! {
        #[test]
        fn vectors_calculate_as_numbers_do_and_rows_alone(
            rows in 1usize..7,
            groups in 1usize..4,
            blocks in 1usize..5,
            seed in 0usize..1000,
        ) {
            for format in [Format::Four, Format::FourAndLeast, Format::Eight] {
                let count = groups * blocks;
                let bits = |at: usize| u16::from_le_bytes([number(at + seed), number(at * 7 + seed)]);
                let quants: Vec<_> = (0..count * format.vectors())
                    .map(|at| Bits(std::array::from_fn(|i| bits(at * 32 + i))))
                    .collect();
                let scales: Vec<_> = (0..count).map(|at| scale(at + seed)).collect();
                let least: Vec<_> = match format {
                    Format::FourAndLeast => (0..count).map(|at| scale(at + seed + 99)).collect(),
                    _ => Vec::new(),
                };
                let w = Weights { format, quants: &quants, scales: &scales, least: &least };
                let width = blocks * BLOCK;
                let x: Vec<f32> =
                    (0..rows * width).map(|at| f32::from(number(at * 3 + seed)) / 64.0 - 2.0).collect();
                let x = Activations::new(&x, width);
                let stride = groups * GROUP + 3;
                let mut y = vec![7f32; rows * stride];
                Product { x: &x, rows: 0..rows, w, y: &mut y, stride }.run();
                let mut plain = vec![7f32; rows * stride];
                Product { x: &x, rows: 0..rows, w, y: &mut plain, stride }.run_plain();
                prop_assert_eq!(&y, &plain, "{:?}", format);
                for t in 0..rows {
                    let mut alone = vec![7f32; stride];
                    Product { x: &x, rows: t..t + 1, w, y: &mut alone, stride }.run();
                    prop_assert_eq!(&alone[..], &y[t * stride..][..stride], "{:?}", format);
                }
            }
        }

        #[test]
        fn activations_keep_fifteen_bits(values in prop::collection::vec(-100f32..100.0, BLOCK)) {
            let x = Activations::new(&values, BLOCK);
            let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            for (i, value) in values.iter().enumerate() {
                let back = activation(&x.pairs[0], i) as f32 * x.scales[0];
                prop_assert!((back - value).abs() <= largest / 65_000.0, "{back} for {value}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1f32; BLOCK];
            values[5] = bad;
            assert!(Activations::new(&values, BLOCK).scales[0].is_nan(), "{bad}");
        }
        assert_eq!(Activations::new(&[0.0; BLOCK], BLOCK).scales, [0.0]);
    }
}
