use serde_json::json;

use super::{ToolFormat, as_messages, with_parsed_arguments};
use crate::job::{Message, Part};

fn message(role: &str, text: &str) -> Message {
    let content = vec![Part::Text(text.to_owned())];
    Message { role: role.to_owned(), content, ..Message::default() }
}

fn texts(messages: &[Message]) -> Vec<(String, String)> {
    let text = |it: &Message| {
        let parts = it.content.iter().filter_map(|it| match it {
            Part::Text(text) => Some(text.as_str()),
            Part::Image(_) => None,
        });
        parts.collect::<Vec<_>>().join("\n")
    };
    messages.iter().map(|it| (it.role.clone(), text(it))).collect()
}

#[test]
fn a_template_says_how_calls_are_written() {
    for (template, expected) in [
        ("{% if tools %}<tool_call>{% endif %}", ToolFormat::Hermes),
        ("{{ tools }} Environment: ipython", ToolFormat::Llama),
        ("{{ '[TOOL_CALLS]' }}", ToolFormat::Mistral),
        ("{{ tools }}", ToolFormat::Hermes),
    ] {
        assert_eq!(ToolFormat::of(template), expected, "{template}");
    }
}

#[test]
fn what_a_template_knows_nothing_of_becomes_text() {
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    let call = json!({"id": "c1", "type": "function", "function": {
        "name": "weather", "arguments": "{\"city\": \"서울\"}",
    }});
    let asked = Message { tool_calls: vec![call], ..message("assistant", "") };
    let told = Message { tool_call_id: Some("c1".to_owned()), ..message("tool", "7 degrees") };
    let messages = [message("system", "be kind"), message("user", "how warm?"), asked, told];
    let texts = texts(&as_messages(&messages, &[tool]));
    let roles: Vec<_> = texts.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert!(texts[0].1.starts_with("be kind\nYou may call"), "{}", texts[0].1);
    assert!(texts[0].1.contains("{\"type\": \"function\", \"function\": {\"name\": \"weather\"}}"));
    assert!(
        texts[2].1.contains("{\"name\": \"weather\", \"arguments\": {\"city\": \"서울\"}}"),
        "{}",
        texts[2].1
    );
    assert_eq!(texts[3].1, "<tool_response>\n7 degrees\n</tool_response>");
}

#[test]
fn arguments_that_are_no_json_stay_as_they_are() {
    let call = json!({"function": {"name": "f", "arguments": "{broken"}});
    assert_eq!(with_parsed_arguments(&call), call);
}
