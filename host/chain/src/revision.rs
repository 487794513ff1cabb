//! Revisions of the chains: what a configuration made, numbered, and changed while records flow. A request keeps the revision
//! that it began with; a revision ends when the last request that holds it has ended.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use record::Severity;

use crate::{
    chain::{Chain, Spec, Tools},
    edit::Replacer,
    keeper::Keeping,
    output::Output,
};

/// Earlier revisions that can be gone back to. Each holds its compiled plugins and keeps its outputs open.
const HISTORY_MAX: usize = 8;
/// Failures that are further apart say nothing about a change: a poison record now and then is what stubs are for.
const FAILURES_WITHIN: Duration = Duration::from_secs(600);

/// All chains of one configuration.
pub struct Chains {
    /// By name. A record whose chain is not here runs through the default.
    pub chains: BTreeMap<Arc<str>, Spec>,
    pub default: Arc<str>,
    /// Every output of every chain, in the order of the configuration.
    pub outputs: Vec<Arc<Output>>,
    pub replacer: Replacer,
    /// How completions are kept, if they are.
    pub keeping: Option<Keeping>,
    /// Records of a lower severity are not made.
    pub level: Severity,
    /// Records that its editors may fail for before the previous revision comes back by itself; 0 for never.
    pub failures_max: u64,
    /// Editors that the revision before had in the same form: their failures blame no change.
    pub taken_over: BTreeSet<String>,
    /// What the application keeps with them: routes, for example. It lives as long as they do.
    pub kept: Arc<dyn std::any::Any + Send + Sync>,
}

/// Chains with a number, held by every request that began with them.
pub struct Revision {
    number: u64,
    chains: Arc<Chains>,
    /// Instances of each chain that were opened ahead, for the workers to take.
    ready: Mutex<BTreeMap<Arc<str>, Vec<Chain>>>,
}

/// The present revision, those that still have requests, and those that can be gone back to.
pub struct Revisions {
    current: RwLock<Arc<Revision>>,
    /// Number of the lowest severity that any revision with requests makes records of.
    level: AtomicU8,
    state: Mutex<State>,
}

struct State {
    last: u64,
    /// The latest is at the back.
    history: VecDeque<(u64, Arc<Chains>)>,
    live: BTreeMap<u64, Weak<Revision>>,
    /// Records for which an editor of the present revision failed, and since when they are counted.
    failures: u64,
    failing_since: Instant,
}

/// A change that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revised {
    pub number: u64,
    /// The revision that was there before.
    pub previous: u64,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Installed,
    Rollback,
    AutomaticRollback,
}

impl fmt::Display for Revised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, previous, reason } = self;
        let why = match reason {
            Reason::Installed => "",
            Reason::Rollback => ", as an earlier one was asked for",
            Reason::AutomaticRollback => ", an earlier one, since editors kept failing",
        };
        write!(f, "revision {number} of the log is in force{why} (before: {previous})")
    }
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Rollback => "rollback",
            Self::AutomaticRollback => "automatic_rollback",
        }
    }
}

/// There is no earlier revision to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no earlier revision: the chains have not been changed since the start, or were brought back already"
)]
pub struct NoEarlier;

impl Chains {
    /// An instance of one of them.
    pub(crate) fn open(&self, name: &Arc<str>, tools: Tools) -> Chain {
        let chain = Chain::new(&self.chains[name], tools);
        match &self.keeping {
            Some(it) => chain.with_keeper(it.keeper.clone()),
            None => chain,
        }
    }
}

impl Revision {
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn chains(&self) -> &Arc<Chains> {
        &self.chains
    }

    pub(crate) fn default_chain(&self) -> Arc<str> {
        self.chains.default.clone()
    }

