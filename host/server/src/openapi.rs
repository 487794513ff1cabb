//! `GET /openapi.json`: what the API takes and answers, for programs that make clients and check requests.
//!
//! Requests are read field by field and answers are written as JSON, so there are no types to take it from. The types here
//! say the same once more; `tests/it/openapi.rs` sees to it that they are right. Where a configuration decides, they tell the
//! default: they know no [`crate::Limits`] in force.

#![expect(dead_code, reason = "types and functions that nobody makes or calls: they are described")]

mod adapters;
mod chat;
mod common;
mod completions;
mod embeddings;
mod models;
mod stored;
mod tokens;
mod vision;

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

pub(crate) const ROUTE: &str = "/openapi.json";

/// It is the same for every request.
static ENGINE: LazyLock<String> = LazyLock::new(|| text(&Api::openapi()));
static FRONT: LazyLock<String> = LazyLock::new(|| text(&FrontApi::openapi()));

/// Of [`crate::router`].
pub(crate) async fn engine() -> Response {
    answer(&ENGINE)
}

/// Of [`crate::front_router`].
pub(crate) async fn front() -> Response {
    answer(&FRONT)
}

fn answer(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn text(api: &utoipa::openapi::OpenApi) -> String {
    // What could not be JSON are maps whose keys are no texts, and it has none.
    api.to_json().unwrap_or_default()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bucksaw",
        version = env!("CARGO_PKG_VERSION"),
        description = "An inference server with the OpenAI API. Properties of a request that are not described here are \
                       ignored. Numbers that a configuration can change are its defaults.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        chat::create_chat_completion,
        stored::list_chat_completions,
        stored::get_chat_completion,
        stored::update_chat_completion,
        stored::delete_chat_completion,
        stored::get_chat_completion_messages,
        completions::create_completion,
        embeddings::create_embedding,
        vision::vision,
        tokens::tokenize,
        tokens::detokenize,
        models::list_models,
        models::retrieve_model,
        models::delete_model,
        adapters::load_lora_adapter,
        adapters::unload_lora_adapter,
        models::health,
        models::ping,
        models::version,
        models::metrics,
        specification
    ),
    components(schemas(common::Error, chat::ChatChunk, completions::CompletionChunk)),
    security((), ("bearer" = [])),
    modifiers(&Bearer)
)]
struct Api;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bucksaw",
        version = env!("CARGO_PKG_VERSION"),
        description = "The OpenAI API in front of other servers. All but `/vision` and stored completions is passed on as it \
                       comes, and what an upstream makes of it is its own business: this is what another Bucksaw takes \
                       and answers.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        chat::create_chat_completion,
        stored::list_chat_completions,
        stored::get_chat_completion,
        stored::update_chat_completion,
        stored::delete_chat_completion,
        stored::get_chat_completion_messages,
        completions::create_completion,
        embeddings::create_embedding,
        vision::front_vision,
        tokens::tokenize,
        tokens::detokenize,
        models::front_list_models,
        models::front_retrieve_model,
        models::health,
        models::ping,
        models::version,
        models::metrics,
        specification
    ),
    components(schemas(common::Error, chat::ChatChunk, completions::CompletionChunk)),
    security((), ("bearer" = [])),
    modifiers(&Bearer)
)]
struct FrontApi;

/// Says what the API takes and answers.
#[utoipa::path(
    get, path = ROUTE, operation_id = "specification", tag = "server",
    responses(
        (status = 200, description = "This document.", body = serde_json::Value),
        common::Errors,
    ),
    security(())
)]
fn specification() {}

/// The key of a server that has keys.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// `GET /health`, in order.
    fn operations(spec: &Value) -> Vec<String> {
        let mut all = Vec::new();
        for (path, methods) in spec["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                all.push(format!("{} {path}", method.to_uppercase()));
            }
        }
        all.sort();
        all
    }

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|it| references(it, found));
            }
            Value::Array(items) => items.iter().for_each(|it| references(it, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for text in [&*ENGINE, &*FRONT] {
            let spec = parsed(text);
            let mut found = Vec::new();
            references(&spec, &mut found);
            assert!(found.len() > 20, "{found:?}");
            for it in found {
                let at = it.strip_prefix('#').unwrap();
                assert!(spec.pointer(at).is_some(), "{it} is nowhere");
            }
        }
    }

    #[test]
    fn every_route_is_described() {
        let expected = [
            "DELETE /v1/chat/completions/{completion_id}",
            "DELETE /v1/models/{id}",
            "GET /health",
            "GET /metrics",
            "GET /openapi.json",
            "GET /ping",
            "GET /v1/chat/completions",
            "GET /v1/chat/completions/{completion_id}",
            "GET /v1/chat/completions/{completion_id}/messages",
            "GET /v1/models",
            "GET /v1/models/{id}",
            "GET /version",
            "POST /detokenize",
            "POST /tokenize",
            "POST /v1/chat/completions",
            "POST /v1/chat/completions/{completion_id}",
            "POST /v1/completions",
            "POST /v1/embeddings",
            "POST /v1/load_lora_adapter",
            "POST /v1/unload_lora_adapter",
            "POST /vision",
        ];
        let (engine, front) = (operations(&parsed(&ENGINE)), operations(&parsed(&FRONT)));
        assert_eq!(engine, expected);
        assert_eq!(front.len(), 18);
        assert!(front.iter().all(|it| engine.contains(it)), "{front:?}");
    }

    #[test]
    fn the_head_says_what_it_is_of_and_that_keys_are_optional() {
        for text in [&*ENGINE, &*FRONT] {
            let spec = parsed(text);
            assert_eq!(spec["info"]["title"], "Bucksaw");
            assert_eq!(spec["info"]["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(spec["info"]["license"]["identifier"], "Apache-2.0");
            assert_eq!(spec["security"], json!([{}, {"bearer": []}]));
            let bearer = &spec["components"]["securitySchemes"]["bearer"];
            assert_eq!(bearer, &json!({"type": "http", "scheme": "bearer"}));
        }
    }
}
