//! Why there is no answer, or no whole one.

use std::{sync::Arc, time::Duration};

/// What went wrong with a request, or in the middle of its answer. Upstreams are called by their configured names; addresses
/// are not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no upstream serves the model {model:?}; there is {known}")]
    UnknownModel { model: String, known: String },
    #[error("no upstream is usable: try again in {} s", seconds(.retry_after))]
    NoneUsable { retry_after: Duration },
    #[error("every upstream has as many requests as it may have: try again shortly")]
    Busy,
    #[error("the upstream {upstream:?} cannot be reached")]
    Unreachable { upstream: Arc<str> },
    #[error("the upstream {upstream:?} ended the connection before its answer was complete")]
    Broken { upstream: Arc<str> },
    #[error("the upstream {upstream:?} was silent for {} s", seconds(.after))]
    Late { upstream: Arc<str>, after: Duration },
}

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub failure: Failure,
    /// The last one that was asked.
    pub upstream: Option<Arc<str>>,
    pub attempts: u32,
}

impl Failure {
    /// Whether nothing of the request can have been worked at.
    pub(crate) fn is_before_work(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether another upstream may be asked when the work can be done twice. One that is late may still be at it: asking
    /// another would double the load when there is too much already.
    pub(crate) fn is_before_answer(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. })
    }
}

/// Whole seconds, at least one.
pub fn seconds(it: &Duration) -> u64 {
    it.as_secs() + u64::from(it.subsec_nanos() > 0).max(u64::from(it.is_zero()))
}
