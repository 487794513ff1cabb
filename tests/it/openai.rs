//! The OpenAI API, over raw HTTP.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{
    Config, Server, base64, by_request,
    http::{Answer, chat_body, read_until},
    picture, records,
};

const CHAT: &str = "/v1/chat/completions";

fn check_error(answer: &Answer, status: u16, code: &str, param: Option<&str>) {
    assert_eq!(answer.status, status, "{}", answer.text);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["param"].as_str(), param, "{error}");
    assert!(error["message"].as_str().is_some_and(|it| !it.is_empty()), "{error}");
    assert!(error["type"].is_string(), "{error}");
}

#[test]
fn a_completion_whole_and_as_a_stream_say_the_same() {
    let mut server = Server::start(&Config::json());
    let answer = server.chat("Hello!", &json!({"model": "demo"}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let whole = answer.json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["id"], format!("chatcmpl-{}", answer.id().replace('-', "")));
    assert_eq!(whole["model"], "demo");
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["finish_reason"], "stop");
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    let usage = &whole["usage"];
    let number = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(number("total_tokens"), number("prompt_tokens") + number("completion_tokens"));

    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = server.chat("Hello!", &more);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let mut events = answer.events();
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = events.iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert!(chunks.iter().all(|it| it["object"] == "chat.completion.chunk"));
    assert!(chunks.iter().all(|it| it["id"] == chunks[0]["id"] && it["model"] == "demo"));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let pieces: String =
        chunks.iter().filter_map(|it| it["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(pieces, text);
    let [.., last, counted] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(counted["choices"], json!([]));
    // The prompt was read before: what is left of it in the cache is not computed again.
    let mut again = counted["usage"].clone();
    let cached = again["prompt_tokens_details"]["cached_tokens"].take();
    assert!(cached.as_u64().unwrap() > 0, "{cached}");
    again["prompt_tokens_details"]["cached_tokens"] = json!(0);
    assert_eq!(&again, usage);

    let without = server.chat("Hello!", &json!({"stream": true}));
    assert!(!without.text.contains("\"usage\""), "{}", without.text);
    let cut = server.chat("Hello!", &json!({"max_tokens": 2})).json();
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(cut["usage"]["completion_tokens"], 2);
    server.stop();

    // What was answered is what was logged.
    let records = records(&server.read("json.log"));
    let of = |event: &str| -> Vec<Value> {
        let found = records.iter().filter(|it| it["event_name"] == event);
        found.map(|it| it["attributes"].clone()).collect()
    };
    let contents = of("response.content");
    for content in &contents[..2] {
        assert_eq!(content["bucksaw.response.text"], text);
        assert_eq!(content["bucksaw.response.chars"], text.chars().count());
    }
    let performance = &of("request.performance")[0];
    assert_eq!(performance["gen_ai.usage.input_tokens"], usage["prompt_tokens"]);
    assert_eq!(performance["gen_ai.usage.output_tokens"], usage["completion_tokens"]);
    let summary = &of("request.summary")[1];
    assert_eq!(summary["gen_ai.request.stream"], true);
    assert_eq!(summary["bucksaw.outcome"], "finished");
}

#[test]
fn an_adapter_is_a_model_of_its_own() {
    let mut server = Server::start(&Config::json().with_adapter());
    let models = server.get("/v1/models").json();
    assert_eq!(models["object"], "list");
    let told: Vec<_> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["id"].as_str().unwrap(), it["parent"].as_str(), it["vision"].as_bool()))
        .collect();
    assert_eq!(told, [("demo", None, Some(true)), ("demo-ko", Some("demo"), Some(true))]);
    assert_eq!(server.get("/v1/models/demo-ko").json(), models["data"][1]);
    check_error(&server.get("/v1/models/nobody"), 404, "model_not_found", Some("model"));

    let url = format!("data:image/png;base64,{}", base64(&picture("three-red-circles.png")));
    let ask = |model: &str| -> String {
        let content = json!([
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "What is in the image?"},
        ]);
        let body = json!({
            "model": model,
            "temperature": 0,
            "messages": [{"role": "user", "content": content}],
        });
        let answer = server.post(CHAT, &body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["model"], model);
        answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    let (english, korean) = (ask("demo"), ask("demo-ko"));
    let is_hangul = |it: char| ('가'..='힣').contains(&it);
    assert!(!english.contains(is_hangul), "{english}");
    assert!(korean.contains(is_hangul), "{korean}");
    // The base is as it was: an adapter is not merged into it.
    assert_eq!(ask("demo"), english);
    server.stop();
    let records = records(&server.read("json.log"));
    let lora: Vec<_> = records.iter().filter(|it| it["event_name"] == "lora.resolved").collect();
    assert_eq!(lora.len(), 1, "{lora:?}");
    assert_eq!(lora[0]["attributes"]["bucksaw.lora.status"], "ok");
    assert_eq!(lora[0]["attributes"]["bucksaw.lora.resolved"], "demo-ko");
    assert!(lora[0]["attributes"]["bucksaw.lora.modules"].as_u64().unwrap() > 0);
}

