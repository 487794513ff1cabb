//! Chat templates: messages to the one text that the model was trained on. They are Jinja, written for Python.

pub(crate) mod json;
#[cfg(test)]
mod tests;

use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::{
    error::{EngineError, LoadError, first_line},
    guard::Guard,
    job::{Message, Part},
    tokenizer::TokenNames,
    tools::{self, ToolFormat},
};

const NAME: &str = "chat";
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
/// What a message says while a template is being tried.
const PROBE: &str = "bucksaw";

/// A template that has been tried out.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    names: TokenNames,
    /// Text of the image token, for a model that sees.
    image: Option<String>,
    /// The template prints content that is a string.
    takes_text: bool,
    /// The template prints content that is a list of parts.
    takes_parts: bool,
    /// How the model writes calls, where the template tells it of tools.
    tools: Option<ToolFormat>,
}

impl ChatTemplate {
    pub(crate) fn new(
        source: &str,
        names: TokenNames,
        image: Option<String>,
    ) -> Result<Self, LoadError> {
        let mut environment = Environment::new();
        // As transformers sets Jinja up.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", json::filter);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| LoadError::Template(first_line(&error)))?;

        let mut template =
            Self { environment, names, image, takes_text: false, takes_parts: false, tools: None };
        if template.knows_tools() {
            template.tools = Some(ToolFormat::of(source));
        }
        template.takes_text = template.prints(Value::from(PROBE), None);
        template.takes_parts =
            template.prints(parts(template.image.is_some()), template.image.as_deref());
        if template.takes_text || template.takes_parts {
            return Ok(template);
        }
        let reason = match template.run(&[message("user", Value::from(PROBE))], &[]) {
            Err(error) => reason(&error),
            Ok(_) => "it does not print what the user says".to_owned(),
        };
        Err(LoadError::Template(reason))
    }

    /// The prompt up to where the assistant's answer begins. `guard` marks special tokens in messages. A template that
    /// knows no tools is told of them, and of calls and their results, by messages.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        guard: &Guard,
    ) -> Result<String, EngineError> {
        let told;
        let (messages, tools) = if self.tools.is_some() {
            (messages, tools)
        } else {
            told = tools::as_messages(messages, tools);
            (told.as_slice(), [].as_slice())
        };
        let messages = messages
            .iter()
            .map(|message| self.value(message, guard))
            .collect::<Result<Vec<_>, _>>()?;
        let tools: Vec<_> =
            tools.iter().map(|tool| Value::from_serialize(guard.neutralize_json(tool))).collect();
        self.run(&messages, &tools).map_err(|error| EngineError::Template(reason(&error)))
    }

    /// How a model writes calls after this template.
    pub(crate) fn tool_format(&self) -> ToolFormat {
        self.tools.unwrap_or_default()
    }

    fn knows_tools(&self) -> bool {
        let template = self.environment.get_template(NAME);
        template.is_ok_and(|it| it.undeclared_variables(false).contains("tools"))
    }

    fn run(&self, messages: &[Value], tools: &[Value]) -> Result<String, Error> {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        self.environment.get_template(NAME)?.render(context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => name(&self.names.bos),
            eos_token => name(&self.names.eos),
            tools => if tools.is_empty() { Value::from(()) } else { Value::from(tools.to_vec()) },
            documents => Value::from(()),
        })
    }

    /// Whether `content` comes out as text, with the image token where there is one, rather than as the source of a list.
    fn prints(&self, content: Value, image: Option<&str>) -> bool {
        self.run(&[message("user", content)], &[]).is_ok_and(|text| {
            text.contains(PROBE)
                && !text.contains("'type'")
                && !text.contains("\"type\"")
                && image.is_none_or(|image| text.contains(image))
        })
    }

    fn value(&self, message: &Message, guard: &Guard) -> Result<Value, EngineError> {
        let role = message.role.as_str();
        if !ROLES.contains(&role) {
            let known = ROLES.join(", ");
            return Err(EngineError::Template(format!("no role {role:?}; known are {known}")));
        }
        // A younger name for the same thing, which templates don't know.
        let role = if role == "developer" { "system" } else { role };

        // Templates look for what the model wrote, and operators may describe it.
        let own = matches!(role, "system" | "assistant");
        let pieces = pieces(&message.content, |text| match own {
            true => guard.neutralize_own(text),
            false => guard.neutralize(text),
        });
        let has_images = pieces.contains(&Piece::Image);
        let content = if self.takes_parts && (has_images || !self.takes_text) {
            pieces.iter().map(Piece::value).collect::<Value>()
        } else {
            Value::from(self.inline(&pieces)?)
        };
        if message.tool_calls.is_empty() && message.tool_call_id.is_none() && message.name.is_none()
        {
            return Ok(self::message(role, content));
        }
        let calls = message.tool_calls.iter().map(|call| {
            Value::from_serialize(guard.neutralize_json(&tools::with_parsed_arguments(call)))
        });
        let text = |text: &String| Value::from(guard.neutralize(text));
        // Templates ask whether a key is there.
        let fields = [
            Some(("role", Value::from(role))),
            Some(("content", content)),
            (!message.tool_calls.is_empty()).then(|| ("tool_calls", calls.collect())),
            message.tool_call_id.as_ref().map(|it| ("tool_call_id", text(it))),
            message.name.as_ref().map(|it| ("name", text(it))),
        ];
        Ok(fields.into_iter().flatten().collect())
    }

    /// One string, with the image token in the place of each image.
    fn inline(&self, pieces: &[Piece]) -> Result<String, EngineError> {
        let mut text = String::new();
        for piece in pieces {
            match (piece, &self.image) {
                (Piece::Text(piece), _) => text.push_str(piece),
                (Piece::Image, Some(image)) => {
                    text.push_str(image);
                    text.push('\n');
                }
                (Piece::Image, None) => {
                    return Err(EngineError::BadImage("the model takes none".into()));
                }
            }
        }
        Ok(text)
    }
}

