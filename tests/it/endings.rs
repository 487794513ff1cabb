//! A request that is given up at any point, runs out of time or is cut off ends once in the log, with one answer or with several.

use std::{io::Write as _, net::TcpStream};

use serde_json::{Value, json};

use crate::support::{
    Config, Server, by_request, eventually,
    http::{chat_body, read_until},
    model::Model,
    records, terminals,
};

const CHAT: &str = "/v1/chat/completions";

/// Waits until so many requests have ended in the log.
fn ended(server: &Server, requests: usize) {
    eventually("the last summaries", || {
        let text = std::fs::read_to_string(server.path("json.log")).ok()?;
        let count = text.matches("\"event_name\":\"request.summary\"").count();
        (count >= requests).then_some(())
    });
}

/// The terminal record of each request, of which each has one.
fn endings(server: &Server) -> Vec<String> {
    by_request(&records(&server.read("json.log")))
        .into_values()
        .map(|records| {
            let names = terminals(&records);
            let [name] = names.as_slice() else { panic!("{names:?} of {records:#?}") };
            let last = records.last().unwrap();
            assert_eq!(last["event_name"], "request.summary", "{records:#?}");
            // What an error was called tells more than that there was one.
            match last["attributes"]["error.type"].as_str() {
                Some(error) if *name != "request.cancelled" => format!("{name}: {error}"),
                _ => name.clone(),
            }
        })
        .collect()
}

