//! Calls of tools in what a model writes, found while it writes: text goes on as text, a call's name and arguments go out as soon
//! as they are known. What looks like a call and is none comes out as the text that it is.

#[cfg(test)]
mod tests;

use engine::ToolFormat;
use serde_json::Value;

const HERMES_OPEN: &str = "<tool_call>";
const HERMES_CLOSE: &str = "</tool_call>";
const LLAMA_OPEN: &str = "<|python_tag|>";
const MISTRAL_OPEN: &str = "[TOOL_CALLS]";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Text(String),
    /// A call begins.
    Call {
        name: String,
    },
    /// The next part of the arguments of the call that began last, as the model wrote it.
    Arguments(String),
}

pub(crate) struct CallParser {
    format: ToolFormat,
    /// What has come and is not decided yet.
    buffer: String,
    state: State,
    /// What stood before the object that is being read.
    opened: String,
    /// Nothing but white space has come since the beginning, or since a call.
    fresh: bool,
    calls: usize,
    /// A call came before what is being read now.
    after_call: bool,
}

enum State {
    /// Nothing has been said yet that decides whether this answer is calls. For Hermes: outside of tags.
    Open,
    /// In a JSON object that may be a call.
    Object(Object),
    /// A call ended; there may be another one.
    Closed,
    /// Text to the end.
    Text,
}

impl CallParser {
    /// None: there are no tools, so everything is text.
    pub(crate) fn new(format: Option<ToolFormat>) -> Self {
        let state = if format.is_some() { State::Open } else { State::Text };
        Self {
            format: format.unwrap_or_default(),
            buffer: String::new(),
            state,
            opened: String::new(),
            fresh: true,
            calls: 0,
            after_call: false,
        }
    }

    /// How many calls have begun.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    pub(crate) fn push(&mut self, text: &str) -> Vec<Said> {
        self.buffer.push_str(text);
        let mut said = Vec::new();
        while self.step(&mut said) {}
        self.count(&said);
        said
    }

    /// What is left when no more text comes.
    pub(crate) fn finish(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        match std::mem::replace(&mut self.state, State::Text) {
            State::Object(object) => said.extend(object.finish(&self.opened)),
            State::Open | State::Text | State::Closed => {
                let rest = std::mem::take(&mut self.buffer);
                self.say(&mut said, &rest);
            }
        }
        self.count(&said);
        said
    }

    fn count(&mut self, said: &[Said]) {
        self.calls += said.iter().filter(|it| matches!(it, Said::Call { .. })).count();
    }

    /// White space behind a call says nothing.
    fn say(&mut self, said: &mut Vec<Said>, it: &str) {
        let it = if self.fresh && self.after_call { it.trim_start() } else { it };
        if !it.is_empty() {
            self.fresh = false;
            said.push(Said::Text(it.to_owned()));
        }
    }

    /// Whether there may be more to do with what is there.
    fn step(&mut self, said: &mut Vec<Said>) -> bool {
        match &mut self.state {
            State::Text => {
                let all = std::mem::take(&mut self.buffer);
                self.say(said, &all);
                false
            }
            State::Object(object) => {
                let Some(rest) = object.push(&std::mem::take(&mut self.buffer), said) else {
                    return false;
                };
                if let Some(no_call) = object.refused() {
                    let all = format!("{}{no_call}", self.opened);
                    self.state =
                        if self.format == ToolFormat::Hermes { State::Open } else { State::Text };
                    self.say(said, &all);
                } else {
                    self.state = State::Closed;
                    self.after_call = true;
                    self.fresh = true;
                }
                self.buffer = rest;
                true
            }
            State::Open => self.open(said),
            State::Closed => self.closed(),
        }
    }

    fn open(&mut self, said: &mut Vec<Said>) -> bool {
        let tag = match self.format {
            ToolFormat::Hermes => return self.open_tag(said),
            ToolFormat::Llama => LLAMA_OPEN,
            ToolFormat::Mistral => MISTRAL_OPEN,
        };
        let start = self.buffer.trim_start();
        if start.is_empty() || (tag.starts_with(start) && start.len() < tag.len()) {
            // For Mistral a lone bracket may be the beginning of the tag or of the list.
            return false;
        }
        let inner = start.strip_prefix(tag).unwrap_or(start).trim_start();
        let inner = match self.format {
            ToolFormat::Mistral => match inner.strip_prefix('[') {
                Some(inner) => inner.trim_start(),
                None if inner.is_empty() => return false,
                None => "no list",
            },
            _ => inner,
        };
        if inner.is_empty() {
            return false;
        }
        if inner.starts_with('{') {
            let inner = inner.to_owned();
            let before = self.buffer.len() - inner.len();
            self.opened = self.buffer[..before].to_owned();
            self.buffer = inner;
            self.state = State::Object(Object::default());
        } else {
            self.state = State::Text;
        }
        true
    }

    fn open_tag(&mut self, said: &mut Vec<Said>) -> bool {
        let Some(at) = self.buffer.find(HERMES_OPEN) else {
            let keep = overlap(&self.buffer, HERMES_OPEN);
            let kept = self.buffer.split_off(self.buffer.len() - keep);
            let sure = std::mem::replace(&mut self.buffer, kept);
            // Before a call it would say nothing.
            if self.fresh && sure.trim().is_empty() {
                self.buffer.insert_str(0, &sure);
            } else {
                self.say(said, &sure);
            }
            return false;
        };
        let before = self.buffer[..at].to_owned();
        if !before.trim().is_empty() || !self.fresh {
            self.say(said, &before);
        }
        self.buffer.drain(..at + HERMES_OPEN.len());
        HERMES_OPEN.clone_into(&mut self.opened);
        self.state = State::Object(Object::default());
        true
    }

    fn closed(&mut self) -> bool {
        let start = self.buffer.trim_start();
        if start.is_empty() {
            return false;
        }
        let (next, rest) = match self.format {
            ToolFormat::Hermes if HERMES_CLOSE.starts_with(start) && start != HERMES_CLOSE => {
                return false;
            }
            ToolFormat::Hermes => {
                (State::Open, start.strip_prefix(HERMES_CLOSE).unwrap_or(start).trim_start())
            }
            ToolFormat::Llama | ToolFormat::Mistral => match start.strip_prefix([';', ',']) {
                Some(rest) => (State::Closed, rest),
                None if start.starts_with('{') => {
                    self.opened.clear();
                    (State::Object(Object::default()), start)
                }
                None => (State::Text, start.strip_prefix(']').unwrap_or(start).trim_start()),
            },
        };
        self.buffer = rest.to_owned();
        self.state = next;
        true
    }
}

