//! The admin API, for a listener of its own: what an operator sees and changes while the server runs.
//!
//! Who may call it is decided by one key, and nothing is said to anybody without it, not even which routes there are. It
//! knows no chain and no configuration: what there is to see and to change is the application's [`Control`].

mod level;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, Uri},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use record::field;
use serde_json::Value;
use tokio::sync::Semaphore;

pub use self::level::{LevelOf, LevelWish};
use crate::{
    Limits, access, body, error::ApiError, key::Key, metrics, request_log::TARGET, serve::Unread,
};

/// What an operator may look at and change while the server runs. Implemented by the application.
pub trait Control: Send + Sync {
    /// Prometheus text format 0.0.4. Must be quick: called on the thread that answers.
    fn metrics(&self) -> String;

    /// The state of the log's revisions, plugins, chains: a JSON object. Must be quick, like [`Self::metrics`].
    fn state(&self) -> Value;

    /// Reads the configuration again. May take seconds: called on a blocking thread. The answer is a JSON object.
    ///
    /// # Errors
    /// When nothing was changed.
    fn reload(&self) -> Result<Value, Refusal>;

    /// Goes back to the previous revision. Called as [`Self::reload`] is, and never at the same time by this API.
    ///
    /// # Errors
    /// When nothing was changed, for instance because there is no previous revision.
    fn rollback(&self) -> Result<Value, Refusal>;

    /// Sets a level for as long as the server runs, or until it is set again. Must be quick, like [`Self::state`]. The answer is
    /// a JSON object of the levels in force.
    ///
    /// # Errors
    /// When nothing was changed, since there are too many.
    fn set_level(&self, wish: LevelWish) -> Result<Value, Refusal>;
}

/// Why nothing was changed: one line a problem, each naming its key. The caller is told them all.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("nothing was changed: {}", .problems.join("\n"))]
pub struct Refusal {
    pub problems: Vec<String>,
}

const ROUTES: &str = "/admin/state, /admin/reload, /admin/rollback, /admin/level, /metrics";

/// 1 KiB: a level and a header, or the empty object that some clients send.
const BODY_BYTES: usize = 1 << 10;
/// 5 s: a KiB takes no longer.
const BODY_TIME: Duration = Duration::from_secs(5);
/// 64 KiB over the limit are read and thrown away, so that the caller hears why it is refused.
const BODY_DRAIN_BYTES: usize = 64 << 10;

/// One at a time: what a change starts from is what the one before it left.
const CHANGES: usize = 1;

/// The routes under `/admin`, and `/metrics`. Every request without the key is answered 401, whatever it asks for.
pub fn admin_router(control: Arc<dyn Control>, key: Key) -> Router {
    let admin = Admin { control, changes: Arc::new(Semaphore::new(CHANGES)) };
    Router::new()
        .route("/admin/state", get(state))
        .route("/admin/reload", post(reload))
        .route("/admin/rollback", post(rollback))
        .route("/admin/level", post(level))
        .route(metrics::ROUTE, get(scrape))
        .fallback(unknown_route)
        .method_not_allowed_fallback(access::wrong_method)
        .layer(middleware::from_fn_with_state(key, guard))
        .layer(middleware::from_fn(access::access))
        .with_state(admin)
}

#[derive(Clone)]
struct Admin {
    control: Arc<dyn Control>,
    changes: Arc<Semaphore>,
}

impl Admin {
    /// Runs a change aside, after those that came before it.
    async fn change<F>(self, call: F) -> Result<Json<Value>, ApiError>
    where
        F: FnOnce(&dyn Control) -> Result<Value, Refusal> + Send + 'static,
    {
        let Self { control, changes } = self;
        let turn = changes.acquire_owned().await.map_err(|_| ApiError::ShuttingDown)?;
        let work = move || {
            // Held until the change is over, also when the caller left and nobody waits for it.
            let _turn = turn;
            call(&*control)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome.map(Json).map_err(ApiError::ChangeRefused),
            Err(error) if error.is_panic() => Err(ApiError::Panic),
            Err(_) => Err(ApiError::ShuttingDown),
        }
    }
}

async fn state(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.control.state())
}

async fn scrape(State(admin): State<Admin>) -> Response {
    metrics::answer(admin.control.metrics())
}

async fn reload(State(admin): State<Admin>) -> Result<Json<Value>, ApiError> {
    called("an operator asked for the configuration to be read again");
    admin.change(|it| it.reload()).await
}

async fn rollback(State(admin): State<Admin>) -> Result<Json<Value>, ApiError> {
    called("an operator asked for the previous revision of the log");
    admin.change(|it| it.rollback()).await
}

async fn level(State(admin): State<Admin>, bytes: Bytes) -> Result<Json<Value>, ApiError> {
    let wish = LevelWish::take(body::parse(bytes.to_vec()).await?)?;
    admin.control.set_level(wish).map(Json).map_err(ApiError::ChangeRefused)
}

/// What came of it is for the application to log.
fn called(notice: &'static str) {
    tracing::info!(target: TARGET, event = "admin.called", { field::NOTICE } = notice);
}

async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    ApiError::UnknownRoute {
        method: method.to_string(),
        path: uri.path().to_owned(),
        known: ROUTES,
    }
}

/// Lets nobody in without the key, and reads the body of those who have it.
async fn guard(State(key): State<Key>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    if let Some(unread) = parts.extensions.get::<Unread>() {
        return Err(unread.error());
    }
    if !key.is_in(&parts.headers) {
        return Err(ApiError::WrongKey);
    }
    let limits = Limits {
        body_bytes: BODY_BYTES,
        body_time: BODY_TIME,
        body_drain_bytes: BODY_DRAIN_BYTES,
        ..Limits::default()
    };
    let bytes = body::read(&parts.headers, body, &limits).await?;
    Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await)
}
