//! Stored completions: what a chain let through and nothing else, over the API and on the disk.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    Config, Server, by_request, eventually,
    http::{Answer, chat_body, read_until},
    model::Model,
    records, repository, terminals,
};

const CHAT: &str = "/v1/chat/completions";
const ADDRESS: &str = "kim.minsu@example.com";
const KEY: &str = "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb7cDe0f";

/// The guide's log, each record as JSON beside it, and a store behind a chain that does not cut.
fn config() -> Config {
    Config::guide().file("json", "json", "").more(
        "[store]\npath = \"store.db\"\nchain = \"store\"\nmax_mib = 1\n\
         [chains.store]\nedit = [\"redact\"]",
    )
}

/// Asks for something to be stored, and waits until it is.
fn store(server: &Server, body: &Value) -> Value {
    let answer = server.post(CHAT, body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let id = format!("chatcmpl-{}", answer.id().replace('-', ""));
    if body["stream"] != true {
        assert_eq!(answer.json()["id"], id.as_str());
    }
    stored(server, &id)
}

fn stored(server: &Server, id: &str) -> Value {
    eventually(&format!("{id} to be stored"), || {
        let answer = server.get(&format!("{CHAT}/{id}"));
        (answer.status == 200).then(|| answer.json())
    })
}

fn wish(text: &str, more: &Value) -> Value {
    let mut body = chat_body(text, &json!({"store": true, "max_tokens": 4}));
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn delete(server: &Server, id: &str) -> Answer {
    server.send("DELETE", &format!("{CHAT}/{id}"), &[], b"")
}

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let data = answer.json()["data"].clone();
    data.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

/// That none of these texts is in any file of the server.
fn check_folder(server: &Server, texts: &[&str]) {
    let mut databases = 0;
    for entry in fs::read_dir(server.path("")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        databases += usize::from(bytes.starts_with(b"SQLite format 3"));
        for text in texts {
            let found = bytes.windows(text.len()).any(|it| it == text.as_bytes());
            assert!(!found, "{text} is in {}", path.display());
        }
    }
    assert_eq!(databases, 1);
}

#[test]
fn calls_of_tools_are_stored_as_they_were_answered() {
    let mut server = Server::start(&config());
    let city = json!({"type": "string", "enum": ["Seoul", "kim@example.com"]});
    let parameters = json!({"type": "object", "properties": {"city": city}, "required": ["city"]});
    let tool =
        json!({"type": "function", "function": {"name": "weather", "parameters": parameters}});
    let more = json!({
        "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false, "max_tokens": 200,
        "temperature": 1, "seed": 5,
    });
    let answer = server.post(CHAT, &wish("Hello!", &more)).json();
    let id = answer["id"].as_str().unwrap();
    let it = stored(&server, id);
    let (said, kept) = (&answer["choices"][0], &it["choices"][0]);
    assert_eq!(said["finish_reason"], "tool_calls", "{answer}");
    assert_eq!(kept["finish_reason"], "tool_calls", "{it}");
    assert!(kept["message"]["content"].is_null(), "{it}");
    let redacted = said["message"]["tool_calls"].to_string().replace("kim@example.com", "[EMAIL]");
    assert_eq!(kept["message"]["tool_calls"].to_string(), redacted);
    server.stop();
}

#[test]
fn calls_of_earlier_answers_are_stored_as_calls() {
    let mut server = Server::start(&config());
    let call = |at: &str| {
        json!({"id": format!("call_{ADDRESS}"), "type": "function",
               "function": {"name": "weather", "arguments": format!("{{\"to\":\"{at}\"}}")}})
    };
    let messages = json!([
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": null, "tool_calls": [call(ADDRESS), call("Busan")]},
        {"role": "tool", "tool_call_id": format!("call_{ADDRESS}"), "content": format!("of {ADDRESS}")},
    ]);
    let parameters = json!({"type": "object", "properties": {"to": {"type": "string"}}});
    let tool =
        json!({"type": "function", "function": {"name": "weather", "parameters": parameters}});
    let it = store(&server, &wish("", &json!({"messages": messages, "tools": [tool]})));
    let page = server.get(&format!("{CHAT}/{}/messages", it["id"].as_str().unwrap())).json();
    let kept = &page["data"];
    assert_eq!(kept.as_array().unwrap().len(), 3, "{page}");
    assert_eq!((&kept[1]["role"], &kept[1]["content"]), (&json!("assistant"), &Value::Null));
    let calls = &kept[1]["tool_calls"];
    assert_eq!(calls[0]["function"]["name"], "weather", "{page}");
    assert_eq!(calls[0]["function"]["arguments"], "{\"to\":\"[EMAIL]\"}");
    assert_eq!(calls[1]["function"]["arguments"], "{\"to\":\"Busan\"}");
    assert_eq!(kept[2]["content"], "of [EMAIL]");
    // What was taken out of an id is gone from both sides of it.
    assert_eq!(kept[2]["tool_call_id"], calls[0]["id"]);
    server.stop();
    check_folder(&server, &[ADDRESS]);
}

fn check_level(level: &str) {
    let mut server = Server::start_with(&config(), &[("LOG_LEVEL", level)]);
    let messages = json!([
        {"role": "system", "content": format!("you write to {ADDRESS}")},
        {"role": "user", "content": [{"type": "text", "text": format!("use {KEY}, please")}]},
    ]);
    for stream in [false, true] {
        let metadata = json!({"owner": ADDRESS, KEY: "key", "plain": "yes"});
        let more = json!({"stream": stream, "messages": messages, "metadata": metadata, "seed": 3});
        let it = store(&server, &wish("", &more));
        assert_eq!(it["object"], "chat.completion");
        assert_eq!(it["metadata"]["owner"], "[EMAIL]", "{it}");
        assert_eq!(it["metadata"]["plain"], "yes");
        assert_eq!((&it["seed"], &it["temperature"]), (&json!(3), &json!(0.0)));
        assert_eq!(it["choices"][0]["message"]["role"], "assistant");
        assert!(it["choices"][0]["message"]["content"].is_string());
        let id = it["id"].as_str().unwrap();
        let page = server.get(&format!("{CHAT}/{id}/messages")).json();
        assert_eq!(page["data"][0]["content"], "you write to [EMAIL]");
        assert_eq!(page["data"][1]["role"], "user");
        let said = page["data"][1]["content"].as_str().unwrap();
        assert!(said.starts_with("use [") && said.ends_with("], please"), "{said}");
        let change = json!({"metadata": {"k": format!("of {ADDRESS}")}});
        let changed = server.post(&format!("{CHAT}/{id}"), &change).json();
        assert_eq!(changed["metadata"], json!({"k": "of [EMAIL]"}));
    }
    check_folder(&server, &[ADDRESS, KEY]);
    server.stop();
    check_folder(&server, &[ADDRESS, KEY]);
    let log = server.read("json.log");
    assert!(!log.contains("\"event_name\":\"store."), "what is stored is no part of the log");
    for it in by_request(&records(&log)).values().filter(|_| level == "DEBUG") {
        assert_eq!(terminals(it).len(), 1, "{it:#?}");
    }
}

#[test]
fn what_a_redactor_took_out_is_not_in_the_store_at_any_level() {
    check_level("DEBUG");
    check_level("CRITICAL");
}

#[test]
fn stored_completions_are_listed_changed_and_deleted_and_each_request_is_logged() {
    let mut server = Server::start(&config());
    let mut all = Vec::new();
    for it in 0..5 {
        let metadata =
            json!({"half": if it < 3 { "first" } else { "second" }, "n": it.to_string()});
        let stored = store(&server, &wish("hello", &json!({"metadata": metadata})));
        all.push(stored["id"].as_str().unwrap().to_owned());
    }
    let list = |query: &str| server.get(&format!("{CHAT}{query}"));
    assert_eq!(ids(&list("")), all);
    assert_eq!(ids(&list("?metadata[half]=first")), all[..3]);
    assert_eq!(ids(&list("?metadata%5Bhalf%5D=second&metadata[n]=4")), all[4..]);
    assert_eq!(ids(&list("?model=demo&limit=2")), all[..2]);
    assert!(ids(&list("?model=other")).is_empty());
    let page = list(&format!("?limit=2&after={}", all[1])).json();
    assert_eq!((&page["object"], &page["has_more"]), (&json!("list"), &json!(true)));
    assert_eq!((&page["first_id"], &page["last_id"]), (&json!(all[2]), &json!(all[3])));
    let last = ids(&list(&format!("?order=desc&after={}", all[1])));
    assert_eq!(last, all[..1]);
    let empty = list("?limit=0").json();
    assert_eq!((&empty["data"], &empty["first_id"]), (&json!([]), &Value::Null));

    let one = format!("{CHAT}/{}", all[0]);
    let changed = server.post(&one, &json!({"metadata": {"half": "none"}})).json();
    assert_eq!((&changed["id"], &changed["metadata"]), (&json!(all[0]), &json!({"half": "none"})));
    assert_eq!(ids(&list("?metadata[half]=first")), all[1..3]);
    assert_eq!(server.post(&one, &json!({"metadata": null})).json()["metadata"], json!({}));

    let gone = delete(&server, &all[0]);
    let object = json!({"object": "chat.completion.deleted", "id": all[0], "deleted": true});
    assert_eq!((gone.status, gone.json()), (200, object));
    assert_eq!(ids(&list("")), all[1..]);

    let check = |answer: &Answer, status: u16, param: &str| {
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["param"]), (status, &json!(param)), "{}", answer.text);
    };
    check(&delete(&server, &all[0]), 404, "completion_id");
    check(&server.get(&one), 404, "completion_id");
    check(&server.get(&format!("{one}/messages")), 404, "completion_id");
    check(&server.post(&one, &json!({"metadata": {}})), 404, "completion_id");
    check(&server.post(&one, &json!({})), 400, "metadata");
    check(&server.post(&one, &json!({"metadata": {"k": 1}})), 400, "metadata");
    check(&list("?after=nobody"), 400, "after");
    check(&list("?limit=1000"), 400, "limit");
    check(&server.post(CHAT, &wish("x", &json!({"metadata": {"k": 1}}))), 400, "metadata");
    assert_eq!(server.send("PUT", &one, &[], b"{}").status, 405);
    server.stop();

    let records = records(&server.read("json.log"));
    let requests = by_request(&records);
    assert!(requests.len() > 25, "{}", requests.len());
    for it in requests.values() {
        assert_eq!(terminals(it).len(), 1, "{it:#?}");
    }
    let of_route = |route: &str, event: &str| {
        let attributes = records.iter().filter(|it| it["event_name"] == event);
        attributes.filter(|it| it["attributes"]["http.route"] == route).count()
    };
    assert_eq!(of_route("/v1/chat/completions/{completion_id}/messages", "request.rejected"), 1);
    // And those that looked for what was not written yet.
    assert!(of_route("/v1/chat/completions/{completion_id}", "request.rejected") >= 5);
}

