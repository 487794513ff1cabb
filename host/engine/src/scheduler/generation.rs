//! One job, from when it is ready to its last event.

use std::{sync::Arc, time::Instant};

use ::image::RgbImage;
use candle_core::Tensor;

use super::{
    batcher::Part,
    prompts::{Picture, Ready, Ticket},
};
use crate::{
    error::EngineError,
    events,
    job::{Event, FinishReason, Finished, Logprob, Piece, Timings, TokenLogprob},
    model::{Area, Placed},
    prompt::Prompter,
    sampler::{Logprobs, Sampler},
    stream::Pieces,
};

pub(crate) struct Generation {
    pub(crate) ticket: Ticket,
    prompter: Arc<Prompter>,
    sampler: Sampler,
    pieces: Pieces,
    views: Vec<View>,
    /// Where its images are.
    areas: Vec<Area>,
    input_tokens: usize,
    image_tokens: usize,
    cached_tokens: usize,
    output_tokens: usize,
    /// Tokens that the answer may have.
    limit: usize,
    preemptions: u64,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
}

/// An image of the prompt, and what the model sees in it once it has looked.
struct View {
    picture: Picture,
    features: Option<Tensor>,
}

/// What comes after a token.
pub(crate) enum After {
    Token(u32),
    End(FinishReason),
}

impl Generation {
    /// `context` is how many tokens prompt and answer may have together; the prompt has fewer.
    pub(crate) fn new(
        ticket: Ticket,
        ready: Ready,
        prompter: &Arc<Prompter>,
        context: usize,
    ) -> Self {
        let sampling = &ticket.job.sampling;
        let room = context.saturating_sub(ready.tokens.len());
        let tokenizer = Arc::clone(prompter);
        let decode = Box::new(move |ids: &[u32]| tokenizer.tokenizer().decode(ids));
        Self {
            sampler: Sampler::new(sampling, &ready.tokens, ready.mask),
            pieces: Pieces::new(decode, &sampling.stop),
            prompter: Arc::clone(prompter),
            areas: ready.pictures.iter().map(|it| it.area).collect(),
            views: ready
                .pictures
                .into_iter()
                .map(|picture| View { picture, features: None })
                .collect(),
            input_tokens: ready.tokens.len(),
            image_tokens: ready.image_tokens,
            cached_tokens: 0,
            output_tokens: 0,
            limit: sampling.max_tokens.unwrap_or(room).min(room),
            preemptions: 0,
            admitted: None,
            first_token: None,
            ticket,
        }
    }

    /// It has its blocks, `cached` tokens in them already. False when it had them before.
    pub(crate) fn admit(&mut self, cached: usize, now: Instant) -> bool {
        if self.admitted.is_some() {
            return false;
        }
        self.admitted = Some(now);
        self.cached_tokens = cached;
        self.ticket.place = None;
        let Ticket { job, served, .. } = &self.ticket;
        let requested = job.adapter_requested.as_deref().unwrap_or(&job.model);
        events::adapter(&job.span, requested, served);
        self.send(Event::Started { input_tokens: self.input_tokens, cached_tokens: cached });
        true
    }

    pub(crate) fn preempt(&mut self) {
        self.preemptions += 1;
        // It looks again when it is its turn: what it saw belongs to no step now.
        self.views.iter_mut().for_each(|it| it.features = None);
        events::preempted(&self.ticket.job.span, self.preemptions, self.output_tokens);
    }

    pub(crate) fn adapter(&self) -> Option<&str> {
        let served = &self.ticket.served;
        served.adapter.is_some().then_some(served.model.name.as_str())
    }

    /// Where its images are, in their order.
    pub(crate) fn areas(&self) -> &[Area] {
        &self.areas
    }

    pub(crate) fn was_admitted(&self) -> bool {
        self.admitted.is_some()
    }

    pub(crate) fn output_tokens(&self) -> usize {
        self.output_tokens
    }

    /// Whether there are images of a part that the model has not looked at.
    pub(crate) fn has_unseen(&self, part: &Part) -> bool {
        self.views.iter().any(|it| it.is_unseen(part))
    }

    /// The first of them, and where to put what the model sees.
    pub(crate) fn unseen(&mut self, part: &Part) -> Option<(&RgbImage, &mut Option<Tensor>)> {
        let view = self.views.iter_mut().find(|it| it.is_unseen(part))?;
        Some((&view.picture.pixels.image, &mut view.features))
    }

    /// A part is computed. What the model saw in images that end there is not needed any more; should they have to be computed
    /// again, it looks again.
    pub(crate) fn computed(&mut self, part: &Part) {
        for view in self.views.iter_mut().filter(|it| it.picture.mark.end() <= part.to) {
            view.features = None;
        }
    }

