//! Where the records of a case are made; and those that belong to no request. The requests themselves are in [`request`].
//!
//! [`request`]: super::request

use std::{cell::Cell, sync::Arc};

use chain::Pipeline;
use record::{Field, Record, RequestContext, Severity, Stream, field};

use super::{canary::Canaries, tape::Tape};

/// The chain that requests run through.
pub(crate) const CHAIN: &str = "default";
/// A chain without anything in it. Records of different chains don't share a batch.
pub(crate) const EMPTY_CHAIN: &str = "empty";

/// Batches with a record in them: more than what a guest counts to before it traps.
const HUM: u32 = 1_100;

/// Where the records of a case are made.
pub(crate) struct Scene<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) canaries: &'a Canaries,
    pub(crate) tape: Tape,
    /// Records outside of requests so far; each has an event of its own, so that it can be found again.
    pub(crate) outside: Cell<u32>,
}

impl Scene<'_> {
    /// A record that was made by hand, and an event of code that knows no better than to log what it was given.
    pub(crate) fn outside(&self) {
        let text = self.canaries.text();
        let event = format!("outside.{}", self.outside.replace(self.outside.get() + 1));
        let fields = vec![
            Field::new(field::EXCEPTION_MESSAGE, text.as_str()),
            Field::new(field::RECORDS, 3_i64),
        ];
        self.push(record(event, None, fields));
        let event = format!("outside.{}", self.outside.replace(self.outside.get() + 1));
        tracing::warn!(
            target: chain::TARGET,
            parent: None,
            event = event.as_str(),
            peer = text.as_str(),
            "connection reset by {text}"
        );
    }

    /// So many records that a guest which counts its calls comes to its end. The answer is how many more were pushed that no
    /// output ever sees.
    pub(crate) fn hum(&self) -> u64 {
        let context = |id: &str, chain: &str| {
            let id = format!("{id}-0000-4000-8000-000000000000");
            Arc::new(RequestContext::new(id, chain.into()))
        };
        let (heard, unheard) = (context("ffffffff", CHAIN), context("eeeeeeee", EMPTY_CHAIN));
        for _ in 0..HUM {
            let text = Field::new(field::PROMPT_TEXT, self.canaries.text());
            self.push(record("hum".to_owned(), Some(&heard), vec![text]));
            // It parts the one before from the next.
            self.pipeline.push(record("hum".to_owned(), Some(&unheard), Vec::new()));
        }
        u64::from(HUM)
    }

    fn push(&self, record: Record) {
        self.tape.note(&record);
        self.pipeline.push(record);
    }
}

fn record(event: String, context: Option<&Arc<RequestContext>>, fields: Vec<Field>) -> Record {
    Record {
        time: 1_736_400_625_123_000_000,
        utc_offset: 32_400,
        severity: Severity::INFO,
        event: event.into(),
        stream: Stream::App,
        context: context.cloned(),
        seq: context.map_or(0, |it| it.next_seq()),
        stub: None,
        fields,
    }
}
