//! The only thing that may leave the chain.

use std::ops::Deref;

use record::{Record, Stub};

/// A record whose content has passed every editor of its chain, or that has none.
///
/// Only this crate can make one: that sinks, handlers and formatters take nothing else is guarantee G1, fail closed, as a type.
#[derive(Clone, Debug)]
pub struct Released(Record);

impl Released {
    /// After the last editor returned for it.
    pub(crate) fn edited(record: Record) -> Self {
        Self(record)
    }

    /// After an editor failed: nothing but ids, times, numbers and outcome is left.
    pub(crate) fn stub(record: Record, stub: Stub) -> Self {
        Self(record.into_stub(stub))
    }

    /// A record that the chain itself made out of numbers and configured names.
    pub(crate) fn internal(mut record: Record) -> Self {
        record.fields.retain(|it| !it.is_content());
        Self(record)
    }
}

impl Deref for Released {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.0
    }
}
