//! Names of fields, and which of them are content.
//!
//! Names are OpenTelemetry's (`gen_ai.*` of semantic conventions 1.41.1, `http.*`, `hw.*`, `error.*`, `exception.*`); ours
//! have the prefix `bucksaw.`. **Text is content unless its name is listed in [`is_metadata`]**: a field that nobody thought
//! about is withheld rather than leaked. Numbers and booleans are never content.

pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
pub const HTTP_ROUTE: &str = "http.route";
pub const HTTP_REQUEST_BODY_SIZE: &str = "http.request.body.size";
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
pub const URL_PATH: &str = "url.path";
pub const CLIENT_ADDRESS: &str = "client.address";
pub const USER_AGENT_ORIGINAL: &str = "user_agent.original";
pub const CLIENT_REQUEST_ID: &str = "bucksaw.client_request_id";
pub const RETRY_COUNT: &str = "bucksaw.retry_count";
/// Of the caller's trace, W3C `traceparent`: 32 and 16 hexadecimal digits in lower case.
pub const TRACE_ID: &str = "bucksaw.trace_id";
pub const SPAN_ID: &str = "bucksaw.span_id";

pub const OPERATION_NAME: &str = "gen_ai.operation.name";
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub const RESPONSE_ID: &str = "gen_ai.response.id";
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
pub const MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub const TEMPERATURE: &str = "gen_ai.request.temperature";
pub const TOP_P: &str = "gen_ai.request.top_p";
pub const TOP_K: &str = "gen_ai.request.top_k";
pub const SEED: &str = "gen_ai.request.seed";
/// Only where it is not 1.
pub const CHOICE_COUNT: &str = "gen_ai.request.choice.count";
pub const PRESENCE_PENALTY: &str = "gen_ai.request.presence_penalty";
pub const FREQUENCY_PENALTY: &str = "gen_ai.request.frequency_penalty";
pub const STOP_SEQUENCES: &str = "gen_ai.request.stop_sequences";
pub const OUTPUT_TYPE: &str = "gen_ai.output.type";
pub const FINISH_REASON: &str = "gen_ai.response.finish_reason";
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub const TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";

/// Unicode scalar values, as Python's `len` counts them.
pub const PROMPT_CHARS: &str = "bucksaw.prompt.chars";
pub const PROMPT_TEXT: &str = "bucksaw.prompt.text";
pub const PROMPT_VISION_TAG: &str = "bucksaw.prompt.vision_tag";
pub const MESSAGES: &str = "bucksaw.prompt.messages";
pub const IMAGES: &str = "bucksaw.prompt.images";
pub const RESPONSE_CHARS: &str = "bucksaw.response.chars";
pub const RESPONSE_TEXT: &str = "bucksaw.response.text";

/// The next part of an answer, as far as it has passed the editors.
pub const RESPONSE_DELTA: &str = "bucksaw.response.delta";

/// The tools that an answer calls: JSON of names and arguments, in the order in which they began.
pub const RESPONSE_TOOL_CALLS: &str = "bucksaw.response.tool_calls";

pub const IMAGE_INDEX: &str = "bucksaw.image.index";
pub const IMAGE_WIDTH: &str = "bucksaw.image.width";
pub const IMAGE_HEIGHT: &str = "bucksaw.image.height";
/// As Pillow names it: `RGB`, `RGBA`, `L`, `LA`, `P`, `CMYK`, `I;16`, `1`.
pub const IMAGE_MODE: &str = "bucksaw.image.mode";
pub const IMAGE_FORMAT: &str = "bucksaw.image.format";
pub const IMAGE_BASE64_CHARS: &str = "bucksaw.image.base64_chars";
/// `base64_chars * 3 / 4 - padding`.
pub const IMAGE_BYTES: &str = "bucksaw.image.bytes";
pub const IMAGE_DECODE_MS: &str = "bucksaw.image.decode_ms";
pub const MULTIMODAL_STATUS: &str = "bucksaw.multimodal.status";

