//! `/openapi.json` against the server that it describes: every route is there, every bound is the parser's, and every answer
//! has the members that it should have and no others.

use serde_json::{Value, json};

use crate::support::{
    Config, Server, base64, eventually,
    http::{Answer, chat_body},
    picture,
};

const CHAT: &str = "/v1/chat/completions";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// With everything that a configuration can turn on, and room for as many answers as one request may ask for.
fn config() -> Config {
    Config::json()
        .server("runtime_adapters = true")
        .engine("queue = 256")
        .more("[store]\npath = \"store.db\"")
}

fn specification(server: &Server) -> Value {
    let answer = server.get("/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, JSON), "{}", answer.text);
    answer.json()
}

/// Each path and method, and what is said of them.
fn operations(spec: &Value) -> Vec<(&str, String, &Value)> {
    let mut all = Vec::new();
    for (path, methods) in spec["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            all.push((path.as_str(), method.to_uppercase(), operation));
        }
    }
    all
}

/// A request that has nothing in it, for `x` where a path wants a name.
fn empty(server: &Server, path: &str, method: &str, headers: &[(&str, &str)]) -> Answer {
    let path: Vec<_> =
        path.split('/').map(|it| if it.starts_with('{') { "x" } else { it }).collect();
    let headers = [headers, &[("content-type", JSON)]].concat();
    server.send(method, &path.join("/"), &headers, b"{}")
}

/// What is behind a reference, or beside null.
fn resolved<'a>(spec: &'a Value, schema: &'a Value) -> &'a Value {
    let null = json!({"type": "null"});
    match (schema["$ref"].as_str(), schema["oneOf"].as_array().map(Vec::as_slice)) {
        (Some(it), _) => resolved(spec, spec.pointer(it.strip_prefix('#').unwrap()).unwrap()),
        (None, Some([it, other])) if *other == null => resolved(spec, it),
        _ => schema,
    }
}

/// All properties of an object, also of one that is put together from several.
fn properties<'a>(spec: &'a Value, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let schema = resolved(spec, schema);
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let mut all: Vec<_> = parts.flat_map(|it| properties(spec, it)).collect();
    for (name, it) in schema["properties"].as_object().into_iter().flatten() {
        all.push((name.as_str(), resolved(spec, it)));
    }
    all
}

/// The types that a schema allows; none: all.
fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

/// What is wrong with an answer. A member that is not described is as wrong as one that is missing.
fn wrong(spec: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(forms) = schema["oneOf"].as_array() {
        let fit = forms.iter().filter(|it| wrong(spec, it, value).is_none()).count();
        return (fit != 1).then(|| format!("{value} has {fit} of the forms {forms:?}"));
    }
    let schema = resolved(spec, schema);
    if schema["oneOf"].is_array() {
        return wrong(spec, schema, value);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(it) if it.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = types(schema);
    let is_number = kind == "integer" && types.contains(&"number");
    if !types.is_empty() && !types.contains(&kind) && !is_number {
        return Some(format!("{value} is none of {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|it| !it.contains(value)) {
        return Some(format!("{value} is none of {}", schema["enum"]));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|it| wrong(spec, &schema["items"], it)),
        Value::Object(map) if !types.is_empty() => {
            let mut required = schema["required"].as_array().into_iter().flatten();
            if let Some(name) = required.find(|it| !map.contains_key(it.as_str().unwrap())) {
                return Some(format!("{name} is missing"));
            }
            map.iter().find_map(|(name, it)| {
                let known = schema["properties"].get(name);
                match known.or_else(|| schema.get("additionalProperties")) {
                    Some(schema) => wrong(spec, schema, it).map(|it| format!("{name}: {it}")),
                    None => Some(format!("{name} is not described")),
                }
            })
        }
        _ => None,
    }
}

/// That an answer is as its operation says. A stream is checked event by event.
fn check(spec: &Value, route: &str, method: &str, answer: &Answer) {
    let kind = answer.header("content-type").split(';').next().unwrap();
    let status = match answer.status {
        200 => "200".to_owned(),
        other => format!("{}XX", other / 100),
    };
    let content = &spec["paths"][route][method]["responses"][&status]["content"][kind];
    assert!(content.is_object(), "{method} {route}: no {kind} for {status}: {}", answer.text);
    let (values, schema) = match kind {
        JSON => (vec![answer.json()], content["schema"].clone()),
        EVENTS => {
            let events = answer.events();
            let (last, chunks) = events.split_last().unwrap();
            assert_eq!(last, "[DONE]");
            for data in &events {
                let wrong = wrong(spec, &content["schema"], &json!({"data": data}));
                assert_eq!(wrong, None, "{method} {route}: {data}");
            }
            let name = if route == CHAT { "ChatChunk" } else { "CompletionChunk" };
            let schema = json!({"$ref": format!("#/components/schemas/{name}")});
            (chunks.iter().map(|it| serde_json::from_str(it).unwrap()).collect::<Vec<_>>(), schema)
        }
        _ => return,
    };
    for value in values {
        let wrong = wrong(spec, &schema, &value);
        assert_eq!(wrong, None, "{method} {route}: {value:#}");
    }
}

#[test]
fn every_route_is_there_and_answers_as_described() {
    let mut server = Server::start(&config());
    let spec = specification(&server);
    for (path, method, _) in operations(&spec) {
        let answer = empty(&server, path, &method, &[]);
        assert_ne!(answer.status, 405, "{method} {path}");
        if answer.status != 200 {
            assert_ne!(answer.json()["error"]["code"], "unknown_route", "{method} {path}");
        }
        check(&spec, path, &method.to_lowercase(), &answer);
    }

    let post = |route: &str, body: &Value| {
        let answer = server.post(route, body);
        assert_eq!(answer.status, 200, "{route} {body}: {}", answer.text);
        check(&spec, route, "post", &answer);
    };
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
        "additionalProperties": false,
    }}});
    let image = base64(&picture("digit-four.png"));
    for stream in [false, true] {
        let more = json!({
            "stream": stream, "stream_options": {"include_usage": true}, "include_metrics": true,
            "logprobs": true, "top_logprobs": 2, "n": 2, "max_tokens": 4, "store": true,
            "metadata": {"a": "b"},
        });
        post(CHAT, &chat_body("Hello!", &more));
        let more = json!({
            "stream": stream, "tools": [tool], "tool_choice": "required", "max_tokens": 100,
        });
        post(CHAT, &chat_body("Hello!", &more));
        let body = json!({
            "prompt": ["a", "b"], "logprobs": 2, "max_tokens": 4, "stream": stream,
            "stream_options": {"include_usage": true}, "include_metrics": true,
        });
        post("/v1/completions", &body);
    }
    for format in ["float", "base64"] {
        post("/v1/embeddings", &json!({"input": ["a", "b"], "encoding_format": format}));
    }
    for images in [json!([]), json!([image]), json!([image, image])] {
        post("/vision", &json!({"prompt": "What is it?", "images": images, "max_tokens": 2}));
    }
    for body in [json!({"prompt": "a"}), json!({"messages": [{"role": "user", "content": "a"}]})] {
        post("/tokenize", &body);
    }
    post("/tokenize", &json!({"prompt": "a", "return_token_strs": true}));
    post("/detokenize", &json!({"tokens": [7]}));

    let ask = |method: &str, path: &str, route: &str| {
        let answer = server.send(method, path, &[], b"{\"metadata\": {\"c\": \"d\"}}");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
        check(&spec, route, &method.to_lowercase(), &answer);
        answer.json()
    };
    ask("GET", "/v1/models/demo", "/v1/models/{id}");
    ask("DELETE", "/v1/models/demo", "/v1/models/{id}");
    let one = "/v1/chat/completions/{completion_id}";
    let listed = eventually("both to be stored", || {
        let listed = ask("GET", "/v1/chat/completions?metadata%5Ba%5D=b", CHAT);
        (listed["data"].as_array().unwrap().len() == 2).then_some(listed)
    });
    let path = format!("{CHAT}/{}", listed["first_id"].as_str().unwrap());
    ask("GET", &path, one);
    ask("GET", &format!("{path}/messages?order=desc"), &format!("{one}/messages"));
    assert_eq!(ask("POST", &path, one)["metadata"], json!({"c": "d"}));
    ask("DELETE", &path, one);
    server.stop();
}

