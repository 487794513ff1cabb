//! LLaVA: a vision tower, two linear layers, and a decoder that reads image features in the place of image tokens.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::Activation;
use serde_json::Value;

use super::{
    AdapterInfo, Capacity, ImageTokens, Model, Parts, Run, VisionSpec, bad_config,
    config::{DecoderConfig, Kind, check_keys},
    decoder::{Decoder, Place},
    linear::{Linear, Targets},
    tower::{self, Tower, TowerConfig, TowerKind},
    weights::{Tensors, check_rest},
};
use crate::{
    adapter::{AdapterError, AdapterLoadError},
    checkpoint::Files,
    error::{EngineError, LoadError},
    image::Preprocess,
};

const TOWER: &str = "vision_tower";
const PROJECTOR: &str = "multi_modal_projector";
const DECODER: &str = "language_model";

/// Keys beside those of training and of transformers: what is read, and what old files repeat of the decoder's.
const KEYS: [&str; 13] = [
    "ignore_index",
    "image_seq_length",
    "image_token_id",
    "image_token_index",
    "model_type",
    "multimodal_projector_bias",
    "projector_hidden_act",
    "text_config",
    "tie_word_embeddings",
    "vision_config",
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "vocab_size",
];

/// Names as transformers 4 and 5 write them, to one spelling: `vision_tower.…`, `multi_modal_projector.…`,
/// `language_model.model.…` and `language_model.lm_head.…`.
pub(super) fn canonical(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("model.language_model.") {
        return format!("{DECODER}.model.{rest}");
    }
    if name.starts_with("lm_head.") {
        return format!("{DECODER}.{name}");
    }
    let name = name.strip_prefix("model.").unwrap_or(name);
    match name.strip_prefix("vision_tower.vision_model.") {
        Some(rest) => format!("{TOWER}.{rest}"),
        None => name.to_owned(),
    }
}

pub(super) fn build(parts: Parts<'_>) -> Result<Box<dyn Model>, LoadError> {
    let config = parts.config;
    // One beside the configurations of tower and decoder, as those of LLaVA-NeXT, changes what is computed.
    check_keys(config, &[&KEYS], "the config.json of a llava model")?;
    let text = text_config(config.get("text_config").unwrap_or(&Value::Null))?;
    let hidden = text.hidden;
    let vision = TowerConfig::read(config.get("vision_config").unwrap_or(&Value::Null))?;
    let (layers, drop_first) = feature_choice(config, vision.layers)?;
    let activation = match config.get("projector_hidden_act") {
        None | Some(Value::Null) => Activation::Gelu,
        Some(name) => serde_json::from_value(name.clone())
            .map_err(|_| bad_config(format!("projector_hidden_act {name} is not known")))?,
    };
    let bias = match config.get("multimodal_projector_bias") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(bias)) => *bias,
        Some(other) => return Err(bad_config(format!("multimodal_projector_bias is {other}"))),
    };

    let tokens = vision.rows() - usize::from(drop_first);
    if tokens == 0 {
        return Err(bad_config("vision_feature_select_strategy leaves nothing of an image"));
    }
    let spec = VisionSpec {
        image_token: image_token(config)?,
        tokens: ImageTokens::Fixed(tokens),
        preprocess: preprocess(&parts, &vision)?,
    };

    let place = Place { device: parts.device, dtype: parts.dtype, cache: parts.cache };
    let mut tensors = Tensors::new(parts.tensors, parts.dtype);
    let decoder = Decoder::new(text, &mut tensors, &format!("{DECODER}."), place)?;
    let tower = Tower::new(vision, layers, &mut tensors, &format!("{TOWER}."))?;
    // No adapter changes the projector.
    let mut linear = |name: &str, inputs: usize| {
        let (mut targets, name) = (Targets::default(), format!("{PROJECTOR}.{name}"));
        Linear::read(&mut tensors, &mut targets, &name, (hidden, inputs), bias)
    };
    let (linear_1, linear_2) = (linear("linear_1", vision.hidden)?, linear("linear_2", hidden)?);
    check_rest(&tensors, |name| {
        let part = name.strip_prefix(TOWER).and_then(|rest| rest.strip_prefix('.'));
        part.is_some_and(|part| tower::is_unused(part, vision.kind))
    })?;
    Ok(Box::new(Llava {
        tower,
        linear_1,
        linear_2,
        activation,
        drop_first,
        decoder,
        spec,
        device: parts.device.clone(),
        dtype: parts.dtype,
    }))
}

