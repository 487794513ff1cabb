//! LoRA adapters as PEFT saves them, merged into the weights when a model is loaded: `W += (alpha / r) · B · A`.
//!
//! What can't be merged exactly is refused: an adapter that is half applied answers, and answers wrongly.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use thiserror::Error;

use crate::{
    checkpoint::Files,
    error::{LoadError, first_line},
};

const CONFIG_FILE: &str = "adapter_config.json";
const STEM: &str = "adapter_model";
/// PEFT wraps a model twice.
const PREFIX: &str = "base_model.model.";

/// Why an adapter cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AdapterError {
    #[error("adapter_config.json is wrong: {0}")]
    Config(String),
    #[error("it uses {0}, which cannot be merged; train it without")]
    Unsupported(String),
    #[error("it holds tensor {0}, which is no part of a LoRA")]
    UnknownTensor(String),
    #[error("it changes {0}, which the model does not have; was it trained on another model?")]
    UnknownTarget(String),
    #[error("half of the pair for {0} is missing")]
    Unpaired(String),
    #[error("its pair for {module} makes {found:?}, and the model has {expected:?} there")]
    Shape { module: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("it changes nothing in the model")]
    Empty,
    #[error(
        "GGUF weights are quantized and cannot be changed; use the safetensors folder of the model"
    )]
    Quantized,
    #[error("{0}")]
    Weights(String),
}

impl From<candle_core::Error> for AdapterError {
    fn from(error: candle_core::Error) -> Self {
        Self::Weights(first_line(&error))
    }
}

/// What merging needs of adapter_config.json.
#[derive(Debug, PartialEq)]
pub(crate) struct LoraConfig {
    alpha: f64,
    /// Other alphas for some modules, by the end of their names.
    alphas: Vec<(String, f64)>,
    /// Rank-stabilized: divides by the root of the rank.
    rslora: bool,
}

/// Merges the adapter in `files` into `tensors`, and returns how many modules it changed. `canonical` gives names their one
/// spelling in the model's family.
pub(crate) fn merge(
    files: &Files,
    tensors: &mut HashMap<String, Tensor>,
    canonical: fn(&str) -> String,
    device: &Device,
) -> Result<usize, AdapterLoadError> {
    let config = LoraConfig::new(&files.required_json(CONFIG_FILE)?)?;
    // In f32 whatever the model is kept in: the sums are small.
    let lora = files.tensors(STEM, device, DType::F32)?;
    Ok(config.merge(&lora, tensors, canonical)?)
}

/// An adapter's own error, or one of its files'.
#[derive(Debug, Error)]
pub(crate) enum AdapterLoadError {
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl AdapterLoadError {
    /// Names the adapter.
    pub(crate) fn named(self, name: &str) -> LoadError {
        match self {
            Self::Adapter(source) => LoadError::Adapter { name: name.to_owned(), source },
            Self::Load(error) => {
                let source = AdapterError::Weights(error.to_string());
                LoadError::Adapter { name: name.to_owned(), source }
            }
        }
    }
}

impl LoraConfig {
    pub(crate) fn new(config: &Value) -> Result<Self, AdapterError> {
        let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or("(none)");
        if kind != "LORA" {
            return Err(AdapterError::Unsupported(format!("peft_type {kind}")));
        }
        // Everything that changes more than pairs of matrices does, or other matrices than are named.
        for key in [
            "use_dora",
            "use_qalora",
            "use_bdlora",
            "lora_bias",
            "fan_in_fan_out",
            "layer_replication",
            "modules_to_save",
            "target_parameters",
            "trainable_token_indices",
            "alora_invocation_tokens",
        ] {
            if config.get(key).is_some_and(is_set) {
                return Err(AdapterError::Unsupported(key.to_owned()));
            }
        }
        if let Some(bias) = config.get("bias").and_then(Value::as_str)
            && bias != "none"
        {
            return Err(AdapterError::Unsupported(format!("bias {bias:?}")));
        }
        let alpha = config
            .get("lora_alpha")
            .and_then(Value::as_f64)
            .ok_or_else(|| AdapterError::Config("it has no number lora_alpha".into()))?;
        let alphas = match config.get("alpha_pattern") {
            Some(Value::Object(patterns)) => patterns
                .iter()
                .map(|(name, alpha)| {
                    let plain = name.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c));
                    match alpha.as_f64() {
                        Some(alpha) if plain => Ok((name.clone(), alpha)),
                        _ => Err(AdapterError::Unsupported(format!("alpha_pattern {name:?}"))),
                    }
                })
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let rslora = config.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { alpha, alphas, rslora })
    }

    /// Merges pairs `….lora_A.weight` (rank, in) and `….lora_B.weight` (out, rank) into weights (out, in).
    pub(crate) fn merge(
        &self,
        lora: &HashMap<String, Tensor>,
        tensors: &mut HashMap<String, Tensor>,
        canonical: fn(&str) -> String,
    ) -> Result<usize, AdapterError> {
        // In a fixed order, so that of two problems it is always the same one that is told.
        let mut names: Vec<&String> = lora.keys().collect();
        names.sort_unstable();
        let mut merged = 0;
        for name in names {
            let path = name.strip_prefix(PREFIX).unwrap_or(name);
            let Some(module) = path.strip_suffix(".lora_A.weight") else {
                let Some(module) = path.strip_suffix(".lora_B.weight") else {
                    return Err(AdapterError::UnknownTensor(name.clone()));
                };
                if !lora.contains_key(&name.replace("lora_B", "lora_A")) {
                    return Err(AdapterError::Unpaired(module.to_owned()));
                }
                continue;
            };
            let a = &lora[name];
            let b = lora
                .get(&name.replace("lora_A", "lora_B"))
                .ok_or_else(|| AdapterError::Unpaired(module.to_owned()))?;
            let target = canonical(&format!("{module}.weight"));
            let weight = tensors
                .get(&target)
                .ok_or_else(|| AdapterError::UnknownTarget(module.to_owned()))?;
            let changed = self.add(module, weight, a, b)?;
            tensors.insert(target, changed);
            merged += 1;
        }
        if merged == 0 { Err(AdapterError::Empty) } else { Ok(merged) }
    }

    fn add(
        &self,
        module: &str,
        weight: &Tensor,
        a: &Tensor,
        b: &Tensor,
    ) -> Result<Tensor, AdapterError> {
        let mismatch = |found: Vec<usize>| AdapterError::Shape {
            module: module.to_owned(),
            expected: weight.dims().to_vec(),
            found,
        };
        let (&[rank, inputs], &[outputs, b_rank]) = (a.dims(), b.dims()) else {
            return Err(mismatch([a.dims(), b.dims()].concat()));
        };
        if rank != b_rank || rank == 0 || weight.dims() != [outputs, inputs] {
            return Err(mismatch(vec![outputs, inputs]));
        }
        let change = (b.matmul(a)? * self.scale(module, rank))?;
        let sum = (weight.to_dtype(DType::F32)? + change)?;
        Ok(sum.to_dtype(weight.dtype())?)
    }

    fn scale(&self, module: &str, rank: usize) -> f64 {
        let own = self.alphas.iter().find(|(name, _)| {
            module
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// Whether a setting of adapter_config.json asks for something.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}
