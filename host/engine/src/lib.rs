//! The inference engine: loads a model, and turns jobs into text on one device.
//!
//! [`start`] loads everything and returns an [`Engine`]; [`Engine::submit`] hands in a [`Job`] and returns the channel
//! on which its [`Event`]s arrive. One thread of its own owns the device, the models and their caches, and runs one
//! job at a time. This crate knows no HTTP, no log chain and no record: it emits `tracing` events under the job's span.
//!
//! # Layout
//! - [`config`], [`job`], [`error`]: what goes in and what comes out.
//! - `engine`, `worker`: the two sides of the queue. `events`: the `tracing` events of a job.
//! - `load`: from a [`Config`] to models that are ready. `checkpoint`: a model's files. `hub`, `device`, `gpu`,
//!   `threads`: what it finds around it.
//! - `model`: the families; `adapter`: LoRA.
//! - `prompt`: messages to tokens, by `template`, `guard` (user text can't be special tokens), `tokenizer` and `image`.
//! - `sampler`, `stream`: logits to tokens, tokens to text.

pub mod config;
pub mod error;
pub mod job;

mod adapter;
mod checkpoint;
mod device;
mod engine;
mod events;
mod gpu;
mod guard;
mod hub;
mod image;
mod load;
mod model;
mod prompt;
mod sampler;
mod stream;
mod template;
mod threads;
mod tokenizer;
mod worker;

#[cfg(test)]
mod tests;

pub use self::{
    adapter::AdapterError,
    config::{Adapter, AdapterSource, Config, DeviceChoice, EmbeddedFile, ModelSource},
    engine::{Engine, EngineHandle, ServedModel, start},
    error::{EngineError, LoadError, SubmitError},
    gpu::{GpuInfo, GpuSummary},
    job::{Event, FinishReason, Finished, Job, Message, Part, Sampling, Timings},
    threads::{recommended_threads, thread_variables},
};
