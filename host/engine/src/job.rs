//! What is handed in, and what comes back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::image::DynamicImage;
use serde_json::Value;

use crate::error::EngineError;

/// One generation. It has no `Debug`: what a person wrote must not end up in a log by accident.
#[derive(Clone)]
pub struct Job {
    /// Name of a served model.
    pub model: String,
    /// An adapter that the client named beside the model; it replaces `model`.
    pub adapter_requested: Option<String>,
    /// Shared by the jobs that answer the same prompt.
    pub prompt: Arc<Prompt>,
    pub sampling: Sampling,
    /// What the text must match; tokens that would break it are never chosen.
    pub constraint: Option<Constraint>,
    /// Jobs with a smaller number begin first, as in vLLM; those with the same number in the order of their arrival. One more
    /// counts as if the job had come 30 s later, so that none waits for ever.
    pub priority: i32,
    /// When the job fails with [`EngineError::DeadlineExceeded`], whatever it has made.
    pub deadline: Option<Instant>,
    /// The request's span; the events of the job are its children.
    pub span: tracing::Span,
}

/// What a model reads first.
#[derive(Clone)]
pub enum Prompt {
    /// A conversation, rendered by the model's chat template.
    Chat {
        messages: Vec<Message>,
        /// Tools in OpenAI's form (`{"type": "function", "function": {…}}`), for templates that know them.
        tools: Vec<Value>,
    },
    /// A text to go on with, without a template. Special tokens in it are text.
    Text(String),
    /// Tokens of the model's own tokenizer.
    Tokens(Vec<u32>),
}

/// One turn of a conversation.
#[derive(Clone, Default)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    pub content: Vec<Part>,
    /// Calls that an assistant made, in OpenAI's form.
    pub tool_calls: Vec<Value>,
    /// The call that a tool answers.
    pub tool_call_id: Option<String>,
    /// Name of the participant or of the tool.
    pub name: Option<String>,
}

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// A JSON object.
    JsonObject,
    /// JSON that this JSON Schema describes.
    JsonSchema(Value),
    /// A regular expression in Rust's `regex` syntax.
    Regex(String),
    /// A grammar in llguidance's Lark dialect.
    Grammar(String),
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
    /// Drops tokens less likely than this share of the likeliest one.
    pub min_p: Option<f64>,
    /// -2 to 2: taken off the logit of every token that the answer holds already, once.
    pub presence_penalty: f64,
    /// -2 to 2: as `presence_penalty`, for each time that it holds it.
    pub frequency_penalty: f64,
    /// Above 0: divides positive logits of tokens of prompt and answer, and multiplies negative ones. None is 1.
    pub repetition_penalty: Option<f64>,
    /// Tokens, and what is added to their logits.
    pub logit_bias: Vec<(u32, f32)>,
    pub seed: u64,
    /// Texts that end the generation; they are not part of it.
    pub stop: Vec<String>,
    /// Whether the end-of-text token is a token like any other.
    pub ignore_eos: bool,
    /// Tells the logarithm of each token's probability, and as many of the likeliest tokens at its place; 0 tells the token's own.
    pub logprobs: Option<usize>,
}

/// What happens to a job, in order: `Started`, any number of `Text`, then `Finished` or `Failed`. A channel that
/// closes without one of the last two belongs to a job that was cancelled, or to an engine that is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt is ready and fits.
    Started {
        /// Tokens of the prompt, those of images included.
        input_tokens: usize,
        /// The part of them whose keys and values were there from an earlier prompt.
        cached_tokens: usize,
    },
    /// The next piece of text.
    Text(Piece),
    Finished(Finished),
    Failed(EngineError),
}

/// A piece of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Whole characters, never part of a stop text. Empty only where `logprobs` were asked for.
    pub text: String,
    /// The tokens that came since the piece before, where [`Sampling::logprobs`] asks for them.
    pub logprobs: Vec<TokenLogprob>,
}

/// A chosen token and what else could have been.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    pub token: Logprob,
    /// The likeliest first.
    pub top: Vec<Logprob>,
}

/// Natural logarithm of a token's probability under the model, before temperature, penalties and limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprob {
    pub id: u32,
    pub logprob: f32,
    /// What the token stands for; part of a character where the bytes are no text alone.
    pub bytes: Vec<u8>,
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
    /// The part of `input_tokens` whose keys and values were there from an earlier prompt.
    pub cached_tokens: usize,
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
    /// From `submit` until the job has its place in a step: template, tokens and images, and waiting for room.
    pub queue: Duration,
    /// From then until the first token is known: the forward passes over the prompt, in as many steps as it takes.
    pub prefill: Duration,
    /// From `submit` until the first token is known.
    pub first_token: Duration,
    /// From the first token until the last, and what it waits for when its blocks are taken.
    pub decode: Duration,
    pub generation: Duration,
}
