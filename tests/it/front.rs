//! Bucksaw in front of other servers: of real ones, and of some that hang up, lie, or never stop.

mod fake;
mod meters;
mod store;

use std::{io::Read as _, thread};

use serde_json::{Value, json};

use self::fake::{Fake, chunked, closing, json_answer};
use crate::support::{
    Config, Server, base64, by_request, eventually,
    http::{Answer, chat_body, read_until},
    model::Model,
    picture, records, terminals,
};

const CHAT: &str = "/v1/chat/completions";

/// In front of servers at these addresses, called `a`, `b` and so on, with every record in `json.log`.
fn in_front_of(addresses: &[&str]) -> Config {
    let config = Config::json().engine("kind = \"upstream\"\ncheck_seconds = 1");
    with_upstreams(config, addresses)
}

fn with_upstreams(config: Config, addresses: &[&str]) -> Config {
    addresses.iter().zip(["a", "b", "c"]).fold(config, |config, (address, name)| {
        config
            .more(&format!("[[engine.upstream]]\nname = \"{name}\"\nurl = \"http://{address}/v1\""))
    })
}

/// The records of each request, which must have exactly one terminal record; and its outcome.
fn outcomes(server: &Server) -> Vec<(String, String, Vec<Value>)> {
    by_request(&records(&server.read("json.log")))
        .into_iter()
        .map(|(id, records)| {
            let terminal = terminals(&records);
            assert_eq!(terminal.len(), 1, "{records:#?}");
            let summary = records.last().unwrap();
            assert_eq!(summary["event_name"], "request.summary", "{records:#?}");
            let told = summary["attributes"]["bucksaw.outcome"].as_str().unwrap().to_owned();
            assert_eq!(terminal[0], format!("request.{told}"));
            (id, told, records)
        })
        .collect()
}

/// The outcome of one, and its records.
fn of<'a>(outcomes: &'a [(String, String, Vec<Value>)], id: &str) -> (&'a str, &'a [Value]) {
    let found = outcomes.iter().find(|(it, ..)| it == id);
    found.map_or(("none", &[]), |(_, outcome, records)| (outcome.as_str(), records.as_slice()))
}

fn attribute<'a>(records: &'a [Value], event: &str, name: &str) -> &'a Value {
    let record = records.iter().find(|it| it["event_name"] == event);
    &record.unwrap_or_else(|| panic!("no {event}: {records:#?}"))["attributes"][name]
}

const WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"좋아요"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

const STREAM: &str = concat!(
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    ": still here\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"좋\"}}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"아요\"}}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
);

/// A request for the fake's answer of this number.
fn ask(server: &Server, answer: usize, stream: bool) -> Answer {
    server.chat(&format!("answer {answer}"), &json!({"stream": stream, "max_tokens": 9}))
}

