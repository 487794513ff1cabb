//! What to serve and where. Paths and names only: nothing here has been looked at yet.

use std::path::PathBuf;

/// A file inside the binary: its name and its bytes.
pub type EmbeddedFile = (&'static str, &'static [u8]);

/// What [`start`](crate::start) needs.
#[derive(Clone)]
pub struct Config {
    pub model: ModelSource,
    /// The name under which the model is served. Without one: `demo`, the folder's or the file's name, or the hub id.
    pub name: Option<String>,
    pub adapters: Vec<Adapter>,
    pub device: DeviceChoice,
    /// How many jobs may wait; at least 1. One more is running.
    pub queue: usize,
    /// Threads for the arithmetic of a CPU; 0 means all cores but one. candle reads it from the environment, see
    /// [`thread_variables`](crate::thread_variables).
    pub threads: usize,
    /// NVML's library, where it is not the one the system would find.
    pub nvml_library: Option<PathBuf>,
}

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

/// A LoRA adapter. It is merged into a copy of the model when that is loaded, and served as a model of its own.
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
