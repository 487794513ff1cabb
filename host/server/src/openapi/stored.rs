//! Stored completions: `GET`, `POST` and `DELETE` on `/v1/chat/completions` and what is below it, where there is a store.

use std::collections::BTreeMap;

use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, Type, schema::SchemaType},
};

use super::{
    chat::{AssistantRole, ChatObject, ImageUrl, ToolCall},
    common::{Errors, ListObject, Null, Usage, word},
};

word!(DeletedObject, "chat.completion.deleted");
word!(DefaultTier, "default");

/// Lists stored completions.
#[utoipa::path(
    get, path = crate::chat::ROUTE, operation_id = "listChatCompletions", tag = "stored completions",
    params(
        ("after" = Option<String>, Query, description = "The last id of the page before."),
        ("limit" = Option<i64>, Query, minimum = 0, maximum = 100, description = "20 where nothing is said."),
        ("order" = inline(Option<Order>), Query, description = "By time; `asc` where nothing is said."),
        ("model" = Option<String>, Query),
        (
            "metadata" = Option<BTreeMap<String, String>>, Query, style = DeepObject, explode,
            description = "Up to 16 pairs that a completion must have: `metadata[KEY]=VALUE`."
        ),
    ),
    responses((status = 200, description = "A page of them.", body = StoredList), Errors)
)]
fn list_chat_completions() {}

/// Gets a stored completion.
#[utoipa::path(
    get, path = crate::stored::ONE, operation_id = "getChatCompletion", tag = "stored completions",
    params(("completion_id" = String, Path)),
    responses((status = 200, description = "The completion.", body = StoredCompletion), Errors)
)]
fn get_chat_completion() {}

/// Sets the metadata of a stored completion.
#[utoipa::path(
    post, path = crate::stored::ONE, operation_id = "updateChatCompletion", tag = "stored completions",
    params(("completion_id" = String, Path)),
    request_body = MetadataChange,
    responses((status = 200, description = "As it is now.", body = StoredCompletion), Errors)
)]
fn update_chat_completion() {}

/// Deletes a stored completion.
#[utoipa::path(
    delete, path = crate::stored::ONE, operation_id = "deleteChatCompletion", tag = "stored completions",
    params(("completion_id" = String, Path)),
    responses((status = 200, description = "That it is gone.", body = DeletedCompletion), Errors)
)]
fn delete_chat_completion() {}

/// Lists the messages that a stored completion answers.
#[utoipa::path(
    get, path = crate::stored::MESSAGES, operation_id = "getChatCompletionMessages", tag = "stored completions",
    params(
        ("completion_id" = String, Path),
        ("after" = Option<String>, Query, description = "The last id of the page before."),
        ("limit" = Option<i64>, Query, minimum = 0, maximum = 100, description = "20 where nothing is said."),
        ("order" = inline(Option<Order>), Query, description = "`asc` where nothing is said."),
    ),
    responses((status = 200, description = "A page of them.", body = StoredMessageList), Errors)
)]
fn get_chat_completion_messages() {}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Asc,
    Desc,
}

#[derive(ToSchema)]
pub(super) struct MetadataChange {
    #[schema(required, schema_with = metadata)]
    metadata: Option<BTreeMap<String, String>>,
}

fn metadata() -> ObjectBuilder {
    let text = |most| ObjectBuilder::new().schema_type(Type::String).max_length(Some(most));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some("In place of what there was; null for none."))
        .property_names(Some(text(64)))
        .additional_properties(Some(text(512)))
        .max_properties(Some(16))
}

#[derive(ToSchema)]
pub(super) struct StoredList {
    object: ListObject,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
    has_more: bool,
    data: Vec<StoredCompletion>,
}

#[derive(ToSchema)]
pub(super) struct StoredCompletion {
    id: String,
    object: ChatObject,
    /// Unix seconds.
    created: i64,
    model: String,
    /// The request's id in the log.
    request_id: String,
    choices: Vec<StoredChoice>,
    /// Null where an upstream did not count.
    #[schema(required)]
    usage: Option<Usage>,
    #[schema(required)]
    seed: Option<i64>,
    #[schema(required)]
    temperature: Option<f64>,
    #[schema(required)]
    top_p: Option<f64>,
    presence_penalty: Null,
    frequency_penalty: Null,
    service_tier: DefaultTier,
    system_fingerprint: Null,
    input_user: Null,
    response_format: Null,
    tool_choice: Null,
    tools: Null,
    metadata: BTreeMap<String, String>,
    /// Of a completion whose texts were kept out of the store.
    #[schema(nullable = false)]
    bucksaw: Option<Stub>,
}

#[derive(ToSchema)]
pub(super) struct Stub {
    withheld: Withheld,
}

#[derive(ToSchema)]
pub(super) struct Withheld {
    reason: String,
    /// The editor that failed, if one did.
    #[schema(required)]
    plugin: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct StoredChoice {
    index: i64,
    message: StoredAnswer,
    logprobs: Null,
    finish_reason: StoredReason,
}

/// Behind a server that stands in front of others, any of them.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    FunctionCall,
    Abort,
    Error,
    Other,
}

#[derive(ToSchema)]
pub(super) struct StoredAnswer {
    role: AssistantRole,
    #[schema(required)]
    content: Option<String>,
    refusal: Null,
    #[schema(required)]
    tool_calls: Option<Vec<ToolCall>>,
    function_call: Null,
}

#[derive(ToSchema)]
pub(super) struct StoredMessageList {
    object: ListObject,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
    has_more: bool,
    data: Vec<StoredMessage>,
}

#[derive(ToSchema)]
pub(super) struct StoredMessage {
    id: String,
    role: String,
    /// Of a message that is one text.
    #[schema(required)]
    content: Option<String>,
    refusal: Null,
    name: Null,
    /// Of any other message.
    #[schema(required)]
    content_parts: Option<Vec<StoredPart>>,
    /// Of an assistant that called tools.
    #[schema(nullable = false)]
    tool_calls: Option<Vec<ToolCall>>,
    /// Of a tool: the call that it answers.
    #[schema(nullable = false)]
    tool_call_id: Option<String>,
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StoredPart {
    Text {
        text: String,
    },
    /// Pictures are not kept: the address is an empty one.
    ImageUrl {
        image_url: ImageUrl,
    },
}

#[derive(ToSchema)]
pub(super) struct DeletedCompletion {
    object: DeletedObject,
    id: String,
    /// Always true.
    deleted: bool,
}
