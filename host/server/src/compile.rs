//! Constraints are compiled before a job is handed in: on a thread that may block, few at a time, and not for ever.

use std::sync::Arc;

use tokio::time::timeout;

use crate::{error::ApiError, output::Form, state::App};

/// Sees to it that the engine need not compile, which may take a second and would keep other jobs waiting.
pub(crate) async fn ahead(app: &App, model: &str, form: &Form) -> Result<(), ApiError> {
    let permit = Arc::clone(app.compilers()).acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::ShuttingDown)?;
    let (engine, model, constraint) =
        (app.engine().clone(), model.to_owned(), form.constraint.clone());
    let work = tokio::task::spawn_blocking(move || {
        // Held until the work is over, also when nobody waits for it any more.
        let _permit = permit;
        engine.check_constraint(&model, &constraint)
    });
    let limit = app.limits().compile_time;
    match timeout(limit, work).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(ApiError::invalid(form.param, error.to_string())),
        Ok(Err(_)) => Err(ApiError::Panic),
        Err(_) => {
            let reason =
                format!("takes longer than {} s to compile: make it simpler", limit.as_secs());
            Err(ApiError::invalid(form.param, reason))
        }
    }
}
