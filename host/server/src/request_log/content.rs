//! The records between the first and the terminal one: the prompt, its images, the parameters, the answer, the speed.
//!
//! Text is handed over whole: plugins cut it. The second record of an event, at DEBUG, says what the first leaves out.

use std::panic::Location;

use engine::Finished;
use record::{event, field};

use super::{RequestLog, TARGET};
use crate::{
    generate::{milliseconds, tokens_per_second},
    image::{ImageError, ImageFacts},
    json_verdict::Verdict,
    output::Output,
    params::Params,
};

#[derive(Debug)]
pub(crate) struct PromptFacts<'a> {
    pub(crate) text: &'a str,
    pub(crate) messages: usize,
    pub(crate) images: usize,
    /// Whether the prompt holds the placeholder of an image.
    pub(crate) vision_tag: bool,
}

impl RequestLog {
    #[track_caller]
    pub(crate) fn prompt(&mut self, prompt: &PromptFacts<'_>) {
        // Unicode scalars, as Python's `len` counts.
        let chars = prompt.text.chars().count() as u64;
        self.facts.prompt_chars = Some(chars);
        self.facts.images = Some(prompt.images as u64);
        let route = self.arrival.route.unwrap_or_default();
        let span = self.span();
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_PROMPT,
            { field::PROMPT_CHARS } = chars,
            { field::PROMPT_TEXT } = prompt.text,
            { field::IMAGES } = prompt.images as u64,
            { field::MESSAGES } = prompt.messages as u64,
        );
        if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            let caller = Location::caller();
            let stack =
                format!("{}:{} {route} -> generate -> engine", caller.file(), caller.line());
            tracing::debug!(
                target: TARGET,
                parent: span,
                event = event::REQUEST_PROMPT,
                { field::PROMPT_TEXT } = prompt.text,
                { field::PROMPT_VISION_TAG } = prompt.vision_tag,
                { field::CODE_STACK } = stack.as_str(),
            );
        }
    }

    pub(crate) fn image(&self, index: usize, image: &ImageFacts) {
        let Some(span) = &self.span else { return };
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_IMAGE,
            { field::IMAGE_INDEX } = index as u64,
            { field::IMAGE_WIDTH } = u64::from(image.width),
            { field::IMAGE_HEIGHT } = u64::from(image.height),
            { field::IMAGE_MODE } = image.mode,
            { field::IMAGE_FORMAT } = image.format,
        );
        tracing::debug!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_IMAGE,
            { field::IMAGE_INDEX } = index as u64,
            { field::IMAGE_BASE64_CHARS } = image.base64_chars.map(|it| it as u64),
            { field::IMAGE_BYTES } = image.bytes as u64,
            { field::IMAGE_DECODE_MS } = image.decode_ms,
            { field::MULTIMODAL_STATUS } = "ok",
        );
    }

    pub(crate) fn image_refused(&self, index: usize, error: &ImageError) {
        let Some(span) = &self.span else { return };
        let size = match error {
            ImageError::TooManyPixels { width, height, .. } => Some((*width, *height)),
            _ => None,
        };
        tracing::warn!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_IMAGE,
            { field::IMAGE_INDEX } = index as u64,
            { field::IMAGE_WIDTH } = size.map(|it| u64::from(it.0)),
            { field::IMAGE_HEIGHT } = size.map(|it| u64::from(it.1)),
            { field::MULTIMODAL_STATUS } = "failed",
            { field::ERROR_TYPE } = error.code(),
        );
    }

    /// `max_tokens` and `temperature` are what holds for the request, whoever set them; the others only what the client set.
    pub(crate) fn params(&self, params: &Params, max_tokens: usize, temperature: f64) {
        let Some(span) = &self.span else { return };
        let stop = (!params.stop.is_empty()).then(|| params.stop.join(", "));
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_PARAMS,
            { field::MAX_TOKENS } = max_tokens as u64,
            { field::TEMPERATURE } = temperature,
            { field::TOP_P } = params.top_p,
            { field::TOP_K } = params.top_k.map(|it| it as u64),
            { field::SEED } = params.seed,
            { field::CHOICE_COUNT } = params.choices.filter(|it| *it > 1).map(|it| it as u64),
            { field::PRESENCE_PENALTY } = params.presence_penalty,
            { field::FREQUENCY_PENALTY } = params.frequency_penalty,
            { field::STOP_SEQUENCES } = stop,
            { field::OUTPUT_TYPE } = params.output.map(Output::type_name),
        );
    }

    /// One piece of text on its way to the client; all of them, joined, are the text of [`Self::response`].
    pub(crate) fn delta(&mut self, text: &str) {
        let span = self.span();
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::RESPONSE_DELTA,
            { field::RESPONSE_DELTA } = text,
        );
    }

    pub(crate) fn response(&mut self, text: &str, finish_reason: &str) {
        let chars = text.chars().count() as u64;
        self.facts.response_chars = Some(chars);
        self.facts.finish_reason = Some(finish_reason.to_owned());
        let span = self.span();
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::RESPONSE_CONTENT,
            { field::RESPONSE_CHARS } = chars,
            { field::RESPONSE_TEXT } = text,
            { field::FINISH_REASON } = finish_reason,
        );
        tracing::debug!(
            target: TARGET,
            parent: span,
            event = event::RESPONSE_CONTENT,
            { field::RESPONSE_TEXT } = text,
        );
    }

    pub(crate) fn json_verdict(&self, verdict: &Verdict, output: Option<Output>) {
        let Some(span) = &self.span else { return };
        let expected = Output::expected(output);
        // `tracing` fixes an event's level where it is written, hence twice.
        if verdict.asked && verdict.status != "ok" {
            tracing::warn!(
                target: TARGET,
                parent: span,
                event = event::RESPONSE_JSON_PARSE,
                { field::JSON_EXPECTED } = expected,
                { field::JSON_STATUS } = verdict.status,
                { field::JSON_ERROR_OFFSET } = verdict.error_offset,
                { field::JSON_KEYS } = verdict.keys.as_deref(),
            );
        } else {
            tracing::debug!(
                target: TARGET,
                parent: span,
                event = event::RESPONSE_JSON_PARSE,
                { field::JSON_EXPECTED } = expected,
                { field::JSON_STATUS } = verdict.status,
                { field::JSON_ERROR_OFFSET } = verdict.error_offset,
                { field::JSON_KEYS } = verdict.keys.as_deref(),
            );
        }
    }

    pub(crate) fn performance(&mut self, finished: &Finished) {
        let timings = &finished.timings;
        let generation = milliseconds(timings.generation).round() as u64;
        let speed = tokens_per_second(finished);
        let (queue, prefill, decode) = (
            milliseconds(timings.queue),
            milliseconds(timings.prefill),
            milliseconds(timings.decode),
        );
        let facts = &mut self.facts;
        facts.input_tokens = Some(finished.input_tokens as u64);
        facts.output_tokens = Some(finished.output_tokens as u64);
        facts.generation_ms = Some(generation);
        facts.tokens_per_second = Some(speed);
        (facts.queue_ms, facts.prefill_ms, facts.decode_ms) =
            (Some(queue), Some(prefill), Some(decode));

        let total = self.elapsed_ms().round() as u64;
        let span = self.span();
        tracing::info!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_PERFORMANCE,
            { field::GENERATION_MS } = generation,
            { field::INPUT_TOKENS } = finished.input_tokens as u64,
            { field::OUTPUT_TOKENS } = finished.output_tokens as u64,
            { field::TOKENS_PER_SECOND } = speed,
            { field::ENDPOINT_TOTAL_MS } = total,
        );
        tracing::debug!(
            target: TARGET,
            parent: span,
            event = event::REQUEST_PERFORMANCE,
            { field::QUEUE_MS } = queue,
            { field::PREFILL_MS } = prefill,
            { field::DECODE_MS } = decode,
            { field::ENDPOINT_TOTAL_MS } = total,
        );
    }
}
