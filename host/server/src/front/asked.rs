//! What a request says, read for the log and for nothing else: whatever does not make sense is skipped, since the upstream will
//! say so itself.

use serde_json::{Map, Value};

use crate::{output::Output, request_log::SentParams};

/// Which part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
    Embedding,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    /// The answer is to be kept.
    pub(super) store: bool,
    /// All text of all messages, joined by line ends.
    pub(super) prompt: String,
    pub(super) messages: usize,
    /// All of them.
    pub(super) images: usize,
    /// Those that are in the request itself, as data URLs.
    pub(super) pictures: Vec<String>,
    pub(super) params: SentParams,
    /// More than one choice: their texts come in turns.
    pub(super) has_choices: bool,
}

impl Asked {
    /// At most `pictures_max` images are looked at.
    pub(super) fn read(kind: Kind, map: &Map<String, Value>, pictures_max: usize) -> Self {
        let mut texts = Texts { pictures_max, ..Texts::default() };
        let messages = match kind {
            Kind::Chat => {
                let messages = map.get("messages").and_then(Value::as_array);
                let messages = messages.map(Vec::as_slice).unwrap_or_default();
                messages.iter().for_each(|it| texts.message(it));
                messages.len()
            }
            Kind::Completion => texts.inputs(map.get("prompt")),
            Kind::Embedding => texts.inputs(map.get("input")),
        };
        let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
        Self {
            model: map.get("model").and_then(Value::as_str).map(str::to_owned),
            stream: flag("stream"),
            // Lax servers take 1 and "yes" as well.
            store: !matches!(map.get("store"), None | Some(Value::Null | Value::Bool(false))),
            prompt: texts.all.join("\n"),
            messages,
            images: texts.images,
            pictures: texts.pictures,
            params: params(map),
            has_choices: map.get("n").and_then(Value::as_u64).is_some_and(|it| it > 1),
        }
    }
}

#[derive(Default)]
struct Texts<'a> {
    all: Vec<&'a str>,
    images: usize,
    pictures: Vec<String>,
    pictures_max: usize,
}

impl<'a> Texts<'a> {
    fn message(&mut self, message: &'a Value) {
        match message.get("content") {
            Some(Value::String(text)) => self.all.push(text),
            Some(Value::Array(parts)) => parts.iter().for_each(|it| self.part(it)),
            _ => {}
        }
        let calls = message.get("tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            self.all.extend(call.pointer("/function/arguments").and_then(Value::as_str));
        }
    }

    fn part(&mut self, part: &'a Value) {
        match part {
            Value::String(text) => self.all.push(text),
            Value::Object(part) => {
                let texts = ["text", "refusal"].iter().filter_map(|it| part.get(*it)?.as_str());
                self.all.extend(texts);
                if let Some(image) = part.get("image_url") {
                    self.image(image);
                }
            }
            _ => {}
        }
    }

    /// `{"url": …}`, or the address itself, which some servers take.
    fn image(&mut self, image: &Value) {
        self.images += 1;
        let Some(url) = image.get("url").unwrap_or(image).as_str() else { return };
        let is_data = url.get(..5).is_some_and(|it| it.eq_ignore_ascii_case("data:"));
        if is_data && self.pictures.len() < self.pictures_max {
            self.pictures.push(url.to_owned());
        }
    }

    /// One text, or several; token ids are numbers and no text. How many there are.
    fn inputs(&mut self, inputs: Option<&'a Value>) -> usize {
        match inputs {
            Some(Value::String(text)) => {
                self.all.push(text);
                1
            }
            Some(Value::Array(items)) if items.iter().any(Value::is_number) => 1,
            Some(Value::Array(items)) => {
                items.iter().for_each(|it| self.part(it));
                items.len()
            }
            _ => 0,
        }
    }
}