#[test]
fn every_bound_is_the_parsers() {
    let mut server = Server::start(&config());
    let spec = specification(&server);
    let chat = chat_body("Hello!", &json!({"max_tokens": 1, "logprobs": true}));
    let text = json!({"prompt": "Hello!", "max_tokens": 1, "temperature": 0});
    // How many properties are plain: whoever finds none of them has looked at nothing.
    for (route, good, plain) in [
        (CHAT, chat, 23),
        ("/v1/completions", text, 23),
        ("/v1/embeddings", json!({"input": "Hello!"}), 4),
    ] {
        let body = &spec["paths"][route]["post"]["requestBody"]["content"][JSON]["schema"];
        let ask = |name: &str, value: &Value| {
            let mut body = good.clone();
            body[name] = value.clone();
            let answer = server.post(route, &body);
            let param = answer.json()["error"]["param"].clone();
            (answer, param == name)
        };
        let refuses = |name: &str, value: Value| {
            let (answer, is_named) = ask(name, &value);
            assert!(answer.status == 400 && is_named, "{route} {name} {value}: {}", answer.text);
        };
        let takes = |name: &str, value: Value| {
            let (answer, is_named) = ask(name, &value);
            assert!(!is_named, "{route} {name} {value}: {}", answer.text);
        };
        let mut seen = 0;
        for (name, property) in properties(&spec, body) {
            let kind = types(property).first().copied().unwrap_or_default();
            if !["boolean", "integer", "number", "string"].contains(&kind) {
                continue;
            }
            seen += 1;
            refuses(name, json!({}));
            takes(name, Value::Null);
            for word in property["enum"].as_array().into_iter().flatten() {
                takes(name, word.clone());
                refuses(name, json!(format!("{word}?")));
            }
            let number = |it: f64| if kind == "integer" { json!(it as i64) } else { json!(it) };
            for (bound, step) in [("minimum", -1.0), ("maximum", 1.0), ("exclusiveMinimum", -1.0)] {
                let Some(at) = property[bound].as_f64() else { continue };
                refuses(name, number(at + step));
                if bound == "exclusiveMinimum" {
                    refuses(name, number(at));
                } else {
                    takes(name, number(at));
                }
            }
        }
        assert_eq!(seen, plain, "{route}");
    }
    server.stop();
}

#[test]
fn a_key_is_needed_where_it_says_so() {
    let mut server = Server::start(&config().server("api_keys = [\"0123456789abcdef\"]"));
    let spec = specification(&server);
    for (path, method, operation) in operations(&spec) {
        let is_open = operation["security"] == json!([{}]);
        let answer = empty(&server, path, &method, &[]);
        assert_eq!(answer.status == 401, !is_open, "{method} {path}: {}", answer.text);
        let key = [("authorization", "Bearer 0123456789abcdef")];
        assert_ne!(empty(&server, path, &method, &key).status, 401, "{method} {path}");
    }
    server.stop();
}
