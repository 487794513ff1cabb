//! Where records of the stream [`Store`](record::Stream::Store) go when they are released: to no handler and no output, but to
//! whoever keeps completions.

use std::sync::Arc;

use crate::Released;

/// Keeps what completions are made of. Called on log workers, so it must be quick and must not wait.
pub trait Keeper: Send + Sync {
    fn keep(&self, records: &[Released]);
}

/// How the chains of a revision keep completions.
#[derive(Clone)]
pub struct Keeping {
    pub keeper: Arc<dyn Keeper>,
    /// The chain that these records run through; none: that of their request.
    pub chain: Option<Arc<str>>,
}
