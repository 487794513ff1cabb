//! What to serve and where. Paths and names only: nothing here has been looked at yet.

use std::{path::PathBuf, sync::Arc};

use crate::error::EngineError;

/// A file inside the binary: its name and its bytes.
pub type EmbeddedFile = (&'static str, &'static [u8]);

/// What [`start`](crate::start) needs.
#[derive(Clone)]
pub struct Config {
    pub model: ModelSource,
    /// The name under which the model is served. Without one: `demo`, the folder's or the file's name, or the hub id.
    pub name: Option<String>,
    pub adapters: Vec<Adapter>,
    /// One engine for each, with a copy of the model and of its adapters; one at least. The same one twice is two engines on it.
    pub devices: Vec<DeviceChoice>,
    pub dtype: DtypeChoice,
    /// How many jobs may wait to be admitted, at each engine; at least 1.
    pub queue: usize,
    /// How many jobs move on in one step; none: as many as the model and a step of [`Self::max_num_batched_tokens`] allow, up
    /// to 64.
    pub max_num_seqs: Option<usize>,
    /// How many tokens one step computes; none: 2048 on a GPU, 256 on a CPU, where more make a step no faster by the token
    /// and answers under way wait longer for it.
    pub max_num_batched_tokens: Option<usize>,
    /// How many tokens one image may become where its size can be any: a larger one is shrunk. None: 1024 on a CPU, and on a GPU what the
    /// model's preprocessor_config.json allows.
    pub image_tokens: Option<usize>,
    /// Memory for keys and values, of each engine; none: see below, and 2 GiB on a CPU.
    pub kv_cache_bytes: Option<usize>,
    /// Where [`Self::kv_cache_bytes`] is none: how much of a GPU's memory the engine may use, over 0 and up to 1, weights and steps
    /// included; none: 0.9. What is not used otherwise is for keys and values.
    pub gpu_memory_utilization: Option<f64>,
    /// Whether prompts with the same beginning share what was computed for it.
    pub prefix_caching: bool,
    /// Whether a job that asks for an adapter that is not there runs on the model alone, with a warning.
    pub adapter_fallback: bool,
    /// Threads for the arithmetic of a CPU; 0 means all cores but one. candle reads it from the environment, see
    /// [`thread_variables`](crate::thread_variables).
    pub threads: usize,
    /// Whether quantized weights become floats when they are loaded, for up to eight times the memory: what is not in one of the types
    /// that have kernels here is multiplied with 8-bit activations otherwise, and their noise changes what small models say.
    pub dequantize: bool,
    /// NVML's library, where it is not the one the system would find.
    pub nvml_library: Option<PathBuf>,
    /// Called on the engine's thread before each step. Its error, or what it panics with, fails the step as the model's would: so
    /// tests reach what no model of theirs does. It is for tests only, and no part of what is promised.
    #[doc(hidden)]
    pub before_step: Option<StepHook>,
}

/// See [`Config::before_step`]: for tests only, and no part of what is promised.
#[doc(hidden)]
pub type StepHook = Arc<dyn Fn() -> Result<(), EngineError> + Send + Sync>;

/// Where a model's files are.
#[derive(Clone)]
pub enum ModelSource {
    /// Inside the binary: the demo model.
    Embedded(&'static [EmbeddedFile]),
    /// A folder as `save_pretrained` of transformers writes it.
    Folder(PathBuf),
    Gguf(PathBuf),
    /// `owner/name` or `owner/name@revision`.
    Hub(String),
}

/// A LoRA adapter. It is applied beside the weights of the model, and served as a model of its own.
#[derive(Clone)]
pub struct Adapter {
    pub name: String,
    pub source: AdapterSource,
}

/// Where an adapter's files are.
#[derive(Clone)]
pub enum AdapterSource {
    Embedded(&'static [EmbeddedFile]),
    /// A folder as `save_pretrained` of PEFT writes it.
    Folder(PathBuf),
}

/// What does the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device where there is one, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// This CUDA device, or nothing: [`start`](crate::start) fails without it.
    Cuda(usize),
}

/// The type that weights have in memory, and that a step is calculated in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtypeChoice {
    /// `f32` on a CPU, and for Gemma. On a GPU `f16` where config.json names it or where the GPU has no `bf16`, else `bf16`.
    #[default]
    Auto,
    F32,
    /// On a GPU only.
    F16,
    /// On a GPU only.
    Bf16,
}
