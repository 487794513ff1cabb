//! The one place that chooses what does the arithmetic.

use candle_core::{DType, Device, DeviceLocation};
use serde_json::Value;

use crate::{
    config::DeviceChoice,
    error::{LoadError, first_line},
};

/// What candle and rayon read.
pub(crate) const THREAD_VARIABLES: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

/// Opens the device. A CUDA device must be opened, used and dropped on one thread: its streams are per thread.
pub(crate) fn open(choice: DeviceChoice) -> Result<Device, LoadError> {
    let built = candle_core::utils::cuda_is_available();
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if !built => Ok(Device::Cpu),
        DeviceChoice::Auto => Device::new_cuda(0).or_else(|error| {
            tracing::warn!(
                target: "bucksaw",
                event = "log",
                bucksaw.stream = "engine",
                bucksaw.notice = format!("no CUDA device, using the CPU: {}", first_line(&error)),
            );
            Ok(Device::Cpu)
        }),
        DeviceChoice::Cuda(_) if !built => Err(LoadError::Device(
            "this program was built without CUDA; build it with `--features cuda`, or choose `cpu`"
                .into(),
        )),
        DeviceChoice::Cuda(index) => Device::new_cuda(index).map_err(|error| {
            LoadError::Device(format!(
                "CUDA device {index} cannot be opened: {}; choose `auto` to fall back to the CPU",
                first_line(&error)
            ))
        }),
    }
}

/// `cpu` or `cuda:0`.
pub(crate) fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// The type of the weights in memory: what the checkpoint was made for on a GPU, and `f32` on a CPU, where candle has fast
/// products for nothing else.
pub(crate) fn dtype(device: &Device, config: &Value) -> DType {
    if device.is_cpu() {
        return DType::F32;
    }
    let named = |key: &str| config.get(key).or_else(|| config.get("text_config")?.get(key));
    match named("dtype").or_else(|| named("torch_dtype")).and_then(Value::as_str) {
        Some("bfloat16") => DType::BF16,
        Some("float16") => DType::F16,
        _ => DType::F32,
    }
}

/// The device's name in NVML, which counts devices in another order than CUDA does.
#[cfg(feature = "cuda")]
pub(crate) fn uuid(device: &Device) -> Option<String> {
    use std::fmt::Write;

    let id = device.as_cuda_device().ok()?.cuda_stream().context().uuid().ok()?;
    let mut text = String::from("GPU");
    for (index, byte) in id.bytes.iter().enumerate() {
        if matches!(index, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{:02x}", *byte as u8).ok()?;
    }
    Some(text)
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn uuid(_: &Device) -> Option<String> {
    None
}
