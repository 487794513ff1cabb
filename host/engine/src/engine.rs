//! The callers' side of the queue.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    config::Config,
    error::{LoadError, SubmitError},
    events,
    gpu::GpuSummary,
    job::{Event, Job, Part},
    worker::{Queued, Worker, panic_text},
};

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
    models: Vec<ServedModel>,
    device: String,
    gpu: GpuSummary,
    capacity: usize,
    /// Nothing once the engine is shutting down: the queue closes when its only sender is gone.
    jobs: RwLock<Option<SyncSender<Queued>>>,
    waiting: Arc<AtomicUsize>,
}

/// What the engine thread says when it is ready.
struct Ready {
    models: Vec<ServedModel>,
    device: String,
    gpu: GpuSummary,
}

/// Starts the engine thread, loads everything there, and returns once jobs can run.
pub fn start(config: Config) -> Result<Engine, LoadError> {
    let capacity = config.queue.max(1);
    let (jobs, queue) = mpsc::sync_channel::<Queued>(capacity);
    let (report, ready) = mpsc::sync_channel(1);
    let waiting = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&waiting);

    // The device is opened, used and dropped on this one thread: CUDA streams belong to threads.
    let thread = thread::Builder::new()
        .name("engine-0".to_owned())
        .spawn(move || {
            // candle panics over some checkpoints that it can't load.
            let worker = catch_unwind(AssertUnwindSafe(|| Worker::load(&config)))
                .unwrap_or_else(|panic| Err(LoadError::Weights(panic_text(panic.as_ref()))));
            let worker = match worker {
                Ok(worker) => worker,
                Err(error) => {
                    let _ = report.send(Err(error));
                    return;
                }
            };
            let _ = report.send(Ok(Ready {
                models: worker.served(),
                device: worker.device_name(),
                gpu: worker.gpu_summary(),
            }));
            worker.serve(&queue, &counter);
        })
        .map_err(|error| LoadError::Thread(error.to_string()))?;

    let ready = ready
        .recv()
        .map_err(|_| LoadError::Thread("it ended while it was loading".to_owned()))??;
    let shared = Shared {
        models: ready.models,
        device: ready.device,
        gpu: ready.gpu,
        capacity,
        jobs: RwLock::new(Some(jobs)),
        waiting,
    };
    Ok(Engine { handle: EngineHandle { shared: Arc::new(shared) }, thread: Some(thread) })
}

impl Engine {
    /// The model first, then its adapters.
    pub fn models(&self) -> &[ServedModel] {
        self.handle.models()
    }

    pub fn model(&self, name: &str) -> Option<&ServedModel> {
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
    /// The model first, then its adapters.
    pub fn models(&self) -> &[ServedModel] {
        &self.shared.models
    }

    pub fn model(&self, name: &str) -> Option<&ServedModel> {
        self.shared.models.iter().find(|model| model.name == name)
    }

    /// `cpu` or `cuda:0`.
    pub fn device_name(&self) -> &str {
        &self.shared.device
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// How many jobs can wait.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// Hands a job in. It never blocks. Dropping the receiver cancels the job within one step; the channel is
    /// unbounded, because a job can't send more than its context holds, and the engine must not wait for one slow reader.
    pub fn submit(&self, job: Job) -> Result<UnboundedReceiver<Event>, SubmitError> {
        let model = self.resolve(&job)?;
        let has_image = |part: &Part| matches!(part, Part::Image(_));
        let served = &self.shared.models[model];
        if !served.vision
            && job.messages.iter().any(|message| message.content.iter().any(has_image))
        {
            return Err(SubmitError::NoVision(served.name.clone()));
        }

        let (events, receiver) = unbounded_channel();
        let queued = Queued { job, model, events, submitted: Instant::now() };
        let jobs = self.shared.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let jobs = jobs.as_ref().ok_or(SubmitError::ShuttingDown)?;
        // Before the job is in the queue: the engine may take it out and count down at once.
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        jobs.try_send(queued).map_err(|error| {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => SubmitError::QueueFull { capacity: self.shared.capacity },
                TrySendError::Disconnected(_) => SubmitError::ShuttingDown,
            }
        })?;
        Ok(receiver)
    }

    /// Index of the model or adapter that a job names. An adapter that is named beside the model has to be one of its
    /// adapters.
    fn resolve(&self, job: &Job) -> Result<usize, SubmitError> {
        let find = |name: &str| self.shared.models.iter().position(|model| model.name == name);
        let model = find(&job.model).ok_or_else(|| SubmitError::UnknownModel(job.model.clone()));
        let Some(requested) = job.adapter_requested.as_deref() else { return model };
        let adapter = find(requested).filter(|index| {
            let adapter = &self.shared.models[*index];
            adapter.name == job.model || adapter.parent.as_deref() == Some(&job.model)
        });
        adapter.ok_or_else(|| {
            events::lora_failed(&job.span, requested);
            SubmitError::UnknownModel(requested.to_owned())
        })
    }

    fn close(&self) {
        *self.shared.jobs.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
