//! One typed log event.

use std::{borrow::Cow, sync::Arc};

use crate::{RequestContext, Severity, field};

/// A name of an event or a field: almost always a constant of [`crate::event`] or [`crate::field`].
pub type Name = Cow<'static, str>;

/// One typed log event of one request, or of the server itself.
#[derive(Clone, Debug)]
pub struct Record {
    /// Unix time in nanoseconds.
    pub time: i64,
    /// Seconds east of UTC of this machine's clock at that time.
    pub utc_offset: i32,
    pub severity: Severity,
    pub event: Name,
    pub stream: Stream,
    /// The request it belongs to; none for the server's own records.
    pub context: Option<Arc<RequestContext>>,
    /// Position in the request, from 0, with no holes; 0 outside requests.
    pub seq: u32,
    /// Set when a required editor failed and the content was withheld.
    pub stub: Option<Stub>,
    pub fields: Vec<Field>,
}

/// Which of the two logs of the server a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    App,
    Engine,
    /// Of neither log: parts of a completion on their way to the store, which no output is given.
    Store,
}

impl Stream {
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Engine => "engine",
            Self::Store => "store",
        }
    }
}

/// Why a record has no content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// The editor that failed.
    pub plugin: String,
    /// What it did, of a closed set: `trap`, `deadline`, `memory`, …
    pub error: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: Name,
    pub value: Value,
    /// It came from outside the server, so its name proves nothing about it.
    foreign: bool,
}

impl Field {
    pub fn new(name: impl Into<Name>, value: impl Into<Value>) -> Self {
        Self { name: name.into(), value: value.into(), foreign: false }
    }

    /// A field that somebody else named: its text is content whatever the name says.
    pub fn foreign(name: impl Into<Name>, value: impl Into<Value>) -> Self {
        Self { foreign: true, ..Self::new(name, value) }
    }

    /// Whether the field holds what a person wrote or the model said; see [`field::is_metadata`].
    pub fn is_content(&self) -> bool {
        let text = matches!(self.value, Value::Text(_));
        text && (self.foreign || !field::is_metadata(&self.name))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Record {
    /// The value of the first field of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|it| it.name == name).map(|it| &it.value)
    }

    /// Takes every content field out and says why: the record goes on with its ids, times, numbers and outcome.
    pub fn into_stub(mut self, stub: Stub) -> Self {
        self.fields.retain(|it| !it.is_content());
        self.fields.push(Field::new(field::PLUGIN, stub.plugin.as_str()));
        self.fields.push(Field::new(field::PLUGIN_ERROR, stub.error));
        self.stub = Some(stub);
        self
    }
}

impl From<&str> for Value {
    fn from(it: &str) -> Self {
        Self::Text(it.to_owned())
    }
}

impl From<String> for Value {
    fn from(it: String) -> Self {
        Self::Text(it)
    }
}

impl From<i64> for Value {
    fn from(it: i64) -> Self {
        Self::Int(it)
    }
}

impl From<f64> for Value {
    fn from(it: f64) -> Self {
        Self::Float(it)
    }
}

impl From<bool> for Value {
    fn from(it: bool) -> Self {
        Self::Bool(it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_keeps_numbers_and_metadata_and_no_other_text() {
        let record = Record {
            time: 0,
            utc_offset: 0,
            severity: Severity::INFO,
            event: "request.prompt".into(),
            stream: Stream::App,
            context: None,
            seq: 0,
            stub: None,
            fields: vec![
                Field::new(field::PROMPT_CHARS, 4_i64),
                Field::new(field::PROMPT_TEXT, "hush"),
                Field::new(field::HTTP_ROUTE, "/vision"),
                Field::new("somebody.else", "hush"),
                Field::foreign(field::ERROR_TYPE, "hush"),
            ],
        };
        let stub = record.into_stub(Stub { plugin: "redact".into(), error: "trap" });
        let names: Vec<_> = stub.fields.iter().map(|it| it.name.as_ref()).collect();
        assert_eq!(
            names,
            [field::PROMPT_CHARS, field::HTTP_ROUTE, field::PLUGIN, field::PLUGIN_ERROR]
        );
    }
}
