//! Flash attention: all sequences of a step in one call, in which no score is written to memory. On a GPU by candle-flash-attn, with the
//! feature `flash-attn`; on a CPU by candle's own function of the same meaning, which the tests compare.

use candle_core::{DType, Device, Result, Tensor};

use crate::model::batch::Span;

/// Numbers of a head that the kernels are made for.
#[cfg(feature = "flash-attn")]
const SIZE_MAX: usize = 512;
/// They read so many numbers at once.
#[cfg(feature = "flash-attn")]
const SIZE_STEP: usize = 8;

/// Whether this device calculates it, in this type and with heads of this size.
#[cfg(feature = "flash-attn")]
pub(super) fn serves(device: &Device, dtype: DType, size: usize) -> bool {
    let halves = matches!(dtype, DType::F16 | DType::BF16);
    let sized = size <= SIZE_MAX && size.is_multiple_of(SIZE_STEP);
    // The kernels are for what `bf16` asks for, too: compute capability 8.0.
    halves && sized && device.is_cuda() && crate::cuda::has_bf16(device)
}

#[cfg(not(feature = "flash-attn"))]
pub(super) fn serves(_: &Device, _: DType, _: usize) -> bool {
    false
}

/// How long the sequences of a step are that lie one after the other. The last new token of each sees all of its sequence.
pub(super) struct Ragged {
    queries: Lengths,
    keys: Lengths,
}

struct Lengths {
    /// As the function wants them: on a GPU where each sequence begins and the last one ends, on a CPU each one's length.
    tensor: Tensor,
    longest: usize,
}

impl Ragged {
    pub(super) fn new(spans: &[Span<'_>], device: &Device) -> Result<Self> {
        let queries = spans.iter().map(|span| span.run.tokens.len());
        let keys = spans.iter().map(Span::end);
        Ok(Self {
            queries: Lengths::new(queries.collect(), device)?,
            keys: Lengths::new(keys.collect(), device)?,
        })
    }

    /// What the queries, (rows, heads, size), find in keys and values, (tokens, key-value heads, size): (rows, heads, size). With a
    /// window each looks back on so many tokens, itself included.
    pub(super) fn find(
        &self,
        window: Option<usize>,
        [queries, keys, values]: [&Tensor; 3],
    ) -> Result<Tensor> {
        let scale = 1.0 / (queries.dim(2)? as f32).sqrt();
        let before = window.map(|window| window.saturating_sub(1));
        let lengths = [&self.queries, &self.keys];
        let [queries_lengths, keys_lengths] = lengths.map(|it| &it.tensor);
        let [queries_longest, keys_longest] = lengths.map(|it| it.longest);
        #[cfg(feature = "flash-attn")]
        if queries.device().is_cuda() {
            return candle_flash_attn::flash_attn_varlen_windowed(
                queries,
                keys,
                values,
                queries_lengths,
                keys_lengths,
                queries_longest,
                keys_longest,
                scale,
                before,
                Some(0),
            );
        }
        candle_nn::attention::flash_attn_varlen_cpu(
            queries,
            keys,
            values,
            None,
            queries_lengths,
            keys_lengths,
            queries_longest,
            keys_longest,
            scale,
            true,
            before,
            None,
        )
    }
}

impl Lengths {
    fn new(lengths: Vec<usize>, device: &Device) -> Result<Self> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut numbers: Vec<u32> = lengths.iter().map(|it| *it as u32).collect();
        if device.is_cuda() {
            numbers = starts(&numbers);
        }
        Ok(Self { tensor: Tensor::new(numbers, device)?, longest })
    }
}

/// Where each begins, and where the last one ends.
fn starts(lengths: &[u32]) -> Vec<u32> {
    let mut end = 0;
    let ends = lengths.iter().map(|length| {
        end += length;
        end
    });
    std::iter::once(0).chain(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::starts;

    #[test]
    fn each_begins_where_the_one_before_ends() {
        assert_eq!(starts(&[3, 1, 20]), [0, 3, 4, 24]);
    }
}