/// Bytes of the longest end of `text` that `tag` begins with.
fn overlap(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|length| text.ends_with(&tag[..*length])).unwrap_or(0)
}

/// A JSON object on its way: `{"name": …, "arguments": {…}}`.
#[derive(Default)]
struct Object {
    raw: String,
    scan: Scan,
    /// Where the arguments begin, once the name is known.
    arguments: Option<usize>,
    /// How much of `raw` has gone out as arguments.
    sent: usize,
    /// Arguments are over.
    over: bool,
    /// The head is not as expected: decided when the object is complete.
    whole: bool,
    refused: Option<String>,
}

/// How deep a text is in JSON, character by character.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Scan {
    /// Whether this character closes the outermost bracket.
    fn closes(&mut self, it: char) -> bool {
        if self.in_text {
            match it {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => self.in_text = false,
                _ => {}
            }
            return false;
        }
        match it {
            '"' => self.in_text = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

impl Object {
    /// Takes text; what is behind the object's end comes back when it has come.
    fn push(&mut self, text: &str, said: &mut Vec<Said>) -> Option<String> {
        for (at, it) in text.char_indices() {
            if self.raw.is_empty() && it != '{' {
                if it.is_whitespace() {
                    continue;
                }
                // No object at all.
                self.refused = Some(String::new());
                return Some(text[at..].to_owned());
            }
            let closes = self.scan.closes(it);
            self.raw.push(it);
            if self.arguments.is_some() && !self.over && self.scan.depth == 1 && it == '}' {
                self.over = true;
                self.send(said);
            }
            if closes {
                self.complete(said);
                return Some(text[at + it.len_utf8()..].to_owned());
            }
            if self.arguments.is_none() && !self.whole && it == '{' && self.scan.depth == 2 {
                self.head(said);
            }
        }
        self.send(said);
        None
    }

    /// Why it is no call: its text.
    fn refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// At the second opening bracket: what stands before it has to be the name.
    fn head(&mut self, said: &mut Vec<Said>) {
        let at = self.raw.len() - 1;
        let closed = format!("{}null}}", &self.raw[..at]);
        let head = serde_json::from_str::<Value>(&closed).ok();
        let fields = head.as_ref().and_then(Value::as_object);
        let name = fields.and_then(|it| it.get("name")).and_then(Value::as_str);
        let last = fields.and_then(|it| it.keys().next_back()).map(String::as_str);
        match (name, last) {
            (Some(name), Some("arguments" | "parameters")) if !self.scan.in_text => {
                said.push(Said::Call { name: name.to_owned() });
                self.arguments = Some(at);
                self.sent = at;
            }
            _ => self.whole = true,
        }
    }

    fn send(&mut self, said: &mut Vec<Said>) {
        if self.arguments.is_none() || self.sent >= self.raw.len() {
            return;
        }
        said.push(Said::Arguments(self.raw[self.sent..].to_owned()));
        self.sent = if self.over { usize::MAX } else { self.raw.len() };
    }

    fn complete(&mut self, said: &mut Vec<Said>) {
        if self.arguments.is_some() {
            return;
        }
        let value = serde_json::from_str::<Value>(&self.raw).ok();
        let name = value.as_ref().and_then(|it| it["name"].as_str());
        let Some((value, name)) = value.as_ref().zip(name) else {
            self.refused = Some(self.raw.clone());
            return;
        };
        let arguments = value.get("arguments").or_else(|| value.get("parameters"));
        let arguments = match arguments {
            None | Some(Value::Null) => "{}".to_owned(),
            // Some models write them as a text that holds JSON.
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        said.push(Said::Call { name: name.to_owned() });
        said.push(Said::Arguments(arguments));
    }

    /// The answer broke off within it.
    fn finish(self, opening: &str) -> Option<Said> {
        match self.arguments {
            Some(_) => None,
            None => Some(Said::Text(format!("{opening}{}", self.raw))),
        }
    }
}
