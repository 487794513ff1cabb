//! LLaVA: a CLIP tower, two linear layers, and a Llama that reads image features in the place of image tokens.
//!
//! The tower and the decoder are candle's; what joins them is here, because candle's own takes the features one layer
//! too late.

use candle_core::{DType, Device, IndexOp, Module, Tensor};
use candle_nn::{Activation, Linear, VarBuilder};
use candle_transformers::models::clip::{
    text_model::Activation as ClipActivation,
    vision_model::{ClipVisionConfig, ClipVisionTransformer},
};
use serde_json::Value;

use super::{
    Parts, Prompt, Solo, VisionSpec, bad_config, check_tensors, count,
    llama::{Decoder, expected_tensors, text_config},
};
use crate::{
    error::{EngineError, LoadError},
    image::Preprocess,
};

const TOWER: &str = "vision_tower";
const PROJECTOR: &str = "multi_modal_projector";
const DECODER: &str = "language_model";

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

pub(super) fn build(parts: Parts<'_>) -> Result<Box<dyn Solo>, LoadError> {
    let config = parts.config;
    let text = text_config(config.get("text_config").unwrap_or(&Value::Null))?;
    let vision = vision_config(config.get("vision_config").unwrap_or(&Value::Null))?;
    let (layer, drop_class) = feature_choice(config, vision.num_hidden_layers)?;
    let activation = match config.get("projector_hidden_act") {
        None | Some(Value::Null) => Activation::Gelu,
        Some(name) => serde_json::from_value(name.clone())
            .map_err(|_| bad_config(format!("projector_hidden_act {name} is not known")))?,
    };
    let bias = config.get("multimodal_projector_bias").and_then(Value::as_bool).unwrap_or(true);

    let patches = (vision.image_size / vision.patch_size).pow(2);
    let spec = VisionSpec {
        image_token: image_token(config)?,
        tokens_per_image: patches + usize::from(!drop_class),
        preprocess: preprocess(&parts, vision.image_size)?,
    };
    check_tensors(&parts.tensors, expected_tensors(&text, "language_model."))?;
    // candle makes a class token up where the checkpoint has none.
    check_tensors(
        &parts.tensors,
        [(format!("{TOWER}.embeddings.class_embedding"), vec![vision.embed_dim])],
    )?;

    let vb = VarBuilder::from_tensors(parts.tensors, parts.dtype, parts.device);
    let projector = vb.pp(PROJECTOR);
    let hidden = text.hidden_size;
    Ok(Box::new(Llava {
        tower: ClipVisionTransformer::new(vb.pp(TOWER), &vision)?,
        linear_1: candle_nn::linear_b(vision.embed_dim, hidden, bias, projector.pp("linear_1"))?,
        linear_2: candle_nn::linear_b(hidden, hidden, bias, projector.pp("linear_2"))?,
        activation,
        layer,
        drop_class,
        decoder: Decoder::new(vb.pp(DECODER), &text, parts.device, parts.dtype)?,
        spec,
        device: parts.device.clone(),
        dtype: parts.dtype,
    }))
}

struct Llava {
    tower: ClipVisionTransformer,
    linear_1: Linear,
    linear_2: Linear,
    activation: Activation,
    /// Whose output the features are, counted from 0.
    layer: usize,
    /// The first feature is of the class token, not of a patch.
    drop_class: bool,
    decoder: Decoder,
    spec: VisionSpec,
    device: Device,
    dtype: DType,
}

impl Llava {
    /// Features of one image of shape (3, height, width): (1, tokens per image, hidden).
    fn features(&self, image: &Tensor) -> Result<Tensor, EngineError> {
        let pixels = image.to_device(&self.device)?.to_dtype(self.dtype)?.unsqueeze(0)?;
        let states = self.tower.output_hidden_states(&pixels)?;
        let state = states.get(self.layer).ok_or_else(|| {
            EngineError::Internal(format!("the tower has no layer {}", self.layer))
        })?;
        let state = if self.drop_class { state.i((.., 1..))? } else { state.clone() };
        let inner = self.activation.forward(&self.linear_1.forward(&state.contiguous()?)?)?;
        Ok(self.linear_2.forward(&inner)?)
    }

