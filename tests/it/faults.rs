//! The fault matrix: whatever a plugin does wrong, in whatever place and situation, it costs log content at most. No secret gets
//! out, no request loses its end, nothing is lost that isn't counted, and the next good chain works.
//!
//! A case has a name, `hostile/trap/first/info/finished/whole/quiet`, and the variable `BUCKSAW_FAULTS` chooses: nothing runs a
//! sample that is always the same, `all` runs every case, and anything else the cases whose names begin like that.
//!
//! # Layout
//! - [`case`]: what is crossed with what. [`promise`]: what the host answers to each misdeed.
//! - [`canary`]: secrets, and the search for them. [`traffic`], [`request`]: records that hold them. [`tape`]: what was said.
//! - [`lane`]: real components. [`run`]: a chain of them for one case. [`gate`], [`outlet`]: where it is held, and what comes out.
//! - [`evidence`]: what a case left behind. [`expect`], [`account`]: what must be true of it. [`panics`]: what nobody may do.
//! - [`server`]: a few of the cases with the whole program.

mod account;
mod canary;
mod case;
mod evidence;
mod expect;
mod gate;
mod lane;
mod outlet;
mod panics;
mod promise;
mod request;
mod run;
mod server;
mod tape;
mod traffic;

use std::{
    any::Any,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use self::{
    case::{Case, Guest, Level, Outcome, Position, Situation},
    lane::Lane,
};
use crate::support::repository;

/// Threads that run cases. Most of a case is work of the processor, and other tests run beside these.
const LANES_MAX: usize = 4;
/// Failed cases that are told in full: the first ones say what is wrong.
const TOLD_MAX: usize = 20;

fn selected() -> Vec<Case> {
    case::selected(Case::all(), case::sample)
}

#[test]
fn a_misdeed_costs_content_at_most() {
    panics::watch();
    let (cases, folder) = (selected(), tempfile::tempdir().unwrap());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        let lane = Lane::new(&folder.path().join("cache"));
        while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
            let problems = catch_unwind(AssertUnwindSafe(|| lane.run(case)))
                .unwrap_or_else(|it| vec![format!("a panic: {}", words(&*it))]);
            if !problems.is_empty() {
                failed.lock().unwrap().push(format!("{case}\n  {}", problems.join("\n  ")));
            }
        }
    };
    let lanes = thread::available_parallelism().map_or(1, |it| it.get().min(LANES_MAX));
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    let told = failed.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        failed.is_empty(),
        "{} of {} cases failed; BUCKSAW_FAULTS=NAME runs one alone\n{told}",
        failed.len(),
        cases.len()
    );
    assert_eq!(panics::seen(), [""; 0], "a log worker must not panic");
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}

/// What nobody redacts does come out, and is found.
#[test]
fn a_leak_would_be_found() {
    let folder = tempfile::tempdir().unwrap();
    let lane = Lane::new(&folder.path().join("cache"));
    let check = |deed: &'static str, streaming: bool| {
        let case = Case {
            guest: Guest::Hostile,
            deed,
            position: Position::Alone,
            level: Level::Info,
            outcome: Outcome::Finished,
            streaming,
            situation: Situation::Quiet,
        };
        let (evidence, canaries) = lane.perform(&case);
        assert!(canaries.find(&evidence.lines()).is_some(), "{case}");
        assert_eq!(canaries.find(&evidence.words()), None, "{case}");
    };
    check("nothing", false);
    check("nothing", true);
}

#[test]
fn the_matrix_has_every_misdeed_that_the_guests_know() {
    let readme = fs::read_to_string(repository("tests/fixtures/guests/README.md")).unwrap();
    for guest in Guest::ALL {
        let promised: Vec<&str> = promise::deeds(*guest).map(|(deed, _)| deed).collect();
        let mut documented = promise::documented(&readme, *guest);
        documented.push("nothing".to_owned());
        for deed in &documented {
            assert!(promised.contains(&deed.as_str()), "{guest:?} can do {deed}");
        }
        for deed in promised {
            assert!(documented.iter().any(|it| it == deed), "{guest:?} cannot do {deed}");
        }
    }
}

#[test]
fn the_sample_has_every_misdeed_in_every_role() {
    let (all, sample) = (Case::all(), case::sample(Case::all()));
    for it in &all {
        let found = sample.iter().any(|case| (case.guest, case.deed) == (it.guest, it.deed));
        assert!(found, "{it}");
    }
    let mut names: Vec<String> = all.iter().map(Case::to_string).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len());
}

#[test]
fn the_variable_names_a_case() {
    let (cases, servers) = (selected().len(), server::selected().len());
    assert!(cases + servers > 0, "BUCKSAW_FAULTS is the beginning of no case's name");
}
