//! The records of a request as the server and the engine make them, through `tracing`, with secrets in every field that may hold
//! any.

use chain::TARGET;
use record::{event, field};
use tracing::Span;

use super::{
    canary::Canaries,
    case::Outcome,
    traffic::{CHAIN, Scene},
};

/// Bytes of one part of an answer, about those of a token or two.
const PART: usize = 9;

/// What a request does.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) outcome: Outcome,
    pub(crate) streaming: bool,
    /// Whether one text of it is poison.
    pub(crate) poison: bool,
}

/// A request under way.
pub(crate) struct Request<'a> {
    span: Span,
    manner: Manner,
    canaries: &'a Canaries,
}

impl<'a> Request<'a> {
    /// It comes, and is understood unless it is to be rejected. It keeps the present revision.
    pub(crate) fn arrive(scene: &Scene<'a>, number: u32, manner: Manner) -> Self {
        let id = format!("{number:08x}-0000-4000-8000-00000000face");
        let revision = scene.pipeline.revisions().current().number();
        let span = tracing::error_span!(
            target: TARGET,
            "request",
            request_id = %id,
            chain = CHAIN,
            revision = revision,
        );
        let canaries = scene.canaries;
        let (text, path) = (canaries.text(), canaries.path());
        let rejected = manner.outcome == Outcome::Rejected;
        let poison = if manner.poison { canaries.poison() } else { canaries.text() };
        let agent = if rejected { &poison } else { &text };
        tracing::info!(
            target: TARGET,
            parent: &span,
            event = event::REQUEST_RECEIVED,
            { field::HTTP_REQUEST_METHOD } = "POST",
            { field::HTTP_ROUTE } = "/v1/chat/completions",
            { field::URL_PATH } = path.as_str(),
            { field::CLIENT_ADDRESS } = "192.0.2.7",
            { field::USER_AGENT_ORIGINAL } = agent.as_str(),
            { field::HTTP_REQUEST_BODY_SIZE } = 1_234_u64,
            { field::CLIENT_REQUEST_ID } = text.as_str(),
            { field::OPERATION_NAME } = "chat",
            { field::REQUEST_MODEL } = text.as_str(),
            { field::REQUEST_STREAM } = manner.streaming,
        );
        let request = Self { span, manner, canaries };
        if !rejected {
            request.prompt(&poison);
        }
        request
    }

