//! `POST /v1/chat/completions`: messages and tools, and what is answered, whole or in chunks.

use serde_json::Value;
use utoipa::ToSchema;

use super::common::{Errors, Metrics, Null, Sampling, StreamOptions, Usage, word};

word!(AssistantRole, "assistant");
word!(Modality, "text");
word!(FunctionType, "function");
word!(ChatObject, "chat.completion");
word!(ChatChunkObject, "chat.completion.chunk");

/// Answers a conversation, whole or as a stream.
#[utoipa::path(
    post, path = crate::chat::ROUTE, operation_id = "createChatCompletion", tag = "chat",
    request_body = ChatRequest,
    responses(
        (
            status = 200,
            description = "The answer. With `stream` the data of events: chunks, and `[DONE]` at the end. A failure on \
                           the way is a last event with the error.",
            content((ChatCompletion = "application/json"), (ChatEvent = "text/event-stream"))
        ),
        Errors,
    )
)]
fn create_chat_completion() {}

#[derive(ToSchema)]
pub(super) struct ChatRequest {
    #[schema(min_items = 1, max_items = 1024)]
    messages: Vec<ChatMessage>,
    /// Without it, the first model that can do what is asked.
    model: Option<String>,
    /// An adapter of the model.
    adapter: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Whether the answer says what it took.
    include_metrics: Option<bool>,
    /// How many answers; never more than may wait in the server's queue.
    #[schema(minimum = 1, maximum = 128)]
    n: Option<i64>,
    logprobs: Option<bool>,
    /// Needs `logprobs`, unless it is 0.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
    #[schema(max_items = 128)]
    tools: Option<Vec<Tool>>,
    /// All but `none` and `auto` need `tools`.
    tool_choice: Option<ToolChoice>,
    /// Whether one answer may hold several calls.
    parallel_tool_calls: Option<bool>,
    modalities: Option<Vec<Modality>>,
    /// Whether the completion is to be stored, if there is a store.
    store: Option<bool>,
    /// Of a completion that is to be stored: an object of up to 16 strings.
    metadata: Option<Value>,
    #[serde(flatten)]
    sampling: Sampling,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum ChatMessage {
    Assistant(AssistantMessage),
    Other(OtherMessage),
}

#[derive(ToSchema)]
pub(super) struct AssistantMessage {
    role: AssistantRole,
    /// Nothing where it only called tools.
    content: Option<Content>,
    tool_calls: Option<Vec<SentCall>>,
    name: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct OtherMessage {
    role: OtherRole,
    content: Content,
    /// Which call a tool answers.
    tool_call_id: Option<String>,
    name: Option<String>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OtherRole {
    System,
    Developer,
    User,
    Tool,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ContentPart {
    Text { text: String },
    Refusal { refusal: Option<String> },
    ImageUrl { image_url: ImageUrl },
}

#[derive(ToSchema)]
pub(super) struct ImageUrl {
    /// `data:image/png;base64,…`, or an address on a host that the server fetches images from.
    url: String,
}

/// A call as it came in an earlier answer.
#[derive(ToSchema)]
pub(super) struct SentCall {
    id: Option<Value>,
    r#type: Option<Value>,
    function: CalledFunction,
}

#[derive(ToSchema)]
pub(super) struct CalledFunction {
    name: String,
    /// JSON, as the model wrote it.
    arguments: String,
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Tool {
    Function { function: ToolFunction },
}

#[derive(ToSchema)]
pub(super) struct ToolFunction {
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.-]+$")]
    name: String,
    /// For the model to read.
    description: Option<Value>,
    /// A JSON Schema; without one, any object will do.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum ToolChoice {
    Mode(ToolMode),
    Named(NamedTool),
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToolMode {
    None,
    Auto,
    Required,
}

#[derive(ToSchema)]
pub(super) struct NamedTool {
    function: NamedFunction,
}

#[derive(ToSchema)]
pub(super) struct NamedFunction {
    name: String,
}

#[derive(ToSchema)]
pub(super) struct ChatCompletion {
    id: String,
    object: ChatObject,
    /// Unix seconds.
    created: u64,
    model: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
    #[schema(nullable = false)]
    metrics: Option<Metrics>,
}

#[derive(ToSchema)]
pub(super) struct ChatChoice {
    index: u64,
    message: AnswerMessage,
    #[schema(required)]
    logprobs: Option<ChatLogprobs>,
    finish_reason: FinishReason,
}

#[derive(ToSchema)]
pub(super) struct AnswerMessage {
    role: AssistantRole,
    #[schema(required)]
    content: Option<String>,
    refusal: Null,
    #[schema(nullable = false)]
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(ToSchema)]
pub(super) struct ToolCall {
    id: String,
    r#type: FunctionType,
    function: CalledFunction,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum FinishReason {
    Stop,
    Length,
    ToolCalls,
}

#[derive(ToSchema)]
pub(super) struct ChatLogprobs {
    content: Vec<TokenLogprob>,
    refusal: Null,
}

#[derive(ToSchema)]
pub(super) struct TokenLogprob {
    token: String,
    logprob: f64,
    /// Of the token's text, which may be part of a character.
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogprob>,
}

#[derive(ToSchema)]
pub(super) struct TopLogprob {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

/// One event of a stream.
#[derive(ToSchema)]
pub(super) struct ChatEvent {
    /// A `ChatChunk` as JSON; `[DONE]` in the last one; an `Error` as JSON where it failed on the way.
    data: String,
}

#[derive(ToSchema)]
pub(super) struct ChatChunk {
    id: String,
    object: ChatChunkObject,
    created: u64,
    model: String,
    /// None in the chunk that counts the tokens.
    choices: Vec<ChatChunkChoice>,
    /// With `include_usage`: null in all chunks but the last.
    usage: Option<Usage>,
    /// In the last chunk, with `include_metrics`.
    #[schema(nullable = false)]
    metrics: Option<Metrics>,
}

#[derive(ToSchema)]
pub(super) struct ChatChunkChoice {
    index: u64,
    delta: Delta,
    #[schema(required)]
    logprobs: Option<ChatLogprobs>,
    #[schema(required)]
    finish_reason: Option<FinishReason>,
}

/// What is added to the message.
#[derive(ToSchema)]
pub(super) struct Delta {
    #[schema(nullable = false)]
    role: Option<AssistantRole>,
    #[schema(nullable = false)]
    content: Option<String>,
    #[schema(nullable = false)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(ToSchema)]
pub(super) struct CallDelta {
    index: u64,
    #[schema(nullable = false)]
    id: Option<String>,
    #[schema(nullable = false)]
    r#type: Option<FunctionType>,
    function: FunctionDelta,
}

#[derive(ToSchema)]
pub(super) struct FunctionDelta {
    #[schema(nullable = false)]
    name: Option<String>,
    arguments: String,
}
