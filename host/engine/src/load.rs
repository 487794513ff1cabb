//! From a [`Config`] to models that can run.

use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use candle_core::Device;

use crate::{
    checkpoint::{Files, Stored},
    config::{Adapter, AdapterSource, Config, ModelSource},
    device,
    engine::ServedModel,
    error::LoadError,
    hub,
    memory::CacheSize,
    model::{self, AdapterInfo, Gguf, Model, Parts},
    prompt::Prompter,
    tokenizer::{self, Tokenizer, gguf},
};

/// Of an image that can have any size, on a CPU: a megapixel in squares of 32, as transformers makes of files that say nothing. To
/// look at its 4,096 patches, a tower like Qwen3-VL-8B's calculates 5 TFLOP: half a minute of two cores. At the 65,536 of the largest
/// image that Qwen3-VL allows, where each looks at each other, it is a hundred times as much.
const IMAGE_TOKENS_CPU: usize = 1024;

/// A model and its adapters, ready to run.
pub(crate) struct Loaded {
    pub(crate) served: ServedModel,
    pub(crate) model: Box<dyn Model>,
    pub(crate) prompter: Arc<Prompter>,
    pub(crate) adapters: Vec<LoadedAdapter>,
}

/// An adapter that the model has under its served name.
pub(crate) struct LoadedAdapter {
    pub(crate) served: ServedModel,
    pub(crate) info: AdapterInfo,
}

/// Loads the model and its adapters.
pub(crate) fn load(config: &Config, device: &Device) -> Result<Loaded, LoadError> {
    let name = config.name.clone().unwrap_or_else(|| default_name(&config.model));
    let cache = CacheSize::new(config.kv_cache_bytes, config.gpu_memory_utilization);
    let from_files = |files: &Files| load_files(&name, files, config, (device, cache));
    let mut loaded = match &config.model {
        ModelSource::Embedded(files) => from_files(&Files::Embedded(files))?,
        ModelSource::Folder(folder) => from_files(&Files::Folder(folder.clone()))?,
        ModelSource::Hub(id) => from_files(&Files::Folder(hub::fetch(id)?))?,
        ModelSource::Gguf(path) => {
            device::dtype(device, config.dtype, None)?;
            let (file, prompter) = open_gguf(path)?;
            let model = file.load(device, cache, config.dequantize)?;
            Loaded::new(&name, model, prompter)
        }
    };
    for adapter in &config.adapters {
        loaded.load_adapter(adapter)?;
    }
    Ok(loaded)
}

/// `place` is the device and how much of its memory the cache may take.
fn load_files(
    name: &str,
    files: &Files,
    asked: &Config,
    (device, cache): (&Device, CacheSize),
) -> Result<Loaded, LoadError> {
    let config = files.required_json("config.json")?;
    let family = model::family(&config)?;
    let (dtype, stored) = if family.only_f32 {
        let dtype = device::only_f32(asked.dtype)?;
        (dtype, Stored::As(dtype))
    } else {
        let dtype = device::dtype(device, asked.dtype, Some(&config))?;
        (dtype, device::stored(device, asked.dtype, dtype))
    };
    let tensors = files
        .tensors("model", device, stored)?
        .into_iter()
        .map(|(name, tensor)| ((family.canonical)(&name), tensor))
        .collect();
    let image_tokens = asked.image_tokens.or(device.is_cpu().then_some(IMAGE_TOKENS_CPU));
    let config = &config;
    let parts = Parts { config, files, tensors, device, dtype, cache, image_tokens };
    let model = (family.build)(parts)?;
    let image_token = model.vision().map(|vision| vision.image_token);
    let mut tokenizer = Tokenizer::from_files(files, config)?;
    if image_token.is_some() {
        tokenizer.imply_bos();
    }
    let template =
        tokenizer::chat_template(files)?.ok_or_else(|| files.missing("chat_template.jinja"))?;
    let prompter = Arc::new(Prompter::new(tokenizer, &template, image_token)?);
    Ok(Loaded::new(name, model, prompter))
}

fn open_gguf(path: &Path) -> Result<(Gguf, Arc<Prompter>), LoadError> {
    let file = Gguf::open(path)?;
    let tokenizer = gguf::tokenizer(file.metadata())?;
    let template = gguf::text(file.metadata(), "tokenizer.chat_template").ok_or_else(|| {
        LoadError::Template("the GGUF file has none, so it is no chat model".to_owned())
    })?;
    let prompter = Arc::new(Prompter::new(tokenizer, template, None)?);
    Ok((file, prompter))
}

impl Loaded {
    fn new(name: &str, model: Box<dyn Model>, prompter: Arc<Prompter>) -> Self {
        let served = ServedModel {
            name: name.to_owned(),
            parent: None,
            vision: model.vision().is_some(),
            context: model.context(),
            family: model.family(),
            created: unix_time(),
        };
        Self { served, model, prompter, adapters: Vec::new() }
    }

    /// Reads an adapter and serves it under its name, which nothing else may have.
    pub(crate) fn load_adapter(&mut self, adapter: &Adapter) -> Result<(), LoadError> {
        let taken = self.adapters.iter().any(|other| other.served.name == adapter.name);
        if taken || self.served.name == adapter.name {
            return Err(LoadError::DuplicateName(adapter.name.clone()));
        }
        let files = match &adapter.source {
            AdapterSource::Embedded(files) => Files::Embedded(files),
            AdapterSource::Folder(folder) => Files::Folder(folder.clone()),
        };
        let info = self
            .model
            .load_adapter(&adapter.name, &files)
            .map_err(|error| error.named(&adapter.name))?;
        let served = ServedModel {
            name: adapter.name.clone(),
            parent: Some(self.served.name.clone()),
            created: unix_time(),
            ..self.served.clone()
        };
        self.adapters.push(LoadedAdapter { served, info });
        Ok(())
    }
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn default_name(source: &ModelSource) -> String {
    let name = match source {
        ModelSource::Embedded(_) => None,
        ModelSource::Folder(folder) => folder.file_name(),
        ModelSource::Gguf(file) => file.file_stem(),
        ModelSource::Hub(id) => return id.clone(),
    };
    name.map_or_else(|| "demo".to_owned(), |name| name.to_string_lossy().into_owned())
}
