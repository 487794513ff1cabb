//! Families of models behind one trait.
//!
//! To add a family, write `model/<name>.rs` with a [`Model`] and one more row in [`FAMILIES`]. `decoder` is what most families
//! share: `config` and `rope` say what it looks like, `weights` and `linear` are its layers, `attention` is its cache, `batch` one
//! step of it, `places` where the tokens of images are. `gemma` is how a model of candle-transformers comes in, which reads one
//! sequence at a time. On a CPU, `host` and `kernel` do the arithmetic. `vision` is what a family that sees says of images.

mod attention;
mod batch;
mod config;
mod decoder;
mod gemma;
mod gguf;
mod host;
mod kernel;
mod linear;
mod llama;
mod llava;
mod packed;
mod places;
mod qwen3_vl;
mod rope;
mod tower;
mod vision;
mod weights;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

pub(crate) use self::{
    gguf::Gguf,
    vision::{Area, Extent, ImageTokens, VisionSpec},
};
use crate::{
    adapter::AdapterLoadError,
    checkpoint::Files,
    error::{EngineError, LoadError},
    memory::CacheSize,
};

/// No context is longer, whatever config.json says: the tables of positions grow with it.
const MAX_CONTEXT: usize = 131_072;

/// How many sequences a step of a decoder may have: beyond it, a step takes longer in proportion on every device.
const SEQUENCES: usize = 64;

/// A decoder that moves several sequences on at once, with the keys and values of all of them in a cache of blocks. It knows no
/// schedule: which sequence has which blocks is the caller's to say.
pub(crate) trait Model: Send {
    fn family(&self) -> &'static str;

    /// How many tokens prompt and answer may have together.
    fn context(&self) -> usize;

    /// How many tokens it knows, the rows of its embedding.
    fn vocabulary(&self) -> usize;

    /// What it wants of images, where it sees.
    fn vision(&self) -> Option<&VisionSpec> {
        None
    }

    fn capacity(&self) -> Capacity;

    /// The features of one preprocessed image, `f32` of shape (3, height, width): what [`Placed`] puts in the place of its
    /// tokens. One row for each of them, and at least as many columns as the decoder's states have.
    fn look(&mut self, _image: &Tensor) -> Result<Tensor, EngineError> {
        Err(EngineError::Internal("the model does not see".into()))
    }

    /// One step of several sequences at once. Returns `f32` logits of shape (rows, vocabulary), a row for each run that asks for
    /// it, in their order. After an error, the blocks of the runs hold nothing that can be relied on.
    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError>;

    /// How many numbers the states have that [`Self::embed`] returns; 0 where it returns none.
    fn width(&self) -> usize {
        0
    }

    /// As [`Self::forward`], but returns what the head would read: `f32` states of shape (rows, [`Self::width`]), after the
    /// last norm.
    fn embed(&mut self, _runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        Err(EngineError::Internal("the model makes no embeddings".into()))
    }

    /// The sequence is over: frees what the model itself keeps of it.
    fn forget(&mut self, _sequence: u64) {}

    /// Reads a LoRA adapter, under whose name runs can then ask for it.
    fn load_adapter(&mut self, name: &str, files: &Files) -> Result<AdapterInfo, AdapterLoadError>;

    /// No run asks for it any more.
    fn unload_adapter(&mut self, name: &str);
}

/// What a model's cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// How many tokens a block holds.
    pub(crate) block_tokens: usize,
    /// Blocks have the numbers from 0 up to this one.
    pub(crate) blocks: usize,
    /// How many sequences a step may have.
    pub(crate) sequences: usize,
}

/// The part of one sequence that a step reads.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The same number from a sequence's first step to its last, and no other's.
    pub(crate) sequence: u64,
    /// What is new: a piece of the prompt, or one token.
    pub(crate) tokens: &'a [u32],
    /// How many tokens of the sequence are in the cache already. Some may come from a prefix that it shares.
    pub(crate) position: usize,
    /// Where its keys and values are: block `i` holds tokens `i * block_tokens` and the following. They cover `position` and the
    /// new tokens, and no other run of the step writes into the ones that hold those.
    pub(crate) blocks: &'a [u32],
    pub(crate) adapter: Option<&'a str>,
    pub(crate) images: &'a [Placed<'a>],
    /// Every image of the sequence, in their order, whether it stands among `tokens` or not: some families place what comes
    /// after an image by its shape.
    pub(crate) areas: &'a [Area],
    /// Whether the logits after the last of `tokens` are wanted, or its state.
    pub(crate) logits: bool,
}

