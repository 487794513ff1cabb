//! Qwen3-VL: a tower that takes images of any size, and a Qwen3 that reads what the tower sees in the place of image tokens, with
//! more of it after its first layers.

mod shape;
mod tower;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use self::{shape::Shape, tower::Tower};
use super::{
    AdapterInfo, Capacity, ImageTokens, Model, Parts, Run, VisionSpec, bad_config,
    config::{DecoderConfig, Kind, check_keys},
    decoder::{Decoder, Place},
    weights::{Tensors, check_rest},
};
use crate::{
    adapter::{AdapterError, AdapterLoadError},
    checkpoint::Files,
    error::{EngineError, LoadError},
    image::Preprocess,
};

const TOWER: &str = "visual";
const DECODER: &str = "language_model";
const PREPROCESSOR: &str = "preprocessor_config.json";

/// Keys of config.json that are read, and the tokens around images, which the chat template writes.
const READ: [&str; 8] = [
    "model_type",
    "text_config",
    "vision_config",
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "tie_word_embeddings",
];

/// Names as in a checkpoint, to one spelling: `visual.…`, `language_model.model.…` and `language_model.lm_head.…`.
pub(super) fn canonical(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("model.language_model.") {
        return format!("{DECODER}.model.{rest}");
    }
    if name.starts_with("lm_head.") {
        return format!("{DECODER}.{name}");
    }
    name.strip_prefix("model.").unwrap_or(name).to_owned()
}

pub(super) fn build(parts: Parts<'_>) -> Result<Box<dyn Model>, LoadError> {
    Ok(Box::new(Qwen3Vl::new(parts)?))
}

pub(super) struct Qwen3Vl {
    tower: Tower,
    pub(super) decoder: Decoder,
    spec: VisionSpec,
    device: Device,
    dtype: DType,
}

impl Qwen3Vl {
    pub(super) fn new(parts: Parts<'_>) -> Result<Self, LoadError> {
        let config = parts.config;
        check_keys(config, &[&READ], "the config.json of a qwen3_vl model")?;
        let text = text_config(config)?;
        let vision = config.get("vision_config").filter(|it| it.is_object());
        let shape = Shape::read(vision.ok_or_else(|| bad_config("it has no vision_config"))?)?;
        if shape.output != text.hidden {
            return Err(bad_config(format!(
                "out_hidden_size is {}, and the decoder's hidden_size {}",
                shape.output, text.hidden
            )));
        }
        if shape.deep.len() > text.layers() {
            return Err(bad_config(
                "deepstack_visual_indexes has more entries than the decoder has layers",
            ));
        }
        let preprocess = preprocess(parts.files, &shape)?;
        let spec = VisionSpec {
            image_token: image_token(config)?,
            tokens: ImageTokens::Squares(shape.square()),
            preprocess: match parts.image_tokens {
                Some(tokens) => preprocess.limited(tokens),
                None => preprocess,
            },
        };
        let place = Place { device: parts.device, dtype: parts.dtype, cache: parts.cache };
        let mut tensors = Tensors::new(parts.tensors, parts.dtype);
        let decoder = Decoder::new(text, &mut tensors, &format!("{DECODER}."), place)?;
        let tower = Tower::new(shape, &mut tensors, &format!("{TOWER}."))?;
        check_rest(&tensors, |_| false)?;
        Ok(Self { tower, decoder, spec, device: parts.device.clone(), dtype: parts.dtype })
    }

    fn check(&self, runs: &[Run<'_>]) -> Result<(), EngineError> {
        runs.iter().try_for_each(|run| run.check_images(self.spec.image_token))
    }

    /// What the tower reads of an image, (patches, numbers of one).
    #[cfg(test)]
    pub(super) fn patches(&self, image: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.tower.patches(image)?.0)
    }
}

impl Model for Qwen3Vl {
    fn family(&self) -> &'static str {
        "qwen3_vl"
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
        let (patches, grid) = self.tower.patches(image)?;
        let patches = patches.to_device(&self.device)?.to_dtype(self.dtype)?;
        Ok(self.tower.forward(&patches, grid)?)
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        self.check(runs)?;
        self.decoder.forward(runs)
    }

    fn width(&self) -> usize {
        self.decoder.width()
    }

    fn embed(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        self.check(runs)?;
        self.decoder.embed(runs)
    }

    fn load_adapter(&mut self, name: &str, files: &Files) -> Result<AdapterInfo, AdapterLoadError> {
        let outside = |module: &str| canonical(module).starts_with(TOWER);
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

fn text_config(config: &Value) -> Result<DecoderConfig, LoadError> {
    let raw = config.get("text_config").filter(|it| it.is_object());
    let raw = raw.ok_or_else(|| bad_config("it has no text_config"))?;
    let kind = raw.get("model_type").and_then(Value::as_str);
    if let Some(other) = kind.filter(|kind| *kind != Kind::Qwen3Vl.name()) {
        return Err(LoadError::Unsupported {
            feature: format!("a decoder of type {other:?} behind Qwen3-VL's tower"),
            instead: "known is qwen3_vl_text",
        });
    }
    let mut text = DecoderConfig::read(Kind::Qwen3Vl, raw)?;
    // transformers 5 asks the whole model's config, older versions the decoder's; real files say it twice.
    match config.get("tie_word_embeddings") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(tied)) => text.tied = *tied,
        Some(other) => return Err(bad_config(format!("tie_word_embeddings is {other}"))),
    }
    Ok(text)
}

fn image_token(config: &Value) -> Result<u32, LoadError> {
    match config.get("image_token_id") {
        None | Some(Value::Null) => Ok(151_655),
        Some(id) => id
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| bad_config(format!("image_token_id is {id}"))),
    }
}

fn preprocess(files: &Files, shape: &Shape) -> Result<Preprocess, LoadError> {
    // transformers 5 writes one file for the whole processor.
    let own = files.json(PREPROCESSOR)?;
    let shared = files.json("processor_config.json")?;
    let config = own.as_ref().or_else(|| shared.as_ref()?.get("image_processor"));
    let config = config.ok_or_else(|| files.missing(PREPROCESSOR))?;
    // What transformers takes where the file says nothing.
    for (key, default, wanted) in [
        ("patch_size", 14, shape.patch),
        ("merge_size", 2, shape.merge),
        ("temporal_patch_size", 2, shape.frames),
    ] {
        let found = match config.get(key) {
            None | Some(Value::Null) => Value::from(default),
            Some(value) => value.clone(),
        };
        if found != wanted {
            return Err(LoadError::Config {
                file: PREPROCESSOR.to_owned(),
                reason: format!("{key} is {found}, and vision_config makes it {wanted}"),
            });
        }
    }
    Preprocess::any_size(config, shape.square())
}
