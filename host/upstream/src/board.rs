//! What is known of each upstream at this moment, and the choice of one for a request.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::Value;

use crate::{
    breaker::{Breaker, Shift, Why},
    config::Upstream,
    error::Failure,
    events,
};

pub(crate) struct Board {
    pub(crate) members: Vec<Member>,
    state: Mutex<State>,
}

/// What does not change.
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) settings: Upstream,
    /// With connections of its own: one upstream's trouble must not take another's.
    pub(crate) client: Client,
    pub(crate) attempts: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) ejections: AtomicU64,
}

struct State {
    standings: Vec<Standing>,
    /// Where the search begins, so that equals take turns.
    turn: usize,
}

struct Standing {
    breaker: Breaker,
    in_flight: usize,
    /// The models that it lists; none before it was asked.
    listed: Option<Vec<Listed>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: String,
    /// As the upstream describes it.
    pub(crate) about: Value,
}

impl Board {
    pub(crate) fn new(members: Vec<Member>) -> Self {
        let standing = || Standing { breaker: Breaker::new(), in_flight: 0, listed: None };
        let standings = members.iter().map(|_| standing()).collect();
        Self { members, state: Mutex::new(State { standings, turn: 0 }) }
    }

    /// Nothing that holds it can panic half-way: what is there is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upstream with the fewest requests among those that serve the model and were not `tried` yet.
    pub(crate) fn choose(
        self: &Arc<Self>,
        model: Option<&str>,
        tried: &[usize],
    ) -> Result<Seat, Failure> {
        let now = Instant::now();
        let mut state = self.state();
        let candidates = self.candidates(&state, model);
        if candidates.is_empty() {
            let model = model.unwrap_or_default().to_owned();
            let known = self.known(&state).join(", ");
            return Err(Failure::UnknownModel { model, known });
        }
        let candidates = candidates.into_iter().filter(|it| !tried.contains(it));
        let count = self.members.len();
        let turn = state.turn;
        let mut retry_after = None;
        let mut busy = false;
        let mut best: Option<(usize, usize, usize)> = None;
        for at in candidates {
            let standing = &state.standings[at];
            if let Some(pause) = standing.breaker.left_alone(now) {
                retry_after = Some(retry_after.map_or(pause, |it: Duration| it.min(pause)));
            } else if standing.in_flight >= self.members[at].settings.max_in_flight {
                busy = true;
            } else {
                let key = (standing.in_flight, (at + count - turn % count) % count, at);
                best = Some(best.map_or(key, |it| it.min(key)));
            }
        }
        let Some((_, _, at)) = best else {
            let retry_after = retry_after.unwrap_or(Duration::from_secs(1));
            return Err(if busy { Failure::Busy } else { Failure::NoneUsable { retry_after } });
        };
        state.turn = (at + 1) % count;
        let standing = &mut state.standings[at];
        standing.in_flight += 1;
        let trial = standing.breaker.begin();
        self.members[at].attempts.fetch_add(1, Relaxed);
        Ok(Seat { board: Arc::clone(self), at, trial })
    }

    /// Those that are configured for the model or list it; when nobody does, those that may have it by now, to say so
    /// themselves if they don't.
    fn candidates(&self, state: &State, model: Option<&str>) -> Vec<usize> {
        let all = 0..self.members.len();
        let Some(model) = model else { return all.collect() };
        let serves = |at: &usize| {
            let configured = &self.members[*at].settings.models;
            if configured.is_empty() {
                let listed = state.standings[*at].listed.as_ref();
                listed.is_some_and(|it| it.iter().any(|it| it.id == model))
            } else {
                configured.iter().any(|it| it == model)
            }
        };
        let sure: Vec<usize> = all.clone().filter(serves).collect();
        if !sure.is_empty() {
            return sure;
        }
        all.filter(|at| self.members[*at].settings.models.is_empty()).collect()
    }

    fn known(&self, state: &State) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (member, standing) in self.members.iter().zip(&state.standings) {
            let listed = standing.listed.iter().flatten().map(|it| &it.id);
            let all: Vec<&String> = match member.settings.models.as_slice() {
                [] => listed.collect(),
                configured => configured.iter().collect(),
            };
            for name in all {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        names
    }

    /// Every model once, with what the first upstream that lists it says of it.
    pub(crate) fn models(&self) -> Vec<(String, Option<Value>)> {
        let state = self.state();
        let names = self.known(&state);
        let about = |name: &String| {
            let mut listed = state.standings.iter().flat_map(|it| it.listed.iter().flatten());
            listed.find(|it| it.id == *name).map(|it| it.about.clone())
        };
        names.into_iter().map(|it| (it.clone(), about(&it))).collect()
    }

    pub(crate) fn lists(&self, model: &str) -> bool {
        self.known(&self.state()).iter().any(|it| it == model)
    }

    pub(crate) fn list(&self, at: usize, models: Vec<Listed>) {
        self.state().standings[at].listed = Some(models);
    }

    /// Requests in flight, and whether it is usable.
    pub(crate) fn standing(&self, at: usize) -> (usize, bool) {
        let state = self.state();
        let standing = &state.standings[at];
        (standing.in_flight, standing.breaker.is_usable(Instant::now()))
    }

    pub(crate) fn probed(&self, at: usize, alive: bool) {
        let shift = self.state().standings[at].breaker.probed(alive);
        self.tell(at, shift);
    }

    fn tell(&self, at: usize, shift: Option<Shift>) {
        let Some(shift) = shift else { return };
        let member = &self.members[at];
        if matches!(shift, Shift::Ejected(..)) {
            member.ejections.fetch_add(1, Relaxed);
        }
        events::shifted(&member.name, shift);
    }
}

/// A request's place at an upstream, given back when it is dropped.
pub(crate) struct Seat {
    board: Arc<Board>,
    pub(crate) at: usize,
    /// Until it has said how it went.
    trial: bool,
}

impl Seat {
    pub(crate) fn member(&self) -> &Member {
        &self.board.members[self.at]
    }

    /// The head of an answer has come. A trial has succeeded by that, so that others may follow; whether the upstream can
    /// bring an answer to its end is not known yet.
    pub(crate) fn answered(&mut self) {
        if self.trial {
            self.succeeded();
        }
    }

    pub(crate) fn succeeded(&mut self) {
        let trial = std::mem::take(&mut self.trial);
        let shift = self.board.state().standings[self.at].breaker.succeeded(trial);
        self.board.tell(self.at, shift);
    }

    pub(crate) fn failed(&mut self, why: Why) {
        let trial = std::mem::take(&mut self.trial);
        self.member().failures.fetch_add(1, Relaxed);
        let now = Instant::now();
        let shift = self.board.state().standings[self.at].breaker.failed(trial, why, now);
        self.board.tell(self.at, shift);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.board.state();
        let standing = &mut state.standings[self.at];
        standing.in_flight = standing.in_flight.saturating_sub(1);
        if self.trial {
            standing.breaker.abandoned(Instant::now());
        }
    }
}
