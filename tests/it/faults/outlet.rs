//! Where a case's lines and alerts go: into memory, with bounds on what is kept, since some guests make much of it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use chain::{Alert, AlertError, Alerts, Filter, Line, Output, Overflow, Sink};

/// Bytes of a line, or of an alert, that are looked at: far more than a record of a case has, whose secrets come first.
const KEPT_BYTES: usize = 64 << 10;
/// As a channel's queue holds.
const ALERTS_MAX: usize = 256;

/// An output, and what it wrote.
pub(crate) struct Outlet {
    pub(crate) output: Arc<Output>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Outlet {
    pub(crate) fn open(name: &str, filter: Filter) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let sink = Box::new(Collect(lines.clone()));
        Self { output: Output::start(name, filter, Overflow::Block, sink).unwrap(), lines }
    }

    /// The lines that are not empty.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

struct Collect(Arc<Mutex<Vec<String>>>);

impl Sink for Collect {
    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        let texts = lines.iter().map(Line::text).filter(|it| !it.is_empty());
        let kept = texts.map(|it| it[..it.floor_char_boundary(KEPT_BYTES)].to_owned());
        self.0.lock().unwrap().extend(kept);
        Ok(())
    }
}

/// Every channel there is: it takes what a plugin sends, until it is full.
#[derive(Default)]
pub(crate) struct Alarm(Mutex<Vec<(String, Alert)>>);

impl Alarm {
    /// Channels and alerts since this was last asked.
    pub(crate) fn take(&self) -> Vec<(String, Alert)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Alerts for Alarm {
    fn send(&self, channel: &str, mut alert: Alert) -> Result<(), AlertError> {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() >= ALERTS_MAX {
            return Err(AlertError::Full);
        }
        for it in [&mut alert.key, &mut alert.title, &mut alert.body] {
            it.truncate(it.floor_char_boundary(KEPT_BYTES));
        }
        sent.push((channel.to_owned(), alert));
        Ok(())
    }
}