    /// Embeddings of the prompt with features in the place of image tokens: (1, tokens, hidden).
    fn splice(&self, prompt: &Prompt<'_>) -> Result<Tensor, EngineError> {
        let mut pieces = Vec::new();
        let mut images = prompt.images.iter();
        let mut rest = prompt.tokens;
        while let Some(first) = rest.first() {
            let is_image = |token: &u32| *token == self.spec.image_token;
            if is_image(first) {
                let size = self.spec.tokens_per_image;
                let image = images.next();
                let (Some(image), Some((place, after))) = (image, rest.split_at_checked(size))
                else {
                    return Err(EngineError::Internal("image tokens without an image".into()));
                };
                if !place.iter().all(is_image) {
                    return Err(EngineError::Internal("too few tokens for an image".into()));
                }
                pieces.push(self.features(image)?);
                rest = after;
            } else {
                let length = rest.iter().position(is_image).unwrap_or(rest.len());
                let (text, after) = rest.split_at(length);
                pieces.push(self.decoder.embed(text)?);
                rest = after;
            }
            if (prompt.interrupted)() {
                return Err(EngineError::Cancelled);
            }
        }
        if images.next().is_some() {
            return Err(EngineError::Internal("an image without image tokens".into()));
        }
        Ok(Tensor::cat(&pieces, 1)?)
    }
}

impl Solo for Llava {
    fn family(&self) -> &'static str {
        "llava"
    }

    fn context(&self) -> usize {
        self.decoder.context
    }

    fn vision(&self) -> Option<&VisionSpec> {
        Some(&self.spec)
    }

    fn prefill(&mut self, prompt: &Prompt<'_>) -> Result<Tensor, EngineError> {
        let embedded = self.splice(prompt)?;
        self.decoder.prefill(&embedded, prompt.interrupted)
    }

    fn step(&mut self, token: u32) -> Result<Tensor, EngineError> {
        self.decoder.step(token)
    }

    fn reset(&mut self) {
        self.decoder.reset();
    }
}

fn vision_config(raw: &Value) -> Result<ClipVisionConfig, LoadError> {
    let activation = raw.get("hidden_act").and_then(Value::as_str).unwrap_or("quick_gelu");
    let epsilon = raw.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-5);
    let kind = raw.get("model_type").and_then(Value::as_str).unwrap_or("clip_vision_model");
    if kind != "clip_vision_model" || activation != "quick_gelu" || (epsilon - 1e-5).abs() > 1e-9 {
        return Err(LoadError::Unsupported {
            feature: format!("a vision tower {kind} with {activation} and epsilon {epsilon}"),
            instead: "known is clip_vision_model with quick_gelu and epsilon 1e-5",
        });
    }
    let config = ClipVisionConfig {
        embed_dim: count(raw, "hidden_size", 768)?,
        activation: ClipActivation::QuickGelu,
        intermediate_size: count(raw, "intermediate_size", 3072)?,
        num_hidden_layers: count(raw, "num_hidden_layers", 12)?,
        num_attention_heads: count(raw, "num_attention_heads", 12)?,
        projection_dim: count(raw, "projection_dim", 512)?,
        num_channels: count(raw, "num_channels", 3)?,
        image_size: count(raw, "image_size", 224)?,
        patch_size: count(raw, "patch_size", 32)?,
    };
    if config.num_channels != 3
        || config.image_size < config.patch_size
        || !config.embed_dim.is_multiple_of(config.num_attention_heads)
    {
        return Err(bad_config("the sizes in vision_config do not fit together"));
    }
    Ok(config)
}

/// Which layer's output the features are, counted from 0, and whether the class token's is left out. transformers counts the
/// embeddings as the first of `layers + 1` states, and from the end where the number is negative.
fn feature_choice(config: &Value, layers: usize) -> Result<(usize, bool), LoadError> {
    let wanted = match config.get("vision_feature_layer") {
        None | Some(Value::Null) => -2,
        Some(value) => value.as_i64().ok_or_else(|| {
            bad_config(format!("vision_feature_layer is {value}; only one layer is supported"))
        })?,
    };
    let states = i64::try_from(layers).unwrap_or(i64::MAX - 1) + 1;
    let state = if wanted < 0 { wanted + states } else { wanted };
    let layer =
        usize::try_from(state - 1).ok().filter(|layer| *layer < layers).ok_or_else(|| {
            bad_config(format!("vision_feature_layer is {wanted} of {layers} layers"))
        })?;
    match config.get("vision_feature_select_strategy").and_then(Value::as_str) {
        None | Some("default") => Ok((layer, true)),
        Some("full") => Ok((layer, false)),
        Some(other) => Err(bad_config(format!("vision_feature_select_strategy is {other:?}"))),
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

fn preprocess(parts: &Parts<'_>, image_size: usize) -> Result<Preprocess, LoadError> {
    // transformers 5 writes one file for the whole processor.
    let own = parts.files.json("preprocessor_config.json")?;
    let shared = parts.files.json("processor_config.json")?;
    let config = own.as_ref().or_else(|| shared.as_ref()?.get("image_processor"));
    let side = u32::try_from(image_size).map_err(|_| bad_config("image_size is too large"))?;
    Preprocess::new(config, side)
}
