//! Answers that are logged part by part: the parts make the whole, and editors take the same out of both.

use serde_json::{Value, json};

use crate::support::{Config, Server, by_request, model::Model, records, repository};

const REVISION: &str = "bucksaw_log_revision";

/// The longest word of a text, in letters of ASCII.
fn word(text: &str) -> &str {
    let words = text.split(|it: char| !it.is_ascii_alphabetic());
    let word = words.max_by_key(|it| it.len()).unwrap_or_default();
    assert!(word.len() > 2, "{text}");
    word
}

#[test]
fn the_parts_of_an_answer_are_the_answer() {
    let model = Model::endless();
    let plain = Config::json().engine(&model.lines()).log("response_deltas = true");
    let mut server = Server::start(&plain);
    // Id and text of a stream that has been read to its end.
    let ask = || {
        let answer = server.chat("Hello!", &json!({"stream": true, "max_tokens": 300}));
        let text: String = answer
            .events()
            .iter()
            .filter_map(|it| serde_json::from_str::<Value>(it).ok())
            .filter_map(|it| it["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect();
        (answer.id(), text)
    };
    let (first, text) = ask();
    // An editor that is sure of everything but the last byte.
    let path = repository("tests/fixtures/components/hostile.wasm");
    let sure = format!("source = {path:?}\nconfig = {{ do = \"liar\" }}");
    server.configure(&plain.clone().edit(&["hostile"]).plugin("hostile", &sure).text());
    server.reaches(REVISION, 2);
    let (second, again) = ask();
    assert_eq!(again, text);
    // One that takes a word of the answer out, and may see more of it until the end.
    let word = word(&text);
    let pattern = format!("config = {{ patterns = [{{ name = \"word\", regex = {word:?} }}] }}");
    server.configure(&plain.clone().edit(&["redact"]).plugin("redact", &pattern).text());
    server.reaches(REVISION, 3);
    let (third, again) = ask();
    assert_eq!(again, text, "clients are given what the model said");
    server.stop();

    let requests = by_request(&records(&server.read("json.log")));
    let of = |id: &str, event: &str, field: &str| -> Vec<String> {
        let found = requests[id].iter().filter(|it| it["event_name"] == event);
        found.map(|it| it["attributes"][field].as_str().unwrap().to_owned()).collect()
    };
    for (id, redacted) in [(&first, false), (&second, false), (&third, true)] {
        let parts = of(id, "response.delta", "bucksaw.response.delta");
        let whole = of(id, "response.content", "bucksaw.response.text");
        assert_eq!(whole, [parts.concat()]);
        if redacted {
            assert!(whole[0].contains("[WORD]") && !whole[0].contains(word), "{whole:?}");
        } else {
            assert_eq!(whole[0], text);
            assert!(parts.len() > 1, "{parts:?}");
        }
    }
}
