//! `[engine]`: which model, and what runs it. Whether the files are there is found out when they are loaded.

use std::path::Path;

use engine::{DeviceChoice, DtypeChoice};

use crate::config::{Engine, Model, Problems, raw};

/// Jobs that wait to be admitted at an engine: over a minute of work for a small model; a client that waits longer has gone.
const QUEUE: u64 = 64;

/// As many as the largest servers have in one machine.
const DEVICES_MAX: usize = 16;

pub(super) fn check(raw: &raw::Engine, folder: &Path, problems: &mut Problems) -> Engine {
    if let (Some(sequences), Some(tokens)) = (raw.max_num_seqs, raw.max_num_batched_tokens)
        && sequences > tokens
    {
        let message = format!(
            "{sequences} is more than engine.max_num_batched_tokens, {tokens}: each sequence of a step has a token at least"
        );
        problems.add("engine.max_num_seqs", message);
    }
    let count = |it: Option<u64>| it.map(|it| usize::try_from(it).unwrap_or(usize::MAX));
    if raw.kv_cache_mib.is_some() && raw.gpu_memory_utilization.is_some() {
        let message = "engine.kv_cache_mib says the same in another way: remove one of the two";
        problems.add("engine.gpu_memory_utilization", message);
    }
    let devices = devices(raw.device.as_deref(), problems);
    let dtype = dtype(raw.dtype.as_deref().unwrap_or("auto"), &devices, problems);
    Engine {
        model: model(raw.model.as_deref().unwrap_or("demo"), folder),
        name: raw.name.clone(),
        adapters: raw.adapters.iter().map(|(name, it)| (name.clone(), model(it, folder))).collect(),
        devices,
        dtype,
        threads: usize::try_from(raw.threads.unwrap_or(0)).unwrap_or(0),
        queue: usize::try_from(raw.queue.unwrap_or(QUEUE)).unwrap_or(usize::MAX),
        nvml_library: raw.nvml_library.as_ref().map(|it| folder.join(it)),
        dequantize: raw.dequantize.unwrap_or(false),
        max_num_seqs: count(raw.max_num_seqs),
        max_num_batched_tokens: count(raw.max_num_batched_tokens),
        image_tokens: count(raw.image_tokens),
        kv_cache_bytes: count(raw.kv_cache_mib).map(|it| it.saturating_mul(1 << 20)),
        gpu_memory_utilization: raw.gpu_memory_utilization,
        prefix_caching: raw.prefix_caching.unwrap_or(true),
        adapter_fallback: raw.adapter_fallback.unwrap_or(false),
    }
}

/// `auto`, or what is named: a string, or a list of them.
fn devices(names: Option<&[String]>, problems: &mut Problems) -> Vec<DeviceChoice> {
    let Some(names) = names else { return vec![DeviceChoice::Auto] };
    if names.is_empty() {
        problems.add("engine.device", "it names none: name one at least, or remove it");
    }
    if names.len() > DEVICES_MAX {
        let message = format!("{} devices are more than {DEVICES_MAX}", names.len());
        problems.add("engine.device", message);
    }
    let mut devices = Vec::with_capacity(names.len());
    for name in names {
        let cuda = name.strip_prefix("cuda:").and_then(|it| it.parse().ok());
        let device = match (name.as_str(), cuda) {
            ("auto", _) => DeviceChoice::Auto,
            ("cpu", _) => DeviceChoice::Cpu,
            ("cuda", _) => DeviceChoice::Cuda(0),
            (_, Some(it)) => DeviceChoice::Cuda(it),
            _ => {
                let message = format!("{name:?} is not a device: write auto, cpu or cuda:0");
                problems.add("engine.device", message);
                DeviceChoice::Cpu
            }
        };
        if matches!(device, DeviceChoice::Cuda(_)) && devices.contains(&device) {
            let message = format!("{name:?} is named twice: an engine has its device for itself");
            problems.add("engine.device", message);
        }
        if device == DeviceChoice::Auto && names.len() > 1 {
            let message = "auto is one device, whichever it is: name each of several";
            problems.add("engine.device", message);
        }
        devices.push(device);
    }
    devices
}

fn dtype(text: &str, devices: &[DeviceChoice], problems: &mut Problems) -> DtypeChoice {
    let choice = match text {
        "auto" => DtypeChoice::Auto,
        "f32" => DtypeChoice::F32,
        "f16" => DtypeChoice::F16,
        "bf16" => DtypeChoice::Bf16,
        _ => {
            let message = format!("{text:?} is not a type: write auto, f32, f16 or bf16");
            problems.add("engine.dtype", message);
            DtypeChoice::Auto
        }
    };
    if devices.contains(&DeviceChoice::Cpu)
        && matches!(choice, DtypeChoice::F16 | DtypeChoice::Bf16)
    {
        problems.add("engine.dtype", format!("a CPU calculates in f32, not in {text}: remove it"));
    }
    choice
}

/// `demo`, a `.gguf` file, a folder, or else the id of a model on the hub: `owner/name`.
fn model(text: &str, folder: &Path) -> Model {
    let path = folder.join(text);
    let looks_like_id = text.split('/').count() == 2 && !text.starts_with(['.', '/', '~']);
    match text {
        "demo" | "builtin:demo" => Model::Demo,
        "demo-ko" | "builtin:demo-ko" => Model::DemoKorean,
        _ if text.ends_with(".gguf") => Model::Gguf(path),
        _ if looks_like_id && !path.exists() => Model::Hub(text.to_owned()),
        _ => Model::Folder(path),
    }
}
