//! The callers' side of the queue.

mod embed;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::{
    Semaphore,
    mpsc::{UnboundedReceiver, unbounded_channel},
    oneshot,
};
use tracing::Span;

pub use self::embed::{EmbedError, EmbedInput, EmbedRequest, Embeddings};
use crate::{
    config::Config,
    error::{AdapterChangeError, LoadError, SubmitError},
    events::{self, AdapterProblem},
    gpu::GpuSummary,
    job::{Event, Job, Part, Prompt},
    prompt::Prompter,
    scheduler::{
        Message, Place, Registry, Scheduler, Served, SharedStats, Stats, Ticket, panic_text,
    },
    text::TextError,
};

/// Longer than any name that people give; names stand in every record of their jobs.
const ADAPTER_NAME_BYTES_MAX: usize = 128;

/// A model or an adapter that jobs can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedModel {
    pub name: String,
    /// The model that it is an adapter of.
    pub parent: Option<String>,
    /// It takes images.
    pub vision: bool,
    /// How many tokens prompt and answer may have together.
    pub context: usize,
    pub family: &'static str,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
}

/// An engine that is ready. Dropping it lets queued jobs finish, without waiting for them.
pub struct Engine {
    handle: EngineHandle,
    thread: Option<JoinHandle<()>>,
}

/// What many parts of a program can hold of one engine.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Arc<Registry>,
    /// Of the model and all of its adapters.
    prompter: Arc<Prompter>,
    stats: Arc<SharedStats>,
    device: String,
    gpu: GpuSummary,
    adapter_fallback: bool,
    capacity: usize,
    waiting: Arc<AtomicUsize>,
    /// How many requests for embeddings have a place.
    embedding: Arc<AtomicUsize>,
    embedding_size: usize,
    /// Permits to make tokens of texts of which vectors are wanted.
    encoders: Arc<Semaphore>,
    /// How many tokens the model knows.
    vocabulary: usize,
    submitted: AtomicU64,
    /// Held by the engine's thread for as long as it runs.
    thread: Weak<()>,
    /// Nothing once the engine is shutting down: its threads end when these are gone.
    inlets: RwLock<Option<Inlets>>,
}

/// Both are unbounded by type: a job or an embedding has its place first, and operators wait for their answers.
struct Inlets {
    tickets: Sender<Ticket>,
    messages: Sender<Message>,
}

/// What the engine thread says when it is ready.
struct Ready {
    registry: Arc<Registry>,
    prompter: Arc<Prompter>,
    stats: Arc<SharedStats>,
    device: String,
    gpu: GpuSummary,
    embedding_size: usize,
    vocabulary: usize,
}

/// Starts the engine thread, loads everything there, and returns once jobs can run.
pub fn start(config: Config) -> Result<Engine, LoadError> {
    launch(config, Scheduler::load)
}

