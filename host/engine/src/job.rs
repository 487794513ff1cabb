//! What is handed in, and what comes back.

use std::{sync::Arc, time::Duration};

use ::image::DynamicImage;

use crate::error::EngineError;

/// One generation. It has no `Debug`: what a person wrote must not end up in a log by accident.
#[derive(Clone)]
pub struct Job {
    /// Name of a served model.
    pub model: String,
    /// An adapter that the client named beside the model; it replaces `model`.
    pub adapter_requested: Option<String>,
    pub messages: Vec<Message>,
    pub sampling: Sampling,
    /// The request's span; the events of the job are its children.
    pub span: tracing::Span,
}

/// One turn of a conversation.
#[derive(Clone)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    pub content: Vec<Part>,
}

/// A piece of a message, in the order in which the person gave it.
#[derive(Clone)]
pub enum Part {
    Text(String),
    Image(Arc<DynamicImage>),
}

/// How the next token is chosen, and when to stop. The default is greedy and endless.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Without one, up to the model's context.
    pub max_tokens: Option<usize>,
    /// 0 is greedy: always the likeliest token.
    pub temperature: f64,
    pub top_p: Option<f64>,
    pub top_k: Option<usize>,
    pub seed: u64,
    /// Texts that end the generation; they are not part of it.
    pub stop: Vec<String>,
}

/// What happens to a job, in order: `Started`, any number of `Text`, then `Finished` or `Failed`. A channel that
/// closes without one of the last two belongs to a job that was cancelled, or to an engine that is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt is ready and fits.
    Started {
        /// Tokens of the prompt, those of images included.
        input_tokens: usize,
    },
    /// The next piece of text: whole characters, never part of a stop text.
    Text(String),
    Finished(Finished),
    Failed(EngineError),
}

/// The end of a job that went well.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    pub reason: FinishReason,
    /// Tokens of the prompt, those of images included.
    pub input_tokens: usize,
    /// Tokens that the model made, the end-of-text token included.
    pub output_tokens: usize,
    /// The part of `input_tokens` that stands for images.
    pub image_tokens: usize,
    pub timings: Timings,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its text, or a stop text came.
    Stop,
    /// `max_tokens` or the context is used up.
    Length,
}

impl FinishReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Where the time went. `queue + prefill == first_token`, and `prefill + decode == generation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for the engine.
    pub queue: Duration,
    /// From the end of the wait until the first token is known: template, tokens, images and the forward pass over the
    /// prompt.
    pub prefill: Duration,
    /// From `submit` until the first token is known.
    pub first_token: Duration,
    /// From the first token until the last.
    pub decode: Duration,
    pub generation: Duration,
}