#[test]
fn whatever_an_upstream_answers_there_is_one_record_of_its_end() {
    let error = r#"{"error":{"message":"too long: ada@example.org","type":"BadRequestError","param":null,"code":400}}"#;
    let endless = format!("data: {}", "x".repeat(3 << 20));
    let table: Vec<(Vec<u8>, bool, u16, &str, &str)> = vec![
        (json_answer("200 OK", WHOLE), false, 200, "finished", "좋아요"),
        (json_answer("400 Bad Request", error), false, 400, "rejected", "BadRequestError"),
        (json_answer("400 Bad Request", error), true, 400, "rejected", "BadRequestError"),
        (json_answer("500 Oh", error), false, 500, "failed", "BadRequestError"),
        (json_answer("500 Oh", "<html>"), false, 500, "failed", "\"upstream_error\""),
        (json_answer("429 Slow", error), false, 429, "rejected", "BadRequestError"),
        (json_answer("503 Gone", error), false, 503, "failed", "BadRequestError"),
        (json_answer("200 OK", "<html>"), false, 502, "failed", "\"upstream_garbage\""),
        (Vec::new(), false, 502, "failed", "\"upstream_broken\""),
        (Vec::new(), true, 502, "failed", "\"upstream_broken\""),
        (b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), false, 502, "failed", "\"upstream_broken\""),
        (b"nonsense\r\n\r\n".to_vec(), false, 502, "failed", "\"upstream_broken\""),
        (closing(STREAM), true, 200, "finished", STREAM),
        (chunked(&[STREAM]), true, 200, "finished", STREAM),
        (closing(&STREAM.replace("data: [DONE]\n\n", "")), true, 200, "finished", "아요"),
        (
            closing(&format!("data: {{garbage\n\ndata\n\x01\u{ffff}\n\n{STREAM}")),
            true,
            200,
            "finished",
            "{garbage",
        ),
        (closing(&format!("{endless}\n\n{STREAM}")), true, 200, "finished", "xxxx"),
        (closing(&endless), true, 200, "failed", "\"upstream_broken\""),
        (closing(&format!("data: {error}\n\n")), true, 200, "failed", "BadRequestError"),
    ];
    let fake = Fake::start(table.iter().map(|it| it.0.clone()).collect());
    let mut server = Server::start(&in_front_of(&[fake.address()]));
    let answers: Vec<Answer> = (0..table.len())
        .map(|at| {
            let answer = ask(&server, at, table[at].1);
            // So that the failures of this table are not failures in a row.
            assert_eq!(ask(&server, 0, false).status, 200);
            answer
        })
        .collect();
    server.stop();

    let outcomes = outcomes(&server);
    assert_eq!(outcomes.len(), 2 * table.len());
    for (at, (answer, (_, _, status, outcome, part))) in answers.iter().zip(&table).enumerate() {
        let start: String = answer.text.chars().take(300).collect();
        assert_eq!(answer.status, *status, "{at}: {start}");
        assert!(answer.text.contains(part), "{at}: {start}");
        let (told, records) = of(&outcomes, &answer.id());
        assert_eq!(told, *outcome, "{at}: {records:#?}");
        assert_eq!(attribute(records, "request.summary", "bucksaw.upstream.name"), "a", "{at}");
        assert_eq!(attribute(records, "request.summary", "bucksaw.upstream.attempts"), 1);
        if *outcome == "finished" {
            let text = attribute(records, "response.content", "bucksaw.response.text");
            assert_eq!(text, "좋아요", "{at}");
            assert_eq!(attribute(records, "response.content", "bucksaw.response.chars"), 3);
            let tokens = attribute(records, "request.performance", "gen_ai.usage.output_tokens");
            assert_eq!(tokens, 2, "{at}");
        }
    }
    let text = of(&outcomes, &answers[0].id()).1;
    assert_eq!(attribute(text, "request.prompt", "bucksaw.prompt.text"), "answer 0");
    assert_eq!(attribute(text, "request.params", "gen_ai.request.max_tokens"), 9);
    // The upstream's log has the id of ours.
    assert!(fake.seen().contains(&format!("x-request-id: {}\r\n", answers[0].id())));
}

#[test]
fn a_stream_that_breaks_off_anywhere_ends_in_a_clear_error() {
    let cuts: Vec<usize> = (0..STREAM.len()).step_by(11).collect();
    let whole = json_answer("200 OK", WHOLE);
    let answers = cuts.iter().flat_map(|cut| {
        let part = &STREAM.as_bytes()[..*cut];
        let mut broken = chunked(&[]);
        broken.truncate(broken.len() - b"0\r\n\r\n".len());
        broken.extend_from_slice(format!("{:x}\r\n", STREAM.len()).as_bytes());
        broken.extend_from_slice(part);
        let mut ended = closing("");
        ended.extend_from_slice(part);
        [broken, ended]
    });
    let fake = Fake::start(std::iter::once(whole).chain(answers).collect());
    let mut server = Server::start(&in_front_of(&[fake.address()]));
    let answers: Vec<Answer> = (0..2 * cuts.len())
        .map(|at| {
            let answer = ask(&server, at + 1, true);
            assert_eq!(ask(&server, 0, false).status, 200);
            answer
        })
        .collect();
    server.stop();

    let outcomes = outcomes(&server);
    assert_eq!(outcomes.len(), 2 * answers.len());
    for (at, answer) in answers.iter().enumerate() {
        let (told, _) = of(&outcomes, &answer.id());
        if answer.status != 200 {
            // Nothing had been passed on.
            assert_eq!((answer.status, told), (502, "failed"), "{at}: {}", answer.text);
            assert_eq!(answer.json()["error"]["code"], "upstream_broken");
            continue;
        }
        let events = answer.events();
        let (last, before) = events.split_last().unwrap();
        // What came is whole: of the event that broke off, nothing is there.
        assert!(
            before.iter().all(|it| it == "[DONE]" || serde_json::from_str::<Value>(it).is_ok()),
            "{at}: {before:?}"
        );
        let said_why = before.iter().any(|it| it.contains("finish_reason"));
        match told {
            "finished" => assert!(said_why || last.contains("finish_reason"), "{at}: {events:?}"),
            _ => {
                let error: Value = serde_json::from_str(last).unwrap();
                assert_eq!((told, &error["error"]["code"]), ("failed", &json!("upstream_broken")));
            }
        }
    }
    let failed = outcomes.iter().filter(|(_, outcome, _)| outcome == "failed").count();
    assert!(failed > cuts.len(), "{failed} of {}", answers.len());
}

