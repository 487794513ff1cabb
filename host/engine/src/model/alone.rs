//! The former models behind the trait for batches, one text at a time, until every family has moved.

use std::collections::HashMap;

use candle_core::Tensor;

use super::{AdapterInfo, Capacity, Model, Prompt, Run, Solo, VisionSpec};
use crate::{adapter::AdapterLoadError, checkpoint::Files, error::EngineError};

pub(crate) struct Alone {
    model: Box<dyn Solo>,
    adapters: HashMap<String, Box<dyn Solo>>,
    tokens: Vec<u32>,
    images: Vec<Tensor>,
    answers: bool,
}

impl Alone {
    pub(crate) fn new(model: Box<dyn Solo>, adapters: HashMap<String, Box<dyn Solo>>) -> Self {
        Self { model, adapters, tokens: Vec::new(), images: Vec::new(), answers: false }
    }
}

impl Model for Alone {
    fn family(&self) -> &'static str {
        self.model.family()
    }

    fn context(&self) -> usize {
        self.model.context()
    }

    fn vision(&self) -> Option<&VisionSpec> {
        self.model.vision()
    }

    fn capacity(&self) -> Capacity {
        // One block for all, so nothing is shared.
        Capacity { block_tokens: self.context(), blocks: 1, sequences: 1 }
    }

    fn look(&mut self, image: &Tensor) -> Result<Tensor, EngineError> {
        Ok(image.clone())
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        let [run] = runs else {
            return Err(EngineError::Internal("one text at a time".into()));
        };
        let model = match run.adapter {
            Some(name) => self.adapters.get_mut(name),
            None => Some(&mut self.model),
        };
        let model = model.ok_or_else(|| EngineError::Internal("no such adapter".into()))?;
        if run.position == 0 {
            self.tokens.clear();
            self.images.clear();
            self.answers = false;
        }
        debug_assert!(run.sequence < u64::MAX && !run.blocks.is_empty());
        for image in run.images.iter().filter(|it| it.rows.0 == 0) {
            debug_assert!(image.at < run.tokens.len());
            self.images.push(image.features.clone());
        }
        self.tokens.extend_from_slice(run.tokens);
        if !run.logits {
            return Ok(Tensor::zeros((0, 1), candle_core::DType::F32, &candle_core::Device::Cpu)?);
        }
        let logits = match (self.answers, run.tokens) {
            (true, [token]) => model.step(*token)?,
            _ => model.prefill(&Prompt {
                tokens: &self.tokens,
                images: &self.images,
                interrupted: &|| false,
            })?,
        };
        self.answers = true;
        Ok(logits.unsqueeze(0)?)
    }

    fn load_adapter(&mut self, _: &str, _: &Files) -> Result<AdapterInfo, AdapterLoadError> {
        Err(AdapterLoadError::Adapter(crate::adapter::AdapterError::Quantized))
    }

    fn unload_adapter(&mut self, name: &str) {
        self.adapters.remove(name);
    }
}