pub const LORA_REQUESTED: &str = "bucksaw.lora.requested";
pub const LORA_RESOLVED: &str = "bucksaw.lora.resolved";
pub const LORA_DEFAULT_USED: &str = "bucksaw.lora.default_used";
pub const LORA_STATUS: &str = "bucksaw.lora.status";
pub const LORA_MODULES: &str = "bucksaw.lora.modules";

pub const GPU_PHASE: &str = "bucksaw.gpu.phase";
/// `cuda:0`: the engine that computes there.
pub const GPU_DEVICE: &str = "bucksaw.gpu.device";
/// Bytes.
pub const GPU_FREE: &str = "bucksaw.gpu.free";
pub const HW_ID: &str = "hw.id";
pub const HW_NAME: &str = "hw.name";
pub const GPU_MEMORY_USAGE: &str = "hw.gpu.memory.usage";
pub const GPU_MEMORY_LIMIT: &str = "hw.gpu.memory.limit";
pub const GPU_MEMORY_UTILIZATION: &str = "hw.gpu.memory.utilization";

pub const QUEUE_MS: &str = "bucksaw.queue_ms";
pub const PREFILL_MS: &str = "bucksaw.prefill_ms";
pub const DECODE_MS: &str = "bucksaw.decode_ms";
pub const GENERATION_MS: &str = "bucksaw.generation_ms";
pub const TOKENS_PER_SECOND: &str = "bucksaw.tokens_per_second";
pub const ENDPOINT_TOTAL_MS: &str = "bucksaw.endpoint_total_ms";

/// Configured name of the server that a request was passed on to.
pub const UPSTREAM_NAME: &str = "bucksaw.upstream.name";
/// Upstreams that a request was sent to.
pub const UPSTREAM_ATTEMPTS: &str = "bucksaw.upstream.attempts";
/// Why an upstream is left alone: `unreachable`, `broken`, `late`, `status` or `health`.
pub const UPSTREAM_REASON: &str = "bucksaw.upstream.reason";
pub const UPSTREAM_PAUSE_MS: &str = "bucksaw.upstream.pause_ms";

/// `none`, `object` or `schema`.
pub const JSON_EXPECTED: &str = "bucksaw.json.expected";
/// `ok`, `invalid`, `truncated` or `not_json`.
pub const JSON_STATUS: &str = "bucksaw.json.status";
pub const JSON_ERROR_OFFSET: &str = "bucksaw.json.error_offset";
pub const JSON_KEYS: &str = "bucksaw.json.keys";

/// `finished`, `failed`, `cancelled` or `rejected`.
pub const OUTCOME: &str = "bucksaw.outcome";
pub const ERROR_TYPE: &str = "error.type";
pub const EXCEPTION_MESSAGE: &str = "exception.message";
pub const EXCEPTION_STACKTRACE: &str = "exception.stacktrace";
/// Where in the source a DEBUG record was made: `file:line function`.
pub const CODE_STACK: &str = "bucksaw.code.stack";

/// What became of the wish to have the completion stored: `sent`, `not_sent`, `no_store`, `too_long` (what was asked), or
/// `incomplete` (what was heard of the answer).
pub const STORE_STATUS: &str = "bucksaw.store.status";
/// Number of a completion, or of a change of one, on its way to the store: what belongs together has the same.
pub const STORE_BATCH: &str = "bucksaw.store.batch";
/// How many records there are before the last one.
pub const STORE_RECORDS: &str = "bucksaw.store.records";
/// Number of a stored completion that is changed.
pub const STORE_ROW: &str = "bucksaw.store.row";
/// Place of a text: in which message of the request and which part of it, or in which choice of the answer.
pub const STORE_MESSAGE: &str = "bucksaw.store.message";
pub const STORE_MESSAGE_PART: &str = "bucksaw.store.part";
pub const STORE_CHOICE: &str = "bucksaw.store.choice";
/// Which call of a tool in the choice, or in the message; its function is under [`STORE_KEY`], its arguments are under
/// [`STORE_TEXT`].
pub const STORE_CALL: &str = "bucksaw.store.call";
/// Of a choice. An id that a client sent is content, under [`STORE_VALUE`].
pub const STORE_CALL_ID: &str = "bucksaw.store.call_id";
/// `system`, `developer`, `user`, `assistant` or `tool`.
pub const STORE_ROLE: &str = "bucksaw.store.role";
/// `text` or `image`; `call` of a tool; `call_id`, which a tool answers.
pub const STORE_KIND: &str = "bucksaw.store.kind";
pub const STORE_TEXT: &str = "bucksaw.store.text";
pub const STORE_KEY: &str = "bucksaw.store.key";
pub const STORE_VALUE: &str = "bucksaw.store.value";
/// Unix seconds.
pub const STORE_CREATED: &str = "bucksaw.store.created";
pub const STORE_IMAGE_TOKENS: &str = "bucksaw.store.image_tokens";

