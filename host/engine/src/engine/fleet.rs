//! Several engines of one model, one for each device, and which of them does what.
//!
//! A job goes to the engine with the least to do; among equals they take turns. Names are looked up in one list for all engines,
//! so that an adapter is there for jobs when every engine has it, and not before.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Mutex, Semaphore, mpsc::UnboundedReceiver};
use tracing::Span;

use super::{ServedModel, member::Member};
use crate::{
    error::SubmitError,
    events::{self, AdapterProblem},
    job::{Event, Job, Part, Prompt},
    scheduler::{Place, Served},
};

/// Requests whose tokens are made at once: a million characters take a second of a core.
const ENCODERS: usize = 2;

/// All engines.
pub(super) struct Fleet {
    /// One at least.
    pub(super) members: Vec<Member>,
    /// Permits to make tokens of texts of which vectors are wanted.
    pub(super) encoders: Arc<Semaphore>,
    /// Held while adapters come and go, so that every engine sees the changes in one order.
    pub(super) changes: Mutex<()>,
    /// What jobs can name.
    models: RwLock<Arc<[ServedModel]>>,
    adapter_fallback: bool,
    /// How many jobs asked which engine is next.
    turn: AtomicUsize,
}

impl Fleet {
    pub(super) fn new(members: Vec<Member>, adapter_fallback: bool) -> Self {
        let models = members.first().map(|it| it.registry.models());
        let models: Arc<[ServedModel]> = models.unwrap_or_else(|| Arc::from(Vec::new()));
        Self {
            members,
            encoders: Arc::new(Semaphore::new(ENCODERS)),
            changes: Mutex::new(()),
            models: RwLock::new(models),
            adapter_fallback,
            turn: AtomicUsize::new(0),
        }
    }

    /// What is served now: the model first, then its adapters.
    pub(super) fn models(&self) -> Arc<[ServedModel]> {
        Arc::clone(&self.models.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Jobs find an adapter that every engine has.
    pub(super) fn publish(&self, model: ServedModel) {
        self.change(|models| models.push(model));
    }

    /// New jobs find an adapter no longer.
    pub(super) fn withdraw(&self, name: &str) {
        self.change(|models| models.retain(|it| it.parent.is_none() || it.name != name));
    }

    /// Hands a job to an engine.
    pub(super) fn submit(&self, job: Job) -> Result<UnboundedReceiver<Event>, SubmitError> {
        let model = self.resolve(&job.model, job.adapter_requested.as_deref(), &job.span)?;
        let has_image = |part: &Part| matches!(part, Part::Image(_));
        if !model.vision
            && let Prompt::Chat { messages, .. } = &*job.prompt
            && messages.iter().any(|message| message.content.iter().any(has_image))
        {
            return Err(SubmitError::NoVision(model.name));
        }
        let (member, place) = self.choose(Member::place, |it| it.capacity)?;
        member.take(job, served(member, &model.name)?, place)
    }

    /// What a job runs on. An adapter that is named beside the model has to be one of its adapters.
    pub(super) fn resolve(
        &self,
        name: &str,
        adapter: Option<&str>,
        span: &Span,
    ) -> Result<ServedModel, SubmitError> {
        let models = self.models();
        let find = |name: &str| models.iter().find(|it| it.name == name);
        let unknown = |name: &str| SubmitError::UnknownModel(name.to_owned());
        let model = find(name).ok_or_else(|| unknown(name))?;
        let Some(requested) = adapter else { return Ok(model.clone()) };
        let problem = match find(requested) {
            Some(it) if fits(it, name) => return Ok(it.clone()),
            Some(_) => AdapterProblem::Foreign,
            None => AdapterProblem::Unknown,
        };
        if self.adapter_fallback {
            events::lora_fallback(span, requested, &model.name, problem);
            return Ok(model.clone());
        }
        events::lora_failed(span, requested, problem);
        Err(unknown(requested))
    }

    /// The engine with the least to do that has a place, and the place. `capacity` is how many places an engine has.
    pub(super) fn choose(
        &self,
        place: impl Fn(&Member) -> Option<Place>,
        capacity: impl Fn(&Member) -> usize,
    ) -> Result<(&Member, Place), SubmitError> {
        let open: Vec<&Member> = self.members.iter().filter(|it| it.is_open()).collect();
        if open.is_empty() {
            return Err(SubmitError::ShuttingDown);
        }
        let runs = |it: &&&Member| it.is_running();
        let mut able: Vec<&Member> = open.iter().filter(runs).copied().collect();
        if able.is_empty() {
            // All ended by a bug: whoever is asked says so.
            able = open;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let loads: Vec<usize> = able.iter().map(|it| it.load()).collect();
        let places = order(&loads, turn).into_iter().filter_map(|at| able.get(at).copied());
        for member in places {
            if let Some(place) = place(member) {
                return Ok((member, place));
            }
        }
        Err(SubmitError::QueueFull { capacity: able.iter().map(|it| capacity(it)).sum() })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<ServedModel>)) {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let mut list = models.to_vec();
        change(&mut list);
        *models = list.into();
    }
}

/// What an engine calls by this name. An adapter that is being unloaded may be gone from it already.
pub(super) fn served(member: &Member, name: &str) -> Result<Arc<Served>, SubmitError> {
    member.registry.find(name).ok_or_else(|| SubmitError::UnknownModel(name.to_owned()))
}

/// Places in `loads`, the smallest load first; among equals the one whose turn it is.
fn order(loads: &[usize], turn: usize) -> Vec<usize> {
    let count = loads.len().max(1);
    let mut order: Vec<usize> = (0..loads.len()).collect();
    order.sort_by_key(|at| (loads[*at], (at + count - turn % count) % count));
    order
}

fn fits(adapter: &ServedModel, model: &str) -> bool {
    adapter.name == model || adapter.parent.as_deref() == Some(model)
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn the_least_to_do_comes_first_and_equals_take_turns() {
        let cases: [(&[usize], usize, &[usize]); 10] = [
            (&[], 7, &[]),
            (&[5], 3, &[0]),
            (&[2, 1, 3], 0, &[1, 0, 2]),
            (&[2, 1, 3], 2, &[1, 0, 2]),
            (&[1, 1, 1], 0, &[0, 1, 2]),
            (&[1, 1, 1], 1, &[1, 2, 0]),
            (&[1, 1, 1], 5, &[2, 0, 1]),
            (&[1, 0, 0], 3, &[1, 2, 0]),
            (&[1, 0, 0], 2, &[2, 1, 0]),
            (&[0, 0], usize::MAX, &[1, 0]),
        ];
        for (loads, turn, expected) in cases {
            assert_eq!(order(loads, turn), expected, "{loads:?}, turn {turn}");
        }
    }
}
