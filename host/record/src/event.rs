//! Names of events. Those of a request are listed in the order in which they happen.

pub const REQUEST_RECEIVED: &str = "request.received";
pub const REQUEST_PROMPT: &str = "request.prompt";
pub const REQUEST_IMAGE: &str = "request.image";
pub const REQUEST_PARAMS: &str = "request.params";
pub const LORA_RESOLVED: &str = "lora.resolved";
pub const GPU_MEMORY: &str = "gpu.memory";
pub const GENERATION_FIRST_TOKEN: &str = "generation.first_token";
pub const RESPONSE_CONTENT: &str = "response.content";
pub const RESPONSE_JSON_PARSE: &str = "response.json_parse";
pub const REQUEST_PERFORMANCE: &str = "request.performance";
pub const REQUEST_FINISHED: &str = "request.finished";
pub const REQUEST_FAILED: &str = "request.failed";
pub const REQUEST_CANCELLED: &str = "request.cancelled";
pub const REQUEST_REJECTED: &str = "request.rejected";
pub const REQUEST_TOTAL: &str = "request.total";
pub const REQUEST_SUMMARY: &str = "request.summary";

/// Each request has exactly one of these.
pub const TERMINAL: [&str; 4] =
    [REQUEST_FINISHED, REQUEST_FAILED, REQUEST_CANCELLED, REQUEST_REJECTED];

pub const SERVER_STARTED: &str = "server.started";
pub const SERVER_STOPPED: &str = "server.stopped";
pub const LOG_DROPPED: &str = "log.dropped";
pub const PLUGIN_FAILED: &str = "plugin.failed";
pub const PLUGIN_OPENED: &str = "plugin.opened";
/// An event of a library in the process, or of code that names none.
pub const LOG: &str = "log";
