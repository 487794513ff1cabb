//! Two chains at the same records: what the second does otherwise. Nothing is emitted, and a difference holds labels and places,
//! never text.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use record::{Field, Record, Value};

use crate::{
    chain::{Spec, Tools},
    draft::{Draft, Drafts, State},
    editors::Editors,
    output::Output,
    released::Released,
    report::Reports,
    slot::Slot,
    stage::{Formatter, StageError},
    stats::StageKey,
    trace::Taken,
};

/// Places that are named at most.
const PLACES_MAX: usize = 16;

/// How two chains treated one record otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What the first takes out and the second leaves.
    pub missed: Vec<Taken>,
    /// What the second takes out and the first leaves.
    pub added: Vec<Taken>,
    /// What both take out, under another label, in another form, or not in the same width.
    pub relabelled: Vec<Taken>,
    /// Whether any text of the record comes out otherwise.
    pub text_changed: bool,
    /// The outcomes, where they are not the same: `kept`, `withheld` or `dropped`.
    pub outcome: Option<(&'static str, &'static str)>,
    /// Outputs whose lines for the record come out otherwise.
    pub outputs: Vec<Arc<str>>,
}

impl Difference {
    /// None when both did the same. Both drafts were traced.
    pub(crate) fn of(first: &Draft, second: &Draft) -> Option<Self> {
        let (a, b) = (taken(first), taken(second));
        let only = |from: &[Taken], covered: &[bool]| -> Vec<Taken> {
            let left = from.iter().zip(covered).filter(|(_, covered)| !**covered);
            left.map(|(it, _)| it.clone()).collect()
        };
        let (of_a, of_b) = (covered(a, b), covered(b, a));
        let same: BTreeSet<&Taken> = b.iter().collect();
        let both = a.iter().zip(&of_a).filter(|(it, covered)| **covered && !same.contains(it));
        let relabelled = both.map(|(it, _)| it.clone()).collect();
        let outcomes = (outcome(&first.state), outcome(&second.state));
        let difference = Self {
            missed: only(a, &of_a),
            added: only(b, &of_b),
            relabelled,
            text_changed: texts(&first.state) != texts(&second.state),
            outcome: (outcomes.0 != outcomes.1).then_some(outcomes),
            outputs: Vec::new(),
        };
        (difference != Self::default()).then_some(difference)
    }
}

/// Labels and places, for people: `EMAIL 12..27, CARD 40..59`.
pub fn places(taken: &[Taken]) -> String {
    let mut places: Vec<String> = taken
        .iter()
        .take(PLACES_MAX)
        .map(|it| format!("{} {}..{}", it.label, it.start, it.end))
        .collect();
    if taken.len() > PLACES_MAX {
        places.push(format!("and {} more", taken.len() - PLACES_MAX));
    }
    places.join(", ")
}

/// Two chains that are given the same records.
pub struct Comparison {
    first: Side,
    second: Side,
}

/// Editors of a chain, and the formatter of each of its outputs, by the output's name.
struct Side {
    editors: Editors,
    formatters: BTreeMap<Arc<str>, (Slot<dyn Formatter>, Arc<Output>)>,
}

impl Comparison {
    pub fn new(first: (&Spec, Tools), second: (&Spec, Tools)) -> Self {
        Self { first: Side::new(first.0, &first.1), second: Side::new(second.0, &second.1) }
    }

    /// One answer for each record, in order; none where both chains did the same.
    pub fn run(&mut self, batch: Vec<Record>) -> Vec<Option<Difference>> {
        let (first, first_lines) = self.first.run(batch.clone());
        let (second, second_lines) = self.second.run(batch);
        let mut differences: Vec<Option<Difference>> =
            first.iter().zip(&second).map(|(a, b)| Difference::of(a, b)).collect();
        let outputs = first_lines.keys().chain(second_lines.keys());
        for output in outputs.collect::<BTreeSet<_>>() {
            for (at, difference) in differences.iter_mut().enumerate() {
                let lines = |of: &Lines| of.get(output).and_then(|it| it.get(&at)).cloned();
                if lines(&first_lines) != lines(&second_lines) {
                    let it = difference.get_or_insert_default();
                    it.outputs.push(output.clone());
                }
            }
        }
        differences
    }
}