/// Part of a message, ready for the template.
#[derive(PartialEq)]
enum Piece {
    Text(String),
    Image,
}

impl Piece {
    fn value(&self) -> Value {
        match self {
            Self::Text(text) => Value::from_iter([("type", "text"), ("text", text.as_str())]),
            Self::Image => Value::from_iter([("type", "image")]),
        }
    }
}

/// The parts of a message. Neighbouring texts become one, so that no special token can be spread over two.
fn pieces(content: &[Part], neutralize: impl Fn(&str) -> String) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut texts: Vec<&str> = Vec::new();
    let flush = |texts: &mut Vec<&str>, pieces: &mut Vec<Piece>| {
        if !texts.is_empty() {
            pieces.push(Piece::Text(neutralize(&texts.join("\n"))));
            texts.clear();
        }
    };
    for part in content {
        match part {
            Part::Text(text) => texts.push(text),
            Part::Image(_) => {
                flush(&mut texts, &mut pieces);
                pieces.push(Piece::Image);
            }
        }
    }
    flush(&mut texts, &mut pieces);
    pieces
}

fn message(role: &str, content: Value) -> Value {
    context! { role => role, content => content }
}

fn parts(image: bool) -> Value {
    let text = Piece::Text(PROBE.to_owned());
    let pieces = if image { vec![Piece::Image, text] } else { vec![text] };
    pieces.iter().map(Piece::value).collect()
}

fn reason(error: &Error) -> String {
    error.detail().map_or_else(|| first_line(error), str::to_owned)
}

/// What templates call to refuse a conversation.
fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// What templates call to tell the model the date.
fn strftime_now(format: String) -> Result<String, Error> {
    jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, first_line(&error)))
}

/// `{% generation %}` marks what the model is trained on; it means nothing here, and no other Jinja knows it.
fn without_generation_tags(source: &str) -> String {
    let mut kept = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, from) = rest.split_at(start);
        let (tag, after) = from.split_at(length);
        kept.push_str(before);
        match tag.trim_start_matches("{%").trim_matches(['-', '+', ' ', '\n']) {
            "generation" => kept.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => kept.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => kept.push_str(tag),
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}
