//! What editors took out of a record, told in the places of the text that it came with, however many editors wrote over each
//! other: the common ground on which two chains can be compared.

use std::{collections::BTreeMap, sync::Arc};

use crate::stage::{Edit, Mode};

/// One record's edits, of all editors.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    taken: Vec<Taken>,
    /// For each edited field, the parts of its present text that replace something, in order.
    replaced: BTreeMap<usize, Vec<Replaced>>,
}

/// One part that was taken out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    /// Index into the record's fields.
    pub field: usize,
    /// Bytes of the text before any editor.
    pub start: usize,
    pub end: usize,
    pub label: Arc<str>,
    pub mode: Mode,
}

/// An edit of a text, and the bytes of the new text that its replacement takes up.
pub(crate) struct Applied {
    pub(crate) edit: Edit,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Copy, Debug)]
struct Replaced {
    start: usize,
    end: usize,
    original_start: usize,
    original_end: usize,
}

impl Trace {
    /// What was taken out, in the order in which editors did.
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// Notes what one editor did to one field; `applied` is in order and does not overlap.
    pub(crate) fn add(&mut self, field: usize, applied: Vec<Applied>) {
        let old = self.replaced.remove(&field).unwrap_or_default();
        let mut new: Vec<Replaced> = Vec::with_capacity(old.len() + applied.len());
        let mut kept = old.iter().copied().peekable();
        // How far text behind the last edit has moved.
        let mut shift = 0_isize;
        for it in applied {
            while let Some(before) = kept.next_if(|old| old.end <= it.edit.start) {
                new.push(before.moved(shift));
            }
            // What lies inside the edit is gone with it.
            while kept.next_if(|old| old.start < it.edit.end).is_some() {}
            let original_start = original(&old, it.edit.start, |inside| inside.original_start);
            let original_end = original(&old, it.edit.end, |inside| inside.original_end);
            new.push(Replaced { start: it.start, end: it.end, original_start, original_end });
            self.taken.push(Taken {
                field,
                start: original_start,
                end: original_end,
                label: it.edit.label,
                mode: it.edit.mode,
            });
            shift = it.end.cast_signed() - it.edit.end.cast_signed();
        }
        new.extend(kept.map(|it| it.moved(shift)));
        self.replaced.insert(field, new);
    }
}

impl Replaced {
    fn moved(self, by: isize) -> Self {
        let to = |it: usize| it.saturating_add_signed(by);
        Self { start: to(self.start), end: to(self.end), ..self }
    }
}

/// Where a place of the present text was in the original; `inside` decides for a place within a replacement.
fn original(replaced: &[Replaced], at: usize, inside: fn(&Replaced) -> usize) -> usize {
    let before = replaced.partition_point(|it| it.start <= at);
    match before.checked_sub(1).map(|it| &replaced[it]) {
        None => at,
        Some(it) if at == it.start => it.original_start,
        Some(it) if at < it.end => inside(it),
        Some(it) => at - it.end + it.original_end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(start: usize, end: usize, new: (usize, usize)) -> Applied {
        let edit = Edit { field: 0, start, end, label: "X".into(), mode: Mode::Label };
        Applied { edit, start: new.0, end: new.1 }
    }

    #[test]
    fn places_are_those_of_the_first_text() {
        let mut trace = Trace::default();
        // "0123456789abcdef" -> "01[X]6789[X]cdef"
        trace.add(0, vec![applied(2, 6, (2, 5)), applied(10, 12, (9, 12))]);
        // Over the first replacement, between the two, and over the end of the second and what follows.
        // "01[X]6789[X]cdef" -> "0[X]7[X][X]"
        trace.add(0, vec![applied(1, 6, (1, 4)), applied(7, 9, (5, 8)), applied(10, 16, (9, 12))]);
        let places: Vec<(usize, usize)> =
            trace.taken().iter().map(|it| (it.start, it.end)).collect();
        assert_eq!(places, [(2, 6), (10, 12), (1, 7), (8, 10), (10, 16)]);
    }
}
