//! `POST /v1/embeddings`: texts in four forms, and vectors in two.

use utoipa::ToSchema;

use super::{
    common::{Errors, ListObject, word},
    tokens::Tokens,
};

word!(EmbeddingObject, "embedding");

/// Makes vectors of texts.
#[utoipa::path(
    post, path = crate::embeddings::ROUTE, operation_id = "createEmbedding", tag = "embeddings",
    request_body = EmbeddingRequest,
    responses((status = 200, description = "A vector of each text.", body = EmbeddingList), Errors)
)]
fn create_embedding() {}

#[derive(ToSchema)]
pub(super) struct EmbeddingRequest {
    /// No more than a million characters in all; a token counts as one.
    input: EmbeddingInput,
    /// Without it, the first model.
    model: Option<String>,
    /// An adapter of the model.
    adapter: Option<String>,
    encoding_format: Option<EncodingFormat>,
    /// How many numbers a vector has: no more than the model makes, which is also what it has without this.
    #[schema(minimum = 1)]
    dimensions: Option<i64>,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum EmbeddingInput {
    One(EmbeddingText),
    Tokens(Tokens),
    Several(EmbeddingTexts),
}

#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 1000000)]
pub(super) struct EmbeddingText(String);

#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 2048)]
pub(super) struct EmbeddingTexts(Vec<OneInput>);

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum OneInput {
    Text(EmbeddingText),
    Tokens(Tokens),
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EncodingFormat {
    Float,
    Base64,
}

#[derive(ToSchema)]
pub(super) struct EmbeddingList {
    object: ListObject,
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingUsage,
}

#[derive(ToSchema)]
pub(super) struct Embedding {
    object: EmbeddingObject,
    index: u64,
    embedding: EmbeddingVector,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum EmbeddingVector {
    Numbers(Vec<f32>),
    /// The numbers as four bytes each, the lowest first, in base64.
    Base64(String),
}

#[derive(ToSchema)]
pub(super) struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}
