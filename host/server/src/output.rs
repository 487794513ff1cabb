//! The form that an answer must have: `response_format` of the OpenAI API, and vLLM's ways of saying it.

use engine::Constraint;
use serde_json::{Value, json};

use crate::{
    error::ApiError,
    fields::{Fields, wrong},
};

/// What kind of text is asked for, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Text,
    Object,
    Schema,
}

/// What the tokens of an answer are kept to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    pub(crate) constraint: Constraint,
    /// The parameter that asks for it, for errors.
    pub(crate) param: &'static str,
}

impl Output {
    /// Value of `gen_ai.output.type`.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Object | Self::Schema => "json",
        }
    }

    /// Value of `bucksaw.json.expected`.
    pub(crate) fn expected(output: Option<Self>) -> &'static str {
        match output {
            Some(Self::Object) => "object",
            Some(Self::Schema) => "schema",
            Some(Self::Text) | None => "none",
        }
    }
}

type Asked = (Option<Output>, Option<Form>);

/// What the fields of a request ask for.
pub(crate) fn take(fields: &mut Fields) -> Result<Asked, ApiError> {
    let guided = guided(fields)?;
    let format = response_format(fields)?;
    match (guided, format) {
        (Some(_), Some((_, Some(form)))) => {
            Err(ApiError::invalid(form.param, "must not come with another form of the answer"))
        }
        (Some(guided), _) => Ok(guided),
        (None, format) => Ok(format.unwrap_or_default()),
    }
}

fn response_format(fields: &mut Fields) -> Result<Option<Asked>, ApiError> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(None) };
    let param = format.param("type");
    let form = |constraint, param| Some(Form { constraint, param });
    match format.text("type")?.as_deref() {
        Some("text") => Ok(Some((Some(Output::Text), None))),
        Some("json_object") => {
            Ok(Some((Some(Output::Object), form(Constraint::JsonObject, "response_format"))))
        }
        Some("json_schema") => {
            let Some(mut schema) = format.object("json_schema")? else {
                return Err(ApiError::Missing {
                    param: format.param("json_schema"),
                    hint: "send an object with name and schema",
                });
            };
            let constraint =
                schema.take("schema").map_or(Constraint::JsonObject, Constraint::JsonSchema);
            Ok(Some((Some(Output::Schema), form(constraint, "response_format.json_schema"))))
        }
        Some(_) => Err(ApiError::invalid(param, "must be text, json_object or json_schema")),
        None => Err(ApiError::Missing { param, hint: "send text, json_object or json_schema" }),
    }
}

/// `structured_outputs` of vLLM, and the single parameters that it had before.
fn guided(fields: &mut Fields) -> Result<Option<Asked>, ApiError> {
    const OLD: [(&str, &str); 4] = [
        ("guided_json", "json"),
        ("guided_regex", "regex"),
        ("guided_choice", "choice"),
        ("guided_grammar", "grammar"),
    ];
    for (param, kind) in OLD {
        if let Some(value) = fields.take(param) {
            return of_kind(kind, param, value).map(Some);
        }
    }
    let Some(mut outputs) = fields.object("structured_outputs")? else { return Ok(None) };
    for (_, kind) in OLD {
        if let Some(value) = outputs.take(kind) {
            return of_kind(kind, "structured_outputs", value).map(Some);
        }
    }
    Ok(None)
}

fn of_kind(kind: &str, param: &'static str, value: Value) -> Result<Asked, ApiError> {
    let (output, constraint) = match (kind, value) {
        // A schema may come as text.
        ("json", Value::String(text)) => match serde_json::from_str(&text) {
            Ok(schema) => (Output::Schema, Constraint::JsonSchema(schema)),
            Err(_) => return Err(ApiError::invalid(param, "must be a JSON Schema")),
        },
        ("json", schema) => (Output::Schema, Constraint::JsonSchema(schema)),
        ("choice", Value::Array(choices)) if choices.iter().all(Value::is_string) => {
            (Output::Text, choice(&choices))
        }
        ("choice", other) => return Err(wrong(param, "an array of strings", &other)),
        ("regex", Value::String(text)) => (Output::Text, Constraint::Regex(text)),
        (_, Value::String(text)) => (Output::Text, Constraint::Grammar(text)),
        (_, other) => return Err(wrong(param, "a string", &other)),
    };
    Ok((Some(output), Some(Form { constraint, param })))
}

/// One of these texts.
fn choice(choices: &[Value]) -> Constraint {
    // A text in a Lark grammar is written as in JSON.
    let texts: Vec<_> = choices.iter().map(Value::to_string).collect();
    Constraint::Grammar(format!("start: {}\n", texts.join(" | ")))
}

/// The schema of what `form` asks for, where it is JSON.
pub(crate) fn schema(form: &Form) -> Option<Value> {
    match &form.constraint {
        Constraint::JsonObject => Some(json!({"type": "object"})),
        Constraint::JsonSchema(schema) => Some(schema.clone()),
        Constraint::Regex(_) | Constraint::Grammar(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_saying_it_is_understood() {
        let check = |value: Value, output: Output, constraint: Option<Constraint>| {
            let mut fields = Fields::inner(String::new(), value.clone()).unwrap();
            let (got, form) = take(&mut fields).unwrap();
            assert_eq!(got, Some(output), "{value}");
            assert_eq!(form.map(|it| it.constraint), constraint, "{value}");
        };
        let schema = json!({"type": "object"});
        let of_schema = || Some(Constraint::JsonSchema(json!({"type": "object"})));
        check(json!({"response_format": {"type": "text"}}), Output::Text, None);
        check(
            json!({"response_format": {"type": "json_object"}}),
            Output::Object,
            Some(Constraint::JsonObject),
        );
        check(
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}),
            Output::Schema,
            of_schema(),
        );
        check(json!({"guided_json": schema.to_string()}), Output::Schema, of_schema());
        check(json!({"structured_outputs": {"json": schema}}), Output::Schema, of_schema());
        check(
            json!({"guided_regex": "a+"}),
            Output::Text,
            Some(Constraint::Regex("a+".to_owned())),
        );
        check(
            json!({"guided_choice": ["yes", "no\""]}),
            Output::Text,
            Some(Constraint::Grammar("start: \"yes\" | \"no\\\"\"\n".to_owned())),
        );
    }

    #[test]
    fn one_form_is_enough() {
        let check = |value: Value, param: &str| {
            let mut fields = Fields::inner(String::new(), value.clone()).unwrap();
            let body = take(&mut fields).unwrap_err().body();
            assert_eq!(body["error"]["param"], param, "{value}");
        };
        let object = json!({"type": "json_object"});
        check(json!({"response_format": object, "guided_regex": "a"}), "response_format");
        check(json!({"guided_choice": "yes"}), "guided_choice");
        check(json!({"guided_json": "{"}), "guided_json");
        check(json!({"structured_outputs": {"regex": 7}}), "structured_outputs");
    }
}
