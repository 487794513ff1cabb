//! `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`, as vLLM has them: adapters that come and go while the server runs.
//! There are no such routes unless the configuration says so: they read folders of this machine.

use std::path::PathBuf;

use axum::extract::{Request, State};

use crate::{body, error::ApiError, fields::Fields, state::App};

pub(crate) const LOAD: &str = "/v1/load_lora_adapter";
pub(crate) const UNLOAD: &str = "/v1/unload_lora_adapter";

pub(crate) async fn load(State(app): State<App>, request: Request) -> Result<String, ApiError> {
    let mut fields = fields(&app, request).await?;
    let name = required(&mut fields, "lora_name")?;
    let folder = PathBuf::from(required(&mut fields, "lora_path")?);
    app.engine().load_adapter(&name, folder).await?;
    Ok(format!("Success: LoRA adapter '{name}' added successfully."))
}

pub(crate) async fn unload(State(app): State<App>, request: Request) -> Result<String, ApiError> {
    let mut fields = fields(&app, request).await?;
    let name = required(&mut fields, "lora_name")?;
    app.engine().unload_adapter(&name).await?;
    Ok(format!("Success: LoRA adapter '{name}' removed successfully."))
}

async fn fields(app: &App, request: Request) -> Result<Fields, ApiError> {
    let (parts, body) = request.into_parts();
    body::parse(body::read(&parts.headers, body, app.limits()).await?).await
}

fn required(fields: &mut Fields, name: &str) -> Result<String, ApiError> {
    let text = fields.text(name)?.filter(|it| !it.is_empty());
    text.ok_or_else(|| ApiError::Missing { param: name.to_owned(), hint: "send a string" })
}
