//! One engine of a fleet: a thread that owns a device, and what its callers share with it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::{
    mpsc::{UnboundedReceiver, unbounded_channel},
    oneshot,
};

use crate::{
    config::Config,
    error::{AdapterChangeError, LoadError, SubmitError},
    gpu::GpuSummary,
    job::{Event, Job},
    prompt::Prompter,
    scheduler::{
        Message, Place, Registry, Scheduler, Served, SharedStats, Stats, Ticket, panic_text,
    },
};

/// As many as jobs may wait where nothing else is said. Each holds its tokens and its vectors.
pub(super) const EMBEDS_MAX: usize = 64;

/// A running engine.
pub(super) struct Member {
    pub(super) device: String,
    pub(super) gpu: GpuSummary,
    pub(super) registry: Arc<Registry>,
    /// Of the model and all of its adapters.
    pub(super) prompter: Arc<Prompter>,
    pub(super) embedding_size: usize,
    /// How many tokens the model knows.
    pub(super) vocabulary: usize,
    /// How many jobs can wait.
    pub(super) capacity: usize,
    stats: Arc<SharedStats>,
    waiting: Arc<AtomicUsize>,
    /// Jobs that were taken and have not ended.
    jobs: Arc<AtomicUsize>,
    /// Requests for embeddings that have a place.
    embedding: Arc<AtomicUsize>,
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

/// An engine whose thread loads the model.
pub(super) struct Starting {
    capacity: usize,
    inlets: Inlets,
    running: Weak<()>,
    thread: JoinHandle<()>,
    ready: Receiver<Result<Ready, LoadError>>,
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

impl Starting {
    /// Starts the thread of engine `number`, on which `load` makes what runs there.
    pub(super) fn new(
        number: usize,
        config: Arc<Config>,
        load: impl FnOnce(&Config) -> Result<Scheduler, LoadError> + Send + 'static,
    ) -> Result<Self, LoadError> {
        let capacity = config.queue.max(1);
        let (tickets, queue) = mpsc::channel();
        let (messages, inbox) = mpsc::channel();
        let (report, ready) = mpsc::sync_channel(1);
        let prepared = messages.clone();
        let runs = Arc::new(());
        let running = Arc::downgrade(&runs);

        // The device is opened, used and dropped on this one thread: CUDA streams belong to threads.
        let thread = thread::Builder::new()
            .name(format!("engine-{number}"))
            .spawn(move || {
                let _runs = runs;
                // candle panics over some checkpoints that it can't load.
                let scheduler = catch_unwind(AssertUnwindSafe(|| load(&config)))
                    .unwrap_or_else(|panic| Err(LoadError::Weights(panic_text(panic.as_ref()))));
                let started = scheduler.and_then(|scheduler| {
                    let reader = scheduler.reader().start(number, queue, prepared)?;
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
        Ok(Self { capacity, inlets: Inlets { tickets, messages }, running, thread, ready })
    }

    /// Returns once jobs can run.
    pub(super) fn wait(self) -> Result<(Member, JoinHandle<()>), LoadError> {
        let ready = self
            .ready
            .recv()
            .map_err(|_| LoadError::Thread("it ended while it was loading".to_owned()))??;
        let member = Member {
            device: ready.device,
            gpu: ready.gpu,
            registry: ready.registry,
            prompter: ready.prompter,
            embedding_size: ready.embedding_size,
            vocabulary: ready.vocabulary,
            capacity: self.capacity,
            stats: ready.stats,
            waiting: Arc::new(AtomicUsize::new(0)),
            jobs: Arc::new(AtomicUsize::new(0)),
            embedding: Arc::new(AtomicUsize::new(0)),
            submitted: AtomicU64::new(0),
            thread: self.running,
            inlets: RwLock::new(Some(self.inlets)),
        };
        Ok((member, self.thread))
    }
}

impl Member {
    /// Whether the thread is there. It ends after a shutdown, and after a bug in the engine itself.
    pub(super) fn is_running(&self) -> bool {
        self.thread.strong_count() > 0
    }

    /// How much it has to do: jobs that wait or run, and requests for embeddings.
    pub(super) fn load(&self) -> usize {
        self.jobs.load(Ordering::Relaxed) + self.embedding.load(Ordering::Relaxed)
    }

    /// How many jobs wait to be admitted.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// As of its last step.
    pub(super) fn stats(&self) -> Stats {
        let stats = self.stats.get();
        if !self.is_running() {
            // The numbers of its last step are nobody's any more.
            return Stats { running: 0, waiting: 0, free_blocks: stats.blocks, ..stats };
        }
        // Those that are being read have not arrived at the engine thread yet.
        Stats { waiting: stats.waiting.max(self.waiting()), ..stats }
    }

    /// A place in its queue; none when all are taken.
    pub(super) fn place(&self) -> Option<Place> {
        Place::take(&self.waiting, self.capacity)
    }

    /// A place for a request for embeddings; none when all are taken.
    pub(super) fn embed_place(&self) -> Option<Place> {
        Place::take(&self.embedding, EMBEDS_MAX)
    }

    /// Numbers for so many sequences that no other one has; the first of them.
    pub(super) fn numbers(&self, count: usize) -> u64 {
        self.submitted.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// Takes a job, which has its place.
    pub(super) fn take(
        &self,
        job: Job,
        served: Arc<Served>,
        place: Place,
    ) -> Result<UnboundedReceiver<Event>, SubmitError> {
        let inlets = self.inlets.read().unwrap_or_else(PoisonError::into_inner);
        let inlets = inlets.as_ref().ok_or(SubmitError::ShuttingDown)?;
        let (events, receiver) = unbounded_channel();
        let ticket = Ticket {
            job,
            number: self.numbers(1),
            served,
            events,
            submitted: Instant::now(),
            place: Some(place),
            // Counts only: the place has a bound already.
            counted: Place::take(&self.jobs, usize::MAX),
        };
        inlets.tickets.send(ticket).map_err(|_| SubmitError::ShuttingDown)?;
        Ok(receiver)
    }

    /// Whether the message went out.
    pub(super) fn tell(&self, message: Message) -> bool {
        let inlets = self.inlets.read().unwrap_or_else(PoisonError::into_inner);
        inlets.as_ref().is_some_and(|it| it.messages.send(message).is_ok())
    }

    /// Sends a message at once, and returns what waits for its answer. An engine that is gone answers that it is shutting down.
    pub(super) fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, AdapterChangeError>>) -> Message,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        // What could not be sent is dropped with its sender, which the receiver notices.
        self.tell(message(reply));
        Answer(answer)
    }

    pub(super) fn is_open(&self) -> bool {
        self.inlets.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn close(&self) {
        *self.inlets.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// An answer that an engine owes.
pub(super) struct Answer<T>(oneshot::Receiver<Result<T, AdapterChangeError>>);

impl<T> Answer<T> {
    pub(super) async fn wait(self) -> Result<T, AdapterChangeError> {
        self.0.await.unwrap_or(Err(AdapterChangeError::ShuttingDown))
    }
}