/// The guide's question: which adapter was asked for, and which one answered?
#[test]
fn a_fallback_to_the_model_is_a_warning() {
    let config = Config::json().with_adapter().engine("adapter_fallback = true");
    let mut server = Server::start(&config);
    let ask = |adapter: &str| {
        let answer = server.post("/vision", &json!({"prompt": "Hello!", "adapter": adapter}));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.id()
    };
    let (unknown, known) = (ask("sql"), ask("demo-ko"));
    server.stop();
    let requests = by_request(&records(&server.read("json.log")));
    for (id, severity, requested, resolved, status, fallback) in [
        (unknown, "WARNING", "sql", "demo", "failed", true),
        (known, "INFO", "demo-ko", "demo-ko", "ok", false),
    ] {
        let told: Vec<_> =
            requests[&id].iter().filter(|it| it["event_name"] == "lora.resolved").collect();
        assert_eq!(told.len(), 1, "{told:?}");
        let lora = &told[0]["attributes"];
        assert_eq!(told[0]["severity_text"], severity, "{lora}");
        assert_eq!(lora["bucksaw.lora.requested"], requested);
        assert_eq!(lora["bucksaw.lora.resolved"], resolved);
        assert_eq!(lora["bucksaw.lora.status"], status);
        assert_eq!(lora["bucksaw.lora.default_used"], fallback);
        if fallback {
            assert_eq!(lora["error.type"], "unknown_adapter");
        }
    }
}

#[test]
fn a_bad_request_is_told_what_is_wrong_with_it() {
    let mut server = Server::start(&Config::json().server("body_mib = 1"));
    let check = |body: &str, status: u16, code: &str, param: Option<&str>| {
        let answer = server.send("POST", CHAT, &[], body.as_bytes());
        check_error(&answer, status, code, param);
        assert_eq!(answer.header("x-request-id"), answer.id());
        assert_eq!(answer.id().len(), 36);
    };
    check("{\"messages\":", 400, "invalid_json", None);
    check("[]", 400, "invalid_json", None);
    check("", 400, "invalid_json", None);
    check("{}", 400, "missing_required_parameter", Some("messages"));
    let message = "{\"role\": \"user\", \"content\": \"x\"}";
    let with = |more: &str| format!("{{\"messages\": [{message}], {more}}}");
    check(&with("\"model\": \"nobody\""), 404, "model_not_found", Some("model"));
    check(&with("\"model\": 7"), 400, "invalid_value", Some("model"));
    check(&with("\"temperature\": \"hot\""), 400, "invalid_value", Some("temperature"));
    check(&with("\"temperature\": 2.5"), 400, "invalid_value", Some("temperature"));
    check(&with("\"max_tokens\": -1"), 400, "invalid_value", Some("max_tokens"));
    check(&with("\"stream\": 1"), 400, "invalid_value", Some("stream"));
    check(&with("\"stop\": [1]"), 400, "invalid_value", Some("stop[0]"));
    check(&with("\"n\": 0"), 400, "invalid_value", Some("n"));
    check(&with("\"top_logprobs\": 3"), 400, "invalid_value", Some("top_logprobs"));
    let turn = |it: &str| format!("{{\"messages\": [{message}, {it}]}}");
    check("{\"messages\": \"x\"}", 400, "invalid_value", Some("messages"));
    check("{\"messages\": []}", 400, "invalid_value", Some("messages"));
    check(&turn("{}"), 400, "missing_required_parameter", Some("messages[1].role"));
    check(&turn("{\"role\": \"boss\"}"), 400, "invalid_value", Some("messages[1].role"));
    check(
        &turn(
            "{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"https://x/\"}}]}",
        ),
        400,
        "image_remote",
        Some("messages[1].content[0].image_url.url"),
    );

    check_error(&server.get("/nowhere"), 404, "unknown_route", None);
    check_error(&server.get(CHAT), 404, "no_store", None);
    let answer = server.send("PUT", CHAT, &[], b"{}");
    check_error(&answer, 405, "method_not_allowed", None);
    assert_eq!(answer.header("allow"), "POST,GET,HEAD");
    assert_eq!(server.get("/health").status, 200);
    server.stop();

    let records = records(&server.read("json.log"));
    let rejected = records.iter().filter(|it| it["event_name"] == "request.rejected");
    assert_eq!(rejected.count(), 19);
    assert!(records.iter().all(|it| it["event_name"] != "request.failed"));
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let mut server = Server::start(&Config::json().server("body_mib = 1"));
    let head = |length: &str| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        )
    };
    // Announced: not one byte of it is needed.
    let mut stream = server.open_raw(head("content-length: 1048577").as_bytes());
    let answer = read_until(&mut stream, "body_too_large");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Not announced: read up to the limit.
    let mut chunked = head("transfer-encoding: chunked").into_bytes();
    chunked.extend_from_slice(b"100001\r\n");
    chunked.resize(chunked.len() + 0x10_0001, b' ');
    let mut stream = server.open_raw(&chunked);
    let answer = read_until(&mut stream, "body_too_large");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Just within: taken.
    let mut body = chat_body("Hello!", &json!({"max_tokens": 1}));
    body["user"] = json!("u".repeat((1 << 20) - body.to_string().len() - ",\"user\":\"\"".len()));
    assert_eq!(body.to_string().len(), 1 << 20);
    let answer = server.post(CHAT, &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    server.stop();
}