    fn prompt(&self, text: &str) {
        let chars = text.chars().count() as u64;
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = event::REQUEST_PROMPT,
            { field::PROMPT_CHARS } = chars,
            { field::PROMPT_TEXT } = text,
            { field::IMAGES } = 0_u64,
            { field::MESSAGES } = 1_u64,
        );
        tracing::debug!(
            target: TARGET,
            parent: &self.span,
            event = event::REQUEST_PROMPT,
            { field::PROMPT_TEXT } = text,
            { field::PROMPT_VISION_TAG } = false,
            { field::CODE_STACK } = "chat.rs:60 /v1/chat/completions -> generate -> engine",
        );
    }

    /// The engine works on it, as far as an answer comes at all.
    pub(crate) fn work(&self) {
        if self.manner.outcome == Outcome::Rejected {
            return;
        }
        let text = self.canaries.text();
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = event::REQUEST_PARAMS,
            { field::MAX_TOKENS } = 512_u64,
            { field::TEMPERATURE } = 0.7,
            { field::STOP_SEQUENCES } = text.as_str(),
        );
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = event::LORA_RESOLVED,
            bucksaw.stream = "engine",
            { field::LORA_REQUESTED } = text.as_str(),
            { field::LORA_RESOLVED } = "demo",
            { field::LORA_STATUS } = "ok",
            { field::LORA_MODULES } = 12_u64,
        );
        tracing::debug!(
            target: TARGET,
            parent: &self.span,
            event = event::GENERATION_FIRST_TOKEN,
            bucksaw.stream = "engine",
            { field::TIME_TO_FIRST_CHUNK } = 0.25,
            { field::QUEUE_MS } = 0.5,
        );
        tracing::warn!(
            target: "tokenizers",
            parent: &self.span,
            piece = text.as_str(),
            "cannot tokenize {text}"
        );
        if self.manner.streaming {
            let parts = parts(&text);
            // A client that leaves has seen half of it.
            let left = self.manner.outcome == Outcome::Cancelled;
            let sent = if left { parts.len() / 2 } else { parts.len() };
            for part in &parts[..sent] {
                tracing::info!(
                    target: TARGET,
                    parent: &self.span,
                    event = event::RESPONSE_DELTA,
                    { field::RESPONSE_DELTA } = *part,
                );
            }
        }
        if self.manner.outcome == Outcome::Finished {
            self.answer(&text);
        }
    }

    fn answer(&self, text: &str) {
        let chars = text.chars().count() as u64;
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = event::RESPONSE_CONTENT,
            { field::RESPONSE_CHARS } = chars,
            { field::RESPONSE_TEXT } = text,
            { field::FINISH_REASON } = "stop",
        );
        tracing::debug!(
            target: TARGET,
            parent: &self.span,
            event = event::RESPONSE_CONTENT,
            { field::RESPONSE_TEXT } = text,
        );
        tracing::debug!(
            target: TARGET,
            parent: &self.span,
            event = event::RESPONSE_JSON_PARSE,
            { field::JSON_EXPECTED } = "object",
            { field::JSON_STATUS } = "ok",
            { field::JSON_KEYS } = text,
        );
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = event::REQUEST_PERFORMANCE,
            { field::GENERATION_MS } = 1_850_u64,
            { field::OUTPUT_TOKENS } = 145_u64,
            { field::TOKENS_PER_SECOND } = 78.4,
        );
    }

    /// The terminal record, and what follows it.
    pub(crate) fn end(self) {
        let text = self.canaries.text();
        let outcome = self.manner.outcome;
        match outcome {
            Outcome::Finished => tracing::info!(
                target: TARGET,
                parent: &self.span,
                event = event::REQUEST_FINISHED,
                { field::HTTP_RESPONSE_STATUS_CODE } = 200_u64,
                { field::RESPONSE_MODEL } = "demo",
            ),
            Outcome::Failed => tracing::error!(
                target: TARGET,
                parent: &self.span,
                event = event::REQUEST_FAILED,
                { field::HTTP_RESPONSE_STATUS_CODE } = 500_u64,
                { field::ERROR_TYPE } = "internal",
                { field::EXCEPTION_MESSAGE } = text.as_str(),
                { field::EXCEPTION_STACKTRACE } = text.as_str(),
            ),
            Outcome::Cancelled => tracing::warn!(
                target: TARGET,
                parent: &self.span,
                event = event::REQUEST_CANCELLED,
                { field::HTTP_RESPONSE_STATUS_CODE } = 499_u64,
                { field::RESPONSE_CHARS } = 17_u64,
            ),
            Outcome::Rejected => tracing::warn!(
                target: TARGET,
                parent: &self.span,
                event = event::REQUEST_REJECTED,
                { field::HTTP_RESPONSE_STATUS_CODE } = 404_u64,
                { field::ERROR_TYPE } = "model_not_found",
                { field::EXCEPTION_MESSAGE } = text.as_str(),
            ),
        }
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = event::REQUEST_TOTAL,
            { field::ENDPOINT_TOTAL_MS } = 2_156.5,
        );
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            event = event::REQUEST_SUMMARY,
            { field::OUTCOME } = outcome.name(),
            { field::REQUEST_MODEL } = text.as_str(),
            { field::CLIENT_REQUEST_ID } = text.as_str(),
            { field::INPUT_TOKENS } = 84_u64,
        );
    }
}

fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (part, more) = rest.split_at(rest.ceil_char_boundary(PART));
        parts.push(part);
        rest = more;
    }
    parts
}