#[test]
fn what_is_too_long_to_be_kept_is_passed_on_while_it_comes() {
    let long = json!({"data": "x".repeat(9 << 20)}).to_string();
    let whole = json_answer("200 OK", &long);
    let cut = whole[..whole.len() - 9].to_vec();
    let fake = Fake::start(vec![whole, cut]);
    let mut server = Server::start(&in_front_of(&[fake.address()]));
    let body = |answer: usize| json!({"input": format!("answer {answer}")}).to_string();
    let send = |answer: usize| {
        let headers = [("content-type", "application/json")];
        server.try_send("POST", "/v1/embeddings", &headers, body(answer).as_bytes())
    };
    let answer = send(0).unwrap();
    assert_eq!(answer.text.len(), long.len());
    // Its client sees that it is incomplete.
    assert!(send(1).is_none());
    server.stop();
    let outcomes = outcomes(&server);
    assert_eq!(of(&outcomes, &answer.id()).0, "finished");
    let failed = outcomes.iter().filter(|(_, it, _)| it == "failed").count();
    assert_eq!((outcomes.len(), failed), (2, 1));
}

#[test]
fn a_client_that_leaves_ends_the_upstreams_work() {
    let first = STREAM.split_inclusive("\n\n").nth(2).unwrap();
    let mut begun = closing("");
    begun.extend_from_slice(first.as_bytes());
    let fake = Fake::start_holding(vec![begun, Vec::new()]);
    let mut server = Server::start(&in_front_of(&[fake.address()]));
    let body = |answer: usize, stream: bool| {
        chat_body(&format!("answer {answer}"), &json!({"stream": stream}))
    };
    let mut stream = server.open(CHAT, &body(0, true));
    read_until(&mut stream, "좋");
    server.reaches("bucksaw_upstream_requests_in_flight{upstream=\"a\"}", 1);
    server.reaches("vllm:num_requests_running{engine=\"0\",model_name=\"unknown\"}", 1);
    drop(stream);
    fake.wait_left();
    // Before there is any answer.
    let waiting = server.open(CHAT, &body(1, false));
    eventually("the request", || (fake.posts() == 2).then_some(()));
    drop(waiting);
    fake.wait_left();
    server.reaches("bucksaw_upstream_requests_in_flight{upstream=\"a\"}", 0);
    server.reaches("vllm:num_requests_running{engine=\"0\",model_name=\"unknown\"}", 0);
    let aborted = "{engine=\"0\",model_name=\"unknown\",finished_reason=\"abort\"}";
    server.reaches(&format!("vllm:request_success_total{aborted}"), 2);
    server.stop();
    let outcomes = outcomes(&server);
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|(_, it, _)| it == "cancelled"), "{outcomes:#?}");
}

