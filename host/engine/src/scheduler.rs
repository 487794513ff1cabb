//! The engine thread: owns the device and the model, and moves all running jobs on together, step by step.
//!
//! - `step` is one of them. `batcher` decides who moves on, over `pool` (blocks of the cache) and `prefix` (which blocks hold
//!   the same).
//! - `prompts` makes jobs ready on a thread of its own, with `pictures` for their images; `generation` is one job from then on.
//! - `embed` reads texts of which vectors are wanted, between the steps.
//! - `served` has the names that jobs can ask for, `adapters` changes them; `stats` is what is told of all of it.

mod adapters;
mod batcher;
mod embed;
mod generation;
mod pictures;
mod pool;
mod prefix;
mod prompts;
mod served;
mod stats;
mod step;
#[cfg(test)]
mod tests;

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    mem,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use candle_core::Device;
use tokio::sync::oneshot;

pub use self::stats::{Stats, StepTokens};
use self::{
    batcher::{Batcher, Limits, Order},
    embed::Embedding,
    generation::Generation,
    pictures::{ROOM, Shelf},
    prefix::Salt,
    prompts::Ready,
    stats::Line,
};
pub(crate) use self::{
    embed::Embed,
    prompts::{Place, Reader, Ticket, check_tokens},
    served::{Registry, Served},
    stats::SharedStats,
};
use crate::{
    config::{Config, StepHook},
    cuda, device,
    engine::ServedModel,
    error::{AdapterChangeError, EngineError, LoadError},
    events::GpuPhase,
    gpu::{Gpu, GpuSummary},
    job::{Event, FinishReason},
    load::{self, Loaded, LoadedAdapter},
    model::Model,
    prompt::Prompter,
    threads,
};

/// Where nothing is configured. More answers at once make each of them slower than people read.
const SEQUENCES: usize = 64;
const STEP_TOKENS_CPU: usize = 256;
const STEP_TOKENS_GPU: usize = 2048;
/// How much later a job may have come than one whose priority is larger by one, to go before it. So nobody is overtaken for
/// ever.
const PRIORITY_MS: i64 = 30_000;
/// How often a thread with nothing to do looks whether the last job with an adapter is gone.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

/// What arrives at the engine thread.
pub(crate) enum Message {
    Job(Box<(Ticket, Result<Ready, EngineError>)>),
    Embed(Box<Embed>),
    Load {
        name: String,
        folder: PathBuf,
        reply: oneshot::Sender<Result<ServedModel, AdapterChangeError>>,
    },
    Unload {
        name: String,
        reply: oneshot::Sender<Result<(), AdapterChangeError>>,
    },
}

/// Everything that lives on the engine thread.
pub(crate) struct Scheduler {
    model: Box<dyn Model>,
    prompter: Arc<Prompter>,
    registry: Arc<Registry>,
    device: Device,
    gpu: Gpu,
    batcher: Batcher,
    jobs: BTreeMap<u64, Generation>,
    /// The first one's text is read next.
    embeds: VecDeque<Embedding>,
    /// Adapters that no new job finds, until the last job with them is gone.
    leaving: Vec<Leaving>,
    /// How many tokens prompt and answer may have together.
    context: usize,
    began: Instant,
    before_step: StepHook,
    stats: Stats,
    shared_stats: Arc<SharedStats>,
    line: Line,
}

struct Leaving {
    served: Arc<Served>,
    reply: oneshot::Sender<Result<(), AdapterChangeError>>,
}

impl Scheduler {
    /// The engine with this number, on the device at its place.
    pub(crate) fn load(config: &Config, number: usize) -> Result<Self, LoadError> {
        let choice = config.devices.get(number).copied();
        let choice = choice.ok_or_else(|| LoadError::Device(format!("none at place {number}")))?;
        let device = device::open(choice)?;
        let unset = threads::thread_variables(config.threads);
        if device.is_cpu() && !unset.is_empty() {
            let names: Vec<_> = unset.iter().map(|(name, _)| *name).collect();
            tracing::debug!(
                target: "bucksaw",
                event = "log",
                bucksaw.stream = "engine",
                bucksaw.notice = format!("{} not set: every core computes", names.join(", ")),
            );
        }
        let gpu = Gpu::open(config.nvml_library.as_deref(), cuda::board(&device));
        let loaded = load::load(config, &device)?;
        let one_of_several = (config.devices.len() > 1).then_some(number);
        Ok(Self::new(loaded, config, one_of_several, device, gpu))
    }

    /// `number` is which of several engines it is.
    fn new(
        loaded: Loaded,
        config: &Config,
        number: Option<usize>,
        device: Device,
        gpu: Gpu,
    ) -> Self {
        let Loaded { served, model, prompter, adapters } = loaded;
        let capacity = model.capacity();
        let step_tokens = if device.is_cpu() { STEP_TOKENS_CPU } else { STEP_TOKENS_GPU };
        let limits = Limits {
            step_tokens: config.max_num_batched_tokens.unwrap_or(step_tokens),
            sequences: config.max_num_seqs.unwrap_or(SEQUENCES).min(capacity.sequences),
            block_tokens: capacity.block_tokens,
            prefix_caching: config.prefix_caching,
        };
        let batcher = Batcher::new(capacity.blocks, limits);
        let context = model.context().min(batcher.room());
        let registry = Registry::new(ServedModel { context, ..served });
        for LoadedAdapter { served, info } in adapters {
            registry.add(ServedModel { context, ..served }, info.modules);
        }
        let now = Instant::now();
        let stats = Stats {
            sequences: limits.sequences.min(limits.step_tokens),
            blocks: batcher.total_blocks(),
            block_tokens: limits.block_tokens,
            free_blocks: batcher.free_blocks(),
            ..Stats::default()
        };
        let shared_stats = Arc::new(SharedStats::default());
        shared_stats.set(stats);
        Self {
            model,
            prompter,
            registry: Arc::new(registry),
            device,
            gpu,
            batcher,
            jobs: BTreeMap::new(),
            embeds: VecDeque::new(),
            leaving: Vec::new(),
            context,
            began: now,
            before_step: config.before_step.clone().unwrap_or_else(|| Arc::new(|| Ok(()))),
            stats,
            shared_stats,
            line: Line::new(number, now),
        }
    }

    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    pub(crate) fn prompter(&self) -> Arc<Prompter> {
        Arc::clone(&self.prompter)
    }

