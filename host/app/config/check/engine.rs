//! `[engine]`: which model, and what runs it. Whether the files are there is found out when they are loaded.

use std::path::Path;

use crate::config::{Engine, Model, Problems, raw};

/// Jobs that wait for the engine: over a minute of work for a small model; a client that waits longer has gone.
const QUEUE: u64 = 64;

pub(super) fn check(raw: &raw::Engine, folder: &Path, problems: &mut Problems) -> Engine {
    let device = raw.device.as_deref().unwrap_or("auto");
    let cuda = device.strip_prefix("cuda:").and_then(|it| it.parse().ok());
    let device = match (device, cuda) {
        ("auto", _) => engine::DeviceChoice::Auto,
        ("cpu", _) => engine::DeviceChoice::Cpu,
        ("cuda", _) => engine::DeviceChoice::Cuda(0),
        (_, Some(it)) => engine::DeviceChoice::Cuda(it),
        _ => {
            let message = format!("{device:?} is not a device: write auto, cpu or cuda:0");
            problems.add("engine.device", message);
            engine::DeviceChoice::Cpu
        }
    };
    Engine {
        model: model(raw.model.as_deref().unwrap_or("demo"), folder),
        name: raw.name.clone(),
        adapters: raw.adapters.iter().map(|(name, it)| (name.clone(), model(it, folder))).collect(),
        device,
        threads: usize::try_from(raw.threads.unwrap_or(0)).unwrap_or(0),
        queue: usize::try_from(raw.queue.unwrap_or(QUEUE)).unwrap_or(usize::MAX),
        nvml_library: raw.nvml_library.as_ref().map(|it| folder.join(it)),
        dequantize: raw.dequantize,
    }
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