/// Starts the engine thread, on which `load` makes what runs there.
pub(crate) fn launch(
    config: Config,
    load: impl FnOnce(&Config) -> Result<Scheduler, LoadError> + Send + 'static,
) -> Result<Engine, LoadError> {
    let capacity = config.queue.max(1);
    let adapter_fallback = config.adapter_fallback;
    let (tickets, queue) = mpsc::channel();
    let (messages, inbox) = mpsc::channel();
    let (report, ready) = mpsc::sync_channel(1);
    let prepared = messages.clone();
    let runs = Arc::new(());
    let running = Arc::downgrade(&runs);

    // The device is opened, used and dropped on this one thread: CUDA streams belong to threads.
    let thread = thread::Builder::new()
        .name("engine-0".to_owned())
        .spawn(move || {
            let _runs = runs;
            // candle panics over some checkpoints that it can't load.
            let scheduler = catch_unwind(AssertUnwindSafe(|| load(&config)))
                .unwrap_or_else(|panic| Err(LoadError::Weights(panic_text(panic.as_ref()))));
            let started = scheduler.and_then(|scheduler| {
                let reader = scheduler.reader().start(queue, prepared)?;
                Ok((scheduler, reader))
            });
            let (scheduler, reader) = match started {
                Ok(started) => started,
                Err(error) => {
                    let _ = report.send(Err(error));
                    return;
                }
            };
            let _ = report.send(Ok(Ready {
                registry: scheduler.registry(),
                prompter: scheduler.prompter(),
                stats: scheduler.stats(),
                device: scheduler.device_name(),
                gpu: scheduler.gpu_summary(),
                embedding_size: scheduler.embedding_size(),
                vocabulary: scheduler.vocabulary(),
            }));
            scheduler.serve(&inbox);
            let _ = reader.join();
        })
        .map_err(|error| LoadError::Thread(error.to_string()))?;

    let ready = ready
        .recv()
        .map_err(|_| LoadError::Thread("it ended while it was loading".to_owned()))??;
    let shared = Shared {
        registry: ready.registry,
        prompter: ready.prompter,
        stats: ready.stats,
        device: ready.device,
        gpu: ready.gpu,
        adapter_fallback,
        capacity,
        waiting: Arc::new(AtomicUsize::new(0)),
        embedding: Arc::new(AtomicUsize::new(0)),
        embedding_size: ready.embedding_size,
        encoders: Arc::new(Semaphore::new(embed::ENCODERS)),
        vocabulary: ready.vocabulary,
        submitted: AtomicU64::new(0),
        thread: running,
        inlets: RwLock::new(Some(Inlets { tickets, messages })),
    };
    Ok(Engine { handle: EngineHandle { shared: Arc::new(shared) }, thread: Some(thread) })
}

impl Engine {
    /// See [`EngineHandle::models`].
    pub fn models(&self) -> Arc<[ServedModel]> {
        self.handle.models()
    }

    pub fn model(&self, name: &str) -> Option<ServedModel> {
        self.handle.model(name)
    }

    /// See [`EngineHandle::submit`].
    pub fn submit(&self, job: Job) -> Result<UnboundedReceiver<Event>, SubmitError> {
        self.handle.submit(job)
    }

    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// `cpu` or `cuda:0`.
    pub fn device_name(&self) -> &str {
        self.handle.device_name()
    }

    /// What NVML found, for one line at the start.
    pub fn gpu_summary(&self) -> GpuSummary {
        self.handle.shared.gpu.clone()
    }