    /// An instance of a chain, opened ahead if there is one.
    pub(crate) fn open(&self, chain: &Arc<str>, tools: Tools) -> Chain {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let warm = ready.get_mut(chain).and_then(Vec::pop);
        warm.unwrap_or_else(|| self.chains.open(chain, tools))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revision").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Revisions {
    /// The first revision has the number 1.
    pub(crate) fn new(chains: Chains, ready: BTreeMap<Arc<str>, Vec<Chain>>) -> Self {
        let first =
            Arc::new(Revision { number: 1, chains: Arc::new(chains), ready: Mutex::new(ready) });
        let live = BTreeMap::from([(1, Arc::downgrade(&first))]);
        let state = State {
            last: 1,
            history: VecDeque::new(),
            live,
            failures: 0,
            failing_since: Instant::now(),
        };
        let level = AtomicU8::new(first.chains.level.number());
        Self { current: RwLock::new(first), level, state: Mutex::new(state) }
    }

    /// The lowest severity that any revision makes records of.
    pub(crate) fn level(&self) -> Severity {
        Severity::from_number(self.level.load(Relaxed))
    }

    /// The revision that a request which begins now is given.
    pub fn current(&self) -> Arc<Revision> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A revision that is current, or has requests, or was current a moment ago.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<Revision>> {
        let current = self.current();
        if current.number == number {
            return Some(current);
        }
        let mut state = self.state();
        if let Some(it) = state.live.get(&number).and_then(Weak::upgrade) {
            return Some(it);
        }
        // Between the choice of a chain and the first record of its request, the last holder may have gone.
        let (_, chains) = state.history.iter().find(|(it, _)| *it == number)?;
        let revision =
            Arc::new(Revision { number, chains: chains.clone(), ready: Mutex::default() });
        state.live.insert(number, Arc::downgrade(&revision));
        Some(revision)
    }

    /// Whether records may still come for a revision.
    pub(crate) fn is_live(&self, number: u64) -> bool {
        self.state().live.get(&number).is_some_and(|it| it.strong_count() > 0)
    }

    /// Follows the end of revisions that made more records. The answer says whether the level has changed.
    pub(crate) fn settle_level(&self) -> bool {
        let live: Vec<Arc<Revision>> =
            self.state().live.values().filter_map(Weak::upgrade).collect();
        let level = live.iter().map(|it| it.chains.level).min();
        level.is_some_and(|it| self.level.swap(it.number(), Relaxed) != it.number())
    }

    /// Numbers of the revisions that can be gone back to, the latest first.
    pub fn history(&self) -> Vec<u64> {
        self.state().history.iter().rev().map(|(number, _)| *number).collect()
    }

    /// Numbers of the revisions that requests hold, the present one among them.
    pub fn live(&self) -> Vec<u64> {
        let state = self.state();
        let live = state.live.iter().filter(|(_, it)| it.strong_count() > 0);
        live.map(|(number, _)| *number).collect()
    }

    pub(crate) fn install(
        &self,
        chains: Arc<Chains>,
        ready: BTreeMap<Arc<str>, Vec<Chain>>,
    ) -> Revised {
        let mut state = self.state();
        let before = self.current();
        state.history.push_back((before.number, before.chains.clone()));
        if state.history.len() > HISTORY_MAX {
            state.history.pop_front();
        }
        let (revised, old) = self.replace(&mut state, chains, ready, Reason::Installed);
        drop(state);
        drop(old);
        revised
    }

    pub(crate) fn rollback(&self) -> Result<Revised, NoEarlier> {
        let mut state = self.state();
        let (_, chains) = state.history.pop_back().ok_or(NoEarlier)?;
        let (revised, old) = self.replace(&mut state, chains, BTreeMap::new(), Reason::Rollback);
        drop(state);
        drop(old);
        Ok(revised)
    }

    /// Counts records that editors of a revision failed for. Over its limit, the revision before comes back.
    pub(crate) fn failed(&self, number: u64, records: u64) -> Option<Revised> {
        let mut state = self.state();
        let current = self.current();
        let max = current.chains.failures_max;
        if current.number != number || max == 0 {
            return None;
        }
        if state.failing_since.elapsed() > FAILURES_WITHIN {
            state.failures = 0;
        }
        if state.failures == 0 {
            state.failing_since = Instant::now();
        }
        state.failures += records;
        if state.failures < max {
            return None;
        }
        let (_, chains) = state.history.pop_back()?;
        let (revised, old) =
            self.replace(&mut state, chains, BTreeMap::new(), Reason::AutomaticRollback);
        drop(state);
        drop(old);
        Some(revised)
    }

    /// The old revision comes back as well: dropping instances takes time, and no lock is held for that.
    fn replace(
        &self,
        state: &mut State,
        chains: Arc<Chains>,
        ready: BTreeMap<Arc<str>, Vec<Chain>>,
        reason: Reason,
    ) -> (Revised, Arc<Revision>) {
        state.last += 1;
        state.failures = 0;
        let number = state.last;
        let next = Arc::new(Revision { number, chains, ready: Mutex::new(ready) });
        state.live.retain(|_, it| it.strong_count() > 0);
        let live = state.live.values().filter_map(Weak::upgrade);
        let level = live.map(|it| it.chains.level).fold(next.chains.level, Ord::min);
        self.level.store(level.number(), Relaxed);
        state.live.insert(number, Arc::downgrade(&next));
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, next);
        (Revised { number, previous: old.number, reason }, old)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
