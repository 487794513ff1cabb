//! Completions of other servers, stored and served by the one in front of them.

use std::fs;

use serde_json::{Value, json};

use super::{
    CHAT, STREAM, WHOLE, attribute,
    fake::{Fake, closing, json_answer},
    of, outcomes, with_upstreams,
};
use crate::support::{Config, Server, eventually, http::chat_body};

const MAIL: &str = "ada@example.org";

fn config(fake: &Fake, store: &str) -> Config {
    let config = Config::default()
        .edit(&["redact"])
        .file("json", "json", "")
        .engine("kind = \"upstream\"")
        .more(&format!("[store]\npath = \"store.db\"\n{store}"));
    with_upstreams(config, &[fake.address()])
}

fn stored(server: &Server, id: &str) -> Value {
    eventually(&format!("{id} to be stored"), || {
        let answer = server.get(&format!("{CHAT}/{id}"));
        (answer.status == 200).then(|| answer.json())
    })
}

fn ids(server: &Server, query: &str) -> Vec<String> {
    let page = server.get(&format!("{CHAT}{query}")).json();
    let id = |it: &Value| it["id"].as_str().unwrap().to_owned();
    page["data"].as_array().unwrap().iter().map(id).collect()
}

#[test]
fn what_was_released_of_an_answer_is_stored_and_the_wish_goes_no_further() {
    let call = format!(
        r#"{{"id":"call_1","type":"function","function":{{"name":"mail","arguments":"{{\"to\":\"{MAIL}\"}}"}}}}"#
    );
    let whole = WHOLE.replace("좋아요", &format!("write to {MAIL}"));
    let calling = WHOLE
        .replace("chatcmpl-1", "chatcmpl-2")
        .replace("\"content\":\"좋아요\"", &format!("\"content\":null,\"tool_calls\":[{call}]"))
        .replace("\"stop\"", "\"tool_calls\"");
    let stream = STREAM
        .replace("chatcmpl-1", "chatcmpl-3")
        .replace("아요", &format!(" {MAIL}"))
        .replace("\"model\":\"m\"", "\"model\":\"nobody-lists-it\",\"created\":7");
    let uncounted = STREAM.replace("chatcmpl-1", "chatcmpl-4").replace("\"usage\"", "\"used\"");
    // An event that is too long to be heard.
    let long = format!("data: \"{}\"\n\n{STREAM}", "x".repeat(2 << 20));
    let other = WHOLE.replace("chatcmpl-1", "chatcmpl-other");
    let fake = Fake::start(vec![
        json_answer("200 OK", &whole),
        json_answer("200 OK", &calling),
        closing(&stream),
        closing(&uncounted),
        closing(&long.replace("chatcmpl-1", "chatcmpl-long")),
        json_answer("200 OK", &other),
    ]);
    let mut server = Server::start(&config(&fake, ""));
    let ask = |at: usize, stream: bool, more: &Value| {
        let mut body = chat_body(&format!("answer {at} to {MAIL}"), &json!({"stream": stream}));
        let passed = body.to_string();
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = server.post(CHAT, &body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(fake.seen().contains(&format!("\r\n\r\n{passed}")), "{}", fake.seen());
        answer.id()
    };
    let wish = json!({"store": true, "metadata": {"owner": MAIL, "team": "a"}});
    let told = [
        ask(0, false, &wish),
        ask(1, false, &wish),
        ask(2, true, &wish),
        ask(3, true, &wish),
        ask(4, true, &wish),
    ];
    ask(5, false, &json!({}));

    let it = stored(&server, "chatcmpl-1");
    assert_eq!(it["choices"][0]["message"]["content"], "write to [EMAIL]", "{it}");
    assert_eq!((&it["model"], &it["request_id"]), (&json!("m"), &json!(told[0])));
    assert_eq!(
        (&it["choices"][0]["finish_reason"], &it["temperature"]),
        (&json!("stop"), &json!(0.0))
    );
    assert_eq!(it["usage"]["total_tokens"], 5);
    assert_eq!(it["metadata"], json!({"owner": "[EMAIL]", "team": "a"}));
    let page = server.get(&format!("{CHAT}/chatcmpl-1/messages")).json();
    assert_eq!(page["data"][0]["content"], "answer 0 to [EMAIL]", "{page}");

    let it = stored(&server, "chatcmpl-2");
    let message = &it["choices"][0]["message"];
    assert!(message["content"].is_null(), "{it}");
    assert_eq!(message["tool_calls"].to_string(), format!("[{}]", call.replace(MAIL, "[EMAIL]")));
    assert_eq!(it["choices"][0]["finish_reason"], "tool_calls");

    let it = stored(&server, "chatcmpl-3");
    assert_eq!(it["choices"][0]["message"]["content"], "좋 [EMAIL]", "{it}");
    assert_eq!((&it["created"], &it["model"]), (&json!(7), &json!("unknown")));
    assert!(stored(&server, "chatcmpl-4")["usage"].is_null());

    let all = ["chatcmpl-1", "chatcmpl-2", "chatcmpl-3", "chatcmpl-4"];
    let mut listed = ids(&server, "?metadata[team]=a");
    listed.sort();
    assert_eq!(listed, all);
    let one = format!("{CHAT}/chatcmpl-1");
    let changed = server.post(&one, &json!({"metadata": {"owner": MAIL}})).json();
    assert_eq!(changed["metadata"], json!({"owner": "[EMAIL]"}));
    assert_eq!(server.send("DELETE", &one, &[], b"").json()["deleted"], true);
    assert_eq!(server.get(&one).json()["error"]["code"], "completion_not_found");
    // Whoever wants to store what cannot be stored is told so, and nobody else is asked.
    let posts = fake.posts();
    let bad = server.chat("answer 0", &json!({"store": true, "metadata": {"k": 1}}));
    assert_eq!((bad.status, &bad.json()["error"]["param"]), (400, &json!("metadata")));
    assert_eq!(fake.posts(), posts);
    server.stop();

    let outcomes = outcomes(&server);
    for (at, id) in told.iter().enumerate() {
        let (outcome, records) = of(&outcomes, id);
        let status = attribute(records, "request.summary", "bucksaw.store.status");
        let expected = if at == 4 { "incomplete" } else { "sent" };
        assert_eq!((outcome, status.as_str()), ("finished", Some(expected)), "{at}");
    }
    for name in ["store.db", "json.log"] {
        let bytes = fs::read(server.path(name)).unwrap();
        assert!(!bytes.windows(MAIL.len()).any(|it| it == MAIL.as_bytes()), "{name}");
    }
}

#[test]
fn what_nobody_asked_to_store_is_stored_where_all_is_and_passes_as_it_came() {
    let fake = Fake::start(vec![json_answer("200 OK", WHOLE)]);
    let server = Server::start(&config(&fake, "all = true"));
    let raw = "{ \"messages\":[{\"role\" : \"user\",\"content\":\"answer 0\"}],\"metadata\":{\"a\":\"b\",\"n\":1} }";
    let headers = [("content-type", "application/json")];
    assert_eq!(server.send("POST", CHAT, &headers, raw.as_bytes()).status, 200);
    assert!(fake.seen().ends_with(raw), "{}", fake.seen());
    assert_eq!(stored(&server, "chatcmpl-1")["metadata"], json!({"a": "b"}));
}

#[test]
fn without_a_store_the_wish_is_the_upstreams() {
    let fake = Fake::start(vec![json_answer("200 OK", WHOLE)]);
    let server = Server::start(&super::in_front_of(&[fake.address()]));
    assert_eq!(server.chat("answer 0", &json!({"store": true})).status, 200);
    assert!(fake.seen().contains("\"store\":true"), "{}", fake.seen());
    let answer = server.get(&format!("{CHAT}/chatcmpl-1"));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("no_store")));
}

