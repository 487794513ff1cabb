//! The one place that chooses what does the arithmetic.

use candle_core::{DType, Device, DeviceLocation};
use serde_json::Value;

use crate::{
    checkpoint::Stored,
    config::{DeviceChoice, DtypeChoice},
    cuda::has_bf16,
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
                bucksaw.notice = format!("no CUDA device, using the CPU: {}", why(&error)),
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
                why(&error)
            ))
        }),
    }
}

/// Why a device cannot be opened, and what may be missing. The program starts without any of CUDA's libraries if it was built so.
fn why(error: &candle_core::Error) -> String {
    let text = first_line(error);
    let is_any = |names: &[&str]| names.iter().any(|it| text.contains(it));
    let hint = if is_any(&["CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_STUB_LIBRARY"]) {
        "; is NVIDIA's driver there, and does nvidia-smi list the GPU?"
    } else if is_any(&["CublasError", "CurandError", "NvrtcError"]) {
        "; are the libraries of the CUDA toolkit where the system looks for them (LD_LIBRARY_PATH)?"
    } else {
        ""
    };
    text + hint
}

/// `cpu` or `cuda:0`.
pub(crate) fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// The type of the weights in memory. `config` is config.json; a GGUF file has none.
pub(crate) fn dtype(
    device: &Device,
    choice: DtypeChoice,
    config: Option<&Value>,
) -> Result<DType, LoadError> {
    let refused = |reason| Err(refused(choice, reason));
    match (choice, config) {
        (DtypeChoice::F32, _) => Ok(DType::F32),
        (DtypeChoice::Auto, None) => Ok(DType::F32),
        (DtypeChoice::Auto, _) if device.is_cpu() => Ok(DType::F32),
        (DtypeChoice::Auto, Some(config)) if names_f16(config) || !has_bf16(device) => {
            Ok(DType::F16)
        }
        (DtypeChoice::Auto, Some(_)) => Ok(DType::BF16),
        (_, None) => refused("weights of a GGUF file are what they are there; choose auto or f32"),
        _ if device.is_cpu() => refused(
            "a CPU calculates in f32; choose auto, which keeps the weights as the file has them, or f32, or a GPU",
        ),
        (DtypeChoice::F16, _) => Ok(DType::F16),
        (DtypeChoice::Bf16, _) if !has_bf16(device) => {
            refused("the GPU has no such numbers; choose auto, f16 or f32")
        }
        (DtypeChoice::Bf16, _) => Ok(DType::BF16),
    }
}

/// How weights that are calculated with in `dtype` are kept. A CPU waits for its memory more than for its arithmetic: it takes
/// numbers of 16 bits as they are in the file, which is the same arithmetic with half as much to read.
pub(crate) fn stored(device: &Device, choice: DtypeChoice, dtype: DType) -> Stored {
    let halves = device.is_cpu() && choice == DtypeChoice::Auto;
    if halves { Stored::Halves } else { Stored::As(dtype) }
}

/// As [`dtype`], of a family that is calculated in `f32` on every device.
pub(crate) fn only_f32(choice: DtypeChoice) -> Result<DType, LoadError> {
    match choice {
        DtypeChoice::Auto | DtypeChoice::F32 => Ok(DType::F32),
        DtypeChoice::F16 | DtypeChoice::Bf16 => {
            Err(refused(choice, "models of this family are calculated in f32; choose auto or f32"))
        }
    }
}

fn refused(choice: DtypeChoice, reason: &'static str) -> LoadError {
    let dtype = if choice == DtypeChoice::F16 { "f16" } else { "bf16" };
    LoadError::Dtype { dtype, reason }
}

/// Whether a checkpoint was made for half precision.
fn names_f16(config: &Value) -> bool {
    let named = |key: &str| config.get(key).or_else(|| config.get("text_config")?.get(key));
    let dtype = named("dtype").or_else(|| named("torch_dtype"));
    dtype.and_then(Value::as_str) == Some("float16")
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use serde_json::{Value, json};

    use super::{dtype, names_f16, only_f32, why};
    use crate::config::DtypeChoice;

    #[test]
    fn a_cpu_calculates_in_f32() {
        let config: &Value = &json!({"dtype": "bfloat16"});
        for config in [Some(config), None] {
            for choice in [DtypeChoice::Auto, DtypeChoice::F32] {
                assert_eq!(dtype(&Device::Cpu, choice, config).unwrap(), DType::F32);
            }
            for (choice, name) in [(DtypeChoice::F16, "f16"), (DtypeChoice::Bf16, "bf16")] {
                let error = dtype(&Device::Cpu, choice, config).unwrap_err().to_string();
                assert!(error.starts_with(&format!("engine.dtype {name} ")), "{error}");
            }
        }
    }

    /// As cudarc writes its errors.
    #[test]
    fn what_is_missing_is_named() {
        for (text, hint) in [
            ("DriverError(CUDA_ERROR_NO_DEVICE, \"no CUDA-capable device is detected\")", "driver"),
            ("DriverError(CUDA_ERROR_STUB_LIBRARY)", "driver"),
            ("CublasError(CUBLAS_STATUS_NOT_INITIALIZED)", "LD_LIBRARY_PATH"),
        ] {
            let why = why(&candle_core::Error::Msg(text.to_owned()));
            assert!(why.starts_with(text) && why.contains(hint), "{why}");
        }
        let other = "DriverError(CUDA_ERROR_INVALID_DEVICE, \"invalid device ordinal\")\nbacktrace";
        let why = why(&candle_core::Error::Msg(other.to_owned()));
        assert_eq!(why, "DriverError(CUDA_ERROR_INVALID_DEVICE, \"invalid device ordinal\")");
    }

    #[test]
    fn a_family_for_one_type_has_no_other() {
        for choice in [DtypeChoice::Auto, DtypeChoice::F32] {
            assert_eq!(only_f32(choice).unwrap(), DType::F32);
        }
        for (choice, name) in [(DtypeChoice::F16, "f16"), (DtypeChoice::Bf16, "bf16")] {
            let error = only_f32(choice).unwrap_err().to_string();
            assert!(error.starts_with(&format!("engine.dtype {name} cannot be used")), "{error}");
        }
    }

    #[test]
    fn half_precision_is_found_where_it_is_written() {
        for (config, expected) in [
            (json!({"dtype": "float16"}), true),
            (json!({"torch_dtype": "float16"}), true),
            (json!({"text_config": {"torch_dtype": "float16"}}), true),
            (json!({"dtype": "bfloat16", "torch_dtype": "float16"}), false),
            (json!({"dtype": null}), false),
            (json!({}), false),
        ] {
            assert_eq!(names_f16(&config), expected, "{config}");
        }
    }
}
