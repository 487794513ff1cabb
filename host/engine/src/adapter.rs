//! LoRA adapters as PEFT saves them: `y += (alpha / r) · B · A · x`, beside weights that stay as they are.
//!
//! What can't be applied exactly is refused: an adapter that is half applied answers, and answers wrongly. Which modules a model
//! has is not known here. `config` reads adapter_config.json.

mod config;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use thiserror::Error;

use self::config::LoraConfig;
use crate::{
    checkpoint::{Files, Stored},
    error::{LoadError, first_line},
};

const CONFIG_FILE: &str = "adapter_config.json";
const STEM: &str = "adapter_model";
/// PEFT wraps a model twice.
const PREFIX: &str = "base_model.model.";

/// Why an adapter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AdapterError {
    #[error("adapter_config.json is wrong: {0}")]
    Config(String),
    #[error("it uses {0}, which is not supported; train it without")]
    Unsupported(String),
    #[error("it holds tensor {0}, which is no part of a LoRA")]
    UnknownTensor(String),
    #[error("it changes {0}, which the model does not have; was it trained on another model?")]
    UnknownTarget(String),
    #[error("half of the pair for {0} is missing")]
    Unpaired(String),
    #[error("its pair for {module} makes {found:?}, and the model has {expected:?} there")]
    Shape { module: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("the two halves of its pair for {0} do not fit together")]
    Pair(String),
    #[error("its pair for {module} has rank {found}, and adapter_config.json says {expected}")]
    Rank { module: String, expected: usize, found: usize },
    #[error("it changes {0}, which is no linear layer of the decoder; train it without")]
    OutsideDecoder(String),
    #[error("it changes nothing in the model")]
    Empty,
    #[error("{0}")]
    Weights(String),
}

impl From<candle_core::Error> for AdapterError {
    fn from(error: candle_core::Error) -> Self {
        Self::Weights(first_line(&error))
    }
}

/// An adapter that was read, and that no model has looked at yet.
pub(crate) struct Lora {
    /// In the order of their names.
    pub(crate) changes: Vec<Change>,
}

/// What an adapter does to one module: `y += scale · B · A · x`.
pub(crate) struct Change {
    /// As PEFT names it, without its own prefix.
    pub(crate) module: String,
    /// (rank, inputs), in `f32`.
    pub(crate) a: Tensor,
    /// (outputs, rank), in `f32`.
    pub(crate) b: Tensor,
    pub(crate) scale: f64,
}

impl Lora {
    pub(crate) fn read(files: &Files) -> Result<Self, AdapterLoadError> {
        let config = LoraConfig::new(&files.required_json(CONFIG_FILE)?)?;
        let tensors = files.tensors(STEM, &Device::Cpu, Stored::As(DType::F32))?;
        Ok(Self { changes: config.changes(tensors)? })
    }
}

/// An adapter's own error, or one of its files'.
#[derive(Debug, Error)]
pub(crate) enum AdapterLoadError {
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl From<candle_core::Error> for AdapterLoadError {
    fn from(error: candle_core::Error) -> Self {
        Self::Adapter(error.into())
    }
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
    /// Puts pairs `….lora_A.weight` (rank, inputs) and `….lora_B.weight` (outputs, rank) together.
    fn changes(&self, mut tensors: HashMap<String, Tensor>) -> Result<Vec<Change>, AdapterError> {
        // In a fixed order, so that of two problems it is always the same one that is told.
        let mut names: Vec<String> = tensors.keys().cloned().collect();
        names.sort_unstable();
        let mut changes = Vec::new();
        for name in names {
            let path = name.strip_prefix(PREFIX).unwrap_or(&name);
            let Some(module) = path.strip_suffix(".lora_A.weight") else {
                let Some(module) = path.strip_suffix(".lora_B.weight") else {
                    return Err(AdapterError::UnknownTensor(name));
                };
                // Its other half comes first and takes it out.
                if tensors.contains_key(&name) {
                    return Err(AdapterError::Unpaired(module.to_owned()));
                }
                continue;
            };
            let pair = (tensors.remove(&name), tensors.remove(&name.replace("lora_A", "lora_B")));
            let (Some(a), Some(b)) = pair else {
                return Err(AdapterError::Unpaired(module.to_owned()));
            };
            let rank = match (a.dims(), b.dims()) {
                (&[rank, _], &[_, other]) if rank == other && rank > 0 => rank,
                _ => return Err(AdapterError::Pair(module.to_owned())),
            };
            let scale = self.scale(module, rank)?;
            changes.push(Change { module: module.to_owned(), a, b, scale });
        }
        if changes.is_empty() { Err(AdapterError::Empty) } else { Ok(changes) }
    }
}
