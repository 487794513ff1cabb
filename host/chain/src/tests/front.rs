//! The front door: what is taken of what `tracing` tells, and which of it goes to the keeper.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use record::{Severity, Stream};
use tracing_subscriber::layer::SubscriberExt as _;

use super::{chains, labels, spec, start, text, traps};
use crate::{Editor, Keeper, Keeping, Released, STORE_TARGET, Source, Spec, TARGET};

#[test]
fn a_library_cannot_name_an_event() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let pipeline = start(chains(&written, "events", None));
    let log = tracing_subscriber::registry().with(pipeline.layer());
    tracing::subscriber::with_default(log, || {
        tracing::warn!(target: "library", event = "kim@example.com", severity.number = 21_u64);
        tracing::info!(target: TARGET, event = "server.started");
        tracing::info!(target: "library", "not worth a record");
        tracing::debug!(target: TARGET, event = "below.the.level");
    });
    assert!(pipeline.shutdown(Instant::now() + Duration::from_secs(30)).is_complete());
    assert_eq!(*written.lock().unwrap(), ["log", "server.started"]);
}

/// Keeps texts, and what stands in the field `n`.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Keeper for Kept {
    fn keep(&self, records: &[Released]) {
        assert!(records.iter().all(|it| it.stream == Stream::Store && it.seq == 0));
        self.0.lock().unwrap().extend(records.iter().map(|it| text(it)));
    }
}

#[test]
fn what_is_to_be_stored_goes_to_the_keeper_alone_through_its_chain_at_any_level() {
    let check = |chain: Option<&str>, editor: Arc<dyn Source<dyn Editor>>, want: &[&str]| {
        let (written, kept) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Kept::default()));
        let mut chains = chains(&written, "lines", Some(labels("LOG")));
        let store = Spec { name: "store".into(), ..spec(vec![editor]) };
        chains.chains.insert("store".into(), store);
        chains.level = Severity::CRITICAL;
        chains.keeping = Some(Keeping { keeper: kept.clone(), chain: chain.map(Arc::from) });
        let pipeline = start(chains);
        let subscriber = tracing_subscriber::registry().with(pipeline.layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!(target: TARGET, "request", request_id = "a1b2c3d4");
            let _entered = span.enter();
            tracing::error!(target: TARGET, event = "log", bucksaw.prompt.text = "below the level");
            tracing::info!(target: STORE_TARGET, event = "store.part", bucksaw.prompt.text = "one");
            tracing::error!(
                target: TARGET,
                event = "request.failed",
                severity.number = 21_u64,
                bucksaw.prompt.text = "two"
            );
            tracing::info!(target: STORE_TARGET, event = "store.part", bucksaw.prompt.text = "three");
        });
        assert!(pipeline.shutdown(Instant::now() + Duration::from_secs(30)).is_complete());
        assert_eq!(*written.lock().unwrap(), ["[LOG]"]);
        assert_eq!(*kept.0.lock().unwrap(), want);
    };
    check(Some("store"), labels("STORE"), &["[STORE]", "[STORE]"]);
    check(None, labels("STORE"), &["[LOG]", "[LOG]"]);
    check(Some("store"), traps(), &["stub: trap", "stub: trap"]);
}
