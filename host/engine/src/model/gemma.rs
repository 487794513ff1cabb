//! Gemma, the first one, by candle-transformers' own model.
//!
//! That model keeps the keys and values of one text inside, so it moves one sequence on at a time, and no two share a beginning:
//! [`Gemma::capacity`] says so, with one block as long as the context, which nobody ever fills. It is how a family comes in that
//! the decoder here does not know: norms around one, scaled embeddings, another activation.
//!
//! What a config.json means is what transformers 5.23 takes it for. Versions differ in the activation: there it is the one by tanh,
//! also where `hidden_act` says `gelu`, and `hidden_activation` is not read.

use std::collections::HashSet;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::gemma;
use serde_json::Value;

use super::{
    AdapterInfo, Capacity, MAX_CONTEXT, Model, Parts, Run, bad_config,
    config::check_keys,
    count,
    decoder::check_tied,
    flag, number,
    rope::Scaling,
    unsupported,
    weights::{Tensors, check_rest},
};
use crate::{
    adapter::{AdapterError, AdapterLoadError},
    checkpoint::Files,
    error::{EngineError, LoadError},
};

const EMBEDDINGS: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Keys of a config.json that are read, and one that transformers does not read any more.
const READ: [&str; 17] = [
    "attention_bias",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "vocab_size",
];

struct Gemma {
    inner: gemma::Model,
    context: usize,
    vocabulary: usize,
    device: Device,
    /// Whose keys and values are inside; none after an error.
    held: Option<Held>,
}

/// A sequence, and how many of its tokens were read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    sequence: u64,
    tokens: usize,
}

pub(super) fn build(parts: Parts<'_>) -> Result<Box<dyn Model>, LoadError> {
    let config = read(parts.config)?;
    let embeddings = parts.tensors.get(EMBEDDINGS).cloned();
    let embeddings =
        embeddings.ok_or_else(|| LoadError::MissingTensor { name: EMBEDDINGS.to_owned() })?;
    let mut tensors = Tensors::new(parts.tensors, parts.dtype);
    check_tied(&mut tensors, HEAD, &embeddings)?;
    let names = names(&config);
    check_rest(&tensors, |name| names.contains(name))?;
    let weights = VarBuilder::from_tensors(tensors.into_inner(), parts.dtype, parts.device);
    Ok(Box::new(Gemma {
        inner: gemma::Model::new(false, &config, weights)?,
        context: config.max_position_embeddings,
        vocabulary: config.vocab_size,
        device: parts.device.clone(),
        held: None,
    }))
}

impl Model for Gemma {
    fn family(&self) -> &'static str {
        "gemma"
    }

    fn context(&self) -> usize {
        self.context
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn capacity(&self) -> Capacity {
        Capacity { block_tokens: self.context, blocks: 1, sequences: 1 }
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        let wrong = |reason: &str| Err(EngineError::Internal(format!("a run {reason}")));
        let [run] = runs else {
            return wrong("with others, in a model that reads one sequence at a time");
        };
        let end = run.position + run.tokens.len();
        if run.tokens.is_empty() {
            return wrong("without tokens");
        }
        if end > self.context {
            return wrong("goes on after the context is full");
        }
        if run.tokens.iter().any(|token| *token as usize >= self.vocabulary) {
            return wrong("has a token that the model does not know");
        }
        if run.adapter.is_some() || !run.images.is_empty() {
            return wrong("has an adapter or an image, and the model takes none");
        }
        let held = self.held.take();
        if run.position == 0 {
            self.inner.clear_kv_cache();
        } else if held != Some(Held { sequence: run.sequence, tokens: run.position }) {
            return wrong("goes on where the model is not");
        }
        let ids = Tensor::new(run.tokens, &self.device)?.unsqueeze(0)?;
        let logits = self.inner.forward(&ids, run.position)?;
        self.held = Some(Held { sequence: run.sequence, tokens: end });
        if run.logits {
            // (1, 1, vocabulary)
            Ok(logits.squeeze(0)?)
        } else {
            Ok(Tensor::zeros((0, self.vocabulary), DType::F32, &self.device)?)
        }
    }

    fn forget(&mut self, sequence: u64) {
        if self.held.is_some_and(|held| held.sequence == sequence) {
            self.held = None;
            self.inner.clear_kv_cache();
        }
    }

    fn load_adapter(&mut self, _: &str, _: &Files) -> Result<AdapterInfo, AdapterLoadError> {
        Err(AdapterError::Weights("models of the family gemma take no adapters".to_owned()).into())
    }

    fn unload_adapter(&mut self, _: &str) {}
}