#[test]
fn only_what_was_finished_is_stored_and_the_log_says_so() {
    let model = Model::endless();
    let mut server = Server::start(&config().engine(&model.lines()));
    let stream = wish("hello", &json!({"stream": true, "max_tokens": null}));
    let mut cancelled = server.open(CHAT, &stream);
    read_until(&mut cancelled, "\"content\":\"");
    drop(cancelled);
    eventually("the log to say so", || {
        server.read("json.log").contains("request.cancelled").then_some(())
    });
    let rejected = server.post(CHAT, &wish("x", &json!({"model": "other"})));
    assert_eq!(rejected.status, 404);
    let kept = store(&server, &wish("hello", &json!({})));
    // Who doesn't ask is not stored.
    assert_eq!(server.post(CHAT, &chat_body("x", &json!({"max_tokens": 1}))).status, 200);
    server.stop();

    let mut told: Vec<(String, String)> = records(&server.read("json.log"))
        .iter()
        .filter(|it| it["event_name"] == "request.summary")
        .filter_map(|it| {
            let it = &it["attributes"];
            let status = it["bucksaw.store.status"].as_str()?;
            Some((it["bucksaw.outcome"].as_str().unwrap().to_owned(), status.to_owned()))
        })
        .collect();
    told.sort();
    let pair = |outcome: &str, status: &str| (outcome.to_owned(), status.to_owned());
    assert_eq!(told, [pair("cancelled", "not_sent"), pair("finished", "sent")]);

    // What was kept is there after a new start, and nothing else is.
    let path = server.path("store.db");
    let again = config().text().replace("path = \"store.db\"", &format!("path = {path:?}"));
    let again = Server::start(&Config::json().more(&store_tables(&again)));
    assert_eq!(ids(&again.get(CHAT)), [kept["id"].as_str().unwrap()]);
    assert_eq!(again.get(&format!("{CHAT}/{}", kept["id"].as_str().unwrap())).json(), kept);
}

