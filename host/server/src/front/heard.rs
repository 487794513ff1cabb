//! What an answer says, collected from the parts of a stream or taken out of a whole one. Servers differ in what they leave out;
//! what makes no sense is skipped.

use serde_json::{Value, json};

use crate::{
    chat::message::Call,
    request_log::{Spoken, StoredChoice},
};

/// 8 MiB of text, tool calls included: over a million tokens. What is longer is counted and cut.
const TEXT_MAX: usize = 8 << 20;

/// Choices that are told apart, as many as the API lets a client ask for; also tool calls in one of them.
const PARTS_MAX: usize = 128;

/// More is no count of tokens.
const TOKENS_MAX: u64 = 1 << 32;

/// Longer ones are no ids.
const ID_CHARS: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Heard {
    choices: Vec<Choice>,
    /// Bytes that may still be collected are `TEXT_MAX` less these.
    bytes: usize,
    /// All characters of text, those that were cut as well.
    chars: u64,
    chars_cut: u64,
    /// Something of it is not kept here: text, calls, or whole choices.
    pub(super) is_cut: bool,
    pub(super) id: Option<String>,
    /// Unix seconds.
    pub(super) created: Option<u64>,
    pub(super) model: Option<String>,
    pub(super) finish_reason: Option<&'static str>,
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    /// What an upstream says that went wrong, in place of an answer or of its end.
    pub(super) error: Option<String>,
}

#[derive(Debug, Default)]
struct Choice {
    text: String,
    calls: Vec<ToolCall>,
    reason: Option<&'static str>,
}

#[derive(Debug, Default)]
struct ToolCall {
    id: String,
    name: String,
    arguments: String,
}

impl Heard {
    /// Takes in a whole answer, or the data of one event. The text of the first choice that was new is given back.
    pub(super) fn take(&mut self, value: &Value) -> String {
        let mut fresh = String::new();
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        if self.id.is_none() {
            self.id = text("id").filter(|it| is_id(it)).map(str::to_owned);
        }
        if self.model.is_none() {
            self.model = text("model").map(str::to_owned);
        }
        self.created = self.created.or_else(|| value.get("created")?.as_u64());
        if let Some(usage) = value.get("usage").filter(|it| it.is_object()) {
            let tokens = |name: &str| usage.get(name)?.as_u64().filter(|it| *it <= TOKENS_MAX);
            self.input_tokens = tokens("prompt_tokens").or(self.input_tokens);
            self.output_tokens = tokens("completion_tokens").or(self.output_tokens);
        }
        if let Some(error) = value.get("error").filter(|it| !it.is_null()) {
            self.error = Some(error_text(error));
        }
        let choices = value.get("choices").and_then(Value::as_array);
        for (at, choice) in choices.into_iter().flatten().enumerate() {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            self.choice(usize::try_from(index).unwrap_or(PARTS_MAX), choice, &mut fresh);
        }
        fresh
    }