    pub(crate) fn stats(&self) -> Arc<SharedStats> {
        Arc::clone(&self.shared_stats)
    }

    /// What makes this model's jobs ready.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            prompter: self.prompter(),
            vision: self.model.vision().cloned(),
            context: self.context,
            vocabulary: self.model.vocabulary(),
            shelf: Shelf::new(ROOM),
        }
    }

    pub(crate) fn device_name(&self) -> String {
        device::name(&self.device)
    }

    /// How many numbers an embedding has.
    pub(crate) fn embedding_size(&self) -> usize {
        self.model.width()
    }

    /// How many tokens the model knows.
    pub(crate) fn vocabulary(&self) -> usize {
        self.model.vocabulary()
    }

    pub(crate) fn gpu_summary(&self) -> GpuSummary {
        self.gpu.summary().clone()
    }

    /// Runs jobs until no more can come and all have ended.
    pub(crate) fn serve(mut self, inbox: &Receiver<Message>) {
        loop {
            match self.receive(inbox) {
                Ok(()) => {}
                Err(TryRecvError::Disconnected) if self.is_idle() => break,
                Err(_) => self.turn(),
            }
            self.drain();
        }
        // Nobody can wait for these any more than for a job.
        for leaving in mem::take(&mut self.leaving) {
            let _ = leaving.reply.send(Err(AdapterChangeError::ShuttingDown));
        }
    }

    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.embeds.is_empty()
    }

    /// One step of the jobs, and a piece of a text of which a vector is wanted.
    fn turn(&mut self) {
        if !self.jobs.is_empty() {
            self.sweep();
            self.step();
        }
        self.embed();
    }

    /// Takes one message. While there is work, an error says that none is waiting.
    fn receive(&mut self, inbox: &Receiver<Message>) -> Result<(), TryRecvError> {
        let message = if !self.is_idle() {
            inbox.try_recv()?
        } else if !self.leaving.is_empty() {
            match inbox.recv_timeout(DRAIN_EVERY) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(TryRecvError::Disconnected),
            }
        } else {
            let message = inbox.recv().map_err(|_| TryRecvError::Disconnected)?;
            self.line.restart(Instant::now(), &self.stats);
            message
        };
        match message {
            Message::Job(job) => self.take(job.0, job.1),
            Message::Embed(embed) => self.take_embed(*embed),
            Message::Load { name, folder, reply } => {
                let _ = reply.send(self.load_adapter(&name, folder));
            }
            Message::Unload { name, reply } => self.unload_adapter(&name, reply),
        }
        Ok(())
    }

    fn take(&mut self, ticket: Ticket, ready: Result<Ready, EngineError>) {
        let ready = match ready {
            Ok(ready) => {
                let number = ticket.number;
                let after = ticket.submitted.saturating_duration_since(self.began).as_millis();
                let rank = i64::try_from(after)
                    .unwrap_or(i64::MAX)
                    .saturating_add(i64::from(ticket.job.priority) * PRIORITY_MS);
                let salt = Salt {
                    adapter: ticket.served.adapter.as_ref().map_or(0, |it| it.id),
                    images: ready.pictures.iter().map(|it| it.mark).collect(),
                };
                let tokens = ready.tokens.clone();
                self.batcher.add(Order { rank, number }, tokens, salt);
                ready
            }
            Err(error) => {
                let Ticket { events, place, counted, .. } = ticket;
                drop((place, counted));
                let _ = events.send(Event::Failed(error));
                return;
            }
        };
        let number = ticket.number;
        let generation = Generation::new(ticket, ready, &self.prompter, self.context);
        self.jobs.insert(number, generation);
    }

    /// Ends jobs that nobody waits for, and those that are late.
    fn sweep(&mut self) {
        let now = Instant::now();
        let given_up = |it: &Generation| it.ticket.is_given_up();
        let over: Vec<(u64, bool)> = self
            .jobs
            .iter()
            .filter(|(_, it)| given_up(it) || it.ticket.is_late(now))
            .map(|(number, it)| (*number, given_up(it)))
            .collect();
        for (number, given_up) in over {
            let late = || EngineError::DeadlineExceeded.into();
            self.end(number, if given_up { End::GivenUp } else { late() });
        }
    }

    /// A job is over: its blocks are free, and its last event is sent.
    fn end(&mut self, number: u64, end: End) {
        self.batcher.remove(number);
        self.model.forget(number);
        let Some(job) = self.jobs.remove(&number) else { return };
        if job.was_admitted() {
            // An error of the device shows in the outcome; the reading is worth having all the same.
            let _ = self.device.synchronize();
            self.gpu.emit(&job.ticket.job.span, GpuPhase::After);
        }
        match end {
            End::Finished(reason) => job.finish(reason),
            End::Failed(error) => job.fail(error),
            End::GivenUp => {}
        }
    }
}

/// How a job ended.
enum End {
    Finished(FinishReason),
    Failed(EngineError),
    /// Nobody listens any more.
    GivenUp,
}

impl From<EngineError> for End {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text.lines().next().unwrap_or_default().to_owned()
}
