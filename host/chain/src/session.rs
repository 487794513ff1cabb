//! Text that arrives in parts, such as an answer that is being made: it is held back until no editor can change its mind about
//! it, so that what is written part by part is what the editors would make of the whole, however it was split.
//!
//! Editors keep no state for this: each time, they see the text from its beginning, and [`Editor::longest_match`] says how much
//! of its end may still become part of an edit. A text is seen again when it has grown by an eighth, so the work stays
//! proportional to its length.
//!
//! [`Editor::longest_match`]: crate::Editor::longest_match

use std::{collections::HashMap, sync::Arc, time::Instant};

use record::{Field, Record, Stub, Value, event, field};

use crate::{
    draft::{Draft, State},
    edit::merge,
    editors::Editors,
    released::Released,
    report::Reports,
    shadow::Shadow,
    stage::{Edit, StageError},
    trace::Trace,
};

/// Texts that are being made at the same time, in one chain of one worker: more than an engine works on.
const SESSIONS_MAX: usize = 4096;
/// Bytes of one text; an answer of 100,000 tokens has less. What comes after is withheld.
const TEXT_MAX: usize = 1 << 20;
/// Bytes that a text must have grown by before it is looked at again.
const STEP_MIN: usize = 64;

/// The texts of one chain, by request id.
#[derive(Default)]
pub(crate) struct Sessions(HashMap<String, Session>);

struct Session {
    text: String,
    /// Length of the text when it was last looked at.
    seen: usize,
    /// How the edited text begins, as far as it was released.
    released: String,
    /// The last part, for its time and place.
    last: Record,
    /// An editor failed or dropped the text: nothing more of it is released.
    ended: bool,
}

impl Sessions {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next part. The answer is what may be released by now, if anything.
    pub(crate) fn push(
        &mut self,
        mut record: Record,
        editors: &mut Editors,
        reports: &mut Reports,
        shadow: Option<&mut Shadow>,
    ) -> Option<Released> {
        let delta = take_text(&mut record);
        let Some(id) = record.context.as_ref().map(|it| it.request_id.clone()) else {
            // Of no request, so nothing can follow: it is whole.
            let mut session = Session::new(record);
            session.text = delta;
            return session.look(true, editors, reports, shadow);
        };
        if self.0.len() >= SESSIONS_MAX && !self.0.contains_key(&id) {
            // A request that only its session still knows is over; its end was lost.
            let goes_on =
                |it: &Session| it.last.context.as_ref().is_some_and(|it| Arc::strong_count(it) > 1);
            let before = self.0.len();
            self.0.retain(|_, it| goes_on(it));
            if let Some(shadow) = &shadow {
                shadow.skip(before - self.0.len());
            }
        }
        if self.0.len() >= SESSIONS_MAX && !self.0.contains_key(&id) {
            // A text is skipped once, however many parts of it are withheld.
            if let Some(shadow) = shadow
                && record.context.as_ref().is_some_and(|it| !it.is_torn())
            {
                shadow.skip(1);
            }
            record.context.iter().for_each(|it| it.tear());
            return Some(withhold(record, reports));
        }
        let session = self.0.entry(id).or_insert_with(|| Session::new(record.clone()));
        session.last = record;
        if session.ended {
            return None;
        }
        if session.text.len() + delta.len() > TEXT_MAX {
            session.ended = true;
            return Some(withhold(session.last.clone(), reports));
        }
        session.text.push_str(&delta);
        let step = STEP_MIN.max(session.text.len() / 8);
        if session.text.len() - session.seen < step {
            return None;
        }
        session.look(false, editors, reports, None)
    }

    /// This record of a request ends its text, whose rest is released before it.
    pub(crate) fn finish(
        &mut self,
        last: &Record,
        editors: &mut Editors,
        reports: &mut Reports,
        shadow: Option<&mut Shadow>,
    ) -> Option<Released> {
        let id = &last.context.as_ref()?.request_id;
        self.0.remove(id)?.look(true, editors, reports, shadow)
    }

    /// Nothing follows for any request.
    pub(crate) fn finish_all(
        &mut self,
        editors: &mut Editors,
        reports: &mut Reports,
        mut shadow: Option<&mut Shadow>,
    ) -> Vec<Released> {
        let mut released = Vec::new();
        for mut it in std::mem::take(&mut self.0).into_values() {
            released.extend(it.look(true, editors, reports, shadow.as_deref_mut()));
        }
        released
    }
}

impl Session {
    fn new(last: Record) -> Self {
        Self { text: String::new(), seen: 0, released: String::new(), last, ended: false }
    }