#[test]
fn what_passes_unchanged_is_redacted_in_the_log() {
    const MAIL: &str = "ada@example.org";
    let call = format!(r#"{{\"to\":\"{MAIL}\"}}"#);
    let whole = WHOLE
        .replace("좋아요", &format!("write to {MAIL}"))
        .replace(
            "\"role\":\"assistant\",",
            &format!(
                "\"role\":\"assistant\",\"tool_calls\":[{{\"function\":{{\"name\":\"mail\",\"arguments\":\"{call}\"}}}}],"
            ),
        );
    let stream = STREAM.replace("아요", &format!("write to {MAIL}"));
    let refused = format!(r#"{{"error":{{"message":"no {MAIL}","code":"{MAIL}"}}}}"#);
    let answers =
        vec![json_answer("200 OK", &whole), closing(&stream), json_answer("400 No", &refused)];
    let fake = Fake::start(answers);
    let config = Config::default()
        .edit(&["redact"])
        .file("json", "json", "")
        .log("level = \"DEBUG\"")
        .engine("kind = \"upstream\"");
    let mut server = Server::start(&with_upstreams(config, &[fake.address()]));
    for at in 0..3 {
        let text = format!("answer {at} to {MAIL}");
        let answer = server.chat(&text, &json!({"stream": at == 1, "model": MAIL, "user": MAIL}));
        assert!(answer.text.contains(MAIL), "{}", answer.text);
    }
    assert_eq!(fake.seen().matches(&format!("to {MAIL}")).count(), 3);
    server.stop();
    let log = server.read("json.log");
    assert!(!log.contains(MAIL) && log.matches("[EMAIL]").count() >= 6, "{log}");
    let outcomes = outcomes(&server);
    let calls = outcomes
        .iter()
        .flat_map(|(_, _, records)| records)
        .find_map(|it| it["attributes"]["bucksaw.response.tool_calls"].as_str().map(str::to_owned));
    assert_eq!(calls.as_deref(), Some(r#"[{"name":"mail","arguments":"{\"to\":\"[EMAIL]\"}"}]"#));
}

#[test]
fn the_rest_of_the_api_is_passed_on_or_translated() {
    let engine = Server::start(&Config::json());
    let mut server = Server::start(&in_front_of(&[engine.address()]));
    assert_eq!(server.get("/v1/models").json(), engine.get("/v1/models").json());
    assert_eq!(server.get("/v1/models/demo").json(), engine.get("/v1/models/demo").json());
    assert_eq!(server.get("/v1/models/nobody").status, 404);
    let health = server.get("/health");
    assert_eq!((health.status, &health.json()["upstreams"]["usable"]), (200, &json!(1)));

    let body = json!({"prompt": "What is in the image?", "image": base64(&picture("three-red-circles.png"))});
    let (ours, theirs) = (server.post("/vision", &body), engine.post("/vision", &body));
    assert_eq!((ours.status, theirs.status), (200, 200), "{}", ours.text);
    for name in ["model", "response", "finish_reason", "image"] {
        assert_eq!(ours.json()[name], theirs.json()[name], "{name}");
    }
    assert_eq!(ours.json()["request_id"], ours.id());
    let headers = [("content-type", "image/png")];
    let raw = server.send(
        "POST",
        "/vision?prompt=What+is+in+the+image%3F",
        &headers,
        &picture("three-red-circles.png"),
    );
    assert_eq!(raw.json()["response"], theirs.json()["response"], "{}", raw.text);
    assert_eq!(server.post("/vision", &json!({"prompt": "x", "image": "@"})).status, 400);
    let vectors = json!({"model": "demo", "input": ["x", "y"]});
    let passed = server.post("/v1/embeddings", &vectors);
    assert_eq!(passed.status, 200, "{}", passed.text);
    assert_eq!(passed.json(), engine.post("/v1/embeddings", &vectors).json());
    // What the upstream refuses, it says itself.
    let none = server.post("/v1/embeddings", &json!({"model": "demo", "input": ""}));
    assert_eq!(none.status, 400, "{}", none.text);

    let told = String::from_utf8(server.command("check").stdout).unwrap();
    let line = format!("  upstream a: http://{} (the models that it lists)\n", engine.address());
    assert!(told.contains(&line), "{told}");
    server.stop();
    let outcomes = outcomes(&server);
    let (outcome, records) = of(&outcomes, &ours.id());
    assert_eq!(outcome, "finished");
    assert_eq!(attribute(records, "request.image", "bucksaw.image.mode"), "RGB");
    assert_eq!(attribute(records, "request.finished", "http.route"), "/vision");
    let (outcome, records) = of(&outcomes, &none.id());
    assert_eq!(outcome, "rejected");
    assert_eq!(attribute(records, "request.received", "gen_ai.operation.name"), "embeddings");
    // The engine's log has the same id.
    assert!(engine.read("json.log").contains(&ours.id()));
}

#[test]
fn with_nobody_behind_it_the_front_says_so() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = Server::start(&in_front_of(&[&closed.to_string()]));
    let answer = eventually("the front to give up", || {
        let answer = server.chat("Hello!", &json!({}));
        assert!(matches!(answer.status, 502 | 503), "{}", answer.text);
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(answer.json()["error"]["code"], "upstream_unavailable");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    eventually("health to say so", || (server.get("/health").status == 503).then_some(()));
    server.stop();
    assert!(outcomes(&server).iter().all(|(_, it, _)| it == "failed"));
    let log = records(&server.read("json.log"));
    let ejected = log.iter().find(|it| it["event_name"] == "upstream.ejected").unwrap();
    assert_eq!(ejected["attributes"]["bucksaw.upstream.name"], "a");
}

#[test]
fn when_an_engine_dies_under_load_only_what_was_being_streamed_breaks() {
    let model = Model::endless();
    let config = Config::json().engine(&model.lines()).log("level = \"DEBUG\"");
    let engine = || Server::start(&config);
    let (doomed, survivor) = (engine(), engine());
    let mut server = Server::start(&in_front_of(&[doomed.address(), survivor.address()]));
    let body = |stream: bool| chat_body("Hello!", &json!({"stream": stream, "max_tokens": 400}));
    let (streams, wholes) = thread::scope(|scope| {
        let wholes: Vec<_> =
            (0..4).map(|_| scope.spawn(|| server.post(CHAT, &body(false)))).collect();
        let streams: Vec<_> = (0..8)
            .map(|_| {
                let mut stream = server.open(CHAT, &body(true));
                scope.spawn(move || {
                    let mut text = String::new();
                    // The front closes nothing: the end of the chunked body is the end.
                    let mut bytes = [0; 4096];
                    while !text.ends_with("0\r\n\r\n") {
                        let count = stream.read(&mut bytes).unwrap();
                        assert!(count > 0, "{text}");
                        text += &String::from_utf8_lossy(&bytes[..count]);
                    }
                    text
                })
            })
            .collect();
        // Both are at work, and the doomed one has more than it works at.
        eventually("requests at the doomed engine", || {
            let there = server.metric("bucksaw_upstream_requests_in_flight{upstream=\"a\"}");
            (there >= 3).then_some(())
        });
        eventually("the doomed engine to stream", || {
            let log = doomed.read("json.log");
            log.contains("generation.first_token").then_some(())
        });
        drop(doomed);
        let join = |it: thread::ScopedJoinHandle<'_, String>| it.join().unwrap();
        let streams: Vec<String> = streams.into_iter().map(join).collect();
        let wholes: Vec<Answer> = wholes.into_iter().map(|it| it.join().unwrap()).collect();
        (streams, wholes)
    });
    // One is enough to go on.
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.chat("Hello!", &json!({"max_tokens": 3})).status, 200);
    server.stop();

    for answer in &wholes {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let (done, broken): (Vec<_>, Vec<_>) = streams.iter().partition(|it| it.contains("[DONE]"));
    for text in &broken {
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"delta\""), "{text}");
        assert!(text.contains("\"code\":\"upstream_broken\""), "{text}");
    }
    assert!(done.len() >= 4, "{} of {}", done.len(), streams.len());
    let outcomes = outcomes(&server);
    assert_eq!(outcomes.len(), 13);
    let count = |what: &str| outcomes.iter().filter(|(_, it, _)| it == what).count();
    assert_eq!((count("finished"), count("failed")), (5 + done.len(), broken.len()));
    let again = outcomes.iter().filter(|(_, _, records)| {
        attribute(records, "request.summary", "bucksaw.upstream.attempts") == 2
    });
    assert!(again.count() >= 1);
    assert!(server.read("json.log").contains("\"upstream.ejected\""));
}
