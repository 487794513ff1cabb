//! One step: what the batcher planned, through the model, to a token for each job that is due.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use super::{
    End, Scheduler,
    batcher::{Part, Plan},
    generation::{After, Generation},
    panic_text,
    stats::Stats,
};
use crate::{
    error::EngineError,
    events::{self, GpuPhase},
    model::Run,
};

impl Scheduler {
    /// One step of everyone who can move on.
    pub(super) fn step(&mut self) {
        let start = Instant::now();
        let plan = self.batcher.plan();
        self.tell(&plan, start);
        let parts = self.look(plan.parts);
        if !parts.is_empty() {
            let before = Instant::now();
            let rows = self.forward(&parts);
            self.stats.forward += before.elapsed();
            match rows {
                Ok(rows) => self.choose(&parts, &rows),
                Err(error) => self.step_failed(&parts, error),
            }
        }
        self.stats.steps += 1;
        self.stats.busy += start.elapsed();
        self.count();
    }

    fn tell(&mut self, plan: &Plan, now: Instant) {
        for number in &plan.preempted {
            if let Some(job) = self.jobs.get_mut(number) {
                job.preempt();
            }
        }
        for admitted in &plan.admitted {
            let Some(job) = self.jobs.get_mut(&admitted.number) else { continue };
            if job.admit(admitted.cached, now) {
                self.gpu.emit(&job.ticket.job.span, GpuPhase::Before);
            }
        }
    }

    /// Has the model look at one image of those that come next. Returns the parts that can be computed: those with none left.
    ///
    /// An image takes long, so there is a step of everyone else between two of them, and a job whose client has gone or whose time is
    /// over ends before the next.
    fn look(&mut self, mut parts: Vec<Part>) -> Vec<Part> {
        let has_unseen =
            |it: &Part| self.jobs.get(&it.number).is_some_and(|job| job.has_unseen(it));
        let next = parts.iter().copied().find(has_unseen);
        if let Some(part) = next
            && let Err(error) = self.look_at(&part)
        {
            parts.retain(|it| it.number != part.number);
            self.say_out_of_memory(part.number, &error, 0);
            self.end(part.number, error.into());
        }
        parts.retain(|it| self.jobs.get(&it.number).is_none_or(|job| !job.has_unseen(it)));
        parts
    }

    /// Has the model look at the first image of a part that it has not seen.
    fn look_at(&mut self, part: &Part) -> Result<(), EngineError> {
        let unseen = self.jobs.get_mut(&part.number).and_then(|it| it.unseen(part));
        let Some((image, features)) = unseen else { return Ok(()) };
        let model = &mut self.model;
        let seen = guarded(|| {
            let vision = model.vision();
            let vision =
                vision.ok_or_else(|| EngineError::Internal("the model is blind".into()))?;
            let pixels = vision.preprocess.tensor(image)?;
            model.look(&pixels)
        })?;
        *features = Some(seen);
        Ok(())
    }

    /// The logits of each part that is its sequence's last.
    fn forward(&mut self, parts: &[Part]) -> Result<Vec<f32>, EngineError> {
        let mut placed = Vec::with_capacity(parts.len());
        for part in parts {
            placed.push(self.jobs.get(&part.number).map(|it| it.placed(part)).unwrap_or_default());
        }
        let runs: Vec<Run<'_>> = parts
            .iter()
            .zip(&placed)
            .map(|(part, images)| Run {
                sequence: part.number,
                tokens: self.batcher.tokens(part),
                position: part.from,
                blocks: self.batcher.blocks(part.number),
                adapter: self.jobs.get(&part.number).and_then(Generation::adapter),
                images,
                areas: self.jobs.get(&part.number).map(Generation::areas).unwrap_or_default(),
                logits: part.last,
            })
            .collect();
        let (model, before, device) = (&mut self.model, &self.before_step, &self.device);
        let logits = guarded(|| {
            before()?;
            let logits = model.forward(&runs)?;
            // The one wait for the device in a step. Without it a step would end before its work, whose time and whose errors
            // would be the next one's.
            if runs.iter().any(|it| it.logits) {
                Ok(Some(logits.flatten_all()?.to_vec1::<f32>()?))
            } else {
                device.synchronize()?;
                Ok(None)
            }
        })?;
        let mut logits = logits.unwrap_or_default();
        // A model that sees could say the token of an image, of which there is none; no neighbour is to pay for it.
        if let Some(token) = self.model.vision().map(|it| it.image_token as usize) {
            let rows = logits.chunks_exact_mut(self.model.vocabulary().max(1));
            rows.filter_map(|row| row.get_mut(token)).for_each(|it| *it = f32::NEG_INFINITY);
        }
        Ok(logits)
    }

