//! What the engine is doing, in numbers: for metrics at any time, and for a line in the log now and then.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::events::EngineStats;

/// As often as vLLM's line comes.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What the engine is doing. Counts begin at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Jobs that move on at each step.
    pub running: usize,
    /// Jobs that wait for the first time, and those that wait again because their blocks were needed.
    pub waiting: usize,
    /// Most jobs of a step, each of which may have an adapter of its own.
    pub sequences: usize,
    pub blocks: usize,
    /// Tokens that one of them holds.
    pub block_tokens: usize,
    /// Blocks that can be had, those with the beginnings of earlier texts included.
    pub free_blocks: usize,
    /// Tokens of prompts, and those of them that were found in the cache.
    pub prefix_queries: u64,
    pub prefix_hits: u64,
    pub preemptions: u64,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: u64,
    /// Tokens that were chosen.
    pub output_tokens: u64,
    pub steps: u64,
    pub step_tokens: StepTokens,
    /// Time in steps, and the part of it in the model's forward pass.
    pub busy: Duration,
    pub forward: Duration,
}

/// How many tokens steps had: those of prompts that were computed, and those that were chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTokens {
    /// Steps by [`Self::BOUNDS`], each counted once; last those over all bounds.
    pub counts: [u64; StepTokens::BOUNDS.len() + 1],
    pub sum: u64,
}

impl StepTokens {
    /// As vLLM has them.
    pub const BOUNDS: [u64; 13] = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384];

    /// Those of two engines.
    fn and(mut self, other: Self) -> Self {
        self.counts.iter_mut().zip(other.counts).for_each(|(it, more)| *it += more);
        Self { sum: self.sum + other.sum, ..self }
    }

    /// `all` are the tokens of all steps up to now; a step without any is none.
    pub(crate) fn reach(&mut self, all: u64) {
        let tokens = all.saturating_sub(self.sum);
        if tokens > 0 {
            self.counts[Self::BOUNDS.partition_point(|it| *it < tokens)] += 1;
            self.sum = all;
        }
    }
}

impl Stats {
    /// How much of the cache is in use, from 0 to 1.
    pub fn cache_usage(&self) -> f64 {
        share((self.blocks - self.free_blocks.min(self.blocks)) as u64, self.blocks as u64)
    }

    /// What two engines are doing together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            running: self.running + other.running,
            waiting: self.waiting + other.waiting,
            blocks: self.blocks + other.blocks,
            free_blocks: self.free_blocks + other.free_blocks,
            prefix_queries: self.prefix_queries + other.prefix_queries,
            prefix_hits: self.prefix_hits + other.prefix_hits,
            preemptions: self.preemptions + other.preemptions,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            steps: self.steps + other.steps,
            busy: self.busy + other.busy,
            forward: self.forward + other.forward,
            step_tokens: self.step_tokens.and(other.step_tokens),
            // All are the same.
            block_tokens: self.block_tokens.max(other.block_tokens),
            sequences: self.sequences.max(other.sequences),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The engine thread's numbers, for others to read.
#[derive(Default)]
pub(crate) struct SharedStats(Mutex<Stats>);

impl SharedStats {
    pub(crate) fn get(&self) -> Stats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, stats: Stats) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}

/// Says how it goes while there is work.
pub(crate) struct Line {
    /// Which of several engines it is about.
    engine: Option<usize>,
    since: Instant,
    before: Stats,
}

impl Line {
    pub(crate) fn new(engine: Option<usize>, now: Instant) -> Self {
        Self { engine, since: now, before: Stats::default() }
    }

    /// The engine had nothing to do: that time counts for no rate.
    pub(crate) fn restart(&mut self, now: Instant, stats: &Stats) {
        (self.since, self.before) = (now, *stats);
    }

    /// What to say now, if it is time to say something.
    pub(crate) fn due(&mut self, now: Instant, stats: &Stats) -> Option<EngineStats> {
        let time = now.saturating_duration_since(self.since);
        if time < LINE_EVERY {
            return None;
        }
        let seconds = time.as_secs_f64();
        let before = self.before;
        self.restart(now, stats);
        Some(EngineStats {
            engine: self.engine,
            running: stats.running,
            waiting: stats.waiting,
            cache_usage: stats.cache_usage(),
            prefix_hit_rate: share(
                stats.prefix_hits - before.prefix_hits,
                stats.prefix_queries - before.prefix_queries,
            ),
            prompt_rate: (stats.prompt_tokens - before.prompt_tokens) as f64 / seconds,
            output_rate: (stats.output_tokens - before.output_tokens) as f64 / seconds,
            preemptions: stats.preemptions - before.preemptions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_by_their_tokens() {
        let mut steps = StepTokens::default();
        for all in [0, 1, 1, 10, 20_000] {
            steps.reach(all);
        }
        let at = |tokens: u64| steps.counts[StepTokens::BOUNDS.partition_point(|it| *it < tokens)];
        assert_eq!((at(1), at(9), at(16_385)), (1, 1, 1));
        assert_eq!((steps.counts.iter().sum::<u64>(), steps.sum), (3, 20_000));
    }

    #[test]
    fn a_line_is_due_every_ten_seconds_and_tells_of_them_only() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let stats = |prompt_tokens: u64, output_tokens: u64| Stats {
            running: 3,
            waiting: 1,
            blocks: 8,
            free_blocks: 6,
            prefix_queries: prompt_tokens * 2,
            prefix_hits: prompt_tokens,
            prompt_tokens,
            output_tokens,
            ..Stats::default()
        };
        let mut line = Line::new(Some(1), start);
        assert_eq!(line.due(at(9), &stats(50, 50)), None);
        let expected = |prompt_rate: f64, output_rate: f64| EngineStats {
            engine: Some(1),
            running: 3,
            waiting: 1,
            cache_usage: 0.25,
            prefix_hit_rate: 0.5,
            prompt_rate,
            output_rate,
            preemptions: 0,
        };
        assert_eq!(line.due(at(10), &stats(100, 200)), Some(expected(10.0, 20.0)));
        assert_eq!(line.due(at(19), &stats(100, 200)), None);
        assert_eq!(line.due(at(30), &stats(140, 300)), Some(expected(2.0, 5.0)));
        // An hour without work.
        line.restart(at(3600), &stats(140, 300));
        assert_eq!(line.due(at(3610), &stats(240, 400)), Some(expected(10.0, 10.0)));
    }
}