/// Features of an image in the place of image tokens.
#[derive(Clone, Copy)]
pub(crate) struct Placed<'a> {
    /// Index in [`Run::tokens`] of the first token that is replaced.
    pub(crate) at: usize,
    /// What [`Model::look`] returned.
    pub(crate) features: &'a Tensor,
    /// The rows of `features` that stand here: a piece of a prompt may end within an image.
    pub(crate) rows: (usize, usize),
}

/// A loaded adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdapterInfo {
    /// How many of the model's matrices it changes.
    pub(crate) modules: usize,
}

/// What a family builds its model from. Tensors have the family's canonical names.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a Value,
    pub(crate) files: &'a Files,
    pub(crate) tensors: HashMap<String, Tensor>,
    pub(crate) device: &'a Device,
    pub(crate) dtype: DType,
    /// What its cache may take.
    pub(crate) cache: CacheSize,
    /// How many tokens an image may become that can have any size; none: as many as its preprocessor allows.
    pub(crate) image_tokens: Option<usize>,
}

/// A family that is loaded from a folder with safetensors.
pub(crate) struct Family {
    model_types: &'static [&'static str],
    architectures: &'static [&'static str],
    /// The name under which [`Self::build`] looks for a tensor that some version of transformers calls this.
    pub(crate) canonical: fn(&str) -> String,
    /// It is calculated in `f32`, whatever the device would take.
    pub(crate) only_f32: bool,
    pub(crate) build: fn(Parts<'_>) -> Result<Box<dyn Model>, LoadError>,
}

pub(crate) const FAMILIES: &[Family] = &[
    Family {
        model_types: &["llama", "mistral", "qwen2", "qwen3"],
        architectures: &[
            "LlamaForCausalLM",
            "MistralForCausalLM",
            "Qwen2ForCausalLM",
            "Qwen3ForCausalLM",
        ],
        canonical: str::to_owned,
        only_f32: false,
        build: llama::build,
    },
    Family {
        model_types: &["llava"],
        architectures: &["LlavaForConditionalGeneration"],
        canonical: llava::canonical,
        only_f32: false,
        build: llava::build,
    },
    Family {
        model_types: &["qwen3_vl"],
        architectures: &["Qwen3VLForConditionalGeneration"],
        canonical: qwen3_vl::canonical,
        only_f32: false,
        build: qwen3_vl::build,
    },
    Family {
        model_types: &["gemma"],
        architectures: &["GemmaForCausalLM"],
        canonical: str::to_owned,
        // It makes its tables of positions in the type of its weights, where half the bits are too few.
        only_f32: true,
        build: gemma::build,
    },
];

/// The family that a config.json is of.
pub(crate) fn family(config: &Value) -> Result<&'static Family, LoadError> {
    let model_type = config.get("model_type").and_then(Value::as_str);
    let architecture = config
        .get("architectures")
        .and_then(Value::as_array)
        .and_then(|list| list.first()?.as_str());
    let by_type = FAMILIES
        .iter()
        .find(|family| model_type.is_some_and(|name| family.model_types.contains(&name)));
    let by_architecture = || {
        FAMILIES
            .iter()
            .find(|family| architecture.is_some_and(|name| family.architectures.contains(&name)))
    };
    by_type.or_else(by_architecture).ok_or_else(|| {
        let known: Vec<_> =
            FAMILIES.iter().flat_map(|family| family.model_types).copied().collect();
        LoadError::UnknownFamily {
            found: format!("model_type {:?}", model_type.or(architecture).unwrap_or("(none)")),
            known: known.join(", "),
        }
    })
}

/// Something that a model asks for and that nothing here does.
fn unsupported(feature: &str) -> LoadError {
    LoadError::Unsupported {
        feature: feature.to_owned(),
        instead: "use a model without it, or add it to the decoder",
    }
}

/// An error about config.json.
fn bad_config(reason: impl Into<String>) -> LoadError {
    LoadError::Config { file: "config.json".to_owned(), reason: reason.into() }
}

/// A whole number of config.json, or what transformers takes where there is none.
fn count(config: &Value, key: &str, default: usize) -> Result<usize, LoadError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_u64()
            .filter(|number| *number > 0)
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| bad_config(format!("{key} is {value}, which is no count"))),
    }
}

/// A number above 0 of config.json, or what transformers takes where there is none.
fn number(config: &Value, key: &str, default: f64) -> Result<f64, LoadError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_f64()
            .filter(|number| *number > 0.0)
            .ok_or_else(|| bad_config(format!("{key} is {value}, which is no number above 0"))),
    }
}

/// What config.json says is on or off, or what transformers takes where it says nothing.
fn flag(config: &Value, key: &str, default: bool) -> Result<bool, LoadError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => {
            Err(bad_config(format!("{key} is {other}, which is neither true nor false")))
        }
    }
}
