//! One piece of work, from its begin to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use engine::{Event, Finished};

use super::{GenAi, Meters, Model, REASONS};
use crate::{
    error::{ApiError, Blame},
    operation::Operation,
};

/// What is known of the jobs of a request before they begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) model: &'a str,
    pub(crate) operation: Operation,
    /// How many answers each prompt has.
    pub(crate) per_prompt: usize,
    /// None: as many as the context holds.
    pub(crate) max_tokens: Option<usize>,
    /// How many tokens prompt and answer may have together.
    pub(crate) context: usize,
}

/// The end of work whose inside is not seen. What is not known is not counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answered {
    /// None: it was what comes to a natural end.
    pub(crate) reason: Option<&'static str>,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) first: Option<Duration>,
}

pub(crate) struct Watch {
    model: Arc<Model>,
    operation: Operation,
    /// Of a job of the engine.
    prompt: Option<Arc<Prompt>>,
    began: Instant,
    last: Option<Instant>,
    /// The engine has not begun with it.
    waits: bool,
    ended: bool,
}

/// The answers to one prompt, which are one request to vLLM.
struct Prompt {
    answers: usize,
    left: AtomicU64,
    /// Tokens of the longest one that has finished.
    longest: AtomicU64,
    max_tokens: usize,
    context: usize,
}

impl Meters {
    /// One for each job of a request, those of a prompt one after the other.
    pub(crate) fn watch_jobs(&self, asked: &Asked<'_>, jobs: usize) -> Vec<Watch> {
        let per_prompt = asked.per_prompt.max(1);
        let prompts: Vec<_> = (0..jobs.div_ceil(per_prompt))
            .map(|_| {
                Arc::new(Prompt {
                    answers: per_prompt,
                    left: AtomicU64::new(per_prompt as u64),
                    longest: AtomicU64::new(0),
                    max_tokens: asked.max_tokens.unwrap_or(usize::MAX),
                    context: asked.context,
                })
            })
            .collect();
        let of_job = |at: usize| prompts.get(at / per_prompt).cloned();
        (0..jobs).map(|at| self.begin(asked.model, asked.operation, of_job(at))).collect()
    }

    /// Of work whose inside is not seen.
    pub(crate) fn watch(&self, model: &str, operation: Operation) -> Watch {
        self.begin(model, operation, None)
    }

    fn begin(&self, model: &str, operation: Operation, prompt: Option<Arc<Prompt>>) -> Watch {
        let model = self.model(model);
        let waits = prompt.is_some();
        model.jobs.fetch_add(1, Relaxed);
        model.waiting.fetch_add(u64::from(waits), Relaxed);
        Watch { model, operation, prompt, began: Instant::now(), last: None, waits, ended: false }
    }
}

impl Watch {
    pub(crate) fn saw(&mut self, event: &Event) {
        match event {
            Event::Started { .. } => self.starts(),
            Event::Text(_) => self.token(),
            Event::Finished(finished) => self.finished(finished),
            Event::Failed(_) => {}
        }
    }

    pub(crate) fn failed(&mut self) {
        self.end("error");
    }

    /// What was refused was no work.
    pub(crate) fn ended_by(&mut self, error: &ApiError) {
        match error.blame() {
            Blame::Failed => self.failed(),
            Blame::Refused => self.leave(),
            Blame::Left => self.end("abort"),
        }
    }

    /// It turned out which model is at work.
    pub(crate) fn is_of(&mut self, meters: &Meters, model: &str) {
        if self.ended {
            return;
        }
        let model = meters.model(model);
        model.jobs.fetch_add(1, Relaxed);
        model.waiting.fetch_add(u64::from(self.waits), Relaxed);
        let before = std::mem::replace(&mut self.model, model);
        before.jobs.fetch_sub(1, Relaxed);
        before.waiting.fetch_sub(u64::from(self.waits), Relaxed);
    }

    pub(crate) fn answered(&mut self, answered: &Answered) {
        if self.ended {
            return;
        }
        let &Answered { reason, input_tokens, output_tokens, first } = answered;
        self.end(reason.unwrap_or("stop"));
        let (model, gen_ai) = (&self.model, self.gen_ai());
        let whole = self.began.elapsed().as_secs_f64();
        model.whole.add(whole);
        gen_ai.request.add(whole);
        if let Some(tokens) = input_tokens {
            model.prompt_tokens.fetch_add(tokens, Relaxed);
            model.request_prompt.add(tokens as f64);
        }
        // Some servers say of vectors, too, that they cost no tokens.
        if let Some(tokens) = output_tokens.filter(|_| self.operation != Operation::Embeddings) {
            model.generation_tokens.fetch_add(tokens, Relaxed);
            model.request_generation.add(tokens as f64);
        }
        if let Some(first) = first {
            model.first_token.add(first.as_secs_f64());
            gen_ai.first_token.add(first.as_secs_f64());
        }
    }

    fn gen_ai(&self) -> &GenAi {
        &self.model.gen_ai[self.operation as usize]
    }

    fn starts(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.model.waiting.fetch_sub(1, Relaxed);
        }
    }

    fn token(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.model.between_tokens.add((now - last).as_secs_f64());
        }
    }

    fn finished(&mut self, finished: &Finished) {
        self.end(finished.reason.as_str());
        let (model, gen_ai, timings) = (&self.model, self.gen_ai(), &finished.timings);
        let count = |counter: &AtomicU64, tokens: usize| {
            counter.fetch_add(tokens as u64, Relaxed);
        };
        count(&model.prompt_tokens, finished.input_tokens);
        count(&model.generation_tokens, finished.output_tokens);
        count(&model.cached_tokens, finished.cached_tokens);
        let whole = self.began.elapsed().as_secs_f64();
        let first = timings.first_token.as_secs_f64();
        model.whole.add(whole);
        gen_ai.request.add(whole);
        model.queue.add(timings.queue.as_secs_f64());
        model.prefill.add(timings.prefill.as_secs_f64());
        model.decode.add(timings.decode.as_secs_f64());
        model.inference.add(timings.generation.as_secs_f64());
        model.request_prompt.add(finished.input_tokens as f64);
        model.request_generation.add(finished.output_tokens as f64);
        if finished.output_tokens > 0 {
            model.first_token.add(first);
            gen_ai.first_token.add(first);
        }
        if finished.output_tokens > 1 {
            let each = timings.decode.as_secs_f64() / (finished.output_tokens - 1) as f64;
            gen_ai.token.add(each);
        }
        if let Some(prompt) = &self.prompt {
            prompt.finished(model, finished);
        }
    }

    fn end(&mut self, reason: &str) {
        if self.ended {
            return;
        }
        self.leave();
        if let Some(at) = REASONS.iter().position(|it| *it == reason) {
            self.model.ended[at].fetch_add(1, Relaxed);
        }
    }

    fn leave(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.starts();
        self.model.jobs.fetch_sub(1, Relaxed);
    }
}

impl Drop for Watch {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        self.end("abort");
    }
}

impl Prompt {
    fn finished(&self, model: &Model, finished: &Finished) {
        let room = self.context.saturating_sub(finished.input_tokens);
        model.params_max_tokens.add(self.max_tokens.min(room) as f64);
        let tokens = finished.output_tokens as u64;
        let longest = self.longest.fetch_max(tokens, Relaxed).max(tokens);
        if self.left.fetch_sub(1, Relaxed) == 1 {
            model.params_n.add(self.answers as f64);
            model.longest_generation.add(longest as f64);
        }
    }
}
