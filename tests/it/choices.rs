//! What a client can ask for beyond one text: several answers, forms, calls of tools, probabilities, texts without a chat.

use serde_json::{Value, json};

use crate::support::{Config, Server, eventually, http::Answer, model::Model, records};

fn chunks(answer: &Answer) -> Vec<Value> {
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{}", answer.text);
    events[..events.len() - 1].iter().map(|it| serde_json::from_str(it).unwrap()).collect()
}

fn ok(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn refused(answer: &Answer, param: &str, reason: &str) {
    assert_eq!(answer.status, 400, "{}", answer.text);
    let error = &answer.json()["error"];
    assert_eq!(error["param"], param, "{error}");
    assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
}

fn weather() -> Value {
    json!({"type": "function", "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/city"}},
            "required": ["city"],
            "additionalProperties": false,
            "$defs": {"city": {"enum": ["서울", "Busan"]}},
        },
    }})
}

#[test]
fn several_answers_are_one_request() {
    let mut server = Server::start(&Config::json());
    let more = json!({"n": 3, "max_tokens": 6, "temperature": 2, "seed": 7});
    let whole = ok(&server.chat("Hello!", &more));
    let choices = whole["choices"].as_array().unwrap();
    let texts: Vec<_> =
        choices.iter().map(|it| it["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(
        choices.iter().map(|it| it["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(
        texts.iter().any(|it| *it != texts[0]),
        "one seed, and three times the same: {texts:?}"
    );
    assert_eq!(ok(&server.chat("Hello!", &more))["choices"], whole["choices"], "the same seed");

    let mut streamed = more.clone();
    streamed["stream"] = json!(true);
    let mut joined = vec![String::new(); 3];
    let answer = server.chat("Hello!", &streamed);
    let mut reasons = 0;
    for chunk in chunks(&answer) {
        let choice = &chunk["choices"][0];
        let at = choice["index"].as_u64().unwrap() as usize;
        joined[at].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        reasons += usize::from(choice["finish_reason"].is_string());
    }
    assert_eq!(joined, texts);
    assert_eq!(reasons, 3);
    server.stop();
    let records = records(&server.read("json.log"));
    let finished = records.iter().filter(|it| it["event_name"] == "request.finished").count();
    assert_eq!(finished, 3);
}

#[test]
fn an_answer_has_the_form_that_was_asked_for() {
    let mut server = Server::start(&Config::json());
    let schema = json!({
        "type": "object",
        "properties": {
            "color": {"enum": ["red", "blue"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["color", "count"],
        "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    for stream in [false, true] {
        let more =
            json!({"response_format": format, "temperature": 1, "seed": 3, "stream": stream});
        let answer = server.chat("Hello!", &more);
        let text: String = if stream {
            let chunks = chunks(&answer);
            chunks.iter().filter_map(|it| it["choices"][0]["delta"]["content"].as_str()).collect()
        } else {
            ok(&answer)["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|it| panic!("{it}: {text}"));
        assert!(["red", "blue"].contains(&value["color"].as_str().unwrap()), "{text}");
    }
    let object = json!({"type": "json_object"});
    let cut = ok(&server.chat("Hello!", &json!({"response_format": object, "max_tokens": 3})));
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    let choice = ok(&server.chat("Hello!", &json!({"guided_choice": ["yes", "아니"]})));
    let said = choice["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(["yes", "아니"].contains(&said), "{said}");

    let bad =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "odd"}}});
    let answer = server.chat("Hello!", &json!({"response_format": bad}));
    refused(&answer, "response_format.json_schema", "odd");
    refused(
        &server.chat("Hello!", &json!({"guided_regex": "("})),
        "guided_regex",
        "cannot be followed",
    );
    server.stop();
    let records = records(&server.read("json.log"));
    let verdicts: Vec<_> = records
        .iter()
        .filter(|it| it["event_name"] == "response.json_parse")
        .map(|it| it["attributes"]["bucksaw.json.status"].as_str().unwrap())
        .collect();
    // At INFO only those that are not ok.
    assert_eq!(verdicts, ["truncated"]);
}

#[test]
fn tools_are_called_when_they_have_to_be() {
    let mut server = Server::start(&Config::json());
    let named = json!({"type": "function", "function": {"name": "weather"}});
    for choice in [json!("required"), named] {
        let more = json!({
            "tools": [weather()], "tool_choice": choice, "parallel_tool_calls": false,
            "temperature": 1, "seed": 5,
        });
        let whole = ok(&server.chat("Hello!", &more));
        let message = &whole["choices"][0]["message"];
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls", "{whole}");
        assert!(message["content"].is_null(), "{message}");
        let call = &message["tool_calls"][0];
        assert_eq!(call["function"]["name"], "weather");
        let arguments: Value =
            serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert!(["서울", "Busan"].contains(&arguments["city"].as_str().unwrap()), "{arguments}");

        let mut streamed = more;
        streamed["stream"] = json!(true);
        let answer = server.chat("Hello!", &streamed);
        let mut said = String::new();
        let mut names = Vec::new();
        for chunk in chunks(&answer) {
            let delta = &chunk["choices"][0]["delta"];
            assert_eq!(delta["content"].as_str().unwrap_or_default(), "", "{chunk}");
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                assert_eq!(call["index"], 0);
                names.extend(call["function"]["name"].as_str().map(str::to_owned));
                said.push_str(call["function"]["arguments"].as_str().unwrap());
            }
        }
        assert_eq!(names, ["weather"]);
        assert_eq!(said, call["function"]["arguments"].as_str().unwrap());
    }
    // The tool's answer goes back to the model.
    let history = json!([
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function",
             "function": {"name": "weather", "arguments": "{\"city\": \"Busan\"}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
    ]);
    let body = json!({"messages": history, "tools": [weather()], "max_tokens": 4});
    ok(&server.post("/v1/chat/completions", &body));
    server.stop();
}

#[test]
fn probabilities_and_penalties_reach_the_engine() {
    let mut server = Server::start(&Config::json());
    let whole =
        ok(&server.chat("Hello!", &json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 3})));
    let choice = &whole["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 3);
    let bytes: Vec<u8> = content
        .iter()
        .flat_map(|it| it["bytes"].as_array().unwrap())
        .map(|it| it.as_u64().unwrap() as u8)
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), choice["message"]["content"]);
    for token in content {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        // Greedy: the likeliest is the one that was chosen.
        assert_eq!(token["top_logprobs"][0]["token"], token["token"]);
    }
    // The first token of the greedy answer, made impossible.
    let tokens = ok(&server.post("/tokenize", &json!({"prompt": content[0]["token"]})));
    let first = tokens["tokens"][0].as_u64().unwrap().to_string();
    let biased = ok(&server.chat("Hello!", &json!({"logit_bias": {first: -100}, "max_tokens": 1})));
    assert_ne!(biased["choices"][0]["message"]["content"], content[0]["token"]);

    let told = ok(&server.chat("Hello!", &json!({"include_metrics": true, "max_tokens": 3})));
    assert!(told["metrics"]["time_to_first_token_ms"].as_f64().unwrap() > 0.0, "{told}");
    server.stop();
}

#[test]
fn text_goes_on_without_a_chat() {
    let mut server = Server::start(&Config::json());
    let post = |body: Value| server.post("/v1/completions", &body);
    let more = |mut body: Value| {
        for (name, value) in [("max_tokens", json!(5)), ("temperature", json!(0))] {
            body[name] = value;
        }
        body["ignore_eos"] = json!(true);
        body
    };
    let one = ok(&post(more(json!({"prompt": "The picture"}))));
    assert_eq!(one["object"], "text_completion");
    let text = one["choices"][0]["text"].as_str().unwrap();
    assert_eq!(one["usage"]["completion_tokens"], 5);

    let tokens = ok(&server.post("/tokenize", &json!({"prompt": "The picture"})))["tokens"].clone();
    let same = ok(&post(more(json!({"prompt": tokens}))));
    assert_eq!(same["choices"][0]["text"], text);
    let back = ok(&server.post("/detokenize", &json!({"tokens": tokens})));
    assert!(back["prompt"].as_str().unwrap().ends_with("The picture"), "{back}");

    let many = ok(&post(more(json!({
        "prompt": ["The picture", "A circle"], "n": 2, "echo": true,
    }))));
    let texts: Vec<_> =
        many["choices"].as_array().unwrap().iter().map(|it| it["text"].as_str().unwrap()).collect();
    assert_eq!(texts[..2], [format!("The picture{text}"), format!("The picture{text}")]);
    assert!(texts[3].starts_with("A circle"), "{texts:?}");

    let answer = post(more(json!({"prompt": "The picture", "stream": true, "logprobs": 1})));
    let chunks = chunks(&answer);
    let joined: String = chunks.iter().filter_map(|it| it["choices"][0]["text"].as_str()).collect();
    assert_eq!(joined, text);
    let first = &chunks[0]["choices"][0]["logprobs"];
    assert_eq!(first["text_offset"][0], 0, "{first}");

    let best = ok(&post(json!({"prompt": "The", "max_tokens": 3, "best_of": 3, "temperature": 1})));
    assert_eq!(best["choices"].as_array().unwrap().len(), 1);
    assert!(best["choices"][0]["logprobs"].is_null());
    refused(&post(json!({"prompt": "x", "suffix": "y"})), "suffix", "fills gaps");
    server.stop();
    let records = records(&server.read("json.log"));
    let received: Vec<_> =
        records.iter().filter(|it| it["event_name"] == "request.received").collect();
    let operation = |at: usize| &received[at]["attributes"]["gen_ai.operation.name"];
    assert_eq!(operation(0), "text_completion");
}

#[test]
fn a_server_answers_to_other_names_and_to_keys() {
    let config = Config::json()
        .server("served_model_names = [\"gpt-x\", \"*\"]")
        .server("api_keys = [\"0123456789abcdef\", \"${SECOND_KEY}\"]");
    let mut server = Server::start_with(&config, &[("SECOND_KEY", "fedcba9876543210")]);
    let key = |it: &'static str| [("authorization", it)];
    let body =
        json!({"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1});
    let chat = "/v1/chat/completions";
    for wrong in ["", "Bearer 0123456789abcdeX", "Basic 0123456789abcdef"] {
        let answer = server.post_with(chat, &key(wrong), &body);
        assert_eq!(answer.status, 401, "{}", answer.text);
        assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    }
    assert_eq!(server.get("/v1/models").status, 401);
    for path in ["/health", "/ping", "/version", "/metrics", "/openapi.json"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let named = ok(&server.post_with(chat, &key("Bearer 0123456789abcdef"), &body));
    assert_eq!(named["model"], "gpt-x");
    let mut other = body.clone();
    other["model"] = json!("org/anything");
    let any = ok(&server.post_with(chat, &key("Bearer fedcba9876543210"), &other));
    assert_eq!(any["model"], "demo");
    let get = |path: &str| server.send("GET", path, &key("Bearer 0123456789abcdef"), b"");
    let listed = ok(&get("/v1/models"));
    let ids: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(ids, ["demo", "gpt-x"]);
    assert_eq!(ok(&get("/v1/models/org/anything"))["id"], "org/anything");
    let metrics = server.get("/metrics").text;
    let success =
        "vllm:request_success_total{engine=\"0\",model_name=\"demo\",finished_reason=\"length\"} 2";
    assert!(metrics.contains(success), "{metrics}");
    server.stop();
    let log = server.read("json.log");
    assert!(!log.contains("0123456789abcde") && !log.contains("fedcba"), "{log}");
    let records = records(&log);
    let rejected = records.iter().filter(|it| it["event_name"] == "request.rejected").count();
    assert_eq!(rejected, 3);
}

#[test]
fn what_was_asked_for_is_counted_under_vllms_names() {
    let server = Server::start(&Config::json().with_adapter());
    ok(&server.chat("Hello!", &json!({"n": 2, "max_tokens": 3})));
    ok(&server.post("/v1/completions", &json!({"prompt": "Hello!", "max_tokens": 2})));
    let of =
        |name: &str| server.metric(&format!("vllm:{name}{{engine=\"0\",model_name=\"demo\"}}"));
    assert_eq!((of("request_params_n_count"), of("request_params_n_sum")), (2, 3));
    assert_eq!(of("request_max_num_generation_tokens_count"), 2);
    let asked = (of("request_params_max_tokens_count"), of("request_params_max_tokens_sum"));
    assert_eq!(asked, (3, 3 + 3 + 2));
    let duration = |operation: &str| {
        server.metric(&format!(
            "gen_ai_server_request_duration_seconds_count{{gen_ai_operation_name=\"{operation}\",gen_ai_provider_name=\"bucksaw\",gen_ai_request_model=\"demo\"}}"
        ))
    };
    assert_eq!((duration("chat"), duration("text_completion")), (2, 1));
    // The engine counts a step when its answers are out already.
    eventually("steps", || (of("iteration_tokens_total_count") > 1).then_some(()));
    let text = server.get("/metrics").text;
    assert!(
        text.contains("vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"")
    );
    let lora = "running_lora_adapters=\"\",waiting_lora_adapters=\"\"} ";
    assert!(text.contains("vllm:lora_requests_info{max_lora=\"") && text.contains(lora), "{text}");
}

#[test]
fn a_trace_goes_into_the_log() {
    let mut server = Server::start(&Config::json());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("traceparent", trace), ("x-stainless-retry-count", "2")];
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1});
    server.post_with("/v1/chat/completions", &headers, &body);
    server.stop();
    let records = records(&server.read("json.log"));
    for event in ["request.received", "request.summary"] {
        let record = records.iter().find(|it| it["event_name"] == event).unwrap();
        let attributes = &record["attributes"];
        assert_eq!(attributes["bucksaw.trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(attributes["bucksaw.span_id"], "00f067aa0ba902b7");
        assert_eq!(attributes["bucksaw.retry_count"], 2);
    }
}

#[test]
fn what_is_no_token_or_too_many_is_refused() {
    let model = Model::endless();
    let mut server = Server::start(&Config::json().engine(&model.lines()));
    let post = |prompt: Value| server.post("/v1/completions", &json!({"prompt": prompt}));
    for (prompt, code) in [
        (json!([1, 2, 5000]), "bad_prompt"),
        // The image token.
        (json!([5, 3, 5]), "bad_prompt"),
        (json!(""), "bad_prompt"),
        (json!(vec![7; 3000]), "prompt_too_long"),
    ] {
        let answer = post(prompt);
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert_eq!(answer.json()["error"]["code"], code, "{}", answer.text);
    }
    server.stop();
}
