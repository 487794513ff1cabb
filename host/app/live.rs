//! The log of a running server: the revision that is in force, and its change while requests are served. A change is prepared
//! aside; it is taken over whole, or refused with everything as it was.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use chain::{Drained, NoEarlier, Pipeline, Plan, Revised};
use plugin::Runtime;

use crate::{
    assemble,
    clock::SystemClock,
    config::{self, Config, Problem, Problems, Source},
    env::Vars,
    levels::Levels,
    load::Invalid,
    outputs::Outputs,
    plugins::Plugins,
    replay,
    revision::Kept,
    stored, welcome,
};

/// Reads the configuration again, with what was typed on the command line.
pub type Read = Box<dyn Fn() -> Result<(Config, Vars), Invalid> + Send + Sync>;

/// The running log of a server.
pub struct Live {
    pub pipeline: Pipeline,
    pub levels: Levels,
    runtime: Runtime,
    read: Read,
    /// Stays until the end, whatever the configuration says meanwhile.
    store: Option<Arc<store::Store>>,
    /// What the program was started with: some of it stays until the next start.
    started_with: Arc<Config>,
    /// One change at a time.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was wrong with the last change, if it was refused: told once.
    refused: Option<String>,
    /// Fingerprint of the last change that was taken over, whether or not it was taken back since.
    installed: Option<String>,
    /// Components that the last configuration named, be it in force or not.
    tried: Vec<PathBuf>,
    /// Alert channels of revisions that may still have requests.
    alerts: Vec<Weak<sink::Webhooks>>,
}

/// What became of a wish to change the log.
#[derive(Debug)]
pub enum Change {
    /// Neither the configuration nor a component has changed.
    Same,
    Revised {
        revised: Revised,
        /// Keys that have changed as well and take effect at the next start.
        at_next_start: Vec<&'static str>,
    },
}

impl Live {
    /// Opens the outputs and starts the log.
    ///
    /// # Errors
    /// Every problem of the configuration's plugins and outputs.
    pub fn start(
        config: Config,
        vars: &Vars,
        runtime: &Runtime,
        alerts: Arc<sink::Webhooks>,
        read: Read,
    ) -> Result<Self, Problems> {
        let runtime = runtime.with_alerts(alerts.clone());
        let plugins = Plugins::load(&config, &runtime, &Plugins::default())?;
        let outputs = Outputs::open(&config, vars, &Outputs::default())?;
        let store = stored::open(&config)?;
        let (workers, queue) = (config.log.workers, config.log.queue);
        let kept = Kept::new(config, plugins, outputs, alerts);
        let started_with = kept.config.clone();
        let chains = assemble::chains(kept, store.as_ref());
        let plan = Plan { chains, clock: Arc::new(SystemClock::new()), workers, queue };
        let pipeline = Pipeline::start(plan).map_err(|error| {
            problem("log.workers", format!("a thread cannot be started: {error}"))
        })?;
        let (levels, state) = (Levels::default(), Mutex::default());
        Ok(Self { pipeline, levels, runtime, read, store, started_with, state })
    }

    /// What the revision in force was made of.
    #[expect(clippy::missing_panics_doc, reason = "every revision is made in this file, of a Kept")]
    pub fn kept(&self) -> Arc<Kept> {
        Kept::of(&self.pipeline.revisions().current()).expect("a revision of this program")
    }

    /// Where completions are stored, if they are.
    pub fn store(&self) -> Option<&Arc<store::Store>> {
        self.store.as_ref()
    }

    /// Compiled components on disk.
    pub fn cache(&self) -> Option<plugin::CacheCounts> {
        self.runtime.cache().map(plugin::Cache::counts)
    }