/// The decoder behind the tower may be of any family; old files don't say which, and mean a Llama.
fn text_config(raw: &Value) -> Result<DecoderConfig, LoadError> {
    let kind = match raw.get("model_type").and_then(Value::as_str) {
        None => Kind::Llama,
        Some(name) => Kind::of(name).ok_or_else(|| LoadError::Unsupported {
            feature: format!("a decoder of type {name:?} behind LLaVA's tower"),
            instead: "known are llama, mistral, qwen2 and qwen3",
        })?,
    };
    DecoderConfig::read(kind, raw)
}

struct Llava {
    tower: Tower,
    linear_1: Linear,
    linear_2: Linear,
    activation: Activation,
    /// The first feature is left out. CLIP's is of the class token; SigLIP's is of a patch, and left out all the same.
    drop_first: bool,
    decoder: Decoder,
    spec: VisionSpec,
    device: Device,
    dtype: DType,
}

impl Model for Llava {
    fn family(&self) -> &'static str {
        "llava"
    }

    fn context(&self) -> usize {
        self.decoder.context()
    }

    fn vocabulary(&self) -> usize {
        self.decoder.vocabulary()
    }

    fn vision(&self) -> Option<&VisionSpec> {
        Some(&self.spec)
    }

    fn capacity(&self) -> Capacity {
        self.decoder.capacity()
    }

    fn look(&mut self, image: &Tensor) -> Result<Tensor, EngineError> {
        let pixels = image.to_device(&self.device)?.to_dtype(self.dtype)?;
        let mut states = self.tower.forward(&pixels)?;
        if self.drop_first {
            states = states.narrow(0, 1, states.dim(0)? - 1)?;
        }
        let inner = self.activation.forward(&self.linear_1.forward(&states, &[])?)?;
        Ok(self.linear_2.forward(&inner, &[])?)
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        for run in runs {
            run.check_images(self.spec.image_token)?;
        }
        self.decoder.forward(runs)
    }

    fn width(&self) -> usize {
        self.decoder.width()
    }

    fn embed(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        for run in runs {
            run.check_images(self.spec.image_token)?;
        }
        self.decoder.embed(runs)
    }

    fn load_adapter(&mut self, name: &str, files: &Files) -> Result<AdapterInfo, AdapterLoadError> {
        let outside = |module: &str| {
            let name = canonical(module);
            name.starts_with(TOWER) || name.starts_with(PROJECTOR)
        };
        self.decoder.load_adapter(name, files, &canonical).map_err(|error| match error {
            AdapterLoadError::Adapter(AdapterError::UnknownTarget(module)) if outside(&module) => {
                AdapterError::OutsideDecoder(module).into()
            }
            other => other,
        })
    }

    fn unload_adapter(&mut self, name: &str) {
        self.decoder.unload_adapter(name);
    }
}

/// After how many layers the features are taken, and whether the first of them is left out. transformers counts the embeddings
/// as the first of `layers + 1` states, and from the end where the number is negative.
fn feature_choice(config: &Value, layers: usize) -> Result<(usize, bool), LoadError> {
    let wanted = match config.get("vision_feature_layer") {
        None | Some(Value::Null) => -2,
        Some(value) => value.as_i64().ok_or_else(|| {
            bad_config(format!("vision_feature_layer is {value}; only one layer is supported"))
        })?,
    };
    let states = i64::try_from(layers).unwrap_or(i64::MAX - 1) + 1;
    let state = if wanted < 0 { wanted + states } else { wanted };
    let state = usize::try_from(state).ok().filter(|state| *state <= layers).ok_or_else(|| {
        bad_config(format!("vision_feature_layer is {wanted} of {layers} layers"))
    })?;
    let Some(strategy) = config.get("vision_feature_select_strategy").filter(|it| !it.is_null())
    else {
        return Ok((state, true));
    };
    match strategy.as_str() {
        Some("default") => Ok((state, true)),
        Some("full") => Ok((state, false)),
        _ => Err(bad_config(format!("vision_feature_select_strategy is {strategy}"))),
    }
}

fn image_token(config: &Value) -> Result<u32, LoadError> {
    let id = config.get("image_token_id").or_else(|| config.get("image_token_index"));
    match id {
        None | Some(Value::Null) => Ok(32000),
        Some(id) => id
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| bad_config(format!("the image token is {id}"))),
    }
}

fn preprocess(parts: &Parts<'_>, vision: &TowerConfig) -> Result<Preprocess, LoadError> {
    // transformers 5 writes one file for the whole processor.
    let own = parts.files.json("preprocessor_config.json")?;
    let shared = parts.files.json("processor_config.json")?;
    let config = own.as_ref().or_else(|| shared.as_ref()?.get("image_processor"));
    let side = u32::try_from(vision.side).map_err(|_| bad_config("image_size is too large"))?;
    match vision.kind {
        TowerKind::Clip => Preprocess::new(config, side),
        TowerKind::Siglip => Preprocess::siglip(config, side),
    }
}
