//! What several endpoints take or answer: the parameters of a generation, counts of tokens, errors.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ObjectBuilder, Type, schema::SchemaType},
};

/// A member that is always the same word, by which clients tell objects apart.
macro_rules! word {
    ($name:ident, $word:tt) => {
        #[derive(utoipa::ToSchema)]
        pub(super) enum $name {
            #[serde(rename = $word)]
            Word,
        }
    };
}
pub(super) use word;

word!(ListObject, "list");

/// Always null: clients of the OpenAI API look for it.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum Null {
    Null,
}

/// How an answer is made. Of `response_format`, `structured_outputs` and the `guided_` parameters one is enough.
#[derive(ToSchema)]
pub(super) struct Sampling {
    /// 0 reads the prompt and makes no token.
    #[schema(minimum = 0, maximum = 131072)]
    max_tokens: Option<i64>,
    /// The newer name of `max_tokens`; it holds where both are sent.
    #[schema(minimum = 0, maximum = 131072)]
    max_completion_tokens: Option<i64>,
    /// Where none is sent, 0 at `/vision` and 1 elsewhere.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// -1 and 0 mean all tokens.
    #[schema(minimum = -1, maximum = 4294967295_i64)]
    top_k: Option<i64>,
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// 1 changes nothing.
    #[schema(exclusive_minimum = 0, maximum = 100)]
    repetition_penalty: Option<f64>,
    #[schema(schema_with = logit_bias)]
    logit_bias: Option<BTreeMap<String, f64>>,
    /// The same seed gives the same answer.
    seed: Option<i64>,
    /// What ends the answer, and is no part of it.
    stop: Option<Stop>,
    /// Whether the answer goes on when the model says that it is done.
    ignore_eos: Option<bool>,
    /// Who has a smaller number begins first.
    #[schema(minimum = -20, maximum = 20)]
    priority: Option<i64>,
    response_format: Option<ResponseFormat>,
    /// A JSON Schema, or the text of one.
    guided_json: Option<Value>,
    guided_regex: Option<String>,
    guided_choice: Option<Vec<String>>,
    /// In the language of Lark.
    guided_grammar: Option<String>,
    structured_outputs: Option<StructuredOutputs>,
}

fn logit_bias() -> ObjectBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Number);
    let bias = number.minimum(Some(-100)).maximum(Some(100));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some("Numbers of tokens, as texts, and how much likelier each is to be."))
        .additional_properties(Some(bias))
        .max_properties(Some(1024))
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum Stop {
    One(StopText),
    Several(StopTexts),
}

#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 256)]
pub(super) struct StopText(String);

#[derive(ToSchema)]
#[schema(max_items = 16)]
pub(super) struct StopTexts(Vec<StopText>);

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: JsonSchemaFormat },
}

#[derive(ToSchema)]
pub(super) struct JsonSchemaFormat {
    /// A JSON Schema; without one, any object is asked for.
    schema: Option<Value>,
}

/// What vLLM calls the `guided_` parameters since.
#[derive(ToSchema)]
pub(super) struct StructuredOutputs {
    /// A JSON Schema, or the text of one.
    json: Option<Value>,
    regex: Option<String>,
    choice: Option<Vec<String>>,
    /// In the language of Lark.
    grammar: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct StreamOptions {
    /// Whether a last chunk counts the tokens.
    include_usage: Option<bool>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StopReason {
    Stop,
    Length,
}

/// Of tokens. A prompt that has several answers is counted once.
#[derive(ToSchema)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
}

#[derive(ToSchema)]
pub(super) struct PromptDetails {
    /// Those that were read for an earlier request.
    cached_tokens: u64,
    image_tokens: u64,
}

/// What `include_metrics` asks for.
#[derive(ToSchema)]
pub(super) struct Metrics {
    time_to_first_token_ms: f64,
    generation_time_ms: f64,
    queue_time_ms: f64,
    /// Between two tokens; null with fewer than two.
    #[schema(required)]
    mean_itl_ms: Option<f64>,
    tokens_per_second: f64,
}

#[derive(ToSchema)]
pub(super) struct Error {
    error: ErrorObject,
}

#[derive(ToSchema)]
pub(super) struct ErrorObject {
    message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    r#type: String,
    /// The parameter that is to blame, if it is one: `messages[0].role`.
    #[schema(required)]
    param: Option<String>,
    /// One of a closed set of words, for programs.
    code: String,
}

#[derive(IntoResponses)]
pub(super) enum Errors {
    /// The request is refused. With `retry-after` it may be sent again.
    #[response(status = "4XX")]
    Refused(Error),
    /// The server failed, or cannot answer now. With `retry-after` the request may be sent again.
    #[response(status = "5XX")]
    Failed(Error),
}