/// A client that goes on sending must still get to read why it was refused.
#[test]
fn a_client_that_sends_too_much_is_told_so() {
    let mut server = Server::start(&Config::json().server("body_mib = 1"));
    let body = vec![b' '; 4 << 20];
    let answer = server.try_send("POST", CHAT, &[], &body);
    let status = answer.map(|it| it.status);
    assert_eq!(status, Some(413), "the connection broke before the answer was read");
    server.stop();
    // And with what is allowed as long as nothing else is said.
    let mut server = Server::start(&Config::json());
    let body = vec![b' '; 100_000_000];
    let answer = server.try_send("POST", CHAT, &[], &body);
    let status = answer.map(|it| it.status);
    assert_eq!(status, Some(413), "the connection broke before the answer was read");
    server.stop();
    let records = records(&server.read("json.log"));
    let rejected = records.iter().filter(|it| it["event_name"] == "request.rejected");
    assert_eq!(rejected.count(), 1, "{records:#?}");
}

/// Every row of 20,000 is 20,000 white points, and the file has 400 kB.
fn bomb() -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        file.extend(kind);
        file.extend(data);
        file.extend(crc.sum().to_be_bytes());
    };
    let size = 20_000_u32.to_be_bytes();
    chunk(b"IHDR", &[&size[..], &size, &[8, 0, 0, 0, 0]].concat());
    let mut rows = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let row = vec![0; 20_001];
    for _ in 0..20_000 {
        rows.write_all(&row).unwrap();
    }
    chunk(b"IDAT", &rows.finish().unwrap());
    chunk(b"IEND", &[]);
    file
}

#[test]
fn a_small_file_that_becomes_a_large_image_is_refused() {
    let mut server = Server::start(&Config::json());
    let file = bomb();
    assert!(file.len() < 500_000, "{}", file.len());
    let url = format!("data:image/png;base64,{}", base64(&file));
    let image = json!({"type": "image_url", "image_url": {"url": url}});
    let messages = json!([{"role": "user", "content": [image]}]);
    let answer = server.post(CHAT, &json!({"messages": messages}));
    check_error(&answer, 400, "image_too_large", Some("messages[0].content[0].image_url.url"));
    let answer = server.post("/vision", &json!({"prompt": "x", "image": base64(&file)}));
    check_error(&answer, 400, "image_too_large", Some("image"));
    server.stop();
    let records = records(&server.read("json.log"));
    let rejected = records.iter().filter(|it| it["event_name"] == "request.rejected");
    assert_eq!(rejected.count(), 2, "{records:#?}");
}

