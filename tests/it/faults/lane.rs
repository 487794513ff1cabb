//! Real components, loaded once for many cases: those that ship, and the guest of a case with the limits that it needs.

use std::{fs, path::Path, sync::Arc, time::Duration};

use plugin::{Cache, Grants, Limits, LoadError, Plugin, Runtime, Settings};
use serde_json::json;

use super::{
    account,
    canary::Canaries,
    case::{Case, Guest},
    evidence::Evidence,
    outlet::Alarm,
    run::Rig,
};
use crate::support::repository;

/// A deadline that is meant to pass, for one batch and for setting up. The epoch moves every 10 ms.
const SHORT: Duration = Duration::from_millis(60);
const SHORT_SETUP: Duration = Duration::from_millis(200);
/// One that is not: a busy machine must not be taken for a guest that loops.
const LONG: Duration = Duration::from_secs(10);

/// What a guest may use: little enough that a leak and a hoard show soon.
const MEMORY: usize = 16 << 20;
const HIGH_WATER: usize = 4 << 20;
const STATE: usize = 64 << 10;

/// Runs one case after the other.
pub(crate) struct Lane {
    runtime: Runtime,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) redact: Plugin,
    pub(crate) truncate: Plugin,
    pub(crate) guide: Plugin,
    pub(crate) json: Plugin,
    pub(crate) alert: Plugin,
}

impl Lane {
    /// `cache`: where all lanes keep what they compiled.
    pub(crate) fn new(cache: &Path) -> Self {
        let alarm = Arc::<Alarm>::default();
        let runtime = Runtime::new(alarm.clone(), Some(Cache::open(cache).unwrap())).unwrap();
        let shipped = |name: &str, config: &str, grants: Grants| {
            let limits = Limits { work: LONG, ..Limits::default() };
            let (config, bytes) = (config.to_owned(), component("plugins/components", name));
            let settings = Settings { name: name.to_owned(), config, limits, grants };
            Plugin::load(&runtime, &bytes, settings).unwrap()
        };
        let ops = Grants { alert: vec!["ops".to_owned()], ..Grants::default() };
        Self {
            redact: shipped("redact", "{}", Grants::default()),
            truncate: shipped("truncate", "{}", Grants::default()),
            guide: shipped("guide", "{}", Grants::default()),
            json: shipped("json", "{}", Grants::default()),
            alert: shipped("alert", r#"{"channel":"ops"}"#, ops),
            runtime,
            alarm,
        }
    }

    /// Runs a case. The answer says what was wrong.
    pub(crate) fn run(&self, case: &Case) -> Vec<String> {
        let (evidence, canaries) = self.perform(case);
        account::judge(&evidence, &canaries)
    }

    /// Runs a case and judges nothing.
    pub(crate) fn perform(&self, case: &Case) -> (Evidence, Canaries) {
        let canaries = Canaries::new(case.number());
        // Of the case before.
        self.alarm.take();
        let loaded = self.load(case);
        let errors = loaded.as_ref().err().map(|it| (it.to_string(), format!("{it:?}")));
        let rig = Rig::new(self, case, loaded.ok());
        (rig.perform(&canaries, errors), canaries)
    }

    /// The guest of a case.
    pub(crate) fn load(&self, case: &Case) -> Result<Plugin, LoadError> {
        let guest = case.guest.name();
        let mut bytes = component("tests/fixtures/components", guest);
        let deed = match case.deed.split_once(':') {
            Some((marker, _)) => {
                mark(&mut bytes, marker, case.deed);
                "nothing"
            }
            None => case.deed,
        };
        let grants = match case.guest {
            Guest::Saboteur => {
                Grants { alert: vec!["ops".to_owned()], state: Some(STATE), ..Grants::default() }
            }
            Guest::Hostile | Guest::Vandal => Grants::default(),
        };
        let limits = Limits {
            memory: MEMORY,
            high_water: HIGH_WATER,
            work: match case.deed {
                "loop" | "realloc-loop" | "post-return-loop" => SHORT,
                _ => LONG,
            },
            setup: match case.deed {
                "START:loop" | "DESCRIBE:loop" | "configure-loop" | "configure-loop-later" => {
                    SHORT_SETUP
                }
                _ => LONG,
            },
            ..Limits::default()
        };
        let config = json!({"do": deed}).to_string();
        let settings = Settings { name: guest.to_owned(), config, limits, grants };
        Plugin::load(&self.runtime, &bytes, settings)
    }
}

fn component(folder: &str, name: &str) -> Vec<u8> {
    let path = repository(folder).join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|it| panic!("{}: {it}: run `just plugins`", path.display()))
}

/// Writes a word over a component's marker, which stands there once.
fn mark(bytes: &mut [u8], marker: &str, word: &str) {
    const BYTES: usize = 32;
    let before = format!("{marker}:well");
    let before = format!("{before:BYTES$}");
    let mut places = bytes.windows(BYTES).enumerate().filter(|(_, it)| *it == before.as_bytes());
    let place = places.next().map(|(at, _)| at).unwrap();
    assert!(places.next().is_none(), "two markers {marker}");
    bytes[place..place + BYTES].copy_from_slice(format!("{word:BYTES$}").as_bytes());
}