    fn choose(&mut self, parts: &[Part], rows: &[f32]) {
        self.batcher.advance(parts);
        let computed: usize = parts.iter().map(|it| it.to - it.from).sum();
        let wanted = parts.iter().filter(|it| it.last).count();
        let vocabulary = rows.len() / wanted.max(1);
        let mut rows = rows.chunks_exact(vocabulary.max(1));
        let mut answers = 0;
        for part in parts {
            if let Some(job) = self.jobs.get_mut(&part.number) {
                job.computed(part);
            }
        }
        for part in parts.iter().filter(|it| it.last) {
            let row = rows.next().unwrap_or_default();
            let Some(job) = self.jobs.get_mut(&part.number) else { continue };
            answers += usize::from(job.output_tokens() > 0);
            let before = job.output_tokens();
            let after = guarded(|| job.next(row));
            self.stats.output_tokens += (job.output_tokens() - before) as u64;
            match after {
                Ok(After::Token(token)) => self.batcher.push(part.number, token),
                Ok(After::End(reason)) => self.end(part.number, End::Finished(reason)),
                Err(error) => self.end(part.number, error.into()),
            }
        }
        // What is computed of an answer is one token a step.
        self.stats.prompt_tokens += computed.saturating_sub(answers) as u64;
    }

    /// Nothing that the step touched can be relied on. Out of memory costs the job with the most to compute, since without
    /// it the others may fit; anything else costs all jobs of the step. Whoever is left is computed again.
    fn step_failed(&mut self, parts: &[Part], error: EngineError) {
        let victims: Vec<u64> = match (&error, parts.iter().max_by_key(|it| it.to - it.from)) {
            (EngineError::OutOfMemory(_), Some(largest)) => vec![largest.number],
            _ => parts.iter().map(|it| it.number).collect(),
        };
        let again = self.batcher.running().saturating_sub(victims.len());
        for number in victims {
            self.say_out_of_memory(number, &error, again);
            self.end(number, error.clone().into());
        }
        self.batcher.distrust();
    }

    fn say_out_of_memory(&self, number: u64, error: &EngineError, again: usize) {
        if let (EngineError::OutOfMemory(text), Some(job)) = (error, self.jobs.get(&number)) {
            events::out_of_memory(&job.ticket.job.span, text, again);
        }
    }

    pub(super) fn count(&mut self) {
        let counts = self.batcher.counts();
        self.stats.step_tokens.reach(self.stats.prompt_tokens + self.stats.output_tokens);
        self.stats = Stats {
            running: self.batcher.running(),
            waiting: self.batcher.waiting(),
            free_blocks: self.batcher.free_blocks(),
            prefix_queries: counts.prefix_queries,
            prefix_hits: counts.prefix_hits,
            preemptions: counts.preemptions,
            ..self.stats
        };
        self.shared_stats.set(self.stats);
        if let Some(line) = self.line.due(Instant::now(), &self.stats) {
            events::engine_stats(&line);
        }
    }
}

/// A panic in a model, in candle or in a grammar must not take the other jobs with it.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(EngineError::Panicked(panic_text(panic.as_ref()))))
}