    /// Takes no more jobs, finishes the running and the queued ones, and waits for the thread. Dropping the receivers
    /// of jobs makes that quick.
    pub fn shutdown(mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // Jobs' panics are caught; one of the thread's own has been told by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl EngineHandle {
    /// What is served now: the model first, then its adapters.
    pub fn models(&self) -> Arc<[ServedModel]> {
        self.shared.registry.models()
    }

    pub fn model(&self, name: &str) -> Option<ServedModel> {
        self.shared.registry.find(name).map(|it| it.model.clone())
    }

    /// What makes tokens for a model.
    pub(crate) fn prompter(&self, model: &str) -> Result<&Prompter, TextError> {
        match self.shared.registry.find(model) {
            Some(_) => Ok(&self.shared.prompter),
            None => Err(TextError::UnknownModel(model.to_owned())),
        }
    }

    /// Whether the engine's thread is there. It ends after a shutdown, and after a bug in the engine itself.
    pub fn is_running(&self) -> bool {
        self.shared.thread.strong_count() > 0
    }

    /// `cpu` or `cuda:0`.
    pub fn device_name(&self) -> &str {
        &self.shared.device
    }

    /// How many jobs wait to be admitted.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// How many jobs can wait.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// What the engine is doing, as of its last step.
    pub fn stats(&self) -> Stats {
        let stats = self.shared.stats.get();
        // Those that are being read have not arrived at the engine thread yet.
        Stats { waiting: stats.waiting.max(self.waiting()), ..stats }
    }

    /// Hands a job in. It never blocks. Dropping the receiver cancels the job within one step; the channel is
    /// unbounded, because a job can't send more than its context holds, and the engine must not wait for one slow reader.
    pub fn submit(&self, job: Job) -> Result<UnboundedReceiver<Event>, SubmitError> {
        let served = self.resolve(&job.model, job.adapter_requested.as_deref(), &job.span)?;
        let has_image = |part: &Part| matches!(part, Part::Image(_));
        if !served.model.vision
            && let Prompt::Chat { messages, .. } = &*job.prompt
            && messages.iter().any(|message| message.content.iter().any(has_image))
        {
            return Err(SubmitError::NoVision(served.model.name.clone()));
        }
        let shared = &self.shared;
        let inlets = shared.inlets.read().unwrap_or_else(PoisonError::into_inner);
        let inlets = inlets.as_ref().ok_or(SubmitError::ShuttingDown)?;
        let place = Place::take(&shared.waiting, shared.capacity);
        let place = place.ok_or(SubmitError::QueueFull { capacity: shared.capacity })?;
        let (events, receiver) = unbounded_channel();
        let ticket = Ticket {
            job,
            number: shared.submitted.fetch_add(1, Ordering::Relaxed),
            served,
            events,
            submitted: Instant::now(),
            place: Some(place),
        };
        inlets.tickets.send(ticket).map_err(|_| SubmitError::ShuttingDown)?;
        Ok(receiver)
    }

    /// Reads a LoRA adapter in a folder, as `save_pretrained` of PEFT writes it, and serves it under `name` from then on.
    /// Jobs under way stand still while the engine reads it.
    pub async fn load_adapter(
        &self,
        name: &str,
        folder: PathBuf,
    ) -> Result<ServedModel, AdapterChangeError> {
        let is_plain = |it: char| it.is_ascii_alphanumeric() || "._-/:@".contains(it);
        if name.is_empty() || name.len() > ADAPTER_NAME_BYTES_MAX || !name.chars().all(is_plain) {
            return Err(AdapterChangeError::BadName { longest: ADAPTER_NAME_BYTES_MAX });
        }
        let name = name.to_owned();
        self.ask(|reply| Message::Load { name, folder, reply }).await
    }

    /// Serves an adapter no longer. New jobs don't find it from now on; those that were taken finish with it, and then this
    /// returns.
    pub async fn unload_adapter(&self, name: &str) -> Result<(), AdapterChangeError> {
        let name = name.to_owned();
        self.ask(|reply| Message::Unload { name, reply }).await
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, AdapterChangeError>>) -> Message,
    ) -> Result<T, AdapterChangeError> {
        let (reply, answer) = oneshot::channel();
        let sent = {
            let inlets = self.shared.inlets.read().unwrap_or_else(PoisonError::into_inner);
            inlets.as_ref().is_some_and(|it| it.messages.send(message(reply)).is_ok())
        };
        if !sent {
            return Err(AdapterChangeError::ShuttingDown);
        }
        answer.await.unwrap_or(Err(AdapterChangeError::ShuttingDown))
    }

    /// What a job runs on. An adapter that is named beside the model has to be one of its adapters.
    fn resolve(
        &self,
        name: &str,
        adapter: Option<&str>,
        span: &Span,
    ) -> Result<Arc<Served>, SubmitError> {
        let registry = &self.shared.registry;
        let unknown = |name: &str| SubmitError::UnknownModel(name.to_owned());
        let model = registry.find(name).ok_or_else(|| unknown(name))?;
        let Some(requested) = adapter else { return Ok(model) };
        let problem = match registry.find(requested) {
            Some(it) if fits(&it.model, name) => return Ok(it),
            Some(_) => AdapterProblem::Foreign,
            None => AdapterProblem::Unknown,
        };
        if self.shared.adapter_fallback {
            events::lora_fallback(span, requested, &model.model.name, problem);
            return Ok(model);
        }
        events::lora_failed(span, requested, problem);
        Err(unknown(requested))
    }

    fn close(&self) {
        *self.shared.inlets.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn fits(adapter: &ServedModel, model: &str) -> bool {
    adapter.name == model || adapter.parent.as_deref() == Some(model)
}
