//! A decoder without the engine around it: for benchmarks, which want the forward pass alone.

use std::{collections::HashMap, path::Path};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::{
    checkpoint::Files,
    error::{EngineError, LoadError},
    memory::{CACHE_BYTES, CacheSize},
    model::{self, Gguf, Model, Parts, Run},
};

/// A model on the CPU whose cache is divided into equal places, one for each sequence.
pub struct BareModel {
    model: Box<dyn Model>,
    /// How many blocks a place has.
    blocks: u32,
}

/// What one sequence reads in a step.
#[derive(Clone, Copy)]
pub struct BareRun<'a> {
    /// Which place of the cache is its own.
    pub place: u32,
    /// How many tokens are there already.
    pub position: usize,
    pub tokens: &'a [u32],
}

impl BareModel {
    /// `config` is a config.json's content; tensors have the names that transformers gives them.
    pub fn from_tensors(
        config: &Value,
        tensors: HashMap<String, Tensor>,
    ) -> Result<Self, LoadError> {
        let files = Files::Embedded(&[]);
        let (device, dtype) = (&Device::Cpu, DType::F32);
        let cache = CacheSize::Bytes(CACHE_BYTES);
        let (files, image_tokens) = (&files, None);
        let parts = Parts { config, files, tensors, device, dtype, cache, image_tokens };
        Ok(Self::new((model::family(config)?.build)(parts)?))
    }

    pub fn from_gguf(path: &Path) -> Result<Self, LoadError> {
        Ok(Self::new(Gguf::open(path)?.load(&Device::Cpu, CacheSize::Bytes(CACHE_BYTES), false)?))
    }

    fn new(model: Box<dyn Model>) -> Self {
        // Benchmarks have 32 sequences at most.
        let blocks = model.capacity().blocks / 32;
        Self { model, blocks: u32::try_from(blocks).unwrap_or(u32::MAX) }
    }

    /// Logits after each run, (runs, vocabulary).
    pub fn step(&mut self, runs: &[BareRun<'_>]) -> Result<Tensor, EngineError> {
        let tables: Vec<Vec<u32>> = runs
            .iter()
            .map(|run| (run.place * self.blocks..(run.place + 1) * self.blocks).collect())
            .collect();
        let runs: Vec<Run<'_>> = runs
            .iter()
            .zip(&tables)
            .map(|(run, blocks)| Run {
                sequence: u64::from(run.place),
                tokens: run.tokens,
                position: run.position,
                blocks,
                adapter: None,
                images: &[],
                areas: &[],
                logits: true,
            })
            .collect();
        self.model.forward(&runs)
    }
}
