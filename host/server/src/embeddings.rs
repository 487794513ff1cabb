//! `POST /v1/embeddings`: no model here makes them, and says so in the API's own words.

use axum::{
    body::Body,
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};

use crate::{
    body,
    error::ApiError,
    models::{self, Wanted},
    request_log::{Arrival, RequestLog},
    state::App,
};

pub(crate) const ROUTE: &str = "/v1/embeddings";

pub(crate) async fn embeddings(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut log = RequestLog::new(Arrival::new(app.chain_for(), &parts, ROUTE));
    let error = refusal(&app, &mut log, &parts.headers, body).await;
    log.refuse(&error);
    error.into_response()
}

/// Whatever is wrong with the request is said first: who mends it hears the rest.
async fn refusal(app: &App, log: &mut RequestLog, headers: &HeaderMap, body: Body) -> ApiError {
    let bytes = match body::read(headers, body, app.limits()).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    log.body(bytes.len());
    let mut fields = match body::parse(bytes).await {
        Ok(fields) => fields,
        Err(error) => return error,
    };
    log.received(fields.peek_text("model"), false);
    let model = match fields.text("model") {
        Ok(model) => model.filter(|it| !it.is_empty()),
        Err(error) => return error,
    };
    match models::resolve(app, Wanted { model: model.as_deref(), ..Wanted::default() }) {
        Ok(model) => ApiError::NoEmbeddings { model: model.name },
        Err(error) => error,
    }
}
