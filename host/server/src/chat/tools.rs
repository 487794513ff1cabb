//! The tools of a request: what may be called, what must be, and the grammar that sees to it.

use std::fmt::Write as _;

use engine::{Constraint, ToolFormat};
use serde_json::{Value, json};

use crate::{
    Limits,
    error::ApiError,
    fields::{Fields, wrong},
    output::{Form, schema},
};

/// OpenAI's limit for names of functions.
const NAME_CHARS: usize = 64;
/// Calls in one answer, where a grammar could go on for ever.
const CALLS_MAX: usize = 16;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tools {
    /// In OpenAI's form; none where no tool may be called.
    pub(crate) list: Vec<Value>,
    choice: Choice,
    /// Whether an answer may hold several calls.
    parallel: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Choice {
    #[default]
    Auto,
    /// A call has to be made, of any function.
    Required,
    /// This function has to be called.
    Named(String),
}

impl Tools {
    pub(crate) fn take(fields: &mut Fields, limits: &Limits) -> Result<Self, ApiError> {
        refuse_functions(fields)?;
        let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        let values = fields.array("tools")?.unwrap_or_default();
        if values.len() > limits.tools {
            let reason = format!("may hold {} tools, not {}", limits.tools, values.len());
            return Err(ApiError::invalid("tools", reason));
        }
        let list: Vec<Value> = values
            .into_iter()
            .enumerate()
            .map(|(at, it)| tool(at, it))
            .collect::<Result<_, _>>()?;
        let choice = match fields.take("tool_choice") {
            None => Choice::Auto,
            Some(Value::String(it)) => match it.as_str() {
                "none" => return Ok(Self::default()),
                "auto" => Choice::Auto,
                "required" => Choice::Required,
                _ => {
                    let reason = "must be none, auto, required or an object with a function";
                    return Err(ApiError::invalid("tool_choice", reason));
                }
            },
            Some(named @ Value::Object(_)) => Choice::Named(chosen(named)?),
            Some(other) => return Err(wrong("tool_choice", "a string or an object", &other)),
        };
        let tools = Self { list, choice, parallel };
        match &tools.choice {
            Choice::Auto => {}
            Choice::Required if tools.list.is_empty() => {
                return Err(ApiError::invalid("tool_choice", "needs tools to choose from"));
            }
            Choice::Named(name) if !tools.list.iter().any(|it| self::name(it) == name) => {
                return Err(ApiError::invalid(
                    "tool_choice",
                    "names a function that is not among tools",
                ));
            }
            Choice::Required | Choice::Named(_) => {}
        }
        Ok(tools)
    }

    /// What the answer has to be kept to; `form` is what its text has to be kept to where nothing is called.
    pub(crate) fn form(&self, format: ToolFormat, form: Option<Form>) -> Option<Form> {
        let wanted: Vec<&Value> = match &self.choice {
            Choice::Named(name) => self.list.iter().filter(|it| self::name(it) == name).collect(),
            Choice::Auto | Choice::Required => self.list.iter().collect(),
        };
        if wanted.is_empty() {
            return form;
        }
        let one = !self.parallel || matches!(self.choice, Choice::Named(_));
        let calls = if one { 1 } else { CALLS_MAX };
        match (&self.choice, form) {
            // The model decides whether to call, and nothing else is asked for.
            (Choice::Auto, None) => None,
            (Choice::Auto, Some(form)) => match schema(&form) {
                Some(schema) => {
                    let schema = engine::json_in_grammar(schema);
                    let text = grammar(format, &wanted, calls, Some(&schema));
                    Some(Form { constraint: Constraint::Grammar(text), param: form.param })
                }
                // Another grammar can't be joined with ours; what was asked for the text wins.
                None => Some(form),
            },
            (Choice::Required | Choice::Named(_), _) => {
                let text = grammar(format, &wanted, calls, None);
                Some(Form { constraint: Constraint::Grammar(text), param: "tools" })
            }
        }
    }
}

/// Functions of the API before tools: a client that sends them waits for an answer that never comes.
fn refuse_functions(fields: &mut Fields) -> Result<(), ApiError> {
    let has_functions = fields.array("functions")?.is_some_and(|it| !it.is_empty());
    let none = matches!(fields.take("function_call"), Some(Value::String(it)) if it == "none");
    if has_functions && !none {
        return Err(ApiError::Unsupported {
            param: "functions".to_owned(),
            reason: "send them as tools",
        });
    }
    Ok(())
}

fn tool(at: usize, value: Value) -> Result<Value, ApiError> {
    let mut tool = Fields::inner(format!("tools[{at}]"), value.clone())?;
    let param = tool.param("type");
    match tool.text("type")?.as_deref() {
        Some("function") => {}
        Some(_) => return Err(ApiError::Unsupported { param, reason: "send function" }),
        None => return Err(ApiError::Missing { param, hint: "send function" }),
    }
    let param = tool.param("function");
    let Some(mut function) = tool.object("function")? else {
        return Err(ApiError::Missing { param, hint: "send an object with name and parameters" });
    };
    let param = function.param("name");
    let Some(name) = function.text("name")? else {
        return Err(ApiError::Missing { param, hint: "send the function's name" });
    };
    let is_fit = (1..=NAME_CHARS).contains(&name.len())
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-' | b'.'));
    if !is_fit {
        let reason = format!("must be 1 to {NAME_CHARS} of letters, digits, _ and -");
        return Err(ApiError::invalid(param, reason));
    }
    function.object("parameters")?;
    Ok(value)
}

fn chosen(value: Value) -> Result<String, ApiError> {
    let mut choice = Fields::inner("tool_choice".to_owned(), value)?;
    let param = choice.param("function");
    let Some(mut function) = choice.object("function")? else {
        return Err(ApiError::Missing { param, hint: "send an object with the function's name" });
    };
    let param = function.param("name");
    function.text("name")?.ok_or(ApiError::Missing { param, hint: "send the function's name" })
}

fn name(tool: &Value) -> &str {
    tool["function"]["name"].as_str().unwrap_or_default()
}

/// One to `calls` calls as the model writes them, or text of the schema `instead`.
fn grammar(format: ToolFormat, tools: &[&Value], calls: usize, instead: Option<&Value>) -> String {
    let (before, after, arguments, between, open, close) = match format {
        ToolFormat::Hermes => ("<tool_call>\n", "\n</tool_call>", "arguments", "\n", "", ""),
        ToolFormat::Llama => ("", "", "parameters", "; ", "", ""),
        ToolFormat::Mistral => ("", "", "arguments", ", ", "[", "]"),
    };
    // A text in a Lark grammar is written as in JSON.
    let text = |it: &str| if it.is_empty() { String::new() } else { Value::from(it).to_string() };
    let more = match calls {
        0 | 1 => String::new(),
        _ => format!(" ({} call){{0,{}}}", text(between), calls - 1),
    };
    let mut grammar = format!("start: calls{}\n", if instead.is_some() { " | text" } else { "" });
    let _ = writeln!(grammar, "calls: {} call{more} {}", text(open), text(close));
    let names: Vec<_> = (0..tools.len()).map(|at| format!("call{at}")).collect();
    let _ = writeln!(grammar, "call: {}", names.join(" | "));
    for (at, tool) in tools.iter().enumerate() {
        let begin = format!("{before}{{\"name\": \"{}\", \"{arguments}\": ", name(tool));
        let end = format!("}}{after}");
        let schema = match &tool["function"]["parameters"] {
            Value::Null => json!({"type": "object"}),
            other => other.clone(),
        };
        let _ = writeln!(grammar, "call{at}: {} args{at} {}", text(&begin), text(&end));
        // A rule of its own, so that references in the schema are within the schema.
        let _ = writeln!(grammar, "args{at}: %json {}", engine::json_in_grammar(schema));
    }
    if let Some(schema) = instead {
        let _ = writeln!(grammar, "text: %json {schema}");
    }
    grammar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(value: Value) -> Result<Tools, ApiError> {
        Tools::take(&mut Fields::inner(String::new(), value)?, &Limits::default())
    }

    fn weather() -> Value {
        json!({"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}},
        }}})
    }

    #[test]
    fn only_what_may_be_called_is_kept() {
        let check = |value: Value, tools: usize| {
            assert_eq!(take(value.clone()).unwrap().list.len(), tools, "{value}");
        };
        check(json!({}), 0);
        check(json!({"tools": []}), 0);
        check(json!({"tools": [weather()]}), 1);
        check(json!({"tools": [weather()], "tool_choice": "none"}), 0);
        check(json!({"functions": [{"name": "f"}], "function_call": "none"}), 0);
        let named = json!({"type": "function", "function": {"name": "weather"}});
        check(json!({"tools": [weather()], "tool_choice": named}), 1);
    }

    #[test]
    fn a_bad_tool_is_named() {
        let check = |value: Value, param: &str| {
            let body = take(value.clone()).unwrap_err().body();
            assert_eq!(body["error"]["param"], param, "{value}");
        };
        check(json!({"tools": [{}]}), "tools[0].type");
        check(json!({"tools": [{"type": "custom"}]}), "tools[0].type");
        check(json!({"tools": [{"type": "function"}]}), "tools[0].function");
        check(
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "tools[0].function.name",
        );
        check(json!({"tools": vec![weather(); 129]}), "tools");
        check(json!({"tool_choice": "required"}), "tool_choice");
        check(json!({"tools": [weather()], "tool_choice": "sometimes"}), "tool_choice");
        let other = json!({"type": "function", "function": {"name": "news"}});
        check(json!({"tools": [weather()], "tool_choice": other}), "tool_choice");
        check(json!({"functions": [{"name": "f"}]}), "functions");
    }

    #[test]
    fn a_grammar_is_made_only_where_it_is_needed() {
        let form = |choice: Value, form: Option<Form>| {
            take(json!({"tools": [weather()], "tool_choice": choice}))
                .unwrap()
                .form(ToolFormat::Hermes, form)
        };
        let object = || Form { constraint: Constraint::JsonObject, param: "response_format" };
        assert_eq!(form(json!("auto"), None), None);
        assert_eq!(form(json!("none"), Some(object())), Some(object()));
        let text = |it: Option<Form>| match it.unwrap().constraint {
            Constraint::Grammar(text) => text,
            other => panic!("{other:?}"),
        };
        let required = text(form(json!("required"), None));
        assert!(required.starts_with("start: calls\n"), "{required}");
        assert!(required.contains("{0,15}"), "{required}");
        let either = text(form(json!("auto"), Some(object())));
        assert!(either.starts_with("start: calls | text\n"), "{either}");
    }
}
