//! One case: a pipeline of real components, requests through it, and the situation that they get into.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use chain::{
    Chains, Editor, Ellipsis, Filter, Handler, Pipeline, Plan, Replacer, ShadowSpec, Source, Spec,
};
use plugin::Plugin;
use record::Severity;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{
    canary::Canaries,
    case::{Case, Guest, Level, Outcome, Position, Situation},
    evidence::{Evidence, Played},
    gate::{Gate, Latch},
    lane::Lane,
    outlet::Outlet,
    request::{Manner, Request},
    tape::Tape,
    traffic::{CHAIN, EMPTY_CHAIN, Scene},
};
use crate::support::eventually;

/// Records that wait for the worker: more than any case makes.
const QUEUE: usize = 1 << 14;
/// The same where there is to be no room: enough for what comes before the guest is met, and for the end of each request.
const QUEUE_FULL: usize = 32;

/// What a shutdown is given while a worker is held up.
const CUT: Duration = Duration::from_millis(20);

/// The log of one case.
pub(crate) struct Rig<'a> {
    lane: &'a Lane,
    case: &'a Case,
    plugin: Option<Plugin>,
    people: Outlet,
    grave: Outlet,
    witness: Outlet,
    gate: Option<Gate>,
}

impl<'a> Rig<'a> {
    pub(crate) fn new(lane: &'a Lane, case: &'a Case, plugin: Option<Plugin>) -> Self {
        let held = matches!(case.situation, Situation::Full | Situation::Shutdown);
        let warning = Filter { severity: Some(Severity::WARNING), ..Filter::default() };
        Self {
            lane,
            case,
            plugin,
            people: Outlet::open("people", Filter::default()),
            grave: Outlet::open("grave", warning),
            witness: Outlet::open("witness", Filter::default()),
            gate: held.then(Gate::default),
        }
    }

    /// The chains of a revision with the guest, or without.
    fn chains(&self, plugin: Option<&Plugin>, gate: Option<&Gate>) -> Chains {
        let (lane, case) = (self.lane, self.case);
        let mut editors: Vec<Arc<dyn Source<dyn Editor>>> =
            [&lane.redact, &lane.truncate].into_iter().filter_map(Plugin::editor).collect();
        let mut handlers: Vec<Arc<dyn Source<dyn Handler>>> =
            lane.alert.handler().into_iter().collect();
        let json = lane.json.formatter().unwrap();
        let mut lines = match case.guest {
            Guest::Vandal => json.clone(),
            Guest::Hostile | Guest::Saboteur => lane.guide.formatter().unwrap(),
        };
        let mut shadow = None;
        if let Some(plugin) = plugin {
            match case.guest {
                Guest::Hostile if case.position == Position::Shadow => {
                    let mut beside = editors.clone();
                    place(&mut beside, plugin.editor(), case.position);
                    // All of the worker's time: it is to see every record.
                    let (name, share) = ("shadow".into(), 1.0);
                    shadow = Some(ShadowSpec { name, editors: beside, share });
                }
                Guest::Hostile => place(&mut editors, plugin.editor(), case.position),
                Guest::Vandal => lines = plugin.formatter().unwrap(),
                Guest::Saboteur => place(&mut handlers, plugin.handler(), case.position),
            }
        }
        if let Some(gate) = gate {
            editors.insert(0, Arc::new(gate.clone()));
        }
        let mut people = vec![self.people.output.clone()];
        if case.position == Position::Two {
            people.push(self.grave.output.clone());
        }
        let outputs = people.iter().cloned().chain([self.witness.output.clone()]).collect();
        let spec = Spec {
            name: CHAIN.into(),
            editors,
            handlers,
            outputs: vec![(lines, people), (json, vec![self.witness.output.clone()])],
            shadow,
        };
        let empty = Spec {
            name: EMPTY_CHAIN.into(),
            editors: vec![],
            handlers: vec![],
            outputs: vec![],
            shadow: None,
        };
        Chains {
            chains: BTreeMap::from([(CHAIN.into(), spec), (EMPTY_CHAIN.into(), empty)]),
            default: CHAIN.into(),
            outputs,
            replacer: Replacer::new(Ellipsis::Korean, b"key"),
            keeping: None,
            level: match case.level {
                Level::Info => Severity::INFO,
                Level::Debug => Severity::DEBUG,
            },
            failures_max: 0,
            taken_over: Default::default(),
            kept: Arc::new(()),
        }
    }

    /// `errors`: what was said of a plugin that was not loaded, to people and to developers.
    pub(crate) fn perform(self, canaries: &Canaries, errors: Option<(String, String)>) -> Evidence {
        let (refusal, debug) = errors.unzip();
        let queue = if self.case.situation == Situation::Full { QUEUE_FULL } else { QUEUE };
        let chains = self.chains(self.plugin.as_ref(), self.gate.as_ref());
        let clock = Arc::new(|| (1_736_400_625_123_000_000, 32_400));
        let pipeline = Pipeline::start(Plan { chains, clock, workers: 1, queue }).unwrap();
        let scene = Scene {
            pipeline: &pipeline,
            canaries,
            tape: Tape::new(&pipeline, self.case.level),
            outside: Cell::new(0),
        };
        let log = tracing_subscriber::registry().with(pipeline.layer()).with(scene.tape.clone());
        let mut told: Vec<String> = debug.into_iter().collect();
        let played = tracing::subscriber::with_default(log, || {
            self.play(&scene, refusal.as_deref(), &mut told)
        });
        told.push(bucksaw::metrics::encode(&pipeline, None, None));
        let revision = pipeline.revisions().current();
        told.push(format!("{:?} {revision:?} {:?}", played.drained, pipeline.stats()));
        let raw = self.witness.lines();
        Evidence {
            case: *self.case,
            refusal,
            said: scene.tape.said(),
            witness: raw.iter().filter_map(|it| serde_json::from_str(it).ok()).collect(),
            raw,
            people: self.people.lines(),
            grave: self.grave.lines(),
            witness_counts: self.witness.output.counts(),
            lost_lines: pipeline.lost_lines(),
            stages: pipeline.stats().stages(),
            shadow: pipeline.stats().shadows().into_iter().next().map(|(_, it)| it),
            alerts: self.lane.alarm.take(),
            told,
            played,
        }
    }

