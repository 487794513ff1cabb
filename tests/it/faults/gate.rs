//! A good editor that holds a log worker up, so that a queue can be filled and a deadline can pass while there is work; and one
//! that holds up whoever opens it, so that a change of the chains lasts as long as a test wants.

use std::sync::{Arc, Condvar, Mutex};

use chain::{Editor, Source, Stage, StageError, Verdict};
use record::Record;

use crate::support::eventually;

/// Closed until it is released.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    open: bool,
    /// A worker stands before it, or has gone through.
    reached: bool,
    instances: usize,
}

impl Gate {
    /// Waits until a worker stands before it.
    pub(crate) fn wait_reached(&self) {
        self.wait("a worker before the gate", |it| it.reached);
    }

    /// Lets everything through, now and later.
    pub(crate) fn release(&self) {
        self.0.state.lock().unwrap().open = true;
        self.0.opened.notify_all();
    }

    /// Waits until the worker with its instances has ended.
    pub(crate) fn wait_gone(&self) {
        self.wait("the end of the log worker", |it| it.instances == 0);
    }

    fn wait(&self, what: &str, is: fn(&State) -> bool) {
        eventually(what, || is(&self.0.state.lock().unwrap()).then_some(()));
    }
}

impl Shared {
    /// Waits until the gate is open.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.reached = true;
        let _state = self.opened.wait_while(state, |it| !it.open).unwrap();
    }
}

impl Source<dyn Editor> for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn open(&self) -> Result<Box<dyn Editor>, StageError> {
        self.0.state.lock().unwrap().instances += 1;
        Ok(Box::new(Passage(self.0.clone())))
    }
}

/// A gate in front of the editor's opening, behind which it lets everything through.
#[derive(Clone, Default)]
pub(crate) struct Latch(Gate);

impl Latch {
    /// Waits until somebody wants to open the editor.
    pub(crate) fn wait_reached(&self) {
        self.0.wait_reached();
    }

    /// Lets everybody open it, now and later; also when a test fails before it comes to that, since somebody waits.
    pub(crate) fn release_at_end(&self) -> AtEnd<'_> {
        AtEnd(&self.0)
    }
}

/// Releases a gate when it goes.
pub(crate) struct AtEnd<'a>(&'a Gate);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Source<dyn Editor> for Latch {
    fn name(&self) -> &str {
        "latch"
    }

    fn open(&self) -> Result<Box<dyn Editor>, StageError> {
        self.0.0.pass();
        self.0.open()
    }
}

struct Passage(Arc<Shared>);

impl Stage for Passage {}

impl Editor for Passage {
    fn edit(&mut self, batch: &[Record]) -> Result<Vec<Verdict>, StageError> {
        self.0.pass();
        Ok(vec![Verdict::Keep(Vec::new()); batch.len()])
    }

    /// It never edits, so it keeps nothing of a stream back.
    fn longest_match(&self) -> Option<usize> {
        Some(0)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().instances -= 1;
    }
}
