//! What came out otherwise, for people: numbers, names, labels and places. No text of a record comes in here.

use std::{collections::BTreeMap, sync::Arc};

use chain::{Difference, compare::places, trace::Taken};
use record::Record;

const MISSED: &str = "spans missed";
const ADDED: &str = "spans added";

/// How two chains treated the same records.
#[derive(Debug, Default)]
pub(super) struct Report {
    records: u64,
    different: u64,
    missed: u64,
    added: u64,
    relabelled: u64,
    texts: u64,
    outcomes: u64,
    /// By output, the records whose lines are not the same.
    outputs: BTreeMap<Arc<str>, u64>,
    shown: Vec<Shown>,
    show: usize,
    /// Of each chain, seconds of a record: p50 and p99.
    pub(super) costs: [Option<(f64, f64)>; 2],
}

/// One difference.
#[derive(Debug)]
struct Shown {
    /// From 1; of a file, it is the line.
    number: u64,
    event: String,
    lines: Vec<String>,
}

impl Report {
    /// Keeps the first `show` differences to be shown.
    pub(super) fn new(show: usize) -> Self {
        Self { show, ..Self::default() }
    }

    /// Counts the next record, as it was before both chains.
    pub(super) fn add(&mut self, record: &Record, difference: Option<&Difference>) {
        self.records += 1;
        let Some(it) = difference else { return };
        self.different += 1;
        self.missed += it.missed.len() as u64;
        self.added += it.added.len() as u64;
        self.relabelled += it.relabelled.len() as u64;
        self.texts += u64::from(it.text_changed);
        self.outcomes += u64::from(it.outcome.is_some());
        for output in &it.outputs {
            *self.outputs.entry(output.clone()).or_default() += 1;
        }
        if self.shown.len() < self.show {
            self.shown.push(Shown::new(self.records, record, it));
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn is_same(&self) -> bool {
        self.different == 0
    }

    /// Everything, for a console. `names`: of the two configurations.
    pub(super) fn text(&self, chain: &str, names: [&str; 2]) -> String {
        let noun = if self.records == 1 { "record" } else { "records" };
        let verdict = match self.different {
            0 => "no difference".to_owned(),
            it => format!("{it} different"),
        };
        let mut text = format!("chain {chain}: {} {noun}, {verdict}\n", self.records);
        let wide = names.iter().map(|it| it.chars().count()).max().unwrap_or(0);
        let costs = names.iter().zip(self.costs).filter_map(|(name, cost)| {
            let (p50, p99) = cost.map(|(p50, p99)| (micros(p50), micros(p99)))?;
            Some(format!("  {name:wide$}  {p50} a record (p50), {p99} (p99)\n"))
        });
        text.push('\n');
        text.extend(costs);
        if self.is_same() {
            return text;
        }
        text.push('\n');
        let kinds = self.kinds();
        let wide = kinds.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (kind, count) in &kinds {
            let note = match kind.as_str() {
                MISSED => format!("  taken out by {} only", names[0]),
                ADDED => format!("  taken out by {} only", names[1]),
                _ => String::new(),
            };
            text += &format!("  {kind:wide$}  {count:>7}{note}\n");
        }
        for it in &self.shown {
            text += &format!("\n  record {}, {}\n", it.number, it.event);
            text.extend(it.lines.iter().map(|line| format!("    {line}\n")));
        }
        let more = self.different - self.shown.len() as u64;
        if more > 0 {
            text += &format!("\n  and {more} more: --show says how many are shown\n");
        }
        text
    }

    /// One sentence: how many, of which kinds, and where the first one is.
    pub(super) fn sentence(&self) -> String {
        let kinds = self.kinds();
        let kinds: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        let first = self.shown.first().map_or(String::new(), |it| {
            format!("; the first is record {}, {}: {}", it.number, it.event, it.lines.join("; "))
        });
        let (different, records) = (self.different, self.records);
        format!("{different} of {records} records come out otherwise ({}){first}", kinds.join(", "))
    }

    /// The kinds of differences that there are, and how many of each.
    fn kinds(&self) -> Vec<(String, u64)> {
        let kinds = [
            (MISSED, self.missed),
            (ADDED, self.added),
            ("spans relabelled", self.relabelled),
            ("texts changed", self.texts),
            ("outcomes changed", self.outcomes),
        ];
        let kinds = kinds.map(|(name, count)| (name.to_owned(), count));
        let outputs = self.outputs.iter().map(|(name, it)| (format!("lines of {name}"), *it));
        kinds.into_iter().chain(outputs).filter(|(_, count)| *count > 0).collect()
    }
}

impl Shown {
    fn new(number: u64, record: &Record, difference: &Difference) -> Self {
        let spans = [
            ("missed", &difference.missed),
            ("added", &difference.added),
            ("relabelled", &difference.relabelled),
        ];
        let mut lines = Vec::new();
        for (what, taken) in spans {
            let mut by_field: BTreeMap<usize, Vec<Taken>> = BTreeMap::new();
            for it in taken {
                by_field.entry(it.field).or_default().push(it.clone());
            }
            for (field, taken) in by_field {
                let name = record.fields.get(field).map_or("a field", |it| it.name.as_ref());
                lines.push(format!("{name} {what} {}", places(&taken)));
            }
        }
        if difference.text_changed {
            lines.push("text changed".to_owned());
        }
        if let Some((first, second)) = difference.outcome {
            lines.push(format!("outcome {first}, then {second}"));
        }
        if !difference.outputs.is_empty() {
            lines.push(format!("lines changed of {}", difference.outputs.join(", ")));
        }
        Self { number, event: record.event.to_string(), lines }
    }
}

fn micros(seconds: f64) -> String {
    format!("{:.1} µs", seconds * 1e6)
}

#[cfg(test)]
mod tests;
