//! The engine without a server, over a model in a folder.

use std::path::Path;

use engine::{Config, DeviceChoice, DtypeChoice, Engine, LoadError, ModelSource};

/// Served as `model`, on the CPU. `threads` as in [`Config`].
pub(crate) fn start(folder: &Path, threads: usize) -> Result<Engine, LoadError> {
    engine::start(Config {
        model: ModelSource::Folder(folder.to_owned()),
        name: Some("model".to_owned()),
        adapters: Vec::new(),
        devices: vec![DeviceChoice::Cpu],
        dtype: DtypeChoice::Auto,
        queue: 64,
        max_num_seqs: None,
        max_num_batched_tokens: None,
        image_tokens: None,
        kv_cache_bytes: None,
        gpu_memory_utilization: None,
        prefix_caching: true,
        adapter_fallback: false,
        threads,
        dequantize: false,
        nvml_library: None,
        before_step: None,
    })
}
