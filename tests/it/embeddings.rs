//! `/v1/embeddings` as OpenAI's clients use it, and what the log says of it.

use serde_json::{Value, json};

use crate::support::{Config, Server, base64, by_request, http::Answer, records, terminals};

fn vectors(answer: &Answer) -> Vec<Vec<f32>> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let number = |it: &Value| it.as_f64().unwrap() as f32;
    let vector =
        |it: &Value| it["embedding"].as_array().unwrap().iter().map(number).collect::<Vec<_>>();
    answer.json()["data"].as_array().unwrap().iter().map(vector).collect()
}

fn attribute<'a>(records: &'a [Value], event: &str, name: &str) -> &'a Value {
    let record = records.iter().find(|it| it["event_name"] == event);
    &record.unwrap_or_else(|| panic!("no {event}: {records:#?}"))["attributes"][name]
}

#[test]
fn texts_become_vectors_and_records() {
    let config = Config::json().with_adapter().server("served_model_names = [\"ada\"]");
    let mut server = Server::start(&config);
    let post = |body: Value| server.post("/v1/embeddings", &body);
    let input = ["The picture", "A red circle"];
    let both = post(json!({"model": "ada", "input": input, "user": "x"}));
    let made = vectors(&both);
    let body = both.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!("ada")));
    for (at, vector) in made.iter().enumerate() {
        assert_eq!(body["data"][at]["object"], "embedding");
        assert_eq!(body["data"][at]["index"], at);
        let length: f32 = vector.iter().map(|it| it * it).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        assert_eq!(vectors(&post(json!({"input": input[at]}))), std::slice::from_ref(vector));
    }
    assert_eq!(made.len(), 2);
    assert_ne!(made[0], made[1]);

    let lists = input.map(|it| server.post("/tokenize", &json!({"prompt": it})).json());
    let count: u64 = lists.iter().map(|it| it["count"].as_u64().unwrap()).sum();
    assert_eq!(body["usage"], json!({"prompt_tokens": count, "total_tokens": count}));
    let lists = lists.map(|it| it["tokens"].clone());
    let of_tokens = post(json!({"input": lists}));
    assert_eq!(vectors(&of_tokens), made);

    let packed = post(json!({"input": input, "encoding_format": "base64"})).json();
    for (at, vector) in made.iter().enumerate() {
        let bytes: Vec<u8> = vector.iter().flat_map(|it| it.to_le_bytes()).collect();
        assert_eq!(packed["data"][at]["embedding"], base64(&bytes));
    }
    let short = vectors(&post(json!({"input": input, "dimensions": 1})));
    assert!(short.iter().all(|it| it.len() == 1 && (it[0].abs() - 1.0).abs() < 1e-6), "{short:?}");
    assert_ne!(vectors(&post(json!({"model": "demo-ko", "input": input}))), made);

    let unknown = post(json!({"model": "nobody", "input": "x"}));
    assert_eq!((unknown.status, &unknown.json()["error"]["param"]), (404, &json!("model")));
    let long = post(json!({"input": ["x", "long ".repeat(5000)]}));
    assert_eq!((long.status, &long.json()["error"]["code"]), (400, &json!("prompt_too_long")));
    let empty = post(json!({"input": ""}));
    assert_eq!((empty.status, &empty.json()["error"]["param"]), (400, &json!("input")));
    let counted = |name: &str, model: &str, more: &str| {
        server.metric(&format!("vllm:{name}{{engine=\"0\",model_name=\"{model}\"{more}}}"))
    };
    // Both, each alone, as tokens, in base64, in one dimension; and those of the adapter. What was refused is no work.
    let stop = ",finished_reason=\"stop\"";
    assert_eq!(counted("request_success_total", "demo", stop), 6);
    assert_eq!(counted("request_success_total", "demo-ko", stop), 1);
    assert_eq!(counted("prompt_tokens_total", "demo", ""), 5 * count);
    assert_eq!(counted("e2e_request_latency_seconds_count", "demo", ""), 6);
    assert_eq!(counted("generation_tokens_total", "demo", ""), 0);
    let duration = "gen_ai_server_request_duration_seconds_count{gen_ai_operation_name=\"embeddings\",gen_ai_provider_name=\"bucksaw\",gen_ai_request_model=\"demo\"}";
    assert_eq!(server.metric(duration), 6);
    // Nothing of all that is in the way of an answer.
    assert_eq!(server.chat("Hello!", &json!({"max_tokens": 1})).status, 200);
    server.stop();

    let requests = by_request(&records(&server.read("json.log")));
    for answer in [&both, &of_tokens] {
        let records = &requests[&answer.id()];
        assert_eq!(terminals(records), ["request.finished"]);
        let received = "request.received";
        assert_eq!(attribute(records, received, "gen_ai.operation.name"), "embeddings");
        let text = attribute(records, "request.prompt", "bucksaw.prompt.text");
        assert!(text.as_str().unwrap().ends_with("A red circle"), "{text}");
        for event in ["request.performance", "request.summary"] {
            assert_eq!(attribute(records, event, "gen_ai.usage.input_tokens"), count, "{event}");
        }
        assert_eq!(attribute(records, "request.summary", "gen_ai.response.model"), "demo");
    }
    for answer in [&unknown, &long, &empty] {
        assert_eq!(terminals(&requests[&answer.id()]), ["request.rejected"]);
    }
}
