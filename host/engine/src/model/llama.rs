//! Text models that are nothing but a decoder: Llama, Mistral, Qwen2, Qwen3, and SmolLM2, which is a Llama.

use candle_core::Tensor;
use serde_json::Value;

use super::{
    AdapterInfo, Capacity, Model, Parts, Run,
    config::{DecoderConfig, Kind},
    decoder::{Decoder, Place},
    weights::{Tensors, check_rest},
};
use crate::{
    adapter::AdapterLoadError,
    checkpoint::Files,
    error::{EngineError, LoadError},
};

pub(super) fn build(parts: Parts<'_>) -> Result<Box<dyn Model>, LoadError> {
    let kind = kind(parts.config);
    let config = DecoderConfig::read(kind, parts.config)?;
    let place = Place { device: parts.device, dtype: parts.dtype, cache: parts.cache };
    let mut tensors = Tensors::new(parts.tensors, parts.dtype);
    let decoder = Decoder::new(config, &mut tensors, "", place)?;
    check_rest(&tensors, |_| false)?;
    Ok(Box::new(TextModel { family: kind.name(), decoder }))
}

/// By the model's type, or by its architecture where it names none.
fn kind(config: &Value) -> Kind {
    let name = |key: &str| config.get(key).and_then(Value::as_str);
    let architecture = config.get("architectures").and_then(|list| list.get(0)?.as_str());
    name("model_type").and_then(Kind::of).unwrap_or(match architecture {
        Some("MistralForCausalLM") => Kind::Mistral,
        Some("Qwen2ForCausalLM") => Kind::Qwen2,
        Some("Qwen3ForCausalLM") => Kind::Qwen3,
        _ => Kind::Llama,
    })
}

/// A decoder and its name.
pub(super) struct TextModel {
    pub(super) family: &'static str,
    pub(super) decoder: Decoder,
}

impl Model for TextModel {
    fn family(&self) -> &'static str {
        self.family
    }

    fn context(&self) -> usize {
        self.decoder.context()
    }

    fn vocabulary(&self) -> usize {
        self.decoder.vocabulary()
    }

    fn capacity(&self) -> Capacity {
        self.decoder.capacity()
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        if runs.iter().any(|run| !run.images.is_empty()) {
            return Err(EngineError::Internal("an image for a model that does not see".into()));
        }
        self.decoder.forward(runs)
    }

    fn width(&self) -> usize {
        self.decoder.width()
    }

    fn embed(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        if runs.iter().any(|run| !run.images.is_empty()) {
            return Err(EngineError::Internal("an image for a model that does not see".into()));
        }
        self.decoder.embed(runs)
    }

    fn load_adapter(&mut self, name: &str, files: &Files) -> Result<AdapterInfo, AdapterLoadError> {
        self.decoder.load_adapter(name, files, &str::to_owned)
    }

    fn unload_adapter(&mut self, name: &str) {
        self.decoder.unload_adapter(name);
    }
}
