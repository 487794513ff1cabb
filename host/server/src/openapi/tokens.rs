//! `POST /tokenize` and `/detokenize`: texts and their tokens.

use utoipa::ToSchema;

use super::{
    chat::{ChatMessage, Tool},
    common::Errors,
};

/// Cuts a text, or a conversation as a model reads it, into tokens.
#[utoipa::path(
    post, path = "/tokenize", operation_id = "tokenize", tag = "tokens",
    request_body = TokenizeRequest,
    responses((status = 200, description = "The tokens.", body = Tokenized), Errors)
)]
fn tokenize() {}

/// Puts tokens together to a text.
#[utoipa::path(
    post, path = "/detokenize", operation_id = "detokenize", tag = "tokens",
    request_body = DetokenizeRequest,
    responses((status = 200, description = "The text.", body = Detokenized), Errors)
)]
fn detokenize() {}

/// Tokens by their numbers.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 1000000, minimum = 0, maximum = 4294967295_i64)]
pub(super) struct Tokens(Vec<i64>);

/// It has a `prompt` or `messages`; of both, the prompt is taken.
#[derive(ToSchema)]
pub(super) struct TokenizeRequest {
    #[schema(max_length = 1000000)]
    prompt: Option<String>,
    /// Of text only.
    #[schema(min_items = 1, max_items = 1024)]
    messages: Option<Vec<ChatMessage>>,
    #[schema(max_items = 128)]
    tools: Option<Vec<Tool>>,
    model: Option<String>,
    /// Whether a prompt gets the token that texts begin with; it does where nothing is said.
    add_special_tokens: Option<bool>,
    return_token_strs: Option<bool>,
}

#[derive(ToSchema)]
pub(super) struct Tokenized {
    count: u64,
    max_model_len: u64,
    tokens: Vec<u32>,
    /// With `return_token_strs`.
    #[schema(required)]
    token_strs: Option<Vec<String>>,
}

#[derive(ToSchema)]
pub(super) struct DetokenizeRequest {
    #[schema(max_items = 1000000, minimum = 0, maximum = 4294967295_i64)]
    tokens: Vec<i64>,
    model: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Detokenized {
    prompt: String,
}
