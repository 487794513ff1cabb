//! How models are told of tools, and how they write calls.

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::{
    job::{Message, Part},
    template::json,
};

/// How a model writes that it wants a function called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen, SmolLM, and whoever is told so by us.
    #[default]
    Hermes,
    /// `{"name": …, "parameters": {…}}`, and nothing beside it: Llama 3.
    Llama,
    /// `[TOOL_CALLS][{"name": …, "arguments": {…}}]`: Mistral.
    Mistral,
}

impl ToolFormat {
    /// By what stands in the template of a model.
    pub(crate) fn of(template: &str) -> Self {
        if template.contains("[TOOL_CALLS]") {
            Self::Mistral
        } else if template.contains("<|python_tag|>") || template.contains("ipython") {
            Self::Llama
        } else {
            Self::Hermes
        }
    }
}

/// A conversation for a template that knows no tools: they stand in the system's message, calls in the assistant's, and
/// results come from the user.
pub(crate) fn as_messages(messages: &[Message], tools: &[Value]) -> Vec<Message> {
    let mut told = Vec::with_capacity(messages.len() + 1);
    let system = |it: &Message| matches!(it.role.as_str(), "system" | "developer");
    let mut rest = messages.iter().peekable();
    if !tools.is_empty() {
        let mut content =
            rest.next_if(|it| system(it)).map_or_else(Vec::new, |it| it.content.clone());
        content.push(Part::Text(introduction(tools)));
        told.push(Message { role: "system".to_owned(), content, ..Message::default() });
    }
    told.extend(rest.map(without_tools));
    told
}

fn introduction(tools: &[Value]) -> String {
    let signatures: Vec<_> = tools.iter().map(json::line).collect();
    format!(
        "You may call functions. Their signatures, as JSON:\n<tools>\n{}\n</tools>\n\
         For each call, answer with one JSON object of the function's name and arguments, in tags:\n\
         <tool_call>\n{{\"name\": \"...\", \"arguments\": {{...}}}}\n</tool_call>",
        signatures.join("\n")
    )
}

fn without_tools(message: &Message) -> Message {
    if message.role == "tool" {
        let mut content = vec![Part::Text("<tool_response>".to_owned())];
        content.extend(message.content.iter().cloned());
        content.push(Part::Text("</tool_response>".to_owned()));
        return Message { role: "user".to_owned(), content, ..Message::default() };
    }
    let mut content = message.content.clone();
    for call in &message.tool_calls {
        let call = with_parsed_arguments(call);
        let function = call.get("function").unwrap_or(&call);
        let said = json!({"name": function["name"], "arguments": function["arguments"]});
        content.push(Part::Text(format!("<tool_call>\n{}\n</tool_call>", json::line(&said))));
    }
    Message { role: message.role.clone(), content, ..Message::default() }
}

/// A call as templates want it: OpenAI's API has the arguments as a text, templates as what the text says.
pub(crate) fn with_parsed_arguments(call: &Value) -> Value {
    let mut call = call.clone();
    if let Some(arguments) = call.pointer_mut("/function/arguments")
        && let Some(parsed) = arguments.as_str().and_then(|it| serde_json::from_str(it).ok())
    {
        *arguments = parsed;
    }
    call
}
