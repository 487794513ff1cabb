//! Whom a rule fits.

use sdk::RecordView;

use crate::title::Title;

#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub channel: String,
    /// The least severity number.
    pub severity: u32,
    /// Any event when empty.
    pub events: Vec<String>,
    pub title: Title,
}

impl Rule {
    pub fn fits(&self, record: RecordView<'_>) -> bool {
        record.severity() >= self.severity
            && (self.events.is_empty() || self.events.iter().any(|it| it == record.event()))
    }
}
