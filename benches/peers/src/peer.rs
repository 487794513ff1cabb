//! What a peer has to be able to do, and its place in the comparison.

use std::{borrow::Cow, collections::BTreeMap, hint::black_box, time::Duration};

use anyhow::Result;

use crate::{
    clock,
    corpus::{Case, Input},
};

/// One way of doing the job.
pub trait Peer {
    /// The texts of these records without the values, in order. Where a host hands text out without a copy, so may this.
    ///
    /// # Errors
    /// When it failed; it then takes no further part.
    fn redact<'a>(&'a mut self, records: &'a [Input]) -> Result<Vec<Cow<'a, str>>>;

    /// The processor time that the job takes, with everything it allocates and frees.
    ///
    /// # Errors
    /// As [`Self::redact`].
    fn time(&mut self, records: &[Input]) -> Result<Duration> {
        let start = clock::cpu();
        drop(black_box(self.redact(black_box(records))?));
        Ok(clock::cpu().saturating_sub(start))
    }
}

/// What the figures of a peer are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// It is only shown.
    None,
    /// Sandboxed or scripted, as its users would write it: three times what ours takes, or more.
    Sandboxed,
    /// Another host around our own scanner: it should not be cheaper than ours.
    Host,
    /// Native: ours should not take longer.
    Native,
}

/// A peer that may be there or not, and what was found out about it.
pub struct Contender {
    pub name: &'static str,
    /// Where the job that it does differs from the others'.
    pub remark: &'static str,
    pub goal: Goal,
    /// Or why it takes no part, or no further part.
    pub peer: Result<Box<dyn Peer>, String>,
    /// Values that were left in the texts, of all that were planted.
    pub left: usize,
    pub planted: usize,
    /// Texts without any value that came out changed.
    pub changed: usize,
    /// The shortest time for one record.
    pub best: BTreeMap<Case, Duration>,
}

impl Contender {
    pub fn new(
        name: &'static str,
        goal: Goal,
        remark: &'static str,
        peer: Result<Box<dyn Peer>>,
    ) -> Self {
        Self {
            name,
            remark,
            goal,
            peer: peer.map_err(|it| first_line(&it)),
            left: 0,
            planted: 0,
            changed: 0,
            best: BTreeMap::new(),
        }
    }

    /// Asks something of the peer, if it is there; one that fails is out.
    pub fn ask<T>(&mut self, question: impl FnOnce(&mut dyn Peer) -> Result<T>) -> Option<T> {
        let Ok(peer) = &mut self.peer else { return None };
        let answer = question(&mut **peer);
        answer.map_err(|it| self.peer = Err(first_line(&it))).ok()
    }
}

/// A table has room for no more.
fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().find(|it| !it.trim().is_empty()).unwrap_or("failed").trim().to_owned()
}