    /// The whole of it: requests in the situation, and what comes last.
    fn play(&self, scene: &Scene<'_>, refusal: Option<&str>, told: &mut Vec<String>) -> Played {
        let mut played = Played {
            bad: self.plugin.iter().map(|_| 1).collect(),
            installs: 0,
            refusals: 0,
            unseen: 0,
            drained: chain::Drained { in_time: false, accepted: 0, dropped: 0, lost_lines: 0 },
        };
        if let Some(gate) = &self.gate {
            scene.outside();
            gate.wait_reached();
        }
        if self.case.situation == Situation::SwapHeld {
            self.beside_a_swap(scene.pipeline, || self.requests(scene, refusal, &mut played));
            played.installs += 1;
        } else {
            self.requests(scene, refusal, &mut played);
        }
        told.push(bucksaw::metrics::encode(scene.pipeline, None, None));
        played.drained = self.finish(scene, &mut played);
        played
    }

    /// Three requests beside each other, with the situation in their middle. Two of them began before it.
    fn requests(&self, scene: &Scene<'_>, refusal: Option<&str>, played: &mut Played) {
        let case = self.case;
        let clean = Manner { outcome: case.outcome, streaming: case.streaming, poison: false };
        let first = Request::arrive(scene, 1, clean);
        let second = Request::arrive(scene, 2, Manner { poison: true, ..clean });
        scene.outside();
        if case.deed == "thousandth" && case.situation != Situation::Full {
            played.unseen = scene.hum();
        }
        first.work();
        self.turn(scene, refusal, played);
        let third = Request::arrive(scene, 3, clean);
        second.work();
        third.work();
        scene.outside();
        [first, second, third].into_iter().for_each(Request::end);
    }

    /// Does something while a change of the chains is under way. It cannot go on opening its plugins, and nobody waits for it: not
    /// whoever makes records, nor the worker.
    fn beside_a_swap(&self, pipeline: &Pipeline, requests: impl FnOnce()) {
        let latch = Latch::default();
        let mut chains = self.chains(None, None);
        chains.chains.get_mut(CHAIN).unwrap().editors.insert(0, Arc::new(latch.clone()));
        thread::scope(|threads| {
            let held = latch.release_at_end();
            let swap = threads.spawn(move || pipeline.install(chains));
            latch.wait_reached();
            requests();
            let taken = || (pipeline.queue().waiting() == 0).then_some(());
            eventually("the records to be taken", taken);
            drop(held);
            swap.join().unwrap();
        });
    }

    /// The situation itself.
    fn turn(&self, scene: &Scene<'_>, refusal: Option<&str>, played: &mut Played) {
        match self.case.situation {
            Situation::Quiet | Situation::Shutdown | Situation::SwapHeld => {}
            Situation::Full => (0..QUEUE_FULL).for_each(|_| scene.outside()),
            Situation::SwapGood => install(scene.pipeline, self.chains(None, None), played),
            Situation::SwapSame => match (self.lane.load(self.case), refusal) {
                (Ok(plugin), _) => {
                    install(scene.pipeline, self.chains(Some(&plugin), None), played);
                    played.bad.push(scene.pipeline.revisions().current().number());
                }
                (Err(_), Some(refusal)) => {
                    scene.pipeline.refuse(refusal);
                    played.refusals += 1;
                }
                (Err(error), None) => panic!("it was loaded before: {error}"),
            },
        }
    }

    /// What comes last: a good chain, with a request that it serves, and an orderly end; or an end in the middle of work.
    fn finish(&self, scene: &Scene<'_>, played: &mut Played) -> chain::Drained {
        let pipeline = scene.pipeline;
        if self.case.situation == Situation::Shutdown {
            let drained = pipeline.shutdown(Instant::now() + CUT);
            let gate = self.gate.as_ref().unwrap();
            gate.release();
            gate.wait_gone();
            return drained;
        }
        if let Some(gate) = &self.gate {
            gate.release();
            let empty = || (pipeline.queue().waiting() == 0).then_some(());
            eventually("room in the queue", empty);
        }
        install(pipeline, self.chains(None, None), played);
        let manner = Manner { outcome: Outcome::Rejected, streaming: false, poison: false };
        Request::arrive(scene, 4, manner).end();
        pipeline.shutdown(Instant::now() + Duration::from_secs(60))
    }
}

fn install(pipeline: &Pipeline, chains: Chains, played: &mut Played) {
    pipeline.install(chains);
    played.installs += 1;
}

/// Puts the guest into its place among good plugins.
fn place<T: ?Sized>(list: &mut Vec<Arc<T>>, guest: Option<Arc<T>>, position: Position) {
    let guest = guest.unwrap();
    match position {
        Position::First | Position::Shadow => list.insert(0, guest),
        Position::Middle => list.insert(1, guest),
        Position::Alone => *list = vec![guest],
        Position::Last | Position::One | Position::Two => list.push(guest),
    }
}
