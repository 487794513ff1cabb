//! Titles with placeholders.

use sdk::{RecordView, severity};

pub const ERROR: &str = "error.type";
pub const ROUTE: &str = "http.route";
pub const STATUS: &str = "http.response.status_code";
pub const PLUGIN: &str = "bucksaw.plugin";
pub const PLUGIN_ERROR: &str = "bucksaw.plugin.error";

/// What mail programs and chats show of a title.
const MAX_TITLE: usize = 200;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Title(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Rule,
    Event,
    Severity,
    Error,
    Route,
    Status,
    Plugin,
    Request,
}

impl Title {
    /// The error says which placeholder is unknown, and which there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, behind)) = after.split_once('}') else {
                return Err("a { is not closed, write the name of a placeholder and }".to_owned());
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::parse(name)?);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The title of an alert about this record.
    pub fn render(&self, rule: &str, record: RecordView<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(it) => out.push_str(it),
                Part::Rule => out.push_str(rule),
                Part::Event => out.push_str(record.event()),
                Part::Severity => out.push_str(severity::name(record.severity())),
                Part::Error => out.push_str(error(record)),
                Part::Route => out.push_str(record.text(ROUTE).unwrap_or_default()),
                Part::Status => {
                    if let Some(it) = record.int(STATUS) {
                        out.push_str(&it.to_string());
                    }
                }
                Part::Plugin => out.push_str(record.text(PLUGIN).unwrap_or_default()),
                Part::Request => out.push_str(record.short_id()),
            }
        }
        let mut end = out.len().min(MAX_TITLE);
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.truncate(out.trim_end().len());
        out
    }
}

/// What went wrong, in one word: of the request, or of the plugin.
pub fn error(record: RecordView<'_>) -> &str {
    record.text(ERROR).or_else(|| record.text(PLUGIN_ERROR)).unwrap_or_default()
}

impl Part {
    fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            "rule" => Self::Rule,
            "event" => Self::Event,
            "severity" => Self::Severity,
            "error" => Self::Error,
            "route" => Self::Route,
            "status" => Self::Status,
            "plugin" => Self::Plugin,
            "request" => Self::Request,
            _ => {
                return Err(format!(
                    "{name:?} is not a placeholder, write rule, event, severity, error, route, \
                     status, plugin or request"
                ));
            }
        })
    }
}