    fn choice(&mut self, index: usize, choice: &Value, fresh: &mut String) {
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            let reason = Some(known_reason(reason));
            self.finish_reason = reason;
            if let Some(choice) = self.part(index) {
                choice.reason = reason;
            }
        }
        let object = |name: &str| choice.get(name).filter(|it| it.is_object());
        let said = object("delta").or_else(|| object("message")).unwrap_or(choice);
        for name in ["content", "refusal", "text"] {
            self.said(index, said.get(name), fresh);
        }
        // Forms that nobody here can tell of.
        let other = |name: &str| said.get(name).is_some_and(|it| !it.is_null());
        self.is_cut |= other("function_call") || other("audio");
        let calls = said.get("tool_calls").and_then(Value::as_array);
        for (at, call) in calls.into_iter().flatten().enumerate() {
            let place = call.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            self.call(index, usize::try_from(place).unwrap_or(PARTS_MAX), call);
        }
    }

    /// A text, or one in parts.
    fn said(&mut self, index: usize, value: Option<&Value>, fresh: &mut String) {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => self.add(index, text, fresh),
            Some(Value::Array(parts)) => {
                for part in parts {
                    match part.get("text").and_then(Value::as_str) {
                        Some(text) => self.add(index, text, fresh),
                        None => self.is_cut = true,
                    }
                }
            }
            Some(_) => self.is_cut = true,
        }
    }

    /// Whether there are answers, and each has said why it ended.
    pub(super) fn all_ended(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|it| it.reason.is_some())
    }

    fn add(&mut self, index: usize, text: &str, fresh: &mut String) {
        let chars = text.chars().count() as u64;
        self.chars += chars;
        let text = self.room_for(text);
        match self.part(index) {
            Some(choice) => {
                choice.text.push_str(text);
                if index == 0 {
                    fresh.push_str(text);
                }
                self.chars_cut += chars - text.chars().count() as u64;
            }
            None => self.chars_cut += chars,
        }
    }

    fn call(&mut self, index: usize, place: usize, call: &Value) {
        let Some(function) = call.get("function") else { return };
        let text = |name: &str| function.get(name).and_then(Value::as_str).unwrap_or_default();
        let (name, arguments) = (self.room_for(text("name")), text("arguments"));
        let arguments = self.room_for(arguments);
        let id = call.get("id").and_then(Value::as_str).filter(|it| is_id(it));
        if place >= PARTS_MAX {
            self.is_cut = true;
            return;
        }
        let Some(choice) = self.part(index) else { return };
        if choice.calls.len() <= place {
            choice.calls.resize_with(place + 1, ToolCall::default);
        }
        let call = &mut choice.calls[place];
        if call.id.is_empty() {
            call.id.push_str(id.unwrap_or_default());
        }
        call.name.push_str(name);
        call.arguments.push_str(arguments);
    }

    fn part(&mut self, index: usize) -> Option<&mut Choice> {
        if index >= PARTS_MAX {
            self.is_cut = true;
            return None;
        }
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Choice::default);
        }
        self.choices.get_mut(index)
    }

    /// As much of a text as may still be kept.
    fn room_for<'a>(&mut self, text: &'a str) -> &'a str {
        let end = text.floor_char_boundary(TEXT_MAX.saturating_sub(self.bytes));
        self.bytes += end;
        self.is_cut |= end < text.len();
        &text[..end]
    }

    /// Characters that came so far.
    pub(super) fn chars(&self) -> usize {
        usize::try_from(self.chars).unwrap_or(usize::MAX)
    }

    /// The texts of all choices, joined by line ends, with a mark where they were cut.
    pub(super) fn text(&self) -> String {
        let texts: Vec<&str> = self.choices.iter().map(|it| it.text.as_str()).collect();
        let mut text = texts.join("\n");
        if self.chars_cut > 0 {
            text += &format!("…(+{})", self.chars_cut);
        }
        text
    }

    /// JSON of the calls of all choices.
    pub(super) fn tool_calls(&self) -> Option<String> {
        let calls: Vec<Value> = self
            .choices
            .iter()
            .flat_map(|it| &it.calls)
            .map(|it| json!({"name": it.name, "arguments": it.arguments}))
            .collect();
        (!calls.is_empty()).then(|| Value::Array(calls).to_string())
    }

    /// Whether there is an answer at all.
    pub(super) fn has_choices(&self) -> bool {
        !self.choices.is_empty()
    }

    /// All choices as they are stored; none when something of them is not kept here.
    pub(super) fn stored(&self) -> Option<Vec<StoredChoice>> {
        let call = |ToolCall { id, name, arguments }: &ToolCall| Call {
            id: id.clone(),
            name: name.clone(),
            arguments: arguments.clone(),
        };
        let choice = |(index, it): (usize, &Choice)| StoredChoice {
            index,
            // Some servers don't say why they ended.
            finish_reason: it.reason.unwrap_or("other"),
            content: (it.calls.is_empty() || !it.text.is_empty()).then(|| it.text.clone()),
            calls: it.calls.iter().map(call).collect(),
        };
        (!self.is_cut).then(|| self.choices.iter().enumerate().map(choice).collect())
    }

    pub(super) fn spoken<'a>(&self, text: &'a str, tool_calls: Option<&'a str>) -> Spoken<'a> {
        Spoken { text, chars: self.chars, tool_calls, finish_reason: self.finish_reason }
    }
}