/// By output, the text of each record that has lines there.
type Lines = BTreeMap<Arc<str>, BTreeMap<usize, Result<String, StageError>>>;

impl Side {
    fn new(spec: &Spec, tools: &Tools) -> Self {
        let mut formatters = BTreeMap::new();
        for (formatter, outputs) in &spec.outputs {
            for output in outputs {
                let key = StageKey {
                    chain: spec.name.clone(),
                    plugin: formatter.name().to_owned(),
                    role: "formatter",
                };
                let slot = Slot::new(formatter.clone(), tools.stats.stage(key));
                formatters.insert(Arc::from(output.name()), (slot, output.clone()));
            }
        }
        let (replacer, stats) = (tools.replacer.clone(), &tools.stats);
        let editors = Editors::new(&spec.editors, (&spec.name, "editor"), replacer, stats);
        Self { editors, formatters }
    }

    fn run(&mut self, batch: Vec<Record>) -> (Vec<Draft>, Lines) {
        let mut drafts = Drafts::new(batch, true);
        self.editors.edit(&mut drafts, &mut Reports::new());
        let drafts = drafts.finish();
        let mut places = Vec::new();
        let mut released: Vec<Released> = Vec::new();
        for (place, draft) in drafts.iter().enumerate() {
            let copy = Draft { state: draft.state.clone(), trace: None };
            if let Some(it) = copy.release() {
                places.push(place);
                released.push(it);
            }
        }
        let mut lines = Lines::new();
        for (output, (slot, near)) in &mut self.formatters {
            let texts = lines.entry(output.clone()).or_default();
            match slot.call(released.len(), |it| it.format(&released)) {
                Ok(formatted) => {
                    let mut start = 0;
                    for (record, end) in formatted.lines {
                        let line = formatted.text.get(start..end).unwrap_or_default();
                        start = end;
                        let Some(place) = places.get(record) else { continue };
                        if !near.filter().accepts(&released[record]) {
                            continue;
                        }
                        let text = texts.entry(*place).or_insert_with(|| Ok(String::new()));
                        if let Ok(text) = text {
                            text.push_str(line);
                            text.push('\n');
                        }
                    }
                }
                Err(error) => texts.extend(places.iter().map(|it| (*it, Err(error)))),
            }
        }
        (drafts, lines)
    }
}

fn taken(draft: &Draft) -> &[Taken] {
    draft.trace.as_ref().map_or(&[], |it| it.taken())
}

/// For each of `of`, whether one of `by` overlaps it. A text may have a hundred thousand of each.
fn covered(of: &[Taken], by: &[Taken]) -> Vec<bool> {
    let mut by: Vec<(usize, usize, usize)> =
        by.iter().map(|it| (it.field, it.start, it.end)).collect();
    by.sort_unstable();
    // The furthest end of all that start before.
    for at in 1..by.len() {
        if by[at].0 == by[at - 1].0 {
            by[at].2 = by[at].2.max(by[at - 1].2);
        }
    }
    let is_covered = |it: &Taken| {
        let before = by.partition_point(|other| (other.0, other.1) < (it.field, it.end));
        let last = before.checked_sub(1).map(|at| by[at]);
        last.is_some_and(|(field, _, end)| field == it.field && end > it.start)
    };
    of.iter().map(is_covered).collect()
}

fn outcome(state: &State) -> &'static str {
    match state {
        State::Open(_) => "kept",
        State::Stub(..) => "withheld",
        State::Dropped => "dropped",
    }
}

fn texts(state: &State) -> Vec<&str> {
    let State::Open(record) = state else { return Vec::new() };
    record.fields.iter().filter_map(text).collect()
}

fn text(field: &Field) -> Option<&str> {
    match &field.value {
        Value::Text(it) => Some(it),
        _ => None,
    }
}