#[test]
fn request_ids_come_in_and_go_out() {
    let mut server = Server::start(&Config::json());
    let ask = |id: &str| {
        let body = chat_body("Hello!", &json!({"max_tokens": 1}));
        server.post_with(CHAT, &[("x-request-id", id)], &body)
    };
    let uuid = "A1B2C3D4-0000-4000-8000-000000000000";
    let (known, named) = (ask(uuid), ask("my-trace-7"));
    let foul = ask(&format!("<script>{}", "x".repeat(5000)));
    let unnamed = server.chat("Hello!", &json!({"max_tokens": 1}));
    server.stop();

    assert_eq!(known.header("x-request-id"), uuid);
    assert_eq!(known.id(), uuid.to_lowercase());
    assert_eq!(named.header("x-request-id"), "my-trace-7");
    assert_ne!(named.id(), "my-trace-7");
    assert_eq!(foul.header("x-request-id"), foul.id());
    assert_eq!(unnamed.header("x-request-id"), unnamed.id());
    let ids = [known.id(), named.id(), foul.id(), unnamed.id()];
    let records = records(&server.read("json.log"));
    let received: Vec<&Value> =
        records.iter().filter(|it| it["event_name"] == "request.received").collect();
    for (record, id) in received.iter().zip(&ids) {
        assert_eq!(record["request_id"], id.as_str());
    }
    assert_eq!(received[1]["attributes"]["bucksaw.client_request_id"], "my-trace-7");
    assert!(received[0]["attributes"].get("bucksaw.client_request_id").is_none());
    let kept = received[2]["attributes"]["bucksaw.client_request_id"].as_str().unwrap();
    assert_eq!(kept, format!("<script>{}", "x".repeat(120)));
}

#[test]
fn what_is_out_of_all_proportion_is_refused_once() {
    let mut server = Server::start(&Config::json());
    let huge = "x".repeat(1 << 20);
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\nx-request-id: {huge}\r\ncontent-length: 0\r\n\r\n"
    );
    let mut stream = server.open_raw(head.as_bytes());
    let answer = read_until(&mut stream, "headers_too_large");
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.len() < 1000, "{answer}");
    let deep = format!("{{\"messages\": {}", "[".repeat(100_000));
    let answer = server.send("POST", CHAT, &[], deep.as_bytes());
    check_error(&answer, 400, "invalid_json", None);
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 104857600\r\n\r\n");
    let mut stream = server.open_raw(head.as_bytes());
    let answer = read_until(&mut stream, "body_too_large");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    server.stop();
    let records = records(&server.read("json.log"));
    let rejected: Vec<_> =
        records.iter().filter(|it| it["event_name"] == "request.rejected").collect();
    assert_eq!(rejected.len(), 3, "{rejected:?}");
    let kept: Vec<_> = records
        .iter()
        .filter_map(|it| it["attributes"]["bucksaw.client_request_id"].as_str())
        .map(str::len)
        .collect();
    assert!(!kept.is_empty() && kept.iter().all(|it| *it == 128), "{kept:?} {records:#?}");
}

#[test]
fn two_engines_answer_as_one() {
    let config = Config::json().with_adapter().engine("device = [\"cpu\", \"cpu\"]");
    let mut server = Server::start(&config);
    for model in ["demo", "demo-ko"] {
        let say = || server.chat("Hello!", &json!({"model": model, "max_tokens": 8})).json();
        let said: Vec<_> = (0..4).map(|_| say()["choices"][0]["message"].clone()).collect();
        assert!(said.iter().all(|it| it["content"].is_string() && *it == said[0]), "{said:?}");
    }
    let health = server.get("/health").json();
    assert_eq!(health["status"], "ok");
    let engine = |number: u64| json!({"engine": number, "device": "cpu", "status": "ok"});
    assert_eq!(health["engines"], json!([engine(0), engine(1)]));
    let metrics = server.get("/metrics").text;
    for name in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"] {
        for engine in ["0", "1"] {
            let series = format!("vllm:{name}{{engine=\"{engine}\",model_name=\"demo\"}} ");
            assert!(metrics.contains(&series), "{series}: {metrics}");
        }
    }
    server.stop();
    let records = records(&server.read("json.log"));
    let names = |name: &str| records.iter().filter(|it| it["event_name"] == name).count();
    assert_eq!((names("request.finished"), names("request.failed")), (8, 0));
}
