//! Vectors of texts, for callers. Tokens are made on a thread of tokio's that may block; the rest is the engine thread's.
//!
//! A vector is the state of the text's last token after the model's last norm, brought to length 1: what vLLM makes of a decoder
//! with `--convert embed` unless the model says otherwise (pooling `LAST`, normalized; vLLM's documentation, "Pooling Models").

use std::sync::Arc;

use thiserror::Error;
use tokio::{sync::oneshot, task::spawn_blocking};

use super::{
    EngineHandle,
    fleet::served,
    member::{EMBEDS_MAX, Member},
};
use crate::{
    error::{EngineError, SubmitError, first_line},
    events,
    job::Prompt,
    scheduler::{Embed, Message, check_tokens},
};

/// torch's `normalize` has the same floor.
const SHORTEST: f64 = 1e-12;

/// Texts of which vectors are wanted. It has no `Debug`, as a [`Job`](crate::Job) has none.
#[derive(Clone)]
pub struct EmbedRequest {
    /// Name of a served model.
    pub model: String,
    /// An adapter that the client named beside the model; it replaces `model`.
    pub adapter_requested: Option<String>,
    pub inputs: Vec<EmbedInput>,
    /// The first so many numbers of each vector, at least 1, brought to length 1 again. It is for models that were trained for
    /// it (Matryoshka); of others a shorter vector says less.
    pub dimensions: Option<usize>,
    /// The request's span; its events are children of it.
    pub span: tracing::Span,
}

/// One text.
#[derive(Clone)]
pub enum EmbedInput {
    /// It begins as texts of the model begin. Special tokens in it are text.
    Text(String),
    /// Tokens of the model's own tokenizer.
    Tokens(Vec<u32>),
}

/// The vectors of texts, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    pub vectors: Vec<Vec<f32>>,
    pub input_tokens: usize,
}

/// Why there are no vectors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EmbedError {
    #[error("{0}")]
    Refused(#[from] SubmitError),
    #[error("{0}")]
    Failed(#[from] EngineError),
    #[error("the engine stopped before the vectors were complete")]
    Gone,
}

impl EngineHandle {
    /// How many numbers a vector of [`Self::embed`] has; 0 where the model makes none.
    pub fn embedding_size(&self) -> usize {
        self.fleet.members.first().map_or(0, |it| it.embedding_size)
    }

    /// Vectors of texts; each may be as long as a prompt. Dropping the future ends the request.
    pub async fn embed(&self, request: EmbedRequest) -> Result<Embeddings, EmbedError> {
        let EmbedRequest { model, adapter_requested, inputs, dimensions, span } = request;
        let adapter = adapter_requested.as_deref();
        let resolved = self.fleet.resolve(&model, adapter, &span)?;
        let (member, place) = self.fleet.choose(Member::embed_place, |_| EMBEDS_MAX)?;
        let served = served(member, &resolved.name)?;
        let permit = Arc::clone(&self.fleet.encoders).acquire_owned().await;
        let permit = permit.map_err(|_| SubmitError::ShuttingDown)?;
        let prompter = Arc::clone(&member.prompter);
        let (context, vocabulary) = (served.model.context, member.vocabulary);
        let encode = move || {
            // Held until the work is over, also when nobody waits for it any more.
            let _permit = permit;
            let tokens = |input: EmbedInput| {
                let prompt = input.into();
                let tokens = prompter.encode_prompt(&prompt, None, context)?.tokens;
                check_tokens(&prompt, &tokens, vocabulary, None)?;
                Ok(tokens)
            };
            let texts: Result<Vec<_>, EngineError> = inputs.into_iter().map(tokens).collect();
            // The place is held here, too.
            texts.map(|it| (it, place))
        };
        let encoded = spawn_blocking(encode).await;
        let (texts, place) =
            encoded.unwrap_or_else(|error| Err(EngineError::Panicked(first_line(&error))))?;
        let input_tokens = texts.iter().map(Vec::len).sum();
        if texts.is_empty() {
            return Ok(Embeddings { vectors: Vec::new(), input_tokens });
        }
        events::adapter(&span, adapter.unwrap_or(&model), &served);
        let number = member.numbers(texts.len());
        let (reply, answer) = oneshot::channel();
        let embed = Box::new(Embed { number, served, texts, reply, place });
        if !member.tell(Message::Embed(embed)) {
            return Err(SubmitError::ShuttingDown.into());
        }
        let states = answer.await.map_err(|_| EmbedError::Gone)??;
        let vectors: Result<Vec<_>, EngineError> =
            states.into_iter().map(|state| vector(state, dimensions)).collect();
        Ok(Embeddings { vectors: vectors?, input_tokens })
    }
}

impl From<EmbedInput> for Prompt {
    fn from(it: EmbedInput) -> Self {
        match it {
            EmbedInput::Text(text) => Self::Text(text),
            EmbedInput::Tokens(tokens) => Self::Tokens(tokens),
        }
    }
}

/// What was wanted of a state, at length 1.
fn vector(mut state: Vec<f32>, dimensions: Option<usize>) -> Result<Vec<f32>, EngineError> {
    if let Some(dimensions) = dimensions {
        state.truncate(dimensions.max(1));
    }
    let length = state.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() {
        return Err(EngineError::Internal("the model's states are no numbers".into()));
    }
    let length = length.max(SHORTEST);
    Ok(state.into_iter().map(|it| (f64::from(it) / length) as f32).collect())
}