    /// Files whose change may change the log: the components and their fixtures.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = components(&self.kept().config);
        files.extend(self.state().tried.iter().cloned());
        files.into_iter().flat_map(|it| [it.with_extension("fixtures.jsonl"), it]).collect()
    }

    /// As [`Live::reload`], after a file has changed: what was taken back stays so until its files say something else.
    ///
    /// # Errors
    /// As [`Live::reload`].
    pub fn follow(&self) -> Result<Change, Problems> {
        self.change(false)
    }

    /// Reads the configuration and every component again, and puts what they say in force.
    ///
    /// # Errors
    /// Every problem at once; everything is then as it was. Each is logged (`chain.refused`), the same ones once.
    pub fn reload(&self) -> Result<Change, Problems> {
        self.change(true)
    }

    fn change(&self, again: bool) -> Result<Change, Problems> {
        let mut state = self.state();
        match self.try_change(&mut state, again) {
            Ok(it) => {
                state.refused = None;
                Ok(it)
            }
            Err(problems) => {
                let told: Vec<String> = problems.0.iter().map(Problem::to_string).collect();
                let told = told.join("; ");
                if state.refused.as_ref() != Some(&told) {
                    self.pipeline.refuse(&format!("the log was not changed: {told}"));
                    state.refused = Some(told);
                }
                Err(problems)
            }
        }
    }

    fn try_change(&self, state: &mut State, again: bool) -> Result<Change, Problems> {
        let (config, vars) = (self.read)().map_err(|it| it.problems)?;
        state.tried = components(&config);
        let now = self.kept();
        let alerts = if config.alerts == now.config.alerts {
            now.alerts.clone()
        } else {
            state.alerts.retain(|it| it.strong_count() > 0);
            state.alerts.push(Arc::downgrade(&now.alerts));
            let started = sink::Webhooks::start(config.alerts.clone());
            Arc::new(started.map_err(|it| problem("alerts", it.to_string()))?)
        };
        let runtime = self.runtime.with_alerts(alerts.clone());
        let plugins = Plugins::load(&config, &runtime, &now.plugins)?;
        let outputs = Outputs::open(&config, &vars, &now.outputs)?;
        let next = Kept::new(config, plugins, outputs, alerts);
        if next.fingerprint == now.fingerprint {
            state.installed = Some(next.fingerprint);
            return Ok(Change::Same);
        }
        if !again && state.installed.as_ref() == Some(&next.fingerprint) {
            // It was in force, and was taken back.
            return Ok(Change::Same);
        }
        replay::require(&now, &next)?;
        let at_next_start = self.started_with.restart_keys(&next.config);
        state.installed = Some(next.fingerprint.clone());
        let revised = self.pipeline.install(assemble::chains(next, self.store.as_ref()));
        if !at_next_start.is_empty() {
            tracing::warn!(
                target: chain::TARGET,
                event = "chain.revised",
                bucksaw.notice = format!("{} will change at the next start", at_next_start.join(", "))
            );
        }
        Ok(Change::Revised { revised, at_next_start })
    }

    /// Goes back to the revision before the one in force.
    ///
    /// # Errors
    /// When there is none.
    pub fn rollback(&self) -> Result<Revised, NoEarlier> {
        let _one = self.state();
        self.pipeline.rollback()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what was logged through its chains, writes it, and posts the alerts that wait, before the deadline.
    pub fn shutdown(&self, deadline: Instant) -> Drained {
        let drained = self.pipeline.shutdown(deadline);
        if let Some(store) = self.store.as_ref().filter(|it| !it.close(deadline)) {
            // The log has ended: standard error is what is left.
            welcome::unfinished_store(store.counts());
        }
        self.kept().alerts.close(deadline);
        let earlier = std::mem::take(&mut self.state().alerts);
        earlier.iter().filter_map(Weak::upgrade).for_each(|it| it.close(deadline));
        drained
    }
}

/// The files of components that a configuration names.
fn components(config: &Config) -> Vec<PathBuf> {
    let file = |it: &config::Plugin| match &it.source {
        Source::File(path) => Some(path.clone()),
        Source::Builtin(_) => None,
    };
    config.plugins.iter().filter_map(file).collect()
}

fn problem(key: &str, message: impl Into<String>) -> Problems {
    Problems(vec![Problem { key: key.to_owned(), message: message.into() }])
}
