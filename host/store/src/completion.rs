//! What is kept of a completion: what its records said after every editor.

use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub(crate) struct Completion {
    pub(crate) id: String,
    pub(crate) request_id: String,
    /// Unix seconds, as the answer had it.
    pub(crate) created: i64,
    pub(crate) model: String,
    pub(crate) choices: Vec<Choice>,
    /// None: nobody counted.
    pub(crate) usage: Option<Usage>,
    /// `seed`, `temperature` and `top_p`, where the request said them.
    pub(crate) settings: Vec<(&'static str, Value)>,
    pub(crate) messages: Vec<Message>,
    pub(crate) metadata: Metadata,
    /// Why there is no content.
    pub(crate) withheld: Option<Withheld>,
}

pub(crate) type Metadata = Vec<(String, String)>;

#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) index: i64,
    pub(crate) finish_reason: String,
    pub(crate) text: Option<String>,
    pub(crate) calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) function: Option<String>,
    pub(crate) arguments: Option<String>,
}

/// Of tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) input: i64,
    pub(crate) output: i64,
    pub(crate) images: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) parts: Vec<Part>,
    /// Those that an assistant made.
    pub(crate) calls: Vec<Call>,
    /// The call that a tool answers.
    pub(crate) call_id: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(String),
    /// Pictures are not kept.
    Image,
}

/// Why content is missing, in words of a closed set and configured names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// An editor failed: its name, and what it did.
    Editor { plugin: String, error: &'static str },
    /// A record was lost on the way, or an editor dropped it.
    Incomplete,
    /// Larger than one completion may be.
    TooLarge,
}

impl Withheld {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Editor { error, .. } => error,
            Self::Incomplete => "incomplete",
            Self::TooLarge => "too_large",
        }
    }

    pub(crate) fn plugin(&self) -> Option<&str> {
        match self {
            Self::Editor { plugin, .. } => Some(plugin),
            _ => None,
        }
    }
}

impl Completion {
    /// Takes out all that a person wrote or the model said.
    pub(crate) fn withhold(&mut self, why: Withheld) {
        for it in &mut self.choices {
            it.text = None;
            it.calls.clear();
        }
        self.messages.clear();
        self.metadata.clear();
        self.withheld = Some(why);
    }
}