#[test]
fn what_failed_is_not_stored() {
    let model = Model::faulty();
    let mut server = Server::start(&config().engine(&model.lines()));
    for stream in [false, true] {
        let answer = server.post(CHAT, &wish("~", &json!({"stream": stream})));
        assert!(answer.text.contains("\"code\":\"internal\""), "{}", answer.text);
    }
    let kept = store(&server, &wish("hello", &json!({})));
    assert_eq!(ids(&server.get(CHAT)), [kept["id"].as_str().unwrap()]);
    server.stop();
}

/// The tables of the store, and the plugin that they name.
fn store_tables(text: &str) -> String {
    let (_, tables) = text.split_once("[store]").unwrap();
    format!("[plugins.redact]\n[store]{tables}")
}

#[test]
fn without_a_store_a_wish_is_no_error_and_says_so() {
    let mut server = Server::start(&Config::json());
    let answer = server.post(CHAT, &wish("hello", &json!({"metadata": {"k": 1}})));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = server.get(&format!("{CHAT}/chatcmpl-1"));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("no_store")));
    assert_eq!(server.get(CHAT).json()["error"]["code"], "no_store");
    server.stop();
    let records = records(&server.read("json.log"));
    let told = records.iter().filter(|it| it["attributes"]["bucksaw.store.status"] == "no_store");
    assert_eq!(told.count(), 1);
}

