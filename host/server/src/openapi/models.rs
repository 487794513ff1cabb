//! Whether anybody would answer, and what is served: models, health, version, metrics.

use utoipa::ToSchema;

use super::common::{Errors, ListObject, word};

word!(ModelObject, "model");

/// Lists the models and adapters that are served, and their other names.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "listModels", tag = "models",
    responses((status = 200, description = "All of them.", body = ModelList), Errors)
)]
fn list_models() {}

/// Describes one model.
#[utoipa::path(
    get, path = "/v1/models/{id}", operation_id = "retrieveModel", tag = "models",
    params(("id" = String, Path, description = "Its name, which may hold slashes.")),
    responses((status = 200, description = "The model.", body = Model), Errors)
)]
fn retrieve_model() {}

/// Deletes nothing, and says so.
#[utoipa::path(
    delete, path = "/v1/models/{id}", operation_id = "deleteModel", tag = "models",
    params(("id" = String, Path, description = "Its name, which may hold slashes.")),
    responses((status = 200, description = "That it is still there.", body = KeptModel), Errors)
)]
fn delete_model() {}

/// Lists the models of all upstreams.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "listModels", tag = "models",
    responses((status = 200, description = "All of them.", body = FrontModelList), Errors)
)]
fn front_list_models() {}

/// Describes one model of an upstream.
#[utoipa::path(
    get, path = "/v1/models/{id}", operation_id = "retrieveModel", tag = "models",
    params(("id" = String, Path, description = "Its name, which may hold slashes.")),
    responses((status = 200, description = "The model.", body = FrontModel), Errors)
)]
fn front_retrieve_model() {}

/// Says that the server is up and has somebody to ask.
#[utoipa::path(
    get, path = "/health", operation_id = "health", tag = "server",
    responses((status = 200, description = "Requests may be sent.", body = Health), Errors),
    security(())
)]
fn health() {}

/// Says the same as `/health`.
#[utoipa::path(
    get, path = "/ping", operation_id = "ping", tag = "server",
    responses((status = 200, description = "Requests may be sent.", body = Health), Errors),
    security(())
)]
fn ping() {}

/// Says which version this is.
#[utoipa::path(
    get, path = "/version", operation_id = "version", tag = "server",
    responses((status = 200, description = "The version.", body = Version), Errors),
    security(())
)]
fn version() {}

/// Counts what the server does, for Prometheus.
#[utoipa::path(
    get, path = crate::metrics::ROUTE, operation_id = "metrics", tag = "server",
    responses(
        (status = 200, description = "Text format 0.0.4.", body = String, content_type = "text/plain"),
        Errors,
    ),
    security(())
)]
fn metrics() {}

#[derive(ToSchema)]
pub(super) struct ModelList {
    object: ListObject,
    data: Vec<Model>,
}

#[derive(ToSchema)]
pub(super) struct Model {
    id: String,
    object: ModelObject,
    /// Unix seconds.
    created: u64,
    owned_by: String,
    /// The model itself, or the one that it is an adapter of.
    root: String,
    #[schema(required)]
    parent: Option<String>,
    max_model_len: u64,
    /// Whether it sees images.
    vision: bool,
    family: String,
}

#[derive(ToSchema)]
pub(super) struct KeptModel {
    id: String,
    object: ModelObject,
    /// Never true.
    deleted: bool,
}

#[derive(ToSchema)]
pub(super) struct FrontModelList {
    object: ListObject,
    data: Vec<FrontModel>,
}

/// As its upstream lists it, with whatever else it says there.
#[derive(ToSchema)]
pub(super) struct FrontModel {
    id: String,
}

#[derive(ToSchema)]
pub(super) struct Health {
    status: HealthStatus,
    /// How many are served.
    models: u64,
    /// Where there are several.
    #[schema(nullable = false)]
    engines: Option<Vec<EngineHealth>>,
    /// Where other servers answer.
    #[schema(nullable = false)]
    upstreams: Option<Upstreams>,
}

/// `degraded`: some engines are gone, and the others serve.
#[derive(ToSchema)]
pub(super) enum HealthStatus {
    #[serde(rename = "ok")]
    Good,
    #[serde(rename = "degraded")]
    Degraded,
}

#[derive(ToSchema)]
pub(super) struct EngineHealth {
    /// Its place in the configuration, from 0 on.
    engine: u64,
    device: String,
    status: EngineStatus,
}

#[derive(ToSchema)]
pub(super) enum EngineStatus {
    #[serde(rename = "ok")]
    Good,
    #[serde(rename = "gone")]
    Gone,
}

#[derive(ToSchema)]
pub(super) struct Upstreams {
    /// Those that may be asked.
    usable: u64,
    all: u64,
}

#[derive(ToSchema)]
pub(super) struct Version {
    version: String,
}
