//! The inference engine: loads a model, and turns jobs into text, and texts into vectors, on one device or on several.
//!
//! [`start`] loads everything and returns an [`Engine`]; [`Engine::submit`] hands in a [`Job`] and returns the channel
//! on which its [`Event`]s arrive. One thread of its own owns each device, a copy of the model and its cache, and moves all
//! running jobs there on together, step by step. This crate knows no HTTP, no log chain and no record: it emits `tracing` events
//! under the job's span.
//!
//! # Layout
//! - [`config`], [`job`], [`error`]: what goes in and what comes out.
//! - `engine`: the callers' side of the queues, and which engine a job goes to; `scheduler`: the engine thread, with continuous
//!   batching. `events`: the `tracing` events of a job.
//! - `load`: from a [`Config`] to models that are ready. `checkpoint`: a model's files. `hub`, `device`, `cuda`, `gpu`,
//!   `threads`: what it finds around it. `memory`: how much of a device a cache may take.
//! - `model`: the families, the decoder that most of them share and its cache; `adapter`: LoRA.
//! - `constraint`: what keeps an answer to a grammar. `tools`: how models write calls. `text`: tokens for callers.
//! - `measure`: the forward pass alone, for benchmarks.
//! - `prompt`: messages to tokens, by `template`, `guard` (user text can't be special tokens), `tokenizer` and `image`.
//! - `sampler`, `stream`: logits to tokens, tokens to text.

pub mod config;
pub mod error;
pub mod job;
#[doc(hidden)]
pub mod measure;

mod adapter;
mod checkpoint;
mod constraint;
mod cuda;
mod device;
mod engine;
mod events;
mod gpu;
mod guard;
mod hub;
mod image;
mod load;
mod memory;
mod model;
mod prompt;
mod sampler;
mod scheduler;
mod stream;
mod template;
mod text;
mod threads;
mod tokenizer;
mod tools;

#[cfg(test)]
mod tests;

pub use self::{
    adapter::AdapterError,
    config::{
        Adapter, AdapterSource, Config, DeviceChoice, DtypeChoice, EmbeddedFile, ModelSource,
        StepHook,
    },
    constraint::{ConstraintError, json_in_grammar},
    engine::{
        EmbedError, EmbedInput, EmbedRequest, Embeddings, Engine, EngineHandle, EngineState,
        ServedModel, start,
    },
    error::{AdapterChangeError, EngineError, LoadError, SubmitError},
    gpu::{GpuInfo, GpuSummary},
    job::{
        Constraint, Event, FinishReason, Finished, Job, Logprob, Message, Part, Piece, Prompt,
        Sampling, Timings, TokenLogprob,
    },
    scheduler::{Stats, StepTokens},
    text::TextError,
    threads::{recommended_threads, thread_variables},
    tools::ToolFormat,
};