#[test]
fn an_editor_that_traps_leaves_a_completion_without_content() {
    let path = repository("tests/fixtures/components/hostile.wasm");
    let config = Config::guide()
        .plugin("hostile", &format!("source = {path:?}\nconfig = {{ do = \"trap\" }}"))
        .more(
            "[store]\npath = \"store.db\"\nchain = \"store\"\nall = true\n\
             [chains.store]\nedit = [\"hostile\"]",
        );
    let mut server = Server::start(&config);
    let word = "umbrella";
    // Nobody asks for it: the configuration does.
    let body = chat_body(word, &json!({"max_tokens": 4}));
    let it = store(&server, &body);
    assert_eq!(it["bucksaw"]["withheld"], json!({"reason": "trap", "plugin": "hostile"}));
    assert_eq!(it["choices"][0]["message"]["content"], Value::Null);
    assert!(it["usage"]["total_tokens"].as_u64().unwrap() > 0);
    let id = it["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("{CHAT}/{id}/messages")).json()["data"], json!([]));
    let answer = server.post(&format!("{CHAT}/{id}"), &json!({"metadata": {"k": word}}));
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], "change_withheld");
    assert_eq!(server.metric("bucksaw_store_completions_withheld_total"), 1);
    server.stop();
    let bytes = fs::read(server.path("store.db")).unwrap();
    assert!(!bytes.windows(word.len()).any(|it| it == word.as_bytes()));
}

#[test]
fn the_oldest_make_room() {
    let server = Server::start(&config());
    let value = "x".repeat(512);
    let metadata: Value = (0..16).map(|it| (it.to_string(), json!(value))).collect();
    let first = store(&server, &wish("x", &json!({"metadata": metadata, "max_tokens": 1})));
    let first = first["id"].as_str().unwrap();
    let mut last = String::new();
    for _ in 0..130 {
        let body = wish("x", &json!({"metadata": metadata, "max_tokens": 1}));
        last = server.post(CHAT, &body).json()["id"].as_str().unwrap().to_owned();
    }
    stored(&server, &last);
    server.reaches("bucksaw_store_completions_stored_total", 131);
    assert!(server.metric("bucksaw_store_completions_pruned_total") > 0);
    assert_eq!(server.get(&format!("{CHAT}/{first}")).status, 404);
    let bytes = fs::metadata(server.path("store.db")).unwrap().len();
    assert!(bytes <= (1 << 20) + (64 << 10), "{bytes}");
}