    /// Runs the text so far through the editors and releases what is new of what they are sure of. A shadow is shown the text
    /// once, when it is whole: what its editors would do with a part says nothing of what comes out. A text that never is whole
    /// is skipped.
    fn look(
        &mut self,
        whole: bool,
        editors: &mut Editors,
        reports: &mut Reports,
        shadow: Option<&mut Shadow>,
    ) -> Option<Released> {
        let torn = self.last.context.as_ref().is_some_and(|it| it.is_torn());
        let beside = shadow.filter(|_| whole).and_then(|it| {
            if self.ended || torn {
                it.skip(1);
                return None;
            }
            it.wants(1).then_some(it)
        });
        if self.ended {
            return None;
        }
        if torn {
            // With a hole in it, half a secret may look like none.
            self.ended = true;
            return Some(withhold(self.last.clone(), reports));
        }
        self.seen = self.text.len();
        let mut record = self.last.clone();
        record.event = event::RESPONSE_DELTA.into();
        record.fields = vec![Field::new(field::RESPONSE_DELTA, self.text.as_str())];
        let copy = beside.is_some().then(|| record.clone());
        let mut trace = copy.is_some().then(Trace::default);
        let start = Instant::now();
        let edited = editors.edit_part(record, 0, whole, trace.as_mut());
        if let (Some(shadow), Some(copy)) = (beside, copy) {
            let state = match &edited {
                Ok(Some(it)) => State::Open(it.clone()),
                Ok(None) => State::Dropped,
                Err(stub) => State::Stub(copy.clone(), stub.clone()),
            };
            shadow.compare(vec![copy], &[Draft { state, trace }], start.elapsed());
        }
        let edited = match edited {
            Ok(Some(edited)) => edited,
            Ok(None) => {
                self.ended = true;
                reports.dropped("session", "dropped by an editor".into(), 1);
                return None;
            }
            Err(stub) => return Some(self.fail(stub, reports)),
        };
        let text = match edited.fields.first() {
            Some(Field { value: Value::Text(it), .. }) => it,
            _ => return None,
        };
        let Some(new) = text.strip_prefix(self.released.as_str()) else {
            // An editor was sure of something else before: its promise about the longest match does not hold.
            let stub = Stub { plugin: "session".to_owned(), error: StageError::BadAnswer.name() };
            return Some(self.fail(stub, reports));
        };
        if new.is_empty() {
            return None;
        }
        let new = new.to_owned();
        self.released.push_str(&new);
        Some(Released::edited(Record {
            fields: vec![Field::new(field::RESPONSE_DELTA, new)],
            ..edited
        }))
    }

    fn fail(&mut self, stub: Stub, reports: &mut Reports) -> Released {
        self.ended = true;
        reports.failed(&stub.plugin, StageError::named(stub.error));
        reports.editor_failed(&stub.plugin, StageError::named(stub.error));
        Released::stub(self.last.clone(), stub)
    }
}

/// There is no room to hold the text back, so it is not released.
fn withhold(record: Record, reports: &mut Reports) -> Released {
    let stub = Stub { plugin: "session".to_owned(), error: StageError::Memory.name() };
    reports.failed(&stub.plugin, StageError::Memory);
    Released::stub(record, stub)
}

fn take_text(record: &mut Record) -> String {
    let at = record.fields.iter().position(|it| it.name == field::RESPONSE_DELTA);
    match at.map(|it| record.fields.swap_remove(it).value) {
        Some(Value::Text(it)) => it,
        _ => String::new(),
    }
}

/// Cuts a text, of which more is to come, where nothing before the cut can change any more, and keeps the edits before it.
pub(crate) fn settle(
    record: &mut Record,
    field: usize,
    edits: Vec<Edit>,
    longest: Option<usize>,
) -> Vec<Edit> {
    let Some(Field { value: Value::Text(text), .. }) = record.fields.get_mut(field) else {
        return edits;
    };
    let sure = longest.map_or(0, |it| text.len().saturating_sub(it));
    let mut cut = text.floor_char_boundary(sure);
    let (mut edits, others): (Vec<_>, Vec<_>) = edits.into_iter().partition(|it| it.field == field);
    edits = merge(edits);
    // An edit across the cut waits as a whole: another one may yet join it.
    if let Some(across) = edits.iter().find(|it| it.start < cut && cut < it.end) {
        cut = across.start;
    }
    text.truncate(cut);
    edits.retain(|it| it.end <= cut);
    edits.extend(others);
    edits
}
