//! Names of events. Those of a request are listed in the order in which they happen.

pub const REQUEST_RECEIVED: &str = "request.received";
pub const REQUEST_PROMPT: &str = "request.prompt";
pub const REQUEST_IMAGE: &str = "request.image";
pub const REQUEST_PARAMS: &str = "request.params";
pub const LORA_RESOLVED: &str = "lora.resolved";
pub const GPU_MEMORY: &str = "gpu.memory";
pub const GENERATION_FIRST_TOKEN: &str = "generation.first_token";
/// Another request needed the room: this one waits, and is computed again.
pub const GENERATION_PREEMPTED: &str = "generation.preempted";
/// A part of an answer that is still being made.
pub const RESPONSE_DELTA: &str = "response.delta";
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

/// What a stored completion is made of, in the stream [`Store`](crate::Stream::Store): its texts and its metadata, one
/// record each, then one that says that it is whole and what it is.
pub const STORE_PART: &str = "store.part";
pub const STORE_METADATA: &str = "store.metadata";
pub const STORE_COMPLETION: &str = "store.completion";
/// The last of the records that change the metadata of a stored completion.
pub const STORE_UPDATE: &str = "store.update";
/// Completions that should have been stored and were not.
pub const STORE_FAILED: &str = "store.failed";

pub const SERVER_STARTED: &str = "server.started";
pub const SERVER_STOPPED: &str = "server.stopped";
/// An upstream is left alone for a while, or is asked again.
pub const UPSTREAM_EJECTED: &str = "upstream.ejected";
pub const UPSTREAM_RESTORED: &str = "upstream.restored";
pub const LOG_DROPPED: &str = "log.dropped";
/// A plugin's instance trapped, ran out of time, memory or stack, and was discarded.
pub const PLUGIN_TRAPPED: &str = "plugin.trapped";
/// A plugin answered what it may not, refused a record, or could not be opened.
pub const PLUGIN_FAILED: &str = "plugin.failed";
/// A plugin's circuit breaker is open: it failed several times and is not called for a while.
pub const PLUGIN_OPENED: &str = "plugin.opened";
/// The host denied a plugin something that it asked for while it ran.
pub const PLUGIN_DENIED: &str = "plugin.denied";
/// The chains were changed while the server runs, or brought back.
pub const CHAIN_REVISED: &str = "chain.revised";
/// A change of the chains was refused; what was there goes on.
pub const CHAIN_REFUSED: &str = "chain.refused";
/// What a shadow chain would have done otherwise: one record of many, and now and then the sums.
pub const SHADOW_DIFFERENCE: &str = "shadow.difference";
pub const SHADOW_REPORT: &str = "shadow.report";
/// How the engine did in the last seconds.
pub const ENGINE_STATS: &str = "engine.stats";
/// An event of a library in the process, or of code that names none.
pub const LOG: &str = "log";
