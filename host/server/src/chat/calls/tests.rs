use engine::ToolFormat;

use super::{CallParser, Said};

/// Text, and calls with their whole arguments, after the text came in pieces of `size` characters.
fn parse(format: Option<ToolFormat>, text: &str, size: usize) -> (String, Vec<(String, String)>) {
    let mut parser = CallParser::new(format);
    let chars: Vec<char> = text.chars().collect();
    let mut said = Vec::new();
    for piece in chars.chunks(size) {
        said.extend(parser.push(&piece.iter().collect::<String>()));
    }
    said.extend(parser.finish());
    let (mut out, mut calls) = (String::new(), Vec::new());
    for it in said {
        match it {
            Said::Text(text) => out.push_str(&text),
            Said::Call { name } => calls.push((name, String::new())),
            Said::Arguments(text) => calls.last_mut().unwrap().1.push_str(&text),
        }
    }
    assert_eq!(parser.calls(), calls.len());
    (out, calls)
}

#[track_caller]
fn check(format: ToolFormat, text: &str, out: &str, calls: &[(&str, &str)]) {
    for size in 1..=text.chars().count().max(1) {
        let (got, got_calls) = parse(Some(format), text, size);
        let got_calls: Vec<_> = got_calls.iter().map(|it| (it.0.as_str(), it.1.as_str())).collect();
        assert_eq!((got.as_str(), got_calls.as_slice()), (out, calls), "{size}: {text}");
    }
}

#[test]
fn hermes_writes_calls_in_tags() {
    use ToolFormat::Hermes;
    let one =
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": {\"b\": \"}\\\"<\"}}}\n</tool_call>";
    let args = "{\"a\": {\"b\": \"}\\\"<\"}}";
    check(Hermes, one, "", &[("f", args)]);
    check(Hermes, &format!("so: {one}"), "so: ", &[("f", args)]);
    check(Hermes, &format!("\n{one}\n{one}"), "", &[("f", args), ("f", args)]);
    check(Hermes, &format!("{one}\ndone"), "done", &[("f", args)]);
    // The order of the keys, and arguments as a text.
    check(
        Hermes,
        "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"g\"}</tool_call>",
        "",
        &[("g", "{\"a\":1}")],
    );
    check(
        Hermes,
        "<tool_call>{\"name\": \"g\", \"arguments\": \"{}\"}</tool_call>",
        "",
        &[("g", "{}")],
    );
    check(Hermes, "<tool_call>{\"name\": \"g\"}</tool_call>", "", &[("g", "{}")]);
}

#[test]
fn what_is_no_call_stays_text() {
    use ToolFormat::{Hermes, Llama, Mistral};
    check(Hermes, "안녕 <tool", "안녕 <tool", &[]);
    check(Hermes, "a < b <tool_cal> c", "a < b <tool_cal> c", &[]);
    check(Hermes, "<tool_call>{\"x\": 1}", "<tool_call>{\"x\": 1}", &[]);
    check(Hermes, "<tool_call>{\"name\": ", "<tool_call>{\"name\": ", &[]);
    check(Hermes, " \n", " \n", &[]);
    check(Llama, "hello", "hello", &[]);
    check(Llama, "{\"x\": {\"y\": 1}} end", "{\"x\": {\"y\": 1}} end", &[]);
    check(Mistral, "[1, 2]", "[1, 2]", &[]);
    check(Mistral, "hello [", "hello [", &[]);
    check(Mistral, "[", "[", &[]);
    assert_eq!(parse(None, "<tool_call>{\"name\": \"f\"}</tool_call>", 3).1, []);
}

#[test]
fn llama_and_mistral_write_bare_json() {
    use ToolFormat::{Llama, Mistral};
    let one = "{\"name\": \"f\", \"parameters\": {\"a\": 1}}";
    check(Llama, one, "", &[("f", "{\"a\": 1}")]);
    check(Llama, &format!("<|python_tag|>{one}"), "", &[("f", "{\"a\": 1}")]);
    check(Llama, &format!("{one}; {one}"), "", &[("f", "{\"a\": 1}"), ("f", "{\"a\": 1}")]);
    let list =
        "[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {\"b\": [2]}}]";
    let calls = [("f", "{}"), ("g", "{\"b\": [2]}")];
    check(Mistral, list, "", &calls);
    check(Mistral, &format!("[TOOL_CALLS] {list}"), "", &calls);
}

#[test]
fn a_call_that_breaks_off_keeps_what_it_said() {
    check(
        ToolFormat::Hermes,
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"b",
        "",
        &[("f", "{\"a\": \"b")],
    );
}

#[test]
fn the_name_goes_out_before_the_arguments_are_complete() {
    let mut parser = CallParser::new(Some(ToolFormat::Hermes));
    assert_eq!(parser.push("<tool_call>{\"name\": \"f\", "), []);
    assert_eq!(
        parser.push("\"arguments\": {\"a\""),
        [Said::Call { name: "f".to_owned() }, Said::Arguments("{\"a\"".to_owned())]
    );
    assert_eq!(parser.push(": 1}"), [Said::Arguments(": 1}".to_owned())]);
    assert_eq!(parser.push("}</tool_call>"), []);
}

#[test]
fn a_list_of_other_objects_is_text() {
    check(ToolFormat::Mistral, "[{\"x\": 1}]", "[{\"x\": 1}]", &[]);
}
