//! What is counted of requests that others answer: what can be seen from outside, under few labels.

use serde_json::json;

use super::{
    STREAM, WHOLE, ask,
    fake::{Fake, closing, json_answer},
    in_front_of,
};
use crate::support::Server;

#[test]
fn what_can_be_seen_from_outside_is_counted_by_served_models() {
    let whole = WHOLE.replace("\"stop\"", "\"tool_calls\"");
    let other = WHOLE.replace("\"model\":\"m\"", "\"model\":\"ada@example.org\"");
    let stream = STREAM.replace("\"stop\"", "\"length\"");
    let vectors = r#"{"object":"list","model":"m","data":[],"usage":{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}}"#;
    let fake = Fake::start(vec![
        json_answer("200 OK", &whole),
        json_answer("400 Bad Request", r#"{"error":{"message":"no"}}"#),
        Vec::new(),
        closing(&stream),
        json_answer("200 OK", &other),
        json_answer("200 OK", vectors),
    ]);
    let mut server = Server::start(&in_front_of(&[fake.address()]));
    // Who names no model, or another one than answers, is counted with the one that answered.
    assert_eq!(ask(&server, 0, false).status, 200);
    assert_eq!(ask(&server, 1, false).status, 400);
    let broken = server.chat("answer 2", &json!({"model": "m"}));
    assert_eq!(broken.status, 502);
    assert_eq!(ask(&server, 3, true).status, 200);
    for model in ["x", "y", "z"] {
        assert_eq!(server.chat("answer 4", &json!({"model": model})).status, 200);
    }
    let body = json!({"model": "m", "input": "answer 5"});
    assert_eq!(server.post("/v1/embeddings", &body).status, 200);

    let vllm = |name: &str, model: &str, more: &str| {
        server.metric(&format!("vllm:{name}{{engine=\"0\",model_name=\"{model}\"{more}}}"))
    };
    let ended = |model: &str, reason: &str| {
        vllm("request_success_total", model, &format!(",finished_reason=\"{reason}\""))
    };
    assert_eq!((ended("m", "stop"), ended("m", "length")), (2, 1));
    assert_eq!((ended("m", "error"), ended("m", "abort")), (1, 0));
    assert_eq!(ended("unknown", "stop"), 3);
    assert_eq!(vllm("prompt_tokens_total", "m", ""), 3 + 3 + 7);
    assert_eq!(vllm("generation_tokens_total", "m", ""), 2 + 2);
    assert_eq!(vllm("request_prompt_tokens_count", "m", ""), 3);
    assert_eq!(vllm("e2e_request_latency_seconds_count", "m", ""), 3);
    // Of streams alone.
    assert_eq!(vllm("time_to_first_token_seconds_count", "m", ""), 1);
    assert_eq!(vllm("num_requests_running", "m", ""), 0);
    let duration = |operation: &str, model: &str| {
        server.metric(&format!(
            "gen_ai_server_request_duration_seconds_count{{gen_ai_operation_name=\"{operation}\",gen_ai_provider_name=\"bucksaw\",gen_ai_request_model=\"{model}\"}}"
        ))
    };
    assert_eq!((duration("chat", "m"), duration("embeddings", "m")), (2, 1));
    assert_eq!(duration("chat", "unknown"), 3);

    let text = server.get("/metrics").text;
    for name in ["ada@example.org", "\"x\"", "num_requests_waiting", "vllm:kv_", "queue_time"] {
        assert!(!text.contains(name), "{name}: {text}");
    }
    assert!(text.contains("bucksaw_upstream_attempts_total"), "{text}");
    server.stop();
}