    /// How many images the model has looked at that are not computed.
    #[cfg(test)]
    pub(crate) fn seen(&self) -> usize {
        self.views.iter().filter(|it| it.features.is_some()).count()
    }

    /// Where in a part which rows of which image stand.
    pub(crate) fn placed(&self, part: &Part) -> Vec<Placed<'_>> {
        let place = |view: &'_ View| {
            let rows = view.rows(part)?;
            let at = view.picture.mark.at + rows.0 - part.from;
            Some((at, rows))
        };
        self.views
            .iter()
            .filter_map(|view| {
                let (at, rows) = place(view)?;
                Some(Placed { at, features: view.features.as_ref()?, rows })
            })
            .collect()
    }

    /// Chooses a token and sends what it completes.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Result<After, EngineError> {
        if self.limit == 0 {
            self.first_token = Some(Instant::now());
            return Ok(After::End(FinishReason::Length));
        }
        let chosen = self.sampler.next(logits)?;
        self.output_tokens += 1;
        if self.first_token.is_none() {
            let now = Instant::now();
            self.first_token = Some(now);
            let timings = self.timings(now);
            let span = &self.ticket.job.span;
            events::first_token(span, timings.queue, timings.prefill, self.cached_tokens);
        }
        let tokenizer = self.prompter.tokenizer();
        if tokenizer.is_eos(chosen.token) && !self.ticket.job.sampling.ignore_eos {
            return self.end(FinishReason::Stop);
        }
        let logprob = chosen.logprobs.as_ref().map(|it| self.describe(chosen.token, it));
        let next = self.pieces.push(chosen.token, logprob)?;
        self.send_piece(next.piece);
        if next.stopped {
            return Ok(After::End(FinishReason::Stop));
        }
        if chosen.complete {
            return self.end(FinishReason::Stop);
        }
        if self.output_tokens >= self.limit {
            return self.end(FinishReason::Length);
        }
        Ok(After::Token(chosen.token))
    }

    /// The last event of a job that went well.
    pub(crate) fn finish(mut self, reason: FinishReason) {
        let finished = Finished {
            reason,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            image_tokens: self.image_tokens,
            cached_tokens: self.cached_tokens,
            timings: self.timings(Instant::now()),
        };
        // The room of all that it had is free before anybody hears of its end.
        self.ticket.counted = None;
        self.views.clear();
        self.send(Event::Finished(finished));
    }

    /// The last event of a job that did not.
    pub(crate) fn fail(mut self, error: EngineError) {
        self.ticket.counted = None;
        self.views.clear();
        self.send(Event::Failed(error));
    }

    /// What was held back.
    fn end(&mut self, reason: FinishReason) -> Result<After, EngineError> {
        let next = self.pieces.finish()?;
        self.send_piece(next.piece);
        Ok(After::End(if next.stopped { FinishReason::Stop } else { reason }))
    }

    fn timings(&self, now: Instant) -> Timings {
        let submitted = self.ticket.submitted;
        let admitted = self.admitted.unwrap_or(now);
        let first = self.first_token.unwrap_or(now);
        let queue = admitted.saturating_duration_since(submitted);
        let prefill = first.saturating_duration_since(admitted);
        let decode = now.saturating_duration_since(first);
        Timings {
            queue,
            prefill,
            first_token: queue + prefill,
            decode,
            generation: prefill + decode,
        }
    }

    fn describe(&self, token: u32, logprobs: &Logprobs) -> TokenLogprob {
        let tokenizer = self.prompter.tokenizer();
        let describe = |id: u32, logprob: f32| Logprob { id, logprob, bytes: tokenizer.bytes(id) };
        TokenLogprob {
            token: describe(token, logprobs.token),
            top: logprobs.top.iter().map(|(id, logprob)| describe(*id, *logprob)).collect(),
        }
    }

    fn send_piece(&self, piece: Option<Piece>) {
        if let Some(piece) = piece {
            self.send(Event::Text(piece));
        }
    }

    /// A receiver that is gone is noticed before the next step.
    fn send(&self, event: Event) {
        let _ = self.ticket.events.send(event);
    }
}

impl View {
    fn is_unseen(&self, part: &Part) -> bool {
        self.features.is_none() && self.rows(part).is_some()
    }

    /// The rows of the image that stand in a part.
    fn rows(&self, part: &Part) -> Option<(usize, usize)> {
        let mark = &self.picture.mark;
        let start = part.from.saturating_sub(mark.at);
        let end = part.to.saturating_sub(mark.at).min(mark.tokens);
        (start < end).then_some((start, end))
    }
}
