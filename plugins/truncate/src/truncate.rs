//! The plugin: one edit for each text that is too long.

use sdk::{
    Description, Diagnostic, Editor, Edits, FieldView, Guard, Plugin, RecordView, Setup, Verdict,
    severity,
};

use crate::{
    Config, Keep,
    config::{self, Limits},
    cut,
};

#[derive(Debug)]
pub struct Truncate {
    keep: Keep,
    named: Vec<(String, Limits)>,
    content: Limits,
}

impl Plugin for Truncate {
    type Config = Config;

    fn description() -> Description {
        sdk::describe!("Cuts long texts, and says how much was cut.", config::SCHEMA)
    }

    fn configure(config: Config) -> Result<(Self, Setup), Vec<Diagnostic>> {
        let (named, content) = config.limits()?;
        let mut reads = vec![config::CONTENT.to_owned()];
        reads.extend(named.iter().map(|(name, _)| name.clone()));
        // What a stream shows is for the limit of its own to say, so nothing is held back.
        let smallest = named.iter().map(|(_, it)| it).chain([&content]).flatten().min();
        // No character is shorter than a byte, so a text within the smallest limit is within each.
        let min_bytes = smallest.map_or(0, |it| it.saturating_add(1));
        let setup = Setup {
            reads,
            guards: vec![Guard { min_bytes, regex: String::new() }],
            ..Setup::default()
        };
        Ok((Self { keep: config.keep, named, content }, setup))
    }
}

impl Editor for Truncate {
    fn edit(&self, record: RecordView<'_>, edits: &mut Edits) -> Verdict {
        let level = severity::level(record.severity());
        for field in record.fields() {
            let Some(text) = field.text() else { continue };
            let Some(limit) = self.limit(&field, level) else { continue };
            if let Some(range) = cut::range(text, limit as usize, self.keep) {
                edits.ellipsis(&field, range);
            }
        }
        Verdict::Keep
    }
}

impl Truncate {
    fn limit(&self, field: &FieldView<'_>, level: usize) -> Option<u32> {
        let named = self.named.iter().find(|(name, _)| name == field.name());
        let limits = named.map(|(_, it)| it).or(field.is_content().then_some(&self.content))?;
        limits.get(level).copied()
    }
}