#[test]
fn a_part_of_an_answer_is_not_stored_as_the_whole() {
    // What Python's JSON says and no other's.
    let event =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"NOT\"},\"logprobs\":NaN}]}\n\n";
    let unreadable = format!("{event}{}", STREAM.replace("chatcmpl-1", "chatcmpl-nan"));
    let half = concat!(
        "data: {\"id\":\"chatcmpl-half\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"all\"}},{\"index\":1,\"delta\":{\"content\":\"ha\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    );
    let failing = STREAM.replace("chatcmpl-1", "chatcmpl-500");
    let failing = String::from_utf8(closing(&failing)).unwrap().replace("200 OK", "500 Oh No");
    let fake = Fake::start(vec![closing(&unreadable), closing(half), failing.into_bytes()]);
    let mut server = Server::start(&config(&fake, ""));
    let ask = |at: usize| {
        let more = json!({"stream": true, "store": true, "n": 2});
        server.chat(&format!("answer {at}"), &more)
    };
    let told = [ask(0), ask(1), ask(2)];
    assert!(told[0].text.contains("NaN"), "it passes all the same: {}", told[0].text);
    assert!(told[1].text.contains("upstream_broken"), "{}", told[1].text);
    assert_eq!(told[2].status, 500);
    let success =
        "vllm:request_success_total{engine=\"0\",model_name=\"m\",finished_reason=\"stop\"}";
    server.reaches(success, 1);
    server.stop();

    let outcomes = outcomes(&server);
    let expected = [("finished", Some("incomplete")), ("failed", None), ("failed", None)];
    for (answer, (outcome, status)) in told.iter().zip(expected) {
        let (found, records) = of(&outcomes, &answer.id());
        let store = attribute(records, "request.summary", "bucksaw.store.status");
        let store = store.as_str().filter(|it| *it != "not_sent");
        assert_eq!((found, store), (outcome, status), "{}", answer.text);
    }
}