/// Reads events of a stream up to this one, or to the end of the stream.
fn read_events(stream: &mut TcpStream, events: usize) {
    let mut text = String::new();
    while text.matches("data: ").count() < events && !text.contains("[DONE]") {
        let mut chunk = [0; 512];
        let count = std::io::Read::read(stream, &mut chunk).unwrap();
        assert!(count > 0, "the stream ended without its end: {text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
}

#[test]
fn a_client_may_leave_after_any_event_of_a_stream() {
    let model = Model::endless();
    let mut server = Server::start(&Config::json().engine(&model.lines()));
    let tokens = 5;
    let mut requests = 0;
    for choices in [1, 3] {
        let more = json!({
            "stream": true, "max_tokens": tokens, "n": choices, "temperature": 1,
            "stream_options": {"include_usage": true},
        });
        // The roles, the texts, the reasons, the usage and the end.
        let events = choices * (tokens + 2) + 2;
        for leaves_after in 1..=events {
            let mut stream = server.open(CHAT, &chat_body("Hello!", &more));
            read_events(&mut stream, leaves_after);
            drop(stream);
            requests += 1;
        }
    }
    ended(&server, requests);
    // Nobody's departure keeps the engine from the next one.
    let after = server.chat("Hello!", &json!({"max_tokens": 3, "n": 2}));
    assert_eq!(after.status, 200, "{}", after.text);
    server.stop();

    let endings = endings(&server);
    assert_eq!(endings.len(), requests + 1);
    let known = ["request.finished", "request.cancelled"];
    assert!(endings.iter().all(|it| known.contains(&it.as_str())), "{endings:?}");
    assert!(endings.iter().any(|it| it == "request.finished"), "{endings:?}");
}

#[test]
fn a_client_may_leave_in_the_middle_of_its_own_request() {
    let model = Model::endless();
    let mut server = Server::start(&Config::json().engine(&model.lines()));
    let body = chat_body("Hello!", &json!({"stream": true, "n": 2})).to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    // Once the head is there, it is a request.
    let mut requests = 0;
    for sent in [0, 1, body.len() / 2, body.len() - 1, body.len()] {
        let mut stream = server.open_raw(head.as_bytes());
        stream.write_all(&body.as_bytes()[..sent]).unwrap();
        requests += 1;
        // So that the server has seen it before it is gone.
        if sent == body.len() {
            read_until(&mut stream, "\"delta\":{\"content\":\"");
        }
        drop(stream);
        ended(&server, requests);
    }
    // Before that, it is none.
    drop(server.open_raw(&head.as_bytes()[..head.len() / 2]));
    server.stop();
    assert_eq!(endings(&server), vec!["request.cancelled"; requests]);
}

#[test]
fn a_request_whose_time_is_over_fails_once() {
    let model = Model::endless();
    let config = Config::json().engine(&model.lines()).server("request_seconds = 1");
    let mut server = Server::start(&config);
    let many = |more: Value| {
        let mut body = json!({"n": 32, "temperature": 1});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        server.chat("Hello!", &body)
    };
    let whole = many(json!({}));
    assert_eq!(whole.status, 504, "{}", whole.text);
    assert_eq!(whole.json()["error"]["code"], "deadline_exceeded");
    let streamed = many(json!({"stream": true}));
    assert_eq!(streamed.status, 200);
    let events = streamed.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "deadline_exceeded");
    // What was begun for them is over as well.
    let after = server.chat("Hello!", &json!({"max_tokens": 2}));
    assert_eq!(after.status, 200, "{}", after.text);
    server.stop();

    let mut endings = endings(&server);
    endings.sort_unstable();
    let failed = "request.failed: deadline_exceeded";
    assert_eq!(endings, [failed, failed, "request.finished"]);
}

/// Tokens of the answer to a greeting: the second one is not in the prompt.
fn answers_tokens() -> (usize, usize) {
    let mut server = Server::start(&Config::json());
    let said = server.chat("Hello!", &json!({"max_tokens": 8, "temperature": 0})).json();
    let text = said["choices"][0]["message"]["content"].as_str().unwrap();
    let body = json!({"prompt": text, "add_special_tokens": false});
    let answer = server.post("/tokenize", &body).json()["tokens"].clone();
    let messages = json!([{"role": "user", "content": "Hello!"}]);
    let prompt = server.post("/tokenize", &json!({"messages": messages})).json()["tokens"].clone();
    server.stop();
    let numbers = |it: &Value| -> Vec<u64> {
        it.as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect()
    };
    let (answer, prompt) = (numbers(&answer), numbers(&prompt));
    let at = answer.iter().position(|it| !prompt.contains(it)).unwrap();
    (usize::try_from(answer[at]).unwrap(), at)
}

#[test]
fn an_engine_that_fails_in_the_middle_of_an_answer_ends_it_once() {
    let (token, at) = answers_tokens();
    let model = Model::fails_after(token);
    let mut server = Server::start(&Config::json().engine(&model.lines()));
    let greedy = |more: Value| {
        let mut body = json!({"temperature": 0, "max_tokens": 8});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let whole = server.chat("Hello!", &greedy(json!({})));
    assert_eq!((whole.status, &whole.json()["error"]["code"]), (500, &json!("internal")));
    let several = server.chat("Hello!", &greedy(json!({"n": 3})));
    assert_eq!(several.status, 500, "{}", several.text);
    let streamed = server.chat("Hello!", &greedy(json!({"stream": true})));
    assert_eq!(streamed.status, 200);
    let events = streamed.events();
    // The role, the tokens that came before, and the error in place of an end.
    assert!(events.len() >= at + 2, "{events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "internal", "{events:?}");
    assert!(!streamed.text.contains("[DONE]"), "{}", streamed.text);
    let vision = server.post("/vision", &json!({"prompt": "Hello!"}));
    assert_eq!(vision.status, 500, "{}", vision.text);
    // Nobody's failure keeps the engine from the next one.
    let short = server.chat("Hello!", &json!({"max_tokens": 1, "temperature": 0}));
    assert_eq!(short.status, 200, "{}", short.text);
    server.stop();

    let mut endings = endings(&server);
    endings.sort_unstable();
    let failed = "request.failed: internal";
    assert_eq!(endings, [failed, failed, failed, failed, "request.finished"]);
}

#[test]
fn several_answers_that_are_cut_off_end_once() {
    let model = Model::endless();
    let config = Config::json().engine(&model.lines()).server("grace_seconds = 1");
    let mut server = Server::start(&config);
    let more = json!({"stream": true, "n": 3, "temperature": 1});
    let mut streams: Vec<_> =
        (0..3).map(|_| server.open(CHAT, &chat_body("Hello!", &more))).collect();
    for stream in &mut streams {
        read_until(stream, "\"delta\":{\"content\":\"");
    }
    server.stop();
    assert_eq!(endings(&server), vec!["request.cancelled"; streams.len()]);
}
