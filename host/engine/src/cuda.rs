//! What a CUDA device says of itself, through the binding that candle uses. Without the feature `cuda` there is none.

use candle_core::Device;

use crate::memory::Memory;

/// A CUDA device.
pub(crate) struct Board {
    /// `cuda:0`.
    pub(crate) device: String,
    /// Its name in NVML, which counts devices in another order than CUDA does: `GPU-…`.
    pub(crate) id: String,
    pub(crate) name: String,
    /// How much of its memory is free, as its driver says. The error is one line.
    pub(crate) memory: Box<dyn Fn() -> Result<Memory, String> + Send>,
}

/// The device, if it is one; for the thread that opened it.
#[cfg(feature = "cuda")]
pub(crate) fn board(device: &Device) -> Option<Board> {
    let stream = cuda(device)?.cuda_stream();
    let context = stream.context();
    let name = context.name().unwrap_or_else(|_| "a CUDA device".to_owned());
    let id = context.uuid().map(|id| uuid(id.bytes.iter().map(|it| *it as u8))).unwrap_or_default();
    let reader = device.clone();
    let memory =
        Box::new(move || memory(&reader).unwrap_or_else(|| Err("it is no CUDA device".to_owned())));
    Some(Board { device: crate::device::name(device), id, name, memory })
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn board(_: &Device) -> Option<Board> {
    None
}

/// What is free on a CUDA device now; none where it is no such device.
#[cfg(feature = "cuda")]
pub(crate) fn memory(device: &Device) -> Option<Result<Memory, String>> {
    let info = cuda(device)?.cuda_stream().context().mem_get_info();
    let info = info.map(|(free, total)| Memory { free: free as u64, total: total as u64 });
    Some(info.map_err(|error| crate::error::first_line(&error)))
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn memory(_: &Device) -> Option<Result<Memory, String>> {
    None
}

/// Whether it calculates in `bf16`: from compute capability 8.0 on.
#[cfg(feature = "cuda")]
pub(crate) fn has_bf16(device: &Device) -> bool {
    let capability =
        cuda(device).and_then(|it| it.cuda_stream().context().compute_capability().ok());
    capability.is_none_or(|(major, _)| major >= 8)
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn has_bf16(_: &Device) -> bool {
    true
}

/// candle's error for another device would hold a backtrace, so that is asked first.
#[cfg(feature = "cuda")]
fn cuda(device: &Device) -> Option<&candle_core::CudaDevice> {
    if device.is_cuda() { device.as_cuda_device().ok() } else { None }
}

/// As NVML writes the 16 bytes.
#[cfg(any(feature = "cuda", test))]
fn uuid(bytes: impl Iterator<Item = u8>) -> String {
    use std::fmt::Write as _;

    let mut text = String::from("GPU");
    for (index, byte) in bytes.enumerate() {
        if matches!(index, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::uuid;

    #[test]
    fn a_board_is_called_as_nvml_calls_it() {
        let bytes = (0..16).map(|it| it * 17);
        assert_eq!(uuid(bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }
}
