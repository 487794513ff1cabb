//! From a [`Config`] to models that can run.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use candle_core::Device;

use crate::{
    adapter::{self, AdapterError},
    checkpoint::Files,
    config::{Adapter, AdapterSource, Config, ModelSource},
    device,
    error::LoadError,
    hub,
    model::{self, Alone, Gguf, Model, Parts},
    prompt::Prompter,
    tokenizer::{self, Tokenizer, gguf},
};

/// A model and its adapters.
pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) model: Box<dyn Model>,
    pub(crate) prompter: Arc<Prompter>,
    /// Names, and how many of the model's matrices each changes.
    pub(crate) adapters: Vec<(String, usize)>,
}

/// Loads the model and its adapters. The model itself comes first.
pub(crate) fn load(config: &Config, device: &Device) -> Result<Loaded, LoadError> {
    let name = config.name.clone().unwrap_or_else(|| default_name(&config.model));
    let mut names = BTreeSet::from([name.as_str()]);
    for adapter in &config.adapters {
        if !names.insert(&adapter.name) {
            return Err(LoadError::DuplicateName(adapter.name.clone()));
        }
    }
    match &config.model {
        ModelSource::Embedded(files) => {
            load_files(&name, &Files::Embedded(files), &config.adapters, device)
        }
        ModelSource::Folder(folder) => {
            load_files(&name, &Files::Folder(folder.clone()), &config.adapters, device)
        }
        ModelSource::Hub(id) => {
            load_files(&name, &Files::Folder(hub::fetch(id)?), &config.adapters, device)
        }
        ModelSource::Gguf(path) => load_gguf(&name, path, &config.adapters, device),
    }
}

fn load_files(
    name: &str,
    files: &Files,
    adapters: &[Adapter],
    device: &Device,
) -> Result<Loaded, LoadError> {
    let config = files.required_json("config.json")?;
    let family = model::family(&config)?;
    let dtype = device::dtype(device, &config);
    let tensors = files
        .tensors("model", device, dtype)?
        .into_iter()
        .map(|(name, tensor)| ((family.canonical)(&name), tensor))
        .collect::<std::collections::HashMap<_, _>>();
    let build = |tensors| (family.build)(Parts { config: &config, files, tensors, device, dtype });

    let model = build(tensors.clone())?;
    let image_token = model.vision().map(|vision| vision.image_token);
    let mut tokenizer = Tokenizer::from_files(files, &config)?;
    if image_token.is_some() {
        tokenizer.imply_bos();
    }
    let template =
        tokenizer::chat_template(files)?.ok_or_else(|| files.missing("chat_template.jinja"))?;
    let prompter = Arc::new(Prompter::new(tokenizer, &template, image_token)?);

    let (mut names, mut adapted) = (Vec::new(), HashMap::new());
    for adapter in adapters {
        let source = match &adapter.source {
            AdapterSource::Embedded(files) => Files::Embedded(files),
            AdapterSource::Folder(folder) => Files::Folder(folder.clone()),
        };
        // Tensors that the adapter leaves alone stay shared with the model.
        let mut changed = tensors.clone();
        let modules = adapter::merge(&source, &mut changed, family.canonical, device)
            .map_err(|error| error.named(&adapter.name))?;
        adapted.insert(adapter.name.clone(), build(changed)?);
        names.push((adapter.name.clone(), modules));
    }
    let model = Box::new(Alone::new(model, adapted));
    Ok(Loaded { name: name.to_owned(), model, prompter, adapters: names })
}

fn load_gguf(
    name: &str,
    path: &Path,
    adapters: &[Adapter],
    device: &Device,
) -> Result<Loaded, LoadError> {
    if let Some(adapter) = adapters.first() {
        let source = AdapterError::Quantized;
        return Err(LoadError::Adapter { name: adapter.name.clone(), source });
    }
    let file = Gguf::open(path)?;
    let tokenizer = gguf::tokenizer(file.metadata())?;
    let template = gguf::text(file.metadata(), "tokenizer.chat_template").ok_or_else(|| {
        LoadError::Template("the GGUF file has none, so it is no chat model".to_owned())
    })?;
    let prompter = Arc::new(Prompter::new(tokenizer, template, None)?);
    let model = Box::new(Alone::new(file.load(device)?, HashMap::new()));
    Ok(Loaded { name: name.to_owned(), model, prompter, adapters: Vec::new() })
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