pub const PLUGIN: &str = "bucksaw.plugin";
pub const PLUGIN_ERROR: &str = "bucksaw.plugin.error";
pub const CHAIN: &str = "bucksaw.chain";
pub const DROPPED: &str = "bucksaw.dropped";
/// How often a plugin was denied something.
pub const DENIED: &str = "bucksaw.denied";
pub const REDACTIONS: &str = "bucksaw.redactions";
/// Records that something happened to.
pub const RECORDS: &str = "bucksaw.records";
pub const REVISION: &str = "bucksaw.revision";
pub const REVISION_PREVIOUS: &str = "bucksaw.revision.previous";
/// `installed`, `rollback` or `automatic_rollback`.
pub const REVISION_REASON: &str = "bucksaw.revision.reason";
pub const SHADOW: &str = "bucksaw.shadow";
/// Name of the event, and of the field, that a shadow chain treated otherwise.
pub const SHADOW_EVENT: &str = "bucksaw.shadow.event";
pub const SHADOW_FIELD: &str = "bucksaw.shadow.field";
/// Labels and byte ranges, never text: `EMAIL 12..27, CARD 40..59`.
pub const SHADOW_MISSED: &str = "bucksaw.shadow.missed";
pub const SHADOW_ADDED: &str = "bucksaw.shadow.added";
pub const SHADOW_OUTCOME: &str = "bucksaw.shadow.outcome";
/// What a person reads: the server's own sentences, never user text.
pub const NOTICE: &str = "bucksaw.notice";
/// The text of a foreign `tracing` event.
pub const MESSAGE: &str = "message";
pub const TARGET: &str = "bucksaw.target";

/// Whether text of this name is metadata: made by the server out of a closed or configured set, never out of what a person
/// wrote or the model said.
pub fn is_metadata(name: &str) -> bool {
    matches!(
        name,
        HTTP_REQUEST_METHOD
            | HTTP_ROUTE
            | TRACE_ID
            | SPAN_ID
            | OPERATION_NAME
            | RESPONSE_MODEL
            | RESPONSE_ID
            | OUTPUT_TYPE
            | FINISH_REASON
            | IMAGE_MODE
            | IMAGE_FORMAT
            | MULTIMODAL_STATUS
            | LORA_RESOLVED
            | LORA_STATUS
            | GPU_PHASE
            | GPU_DEVICE
            | HW_ID
            | HW_NAME
            | JSON_EXPECTED
            | JSON_STATUS
            | UPSTREAM_NAME
            | UPSTREAM_REASON
            | OUTCOME
            | ERROR_TYPE
            | CODE_STACK
            | STORE_STATUS
            | STORE_CALL_ID
            | STORE_ROLE
            | STORE_KIND
            | PLUGIN
            | PLUGIN_ERROR
            | CHAIN
            | NOTICE
            | REVISION_REASON
            | SHADOW
            | SHADOW_EVENT
            | SHADOW_FIELD
            | SHADOW_MISSED
            | SHADOW_ADDED
            | SHADOW_OUTCOME
            | TARGET
    )
}