/// Reads `raw` as transformers would: with its defaults where a key is missing.
fn read(raw: &Value) -> Result<gemma::Config, LoadError> {
    check_keys(raw, &[&READ], "the config.json of a gemma model")?;
    if !flag(raw, "tie_word_embeddings", true)? {
        return Err(unsupported("a gemma model with tie_word_embeddings false"));
    }
    if let Some(activation) = raw.get("hidden_act").filter(|value| !value.is_null())
        && !["gelu", "gelu_pytorch_tanh"].map(Value::from).contains(activation)
    {
        return Err(unsupported(&format!("hidden_act {activation} in a gemma model")));
    }
    let heads = count(raw, "num_attention_heads", 16)?;
    let key_value_heads = count(raw, "num_key_value_heads", 16)?;
    let head = count(raw, "head_dim", 256)?;
    if !heads.is_multiple_of(key_value_heads) || !head.is_multiple_of(2) {
        return Err(bad_config(format!(
            "{heads} heads of {head} and {key_value_heads} key-value heads do not fit together"
        )));
    }
    let context = count(raw, "max_position_embeddings", 8192)?.min(MAX_CONTEXT);
    Ok(gemma::Config {
        attention_bias: flag(raw, "attention_bias", false)?,
        head_dim: head,
        hidden_act: Some(Activation::GeluPytorchTanh),
        hidden_activation: None,
        hidden_size: count(raw, "hidden_size", 3072)?,
        intermediate_size: count(raw, "intermediate_size", 24_576)?,
        num_attention_heads: heads,
        num_hidden_layers: count(raw, "num_hidden_layers", 28)?,
        num_key_value_heads: key_value_heads,
        rms_norm_eps: number(raw, "rms_norm_eps", 1e-6)?,
        rope_theta: theta(raw, context)?,
        vocab_size: count(raw, "vocab_size", 256_000)?,
        max_position_embeddings: context,
    })
}

/// The base of its turns. Stretched positions are refused.
fn theta(raw: &Value, context: usize) -> Result<f64, LoadError> {
    match Scaling::of(raw, context, 10_000.0)? {
        (theta, Scaling::Plain) => Ok(f64::from(theta)),
        (_, other) => Err(unsupported(&format!("positions of a gemma model that are {other:?}"))),
    }
}

/// Every tensor that the model reads.
fn names(config: &gemma::Config) -> HashSet<String> {
    const LINEAR: [&str; 4] = ["q_proj", "k_proj", "v_proj", "o_proj"];
    const OTHERS: [&str; 5] = [
        "input_layernorm.weight",
        "mlp.down_proj.weight",
        "mlp.gate_proj.weight",
        "mlp.up_proj.weight",
        "post_attention_layernorm.weight",
    ];
    let mut names = HashSet::from([EMBEDDINGS.to_owned(), "model.norm.weight".to_owned()]);
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        names.extend(OTHERS.map(name));
        names.extend(LINEAR.map(|part| name(&format!("self_attn.{part}.weight"))));
        if config.attention_bias {
            names.extend(LINEAR.map(|part| name(&format!("self_attn.{part}.bias"))));
        }
    }
    names
}