/// An id stands on every line of some logs, so it has to look like one.
fn is_id(text: &str) -> bool {
    let is_symbol = |it: u8| it.is_ascii_alphanumeric() || b"-_.:".contains(&it);
    (1..=ID_CHARS).contains(&text.len()) && text.bytes().all(is_symbol)
}

/// A closed set: the reason is metadata, so a text from elsewhere can't stand in its place.
fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 7] =
        ["stop", "length", "tool_calls", "content_filter", "function_call", "abort", "error"];
    KNOWN.into_iter().find(|it| *it == reason).unwrap_or("other")
}

/// What the error object of an upstream says. It may repeat what a person wrote, so it is content.
pub(super) fn error_text(error: &Value) -> String {
    const CHARS: usize = 1000;
    let text = |name: &str| match error.get(name) {
        Some(Value::String(it)) => Some(it.clone()),
        Some(it @ Value::Number(_)) => Some(it.to_string()),
        _ => None,
    };
    let message = text("message").unwrap_or_else(|| match error {
        Value::String(it) => it.clone(),
        other => other.to_string(),
    });
    let message: String = message.chars().take(CHARS).collect();
    match text("code").or_else(|| text("type")) {
        Some(code) => format!("{message} ({})", code.chars().take(CHARS).collect::<String>()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(values: &[Value]) -> Heard {
        let mut heard = Heard::default();
        for it in values {
            heard.take(it);
        }
        heard
    }

    fn delta(index: usize, text: &str) -> Value {
        json!({"id": "chatcmpl-1", "model": "m", "choices": [{"index": index, "delta": {"content": text}}]})
    }

    #[test]
    fn what_cannot_be_told_of_is_no_whole_answer() {
        let check = |message: Value, text: &str, is_whole: bool| {
            let value = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
            let heard = heard(&[value]);
            assert_eq!(
                (heard.text().as_str(), heard.stored().is_some()),
                (text, is_whole),
                "{message}"
            );
        };
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        check(json!({"content": parts}), "ab", true);
        check(json!({"content": "", "refusal": "no"}), "no", true);
        check(json!({"content": [{"type": "image_url"}]}), "", false);
        check(json!({"content": 7}), "", false);
        check(json!({"content": null, "function_call": {"name": "f"}}), "", false);
        check(json!({"content": null, "audio": {"data": "x"}}), "", false);
        let value = json!({"delta": null, "message": {"content": "c"}});
        assert_eq!(heard(&[json!({"choices": [value]})]).text(), "c");
    }

    #[test]
    fn a_stream_ends_when_each_of_its_answers_has() {
        let end = |index: usize| json!({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]});
        assert!(!heard(&[]).all_ended());
        assert!(!heard(&[delta(0, "a"), delta(1, "b"), end(0)]).all_ended());
        assert!(heard(&[delta(0, "a"), delta(1, "b"), end(0), end(1)]).all_ended());
    }

    #[test]
    fn nonsense_is_no_count() {
        let usage = json!({"prompt_tokens": u64::MAX, "completion_tokens": 7});
        let heard = heard(&[json!({"usage": usage})]);
        assert_eq!((heard.input_tokens, heard.output_tokens), (None, Some(7)));
    }

    #[test]
    fn a_stream_and_a_whole_answer_say_the_same() {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
        let stream = [
            delta(0, "안"),
            delta(0, "녕"),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": null}),
            json!({"choices": [], "usage": usage}),
        ];
        let whole = json!({"id": "chatcmpl-1", "model": "m", "usage": usage,
            "choices": [{"message": {"role": "assistant", "content": "안녕"}, "finish_reason": "stop"}]});
        let completion = json!({"id": "chatcmpl-1", "model": "m", "usage": usage,
            "choices": [{"text": "안녕", "finish_reason": "stop"}]});
        for heard in [heard(&stream), heard(&[whole]), heard(&[completion])] {
            assert_eq!(heard.text(), "안녕");
            assert_eq!((heard.chars(), heard.finish_reason), (2, Some("stop")));
            assert_eq!((heard.input_tokens, heard.output_tokens), (Some(3), Some(2)));
            assert_eq!(heard.id.as_deref(), Some("chatcmpl-1"));
            assert_eq!(heard.tool_calls(), None);
            let stored = heard.stored().unwrap();
            let [choice] = stored.as_slice() else { panic!("{stored:?}") };
            assert_eq!((choice.index, choice.finish_reason), (0, "stop"));
            assert_eq!((choice.content.as_deref(), choice.calls.len()), (Some("안녕"), 0));
        }
    }

    #[test]
    fn choices_are_told_apart_and_only_the_first_is_given_back() {
        let mut heard = Heard::default();
        assert_eq!(heard.take(&delta(0, "a")), "a");
        assert_eq!(heard.take(&delta(1, "x")), "");
        assert_eq!(heard.take(&delta(0, "b")), "b");
        assert_eq!(heard.take(&delta(4000, "far")), "");
        assert_eq!(heard.text(), "ab\nx…(+3)");
        // It is not whole.
        assert!(heard.stored().is_none());
    }

    #[test]
    fn tool_calls_are_put_together() {
        let call = |value: Value| json!({"choices": [{"delta": {"tool_calls": [value]}}]});
        let mut heard = heard(&[
            call(json!({"index": 0, "id": "c", "function": {"name": "weather", "arguments": ""}})),
            call(json!({"index": 0, "function": {"arguments": "{\"city\":"}})),
            call(json!({"index": 0, "function": {"arguments": "\"서울\"}"}})),
            call(json!({"index": 1})),
        ]);
        let expected = r#"[{"name":"weather","arguments":"{\"city\":\"서울\"}"}]"#;
        assert_eq!(heard.tool_calls().as_deref(), Some(expected));
        let choice = heard.stored().unwrap().remove(0);
        assert_eq!((choice.content, choice.finish_reason), (None, "other"));
        let Call { id, name, arguments } = &choice.calls[0];
        assert_eq!((id.as_str(), name.as_str()), ("c", "weather"));
        assert_eq!(arguments, "{\"city\":\"서울\"}");
        heard.take(&call(json!({"index": 4000, "function": {"name": "far"}})));
        assert_eq!(heard.tool_calls().as_deref(), Some(expected));
        assert!(heard.stored().is_none());
    }

    #[test]
    fn a_text_without_end_is_counted_and_cut() {
        let mut heard = Heard::default();
        let megabyte = "가".repeat(350_000);
        for _ in 0..12 {
            heard.take(&delta(0, &megabyte));
        }
        assert_eq!(heard.chars(), 12 * 350_000);
        let text = heard.text();
        let kept = text.chars().filter(|it| *it == '가').count();
        assert!(text.len() <= TEXT_MAX + 32 && kept == TEXT_MAX / 3, "{kept}");
        assert!(text.ends_with(&format!("…(+{})", 12 * 350_000 - kept)));
        assert!(heard.stored().is_none());
    }

    #[test]
    fn what_is_metadata_comes_from_a_closed_set() {
        let heard = heard(&[json!({
            "id": "call ada@example.org", "choices": [{"finish_reason": "because ada@example.org"}],
        })]);
        assert_eq!((heard.id, heard.finish_reason), (None, Some("other")));
    }

    #[test]
    fn errors_are_told_in_whichever_form_they_have() {
        let check = |error: Value, expected: &str| {
            assert_eq!(heard(&[json!({"error": error})]).error.as_deref(), Some(expected));
        };
        check(json!({"message": "no", "type": "t", "code": "c"}), "no (c)");
        check(json!({"message": "no", "type": "t", "code": null}), "no (t)");
        check(json!({"message": "no", "code": 400}), "no (400)");
        check(json!("no"), "no");
        check(json!({"detail": 1}), r#"{"detail":1}"#);
        assert_eq!(heard(&[json!({"error": null})]).error, None);
    }
}
