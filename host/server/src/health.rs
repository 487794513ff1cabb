//! Whether the server is up, and which one it is.

use axum::{Json, extract::State};
use engine::EngineState;
use serde_json::{Value, json};

use crate::{error::ApiError, state::App};

/// The router is built when the models are loaded, so whoever gets an answer may send requests while an engine runs.
pub(crate) async fn health(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let engines = app.engine().engines();
    if !engines.iter().any(|it| it.running) {
        return Err(ApiError::EngineGone);
    }
    Ok(Json(describe(app.engine().models().len(), &engines)))
}

pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// Of several engines, each is named: one may be gone while the others serve.
fn describe(models: usize, engines: &[EngineState]) -> Value {
    let all = engines.iter().all(|it| it.running);
    let mut value = json!({"status": if all { "ok" } else { "degraded" }, "models": models});
    if engines.len() > 1 {
        let one = |(number, it): (usize, &EngineState)| {
            let status = if it.running { "ok" } else { "gone" };
            json!({"engine": number, "device": it.device, "status": status})
        };
        value["engines"] = engines.iter().enumerate().map(one).collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use engine::Stats;

    use super::*;

    #[test]
    fn an_engine_that_is_gone_is_named() {
        let engine = |device: &str, running| EngineState {
            device: device.to_owned(),
            running,
            stats: Stats::default(),
        };
        assert_eq!(describe(2, &[engine("cpu", true)]), json!({"status": "ok", "models": 2}));
        let engines = [engine("cuda:0", true), engine("cuda:1", false)];
        assert_eq!(
            describe(1, &engines),
            json!({"status": "degraded", "models": 1, "engines": [
                {"engine": 0, "device": "cuda:0", "status": "ok"},
                {"engine": 1, "device": "cuda:1", "status": "gone"},
            ]})
        );
    }
}
