//! The answers that a request waits for: one job each, their events as they come. Dropping it cancels what still runs.
//!
//! What comes through here is what `/metrics` counts.

use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use engine::{Event, Finished};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant as Clock, timeout_at},
};

use crate::{error::ApiError, meters::Watch};

/// What comes back from the engine; dropping it cancels the job.
pub(crate) type Events = UnboundedReceiver<Event>;

/// A job that is over its time is ended by the engine; this is for an engine that can't.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Choices {
    jobs: Vec<Option<(Events, Watch)>>,
    /// Which job is asked first, so that none is heard more than the others.
    first: usize,
    deadline: Option<Clock>,
}

impl Choices {
    /// Each job with what watches it.
    pub(crate) fn new(jobs: Vec<Events>, watches: Vec<Watch>, deadline: Option<Instant>) -> Self {
        let jobs = jobs.into_iter().zip(watches).map(Some).collect();
        let deadline = deadline.map(|it| Clock::from_std(it + PATIENCE));
        Self { jobs, first: 0, deadline }
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The next event of any of the jobs, and whose it is. None when all have finished. An error ends the request, and
    /// whatever still runs for it ends with this.
    pub(crate) async fn next(&mut self) -> Result<Option<(usize, Event)>, ApiError> {
        if self.jobs.iter().all(Option::is_none) {
            return Ok(None);
        }
        let deadline = self.deadline;
        let (at, event) = match deadline {
            None => self.any().await,
            Some(deadline) => timeout_at(deadline, self.any())
                .await
                .map_err(|_| ApiError::from(engine::EngineError::DeadlineExceeded))?,
        };
        let watch = self.jobs[at].as_mut().map(|it| &mut it.1);
        match event {
            None => Err(ApiError::EngineGone),
            Some(Event::Failed(error)) => {
                if let Some(it) = watch {
                    it.failed();
                }
                Err(error.into())
            }
            Some(event) => {
                if let Some(it) = watch {
                    it.saw(&event);
                }
                if matches!(event, Event::Finished(_)) {
                    self.jobs[at] = None;
                }
                Ok(Some((at, event)))
            }
        }
    }

    async fn any(&mut self) -> (usize, Option<Event>) {
        poll_fn(|context| {
            let count = self.jobs.len();
            for offset in 0..count {
                let at = (self.first + offset) % count;
                let Some((events, _)) = &mut self.jobs[at] else { continue };
                if let Poll::Ready(event) = events.poll_recv(context) {
                    self.first = (at + 1) % count;
                    return Poll::Ready((at, event));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// What a request with several answers used, as one. `per_prompt` answers read the same prompt.
pub(crate) fn sum(finished: &[Finished], per_prompt: usize) -> Option<Finished> {
    let longest = finished.iter().max_by_key(|it| it.timings.generation)?;
    let prompts = || finished.iter().step_by(per_prompt.max(1));
    Some(Finished {
        reason: finished.first()?.reason,
        input_tokens: prompts().map(|it| it.input_tokens).sum(),
        image_tokens: prompts().map(|it| it.image_tokens).sum(),
        cached_tokens: prompts().map(|it| it.cached_tokens).sum(),
        output_tokens: finished.iter().map(|it| it.output_tokens).sum(),
        timings: longest.timings,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use engine::{EngineError, FinishReason, Piece, Timings};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        meters::{Asked, Meters},
        operation::Operation,
    };

    /// What watches so many answers to one prompt.
    pub(crate) fn watches(meters: &Meters, jobs: usize) -> Vec<Watch> {
        let (model, operation) = ("m", Operation::Chat);
        let asked =
            Asked { model, operation, per_prompt: jobs, max_tokens: Some(60), context: 100 };
        meters.watch_jobs(&asked, jobs)
    }

    pub(crate) fn finished(input_tokens: usize, output_tokens: usize, millis: u64) -> Finished {
        let half = Duration::from_millis(millis / 2);
        Finished {
            reason: FinishReason::Stop,
            input_tokens,
            output_tokens,
            image_tokens: 0,
            cached_tokens: 1,
            timings: Timings {
                queue: Duration::ZERO,
                prefill: half,
                first_token: half,
                decode: half,
                generation: half * 2,
            },
        }
    }

    /// Choices whose events have all come.
    pub(crate) fn choices(jobs: Vec<Vec<Event>>) -> Choices {
        let jobs = jobs.into_iter().map(|events| {
            let (sender, receiver) = mpsc::unbounded_channel();
            for event in events {
                sender.send(event).unwrap();
            }
            receiver
        });
        let jobs: Vec<Events> = jobs.collect();
        let watches = watches(&Meters::default(), jobs.len());
        Choices::new(jobs, watches, None)
    }

    fn text(it: &str) -> Event {
        Event::Text(Piece { text: it.to_owned(), logprobs: Vec::new() })
    }

    async fn all(mut choices: Choices) -> Result<Vec<(usize, String)>, &'static str> {
        let mut seen = Vec::new();
        while let Some((at, event)) = choices.next().await.map_err(|it| it.code())? {
            if let Event::Text(piece) = event {
                seen.push((at, piece.text));
            }
        }
        Ok(seen)
    }

    #[tokio::test]
    async fn every_job_is_heard_in_turn_until_all_have_finished() {
        let end = || Event::Finished(finished(3, 2, 10));
        let both = choices(vec![vec![text("a"), text("b"), end()], vec![text("x"), end()]]);
        let seen = all(both).await.unwrap();
        let expected = [(0, "a"), (1, "x"), (0, "b")].map(|it| (it.0, it.1.to_owned()));
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn one_failure_is_the_end() {
        let memory = EngineError::OutOfMemory("no room".to_owned());
        let failing = choices(vec![vec![text("a")], vec![Event::Failed(memory)]]);
        assert_eq!(all(failing).await, Err("out_of_memory"));
        assert_eq!(all(choices(vec![vec![text("a")]])).await, Err("engine_gone"));
    }

    #[test]
    fn a_prompt_is_counted_once() {
        let jobs = [finished(3, 2, 10), finished(3, 4, 30), finished(5, 1, 20), finished(5, 1, 5)];
        let all = sum(&jobs, 2).unwrap();
        assert_eq!((all.input_tokens, all.output_tokens, all.cached_tokens), (8, 8, 2));
        assert_eq!(all.timings.generation, Duration::from_millis(30));
        assert_eq!(sum(&[], 1), None);
    }
}
