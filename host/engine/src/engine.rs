//! The callers' side of the queues.
//!
//! - `member` is one engine with its thread; `fleet` is all of them, and says which one a job goes to.
//! - `adapters` changes what they serve; `embed` has texts made into vectors.

mod adapters;
mod embed;
mod fleet;
mod member;

use std::{sync::Arc, thread::JoinHandle};

use tokio::sync::mpsc::UnboundedReceiver;

pub use self::embed::{EmbedError, EmbedInput, EmbedRequest, Embeddings};
use self::{
    fleet::Fleet,
    member::{Member, Starting},
};
use crate::{
    config::Config,
    error::{LoadError, SubmitError},
    gpu::GpuSummary,
    job::{Event, Job},
    prompt::Prompter,
    scheduler::{Scheduler, Stats},
    text::TextError,
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

/// One engine of several, at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineState {
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Whether its thread is there.
    pub running: bool,
    pub stats: Stats,
}

/// Engines that are ready, one for each device, behind one handle. Dropping it lets queued jobs finish, without waiting for them.
pub struct Engine {
    handle: EngineHandle,
    threads: Vec<JoinHandle<()>>,
}

/// What many parts of a program can hold of the engines.
#[derive(Clone)]
pub struct EngineHandle {
    fleet: Arc<Fleet>,
}

/// Starts a thread for each device, loads everything there, and returns once jobs can run.
///
/// # Errors
/// When one of them cannot load; the others end then.
pub fn start(config: Config) -> Result<Engine, LoadError> {
    let load = |number: usize| move |config: &Config| Scheduler::load(config, number);
    let loads = (0..config.devices.len()).map(load).collect();
    launch(config, loads)
}

/// Starts an engine for each of `loads`, which make what runs on the threads.
pub(crate) fn launch<L>(config: Config, loads: Vec<L>) -> Result<Engine, LoadError>
where
    L: FnOnce(&Config) -> Result<Scheduler, LoadError> + Send + 'static,
{
    let config = Arc::new(config);
    let mut starting = loads
        .into_iter()
        .enumerate()
        .map(|(at, load)| Starting::new(at, Arc::clone(&config), load));
    let first = starting.next();
    let first = first.ok_or_else(|| LoadError::Device("none is configured".to_owned()))??;
    // It fetches what is not there yet; the others find it, and read at once.
    let mut started: Vec<(Member, JoinHandle<()>)> = vec![first.wait()?];
    let others = starting.collect::<Result<Vec<_>, _>>()?;
    for it in others {
        started.push(it.wait()?);
    }
    let (members, threads) = started.into_iter().unzip();
    let fleet = Arc::new(Fleet::new(members, config.adapter_fallback));
    Ok(Engine { handle: EngineHandle { fleet }, threads })
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

    /// `cpu` or `cuda:0`; of several engines `cuda:0, cuda:1`.
    pub fn device_name(&self) -> String {
        self.handle.device_name()
    }

    /// What was found of GPUs, for one line at the start.
    pub fn gpu_summary(&self) -> GpuSummary {
        let found = self.handle.fleet.members.iter().map(|it| it.gpu.clone());
        found.reduce(GpuSummary::and).unwrap_or_default()
    }

    /// Takes no more jobs, finishes the running and the queued ones, and waits for the threads. Dropping the receivers
    /// of jobs makes that quick.
    pub fn shutdown(mut self) {
        self.handle.close();
        for thread in self.threads.drain(..) {
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
        self.fleet.models()
    }

    pub fn model(&self, name: &str) -> Option<ServedModel> {
        self.models().iter().find(|it| it.name == name).cloned()
    }

    /// What makes tokens for a model.
    pub(crate) fn prompter(&self, model: &str) -> Result<&Prompter, TextError> {
        let unknown = || TextError::UnknownModel(model.to_owned());
        // Every engine has the same one.
        let member = self.fleet.members.first().ok_or_else(unknown)?;
        self.model(model).map(|_| &*member.prompter).ok_or_else(unknown)
    }

    /// Whether an engine's thread is there. Each ends after a shutdown, and after a bug in the engine itself.
    pub fn is_running(&self) -> bool {
        self.fleet.members.iter().any(Member::is_running)
    }

    /// Every engine, in the order of the configuration.
    pub fn engines(&self) -> Vec<EngineState> {
        let state = |it: &Member| EngineState {
            device: it.device.clone(),
            running: it.is_running(),
            stats: it.stats(),
        };
        self.fleet.members.iter().map(state).collect()
    }

    /// `cpu` or `cuda:0`; of several engines `cuda:0, cuda:1`.
    pub fn device_name(&self) -> String {
        let names: Vec<&str> = self.fleet.members.iter().map(|it| it.device.as_str()).collect();
        names.join(", ")
    }

    /// How many jobs wait to be admitted, at all engines.
    pub fn waiting(&self) -> usize {
        self.fleet.members.iter().map(Member::waiting).sum()
    }

    /// How many jobs can wait, at all engines that are there.
    pub fn capacity(&self) -> usize {
        let running = self.fleet.members.iter().filter(|it| it.is_running());
        running.map(|it| it.capacity).sum()
    }

    /// What the engines are doing, as of their last steps.
    pub fn stats(&self) -> Stats {
        self.fleet.members.iter().map(Member::stats).fold(Stats::default(), Stats::and)
    }

    /// Hands a job in. It never blocks. Dropping the receiver cancels the job within one step; the channel is
    /// unbounded, because a job can't send more than its context holds, and the engine must not wait for one slow reader.
    pub fn submit(&self, job: Job) -> Result<UnboundedReceiver<Event>, SubmitError> {
        self.fleet.submit(job)
    }

    fn close(&self) {
        self.fleet.members.iter().for_each(Member::close);
    }
}
