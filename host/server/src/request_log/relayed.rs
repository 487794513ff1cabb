//! The records of a request that somebody else answers: what was sent, what came back, and how long it took, as far as that
//! can be seen from outside.

use std::{sync::Arc, time::Duration};

use record::{event, field};

use super::{RequestLog, TARGET};
use crate::{generate::milliseconds, output::Output};

/// Parameters as the client sent them. What was not sent is the upstream's choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SentParams {
    pub(crate) max_tokens: Option<u64>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<i64>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Vec<String>,
    pub(crate) output: Option<Output>,
}

/// What an answer said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spoken<'a> {
    pub(crate) text: &'a str,
    /// Of the whole text, which may be longer than `text`.
    pub(crate) chars: u64,
    /// JSON; none when no tool is called.
    pub(crate) tool_calls: Option<&'a str>,
    pub(crate) finish_reason: Option<&'static str>,
}

/// What it took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Relayed {
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    /// From the request's way out to the first text that came back; streams only.
    pub(crate) first: Option<Duration>,
    /// To the end of the answer.
    pub(crate) total: Duration,
}

impl RequestLog {
    /// Which upstream has the request. `attempts` counts those that were asked before, too.
    pub(crate) fn upstream(&mut self, name: Option<Arc<str>>, attempts: u32) {
        self.facts.upstream = name;
        self.facts.attempts = Some(u64::from(attempts));
    }

    pub(crate) fn sent_params(&mut self, params: &SentParams) {
        let span = self.span();
        let stop = (!params.stop.is_empty()).then(|| params.stop.join(", "));
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_PARAMS,
            { field::MAX_TOKENS } = params.max_tokens,
            { field::TEMPERATURE } = params.temperature,
            { field::TOP_P } = params.top_p,
            { field::TOP_K } = params.top_k,
            { field::SEED } = params.seed,
            { field::STOP_SEQUENCES } = stop,
            { field::OUTPUT_TYPE } = params.output.map(Output::type_name),
        );
    }

    /// Something of an answer could not be read, so what is told of it is less than what the client got.
    pub(crate) fn unheard(&mut self, upstream: &str) {
        let span = self.span();
        tracing::warn!(
            target: TARGET,
            parent: span,
            event = "log",
            { field::NOTICE } = "an event of the upstream's stream is no JSON: the log does not have it",
            { field::UPSTREAM_NAME } = upstream,
        );
    }

    pub(crate) fn first_word(&mut self, after: Duration) {
        let upstream = self.facts.upstream.clone();
        let span = self.span();
        tracing::debug!(
            target: TARGET,
            parent: span,
            event = event::GENERATION_FIRST_TOKEN,
            { field::TIME_TO_FIRST_CHUNK } = after.as_secs_f64(),
            { field::UPSTREAM_NAME } = upstream.as_deref(),
        );
    }

    pub(crate) fn spoken(&mut self, spoken: &Spoken<'_>) {
        self.facts.response_chars = Some(spoken.chars);
        self.facts.finish_reason = spoken.finish_reason.map(str::to_owned);
        let span = self.span();
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::RESPONSE_CONTENT,
            { field::RESPONSE_CHARS } = spoken.chars,
            { field::RESPONSE_TEXT } = spoken.text,
            { field::RESPONSE_TOOL_CALLS } = spoken.tool_calls,
            { field::FINISH_REASON } = spoken.finish_reason,
        );
        tracing::debug!(
            target: TARGET,
            parent: span,
            event = event::RESPONSE_CONTENT,
            { field::RESPONSE_TEXT } = spoken.text,
        );
    }

    pub(crate) fn relayed(&mut self, relayed: &Relayed) {
        let generation = milliseconds(relayed.total).round() as u64;
        let seconds = relayed.total.as_secs_f64();
        let speed = relayed.output_tokens.filter(|_| seconds > 0.0).map(|it| it as f64 / seconds);
        let facts = &mut self.facts;
        facts.input_tokens = relayed.input_tokens;
        facts.output_tokens = relayed.output_tokens;
        facts.generation_ms = Some(generation);
        facts.tokens_per_second = speed;
        let (upstream, attempts) = (facts.upstream.clone(), facts.attempts);
        let total = self.elapsed_ms().round() as u64;
        let span = self.span();
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_PERFORMANCE,
            { field::GENERATION_MS } = generation,
            { field::INPUT_TOKENS } = relayed.input_tokens,
            { field::OUTPUT_TOKENS } = relayed.output_tokens,
            { field::TOKENS_PER_SECOND } = speed,
            { field::TIME_TO_FIRST_CHUNK } = relayed.first.map(|it| it.as_secs_f64()),
            { field::ENDPOINT_TOTAL_MS } = total,
            { field::UPSTREAM_NAME } = upstream.as_deref(),
            { field::UPSTREAM_ATTEMPTS } = attempts,
        );
    }
}
