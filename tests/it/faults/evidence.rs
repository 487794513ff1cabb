//! What a case left behind: everything that came out, and what the host says about itself.

use std::sync::Arc;

use chain::{
    Alert, Drained,
    stats::{ShadowStats, StageKey, StageStats},
};
use record::{event, field};
use serde_json::Value;

use super::{
    case::{Case, Guest, Position},
    tape::Said,
};

/// What was wrong with a case, in sentences.
#[derive(Default)]
pub(crate) struct Problems(pub(crate) Vec<String>);

impl Problems {
    /// Adds a problem unless all is well.
    pub(crate) fn check(&mut self, good: bool, what: impl FnOnce() -> String) {
        if !good {
            self.0.push(what());
        }
    }
}

pub(crate) struct Evidence {
    pub(crate) case: Case,
    /// The error of a plugin that was not loaded.
    pub(crate) refusal: Option<String>,
    pub(crate) said: Vec<Said>,
    /// The lines of an output of the good formatter, as they are, and the records that they are.
    pub(crate) raw: Vec<String>,
    pub(crate) witness: Vec<Value>,
    /// The lines of the other outputs: for people or by the guest, all of them or those from WARNING on.
    pub(crate) people: Vec<String>,
    pub(crate) grave: Vec<String>,
    /// Lines that were written and lost: of the witness, and lost by all outputs.
    pub(crate) witness_counts: (u64, u64),
    pub(crate) lost_lines: u64,
    pub(crate) stages: Vec<(StageKey, Arc<StageStats>)>,
    /// What the shadow did, where there was one.
    pub(crate) shadow: Option<Arc<ShadowStats>>,
    pub(crate) alerts: Vec<(String, Alert)>,
    /// Metrics, errors, and what debugging prints.
    pub(crate) told: Vec<String>,
    pub(crate) played: Played,
}

/// What happened to the log while records were made.
pub(crate) struct Played {
    /// Numbers of the revisions that the guest is part of.
    pub(crate) bad: Vec<u64>,
    pub(crate) installs: u64,
    pub(crate) refusals: u64,
    /// Records that no output sees.
    pub(crate) unseen: u64,
    pub(crate) drained: Drained,
}

impl Evidence {
    /// Whether the guest stood between a record and its end.
    pub(crate) fn is_touched(&self, said: &Said) -> bool {
        self.played.bad.contains(&said.revision)
    }

    /// The same, by an editor, so that the record may have come out otherwise.
    pub(crate) fn is_edited(&self, said: &Said) -> bool {
        self.case.guest == Guest::Hostile
            && self.case.position != Position::Shadow
            && self.is_touched(said)
    }

    /// Everything that outputs wrote. Parts of an answer are joined as well: one that is split is still there.
    pub(crate) fn lines(&self) -> String {
        let joined: Vec<String> = self.requests().map(|it| self.delta(it)).collect();
        let lists = [&self.raw, &self.people, &self.grave, &joined];
        let lines: Vec<&str> = lists.into_iter().flatten().map(String::as_str).collect();
        lines.join("\n")
    }

    /// Everything else that left.
    pub(crate) fn words(&self) -> String {
        let alerts = self.alerts.iter().map(|(channel, it)| format!("{channel} {it:?}"));
        let words: Vec<String> =
            self.told.iter().cloned().chain(alerts).chain(self.refusal.clone()).collect();
        words.join("\n")
    }

    /// Ids of the requests, one each.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &str> {
        let first = |it: &&Said| it.event == event::REQUEST_RECEIVED;
        self.said.iter().filter(first).filter_map(|it| it.request.as_deref())
    }

    /// The witness's lines of a request.
    pub(crate) fn of(&self, request: &str) -> impl Iterator<Item = &Value> {
        self.witness.iter().filter(move |it| it["request_id"] == request)
    }

    /// The witness's lines of an event that belong to no request.
    pub(crate) fn own(&self, event: &str) -> impl Iterator<Item = &Value> {
        self.witness
            .iter()
            .filter(move |it| it["event_name"] == event && it["request_id"].is_null())
    }

    /// All parts of a request's answer that came out.
    pub(crate) fn delta(&self, request: &str) -> String {
        let lines = self.of(request);
        lines.filter_map(|it| it["attributes"][field::RESPONSE_DELTA].as_str()).collect()
    }
}
