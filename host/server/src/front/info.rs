//! Whether anybody would answer, and what is served.

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};
use upstream::Failure;

use super::Front;
use crate::error::ApiError;

/// What a load balancer is told when nobody says how long it will last.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Good as long as one upstream may be asked.
pub(super) async fn health(State(front): State<Front>) -> Result<Json<Value>, ApiError> {
    let pool = &front.0.pool;
    let usable = pool.usable();
    if usable == 0 {
        return Err(Failure::NoneUsable { retry_after: RETRY_AFTER }.into());
    }
    Ok(Json(json!({
        "status": "ok",
        "models": pool.models().len(),
        "upstreams": {"usable": usable, "all": pool.counts().len()},
    })))
}

pub(super) async fn models(State(front): State<Front>) -> Json<Value> {
    let data: Vec<Value> =
        front.0.pool.models().into_iter().map(|(id, about)| describe(id, about)).collect();
    Json(json!({"object": "list", "data": data}))
}

pub(super) async fn model(
    State(front): State<Front>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let models = front.0.pool.models();
    let known: Vec<String> = models.iter().map(|(id, _)| id.clone()).collect();
    match models.into_iter().find(|(it, _)| *it == id) {
        Some((id, about)) => Ok(Json(describe(id, about))),
        None => Err(Failure::UnknownModel { model: id, known: known.join(", ") }.into()),
    }
}

/// As an upstream lists it; one that is only configured has what clients look for.
fn describe(id: String, about: Option<Value>) -> Value {
    about.unwrap_or_else(
        || json!({"id": id, "object": "model", "created": 0, "owned_by": "upstream"}),
    )
}
