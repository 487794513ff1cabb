//! What an editor answers with: which part of which value goes, and what stands there instead.

use std::ops::Range;

use crate::{Edit, FieldView};

/// The host writes the label in brackets.
pub const LABEL: u32 = 0;
/// The host writes the label and a keyed pseudonym of what was taken out: equal texts get equal pseudonyms.
pub const PSEUDONYM: u32 = 1;
/// The host writes an ellipsis with the number of characters taken out.
pub const ELLIPSIS: u32 = 2;

/// Collects the edits of a batch. Ranges are bytes from the start of the value, on character boundaries; empty ones are
/// left out.
#[derive(Debug, Default)]
pub struct Edits(Vec<Edit>);

impl Edits {
    /// Replaces a part by its label.
    pub fn label(&mut self, field: &FieldView<'_>, range: Range<usize>, label: u32) {
        self.push(field, range, label, LABEL);
    }

    /// Replaces a part by its label and a keyed pseudonym.
    pub fn pseudonym(&mut self, field: &FieldView<'_>, range: Range<usize>, label: u32) {
        self.push(field, range, label, PSEUDONYM);
    }

    /// Cuts a part out and says how long it was.
    pub fn ellipsis(&mut self, field: &FieldView<'_>, range: Range<usize>) {
        self.push(field, range, 0, ELLIPSIS);
    }

    /// Any of the three, by number.
    pub fn push(&mut self, field: &FieldView<'_>, range: Range<usize>, label: u32, mode: u32) {
        if range.start < range.end {
            let (start, end) = (range.start as u32, range.end as u32);
            self.0.push(Edit { value: field.index(), start, end, label, mode });
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(crate) fn into_vec(self) -> Vec<Edit> {
        self.0
    }
}
