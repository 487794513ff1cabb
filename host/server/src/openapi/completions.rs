//! `POST /v1/completions`: prompts in four forms, and texts that go on where they end.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use super::{
    common::{Errors, Metrics, Sampling, StopReason, StreamOptions, Usage, word},
    tokens::Tokens,
};

word!(CompletionObject, "text_completion");

/// Goes on where a prompt ends, whole or as a stream.
#[utoipa::path(
    post, path = crate::completions::ROUTE, operation_id = "createCompletion", tag = "completions",
    request_body = CompletionRequest,
    responses(
        (
            status = 200,
            description = "The text. With `stream` the data of events: chunks, and `[DONE]` at the end. A failure on \
                           the way is a last event with the error.",
            content((Completion = "application/json"), (CompletionEvent = "text/event-stream"))
        ),
        Errors,
    )
)]
fn create_completion() {}

#[derive(ToSchema)]
pub(super) struct CompletionRequest {
    prompt: Prompt,
    /// Without it, the first model.
    model: Option<String>,
    /// An adapter of the model.
    adapter: Option<String>,
    /// Only an empty one, unless the server is told to ignore what no model here can do.
    suffix: Option<String>,
    /// Whether the prompt stands before the text; not together with `logprobs`, unless they are 0.
    echo: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Whether the answer says what it took.
    include_metrics: Option<bool>,
    /// How many answers to each prompt: 128 in all, and never more than may wait in the server's queue.
    #[schema(minimum = 1, maximum = 128)]
    n: Option<i64>,
    /// How many answers are made, of which the `n` likeliest are sent. 0 is as good as nothing.
    #[schema(minimum = 0, maximum = 20)]
    best_of: Option<i64>,
    /// How many of the likeliest tokens are told beside each one.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<i64>,
    #[serde(flatten)]
    sampling: Sampling,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum Prompt {
    One(PromptText),
    Tokens(Tokens),
    Several(Prompts),
}

#[derive(ToSchema)]
#[schema(max_length = 1000000)]
pub(super) struct PromptText(String);

#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 128)]
pub(super) struct Prompts(Vec<OnePrompt>);

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum OnePrompt {
    Text(PromptText),
    Tokens(Tokens),
}

#[derive(ToSchema)]
pub(super) struct Completion {
    id: String,
    object: CompletionObject,
    /// Unix seconds.
    created: u64,
    model: String,
    choices: Vec<CompletionChoice>,
    usage: Usage,
    #[schema(nullable = false)]
    metrics: Option<Metrics>,
}

#[derive(ToSchema)]
pub(super) struct CompletionChoice {
    index: u64,
    text: String,
    #[schema(required)]
    logprobs: Option<CompletionLogprobs>,
    finish_reason: StopReason,
}

#[derive(ToSchema)]
pub(super) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f64>,
    top_logprobs: Vec<BTreeMap<String, f64>>,
    /// In characters, from the beginning of the text.
    text_offset: Vec<u64>,
}

/// One event of a stream.
#[derive(ToSchema)]
pub(super) struct CompletionEvent {
    /// A `CompletionChunk` as JSON; `[DONE]` in the last one; an `Error` as JSON where it failed on the way.
    data: String,
}

#[derive(ToSchema)]
pub(super) struct CompletionChunk {
    id: String,
    object: CompletionObject,
    created: u64,
    model: String,
    /// None in the chunk that counts the tokens.
    choices: Vec<CompletionChunkChoice>,
    /// With `include_usage`: null in all chunks but the last.
    usage: Option<Usage>,
    /// In the last chunk, with `include_metrics`.
    #[schema(nullable = false)]
    metrics: Option<Metrics>,
}

#[derive(ToSchema)]
pub(super) struct CompletionChunkChoice {
    index: u64,
    text: String,
    #[schema(required)]
    logprobs: Option<CompletionLogprobs>,
    #[schema(required)]
    finish_reason: Option<StopReason>,
}
