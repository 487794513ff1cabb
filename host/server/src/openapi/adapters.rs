//! `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`, where the configuration has `runtime_adapters`.

use utoipa::ToSchema;

use super::common::Errors;

/// Loads an adapter from a folder of the server, where that is allowed.
#[utoipa::path(
    post, path = crate::adapters::LOAD, operation_id = "loadLoraAdapter", tag = "adapters",
    request_body = LoadAdapter,
    responses(
        (status = 200, description = "It is served.", body = String, content_type = "text/plain"),
        Errors,
    )
)]
fn load_lora_adapter() {}

/// Unloads an adapter, where that is allowed.
#[utoipa::path(
    post, path = crate::adapters::UNLOAD, operation_id = "unloadLoraAdapter", tag = "adapters",
    request_body = UnloadAdapter,
    responses(
        (status = 200, description = "It is served no more.", body = String, content_type = "text/plain"),
        Errors,
    )
)]
fn unload_lora_adapter() {}

#[derive(ToSchema)]
pub(super) struct LoadAdapter {
    #[schema(min_length = 1)]
    lora_name: String,
    /// A folder of the server.
    #[schema(min_length = 1)]
    lora_path: String,
}

#[derive(ToSchema)]
pub(super) struct UnloadAdapter {
    #[schema(min_length = 1)]
    lora_name: String,
}
