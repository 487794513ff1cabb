//! Applying an editor's answer to a record: bounds and character boundaries are checked, overlaps merged, and what takes the
//! place of the text is written by the host, so that an editor can only take away and label.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use record::{Field, Record, Value, field};
use sha2::Sha256;

use crate::{
    stage::{Edit, Mode, StageError},
    trace::{Applied, Trace},
};

/// Edits that one record may get from one editor: over this an answer is nonsense. A prompt may have a million characters, and an
/// e-mail address with the space behind it takes seven.
const EDITS_MAX: usize = 200_000;

/// In which language the marker of cut text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ellipsis {
    /// `…(+150자)`
    #[default]
    Korean,
    /// `…(+150 chars)`
    English,
}

/// Writes what takes the place of text that was taken out.
#[derive(Clone)]
pub struct Replacer {
    ellipsis: Ellipsis,
    key: Hmac<Sha256>,
}

impl Replacer {
    /// `key` makes pseudonyms: the same key gives the same pseudonym for the same text. It never enters a plugin.
    pub fn new(ellipsis: Ellipsis, key: &[u8]) -> Self {
        let key = Hmac::<Sha256>::new_from_slice(key)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        Self { ellipsis, key }
    }

    /// Applies the edits of one editor to one record.
    ///
    /// # Errors
    /// [`StageError::BadAnswer`] when an edit names a field that is not content, lies outside it, splits a character, or when
    /// there are too many. The record is then as it was.
    pub fn apply(&self, record: &mut Record, edits: Vec<Edit>) -> Result<(), StageError> {
        check(record, &edits)?;
        self.apply_checked(record, edits, None);
        Ok(())
    }

    /// [`Replacer::apply`] of edits that were checked, noting what was taken out where.
    pub(crate) fn apply_checked(
        &self,
        record: &mut Record,
        edits: Vec<Edit>,
        mut trace: Option<&mut Trace>,
    ) {
        let edits = merge(edits);
        let mut redactions = 0;
        for of_field in edits.chunk_by(|a, b| a.field == b.field) {
            let Some(Field { value: Value::Text(text), .. }) =
                record.fields.get_mut(of_field[0].field)
            else {
                continue;
            };
            redactions += of_field.iter().filter(|it| it.mode != Mode::Ellipsis).count();
            let mut applied = trace.is_some().then(Vec::new);
            *text = self.rewrite(text, of_field, applied.as_mut());
            if let (Some(trace), Some(applied)) = (&mut trace, applied) {
                trace.add(of_field[0].field, applied);
            }
        }
        if redactions > 0 {
            count(record, redactions);
        }
    }

    /// The text with each edit's replacement in its place. Where those are is noted in `applied`, if somebody wants to know.
    fn rewrite(
        &self,
        text: &str,
        edits: &[Edit],
        mut applied: Option<&mut Vec<Applied>>,
    ) -> String {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for edit in edits {
            out.push_str(&text[at..edit.start]);
            let start = out.len();
            self.replace(&mut out, &text[edit.start..edit.end], edit);
            at = edit.end;
            if let Some(applied) = &mut applied {
                applied.push(Applied { edit: edit.clone(), start, end: out.len() });
            }
        }
        out.push_str(&text[at..]);
        out
    }

    fn replace(&self, out: &mut String, taken: &str, edit: &Edit) {
        // Writing to a String cannot fail.
        let _ = match (edit.mode, self.ellipsis) {
            // Nearly all edits: formatting would cost more than the copy.
            (Mode::Label, _) => {
                out.push('[');
                out.push_str(&edit.label);
                out.push(']');
                Ok(())
            }
            (Mode::Pseudonym, _) => {
                let mut mac = self.key.clone();
                mac.update(edit.label.as_bytes());
                mac.update(&[0]);
                mac.update(taken.as_bytes());
                let tag = mac.finalize().into_bytes();
                // 32 bits: enough to follow one address through a log, too few to look it up without the key.
                write!(
                    out,
                    "[{}:{:02x}{:02x}{:02x}{:02x}]",
                    edit.label, tag[0], tag[1], tag[2], tag[3]
                )
            }
            (Mode::Ellipsis, Ellipsis::Korean) => write!(out, "…(+{}자)", taken.chars().count()),
            (Mode::Ellipsis, Ellipsis::English) => {
                write!(out, "…(+{} chars)", taken.chars().count())
            }
        };
    }
}

/// Whether edits fit a record.
///
/// # Errors
/// As [`Replacer::apply`].
pub fn check(record: &Record, edits: &[Edit]) -> Result<(), StageError> {
    let fits = |of_field: &[Edit]| match record.fields.get(of_field[0].field) {
        // Text of a closed set is not an editor's to change: it could spell what it saw in labels there.
        Some(field) if !field.is_content() => false,
        Some(Field { value: Value::Text(text), .. }) => {
            // `get` refuses a range that is reversed, outside, or inside a character.
            of_field.iter().all(|it| text.get(it.start..it.end).is_some())
        }
        _ => false,
    };
    let good = edits.len() <= EDITS_MAX && edits.chunk_by(|a, b| a.field == b.field).all(fits);
    if good { Ok(()) } else { Err(StageError::BadAnswer) }
}

/// Sorts edits by field and place, and joins those that overlap; the longer one gives label and mode.
pub(crate) fn merge(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.retain(|it| it.start < it.end);
    edits.sort_by_key(|it| (it.field, it.start, it.end));
    // Length of the edit that gave the last merged one its label.
    let mut longest = edits.first().map_or(0, |it| it.end - it.start);
    edits.dedup_by(|edit, last| {
        let length = edit.end - edit.start;
        if edit.field != last.field || edit.start >= last.end {
            longest = length;
            return false;
        }
        last.end = last.end.max(edit.end);
        if length > longest {
            longest = length;
            last.mode = edit.mode;
            std::mem::swap(&mut last.label, &mut edit.label);
        }
        true
    });
    edits
}

/// Adds to the record's number of redactions, which several editors share.
fn count(record: &mut Record, redactions: usize) {
    let redactions = i64::try_from(redactions).unwrap_or(i64::MAX);
    let known = record.fields.iter_mut().find(|it| it.name == field::REDACTIONS);
    match known {
        Some(Field { value: Value::Int(sum), .. }) => *sum = sum.saturating_add(redactions),
        _ => {
            // For one field more the list would else grow to twice its size, or to four fields.
            record.fields.reserve_exact(1);
            record.fields.push(Field::new(field::REDACTIONS, redactions));
        }
    }
}
