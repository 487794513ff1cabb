//! Levels that were set while the log runs. They win over a configuration's until they are taken back, whatever revision is in
//! force. It does not know who may set them, nor which requests have one of their own.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use record::{Severity, Stream};

use crate::layer::follow_level;

/// Number of no severity.
const AS_CONFIGURED: u8 = 0;

/// Levels beside those of the revisions.
#[derive(Debug, Default)]
pub struct Levels {
    app: AtomicU8,
    engine: AtomicU8,
    /// The lowest level that any request may have of its own.
    requests: AtomicU8,
}

impl Levels {
    /// The level of a stream from now on; none: as the revision says. Records for the store have none.
    pub fn set(&self, stream: Stream, level: Option<Severity>) {
        let Some(it) = self.of(stream) else { return };
        it.store(level.map_or(AS_CONFIGURED, Severity::number), Relaxed);
        follow_level();
    }

    /// What was set for a stream, if anything was.
    pub fn get(&self, stream: Stream) -> Option<Severity> {
        severity(self.of(stream)?)
    }

    /// The lowest of the levels that requests may have of their own (`level` of their span); none: none has. Events below it
    /// are not even built.
    pub fn allow(&self, lowest: Option<Severity>) {
        self.requests.store(lowest.map_or(AS_CONFIGURED, Severity::number), Relaxed);
        follow_level();
    }

    /// The lowest of all that was set.
    pub(crate) fn lowest(&self) -> Option<Severity> {
        [&self.app, &self.engine, &self.requests].into_iter().filter_map(severity).min()
    }

    fn of(&self, stream: Stream) -> Option<&AtomicU8> {
        match stream {
            Stream::App => Some(&self.app),
            Stream::Engine => Some(&self.engine),
            Stream::Store => None,
        }
    }
}

fn severity(it: &AtomicU8) -> Option<Severity> {
    match it.load(Relaxed) {
        AS_CONFIGURED => None,
        number => Some(Severity::from_number(number)),
    }
}
