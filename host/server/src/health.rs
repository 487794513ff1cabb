//! Whether the server is up, and which one it is.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{error::ApiError, state::App};

/// The router is built when the models are loaded, so whoever gets an answer may send requests while the engine runs.
pub(crate) async fn health(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    if !app.engine().is_running() {
        return Err(ApiError::EngineGone);
    }
    Ok(Json(json!({"status": "ok", "models": app.engine().models().len()})))
}

pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}