fn params(map: &Map<String, Value>) -> SentParams {
    let number = |name: &str| map.get(name).and_then(Value::as_f64);
    let whole = |name: &str| map.get(name).and_then(Value::as_i64);
    let stop = match map.get("stop") {
        Some(Value::String(it)) => vec![it.clone()],
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let format = map.get("response_format").and_then(|it| it.get("type")).and_then(Value::as_str);
    SentParams {
        max_tokens: whole("max_completion_tokens")
            .or_else(|| whole("max_tokens"))
            .and_then(|it| u64::try_from(it).ok()),
        temperature: number("temperature"),
        top_p: number("top_p"),
        top_k: whole("top_k"),
        seed: whole("seed"),
        stop,
        output: match format {
            Some("text") => Some(Output::Text),
            Some("json_object") => Some(Output::Object),
            Some("json_schema") => Some(Output::Schema),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: Kind, value: &Value) -> Asked {
        Asked::read(kind, value.as_object().unwrap(), 1)
    }

    #[test]
    fn all_text_of_a_request_is_seen_wherever_it_is() {
        let check = |kind, value: Value, prompt: &str, messages: usize| {
            let asked = read(kind, &value);
            assert_eq!((asked.prompt.as_str(), asked.messages), (prompt, messages), "{value}");
        };
        check(
            Kind::Chat,
            json!({"messages": [
                {"role": "system", "content": "be kind"},
                {"role": "user", "content": [
                    {"type": "text", "text": "what"}, "is",
                    {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
                ]},
                {"role": "assistant", "content": null,
                 "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\":1}"}}]},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
                7,
            ]}),
            "be kind\nwhat\nis\n{\"a\":1}\nno",
            5,
        );
        check(Kind::Chat, json!({"messages": "hello"}), "", 0);
        check(Kind::Chat, json!({}), "", 0);
        check(Kind::Completion, json!({"prompt": "once"}), "once", 1);
        check(Kind::Completion, json!({"prompt": ["once", "twice"]}), "once\ntwice", 2);
        check(Kind::Completion, json!({"prompt": [1, 2, 3]}), "", 1);
        check(Kind::Completion, json!({"prompt": [[1], [2, 3]]}), "", 2);
        check(Kind::Embedding, json!({"input": ["a", "b"]}), "a\nb", 2);
    }

    #[test]
    fn images_are_counted_and_those_that_came_along_are_kept() {
        let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let value = json!({"messages": [{"role": "user", "content": [
            image("https://host/a.png"), image("data:image/png;base64,aGk="),
            image("DATA:image/png;base64,aGk="), {"type": "image_url", "image_url": 7},
        ]}]});
        let asked = read(Kind::Chat, &value);
        assert_eq!((asked.images, asked.pictures.len()), (4, 1));
    }

    #[test]
    fn parameters_are_read_as_sent_and_nonsense_is_skipped() {
        let check = |value: Value, expected: SentParams| {
            assert_eq!(read(Kind::Chat, &value).params, expected, "{value}");
        };
        check(json!({}), SentParams::default());
        check(
            json!({"max_tokens": 5, "max_completion_tokens": 7, "temperature": 9, "seed": -3,
                   "top_k": -1, "top_p": 0.5, "stop": ["a", 2], "response_format": {"type": "json_schema"}}),
            SentParams {
                max_tokens: Some(7),
                temperature: Some(9.0),
                top_p: Some(0.5),
                top_k: Some(-1),
                seed: Some(-3),
                stop: vec!["a".to_owned()],
                output: Some(Output::Schema),
            },
        );
        check(
            json!({"max_tokens": "many", "stop": {}, "response_format": "json", "seed": 1.5}),
            SentParams::default(),
        );
    }

    #[test]
    fn flags_and_names_are_read_and_nonsense_is_skipped() {
        let asked = read(Kind::Chat, &json!({"store": true, "stream": true, "model": "m", "n": 2}));
        assert!(asked.store && asked.stream && asked.has_choices);
        assert_eq!(asked.model.as_deref(), Some("m"));
        let asked = read(Kind::Chat, &json!({"store": false, "n": 1, "model": 7}));
        assert!(!asked.store && !asked.stream && !asked.has_choices && asked.model.is_none());
        assert!(read(Kind::Chat, &json!({"store": 1})).store);
        assert!(!read(Kind::Chat, &json!({"store": null})).store);
    }
}
