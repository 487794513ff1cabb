//! `POST /tokenize` and `/detokenize`, as vLLM has them. They make no records: nothing is generated.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use engine::{Message, Part, ServedModel, TextError};
use serde_json::{Value, json};

use crate::{
    body,
    chat::schema::ChatRequest,
    completions::tokens,
    error::ApiError,
    fields::Fields,
    generate::{DraftPrompt, Piece, Turn},
    models::{self, Wanted},
    state::App,
};

/// Texts of megabytes take a second to cut into tokens, on a thread that may: two at a time, as grammars.
pub(crate) async fn aside<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> Result<T, TextError> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = Arc::clone(app.compilers()).acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::ShuttingDown)?;
    let held = move || {
        // Held until the work is over, also when nobody waits for it any more.
        let _permit = permit;
        work()
    };
    match tokio::task::spawn_blocking(held).await {
        Ok(result) => result.map_err(|error| match error {
            TextError::Failed(error) => error.into(),
            TextError::UnknownModel(name) => engine::SubmitError::UnknownModel(name).into(),
        }),
        Err(_) => Err(ApiError::Panic),
    }
}

fn too_long(param: &str, app: &App) -> ApiError {
    ApiError::invalid(param, format!("may hold {} of them", app.limits().prompt_chars))
}

async fn fields(app: &App, request: Request) -> Result<Fields, ApiError> {
    let (parts, body) = request.into_parts();
    body::parse(body::read(&parts.headers, body, app.limits()).await?).await
}

fn served(app: &App, fields: &mut Fields) -> Result<ServedModel, ApiError> {
    let model = fields.text("model")?.filter(|it| !it.is_empty());
    models::resolve(app, Wanted { model: model.as_deref(), ..Wanted::default() })
}

/// Of `prompt`, or of `messages` as a chat request would have them.
pub(crate) async fn tokenize(
    State(app): State<App>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let mut fields = fields(&app, request).await?;
    let model = served(&app, &mut fields)?;
    let begin = fields.flag("add_special_tokens")?.unwrap_or(true);
    let with_texts = fields.flag("return_token_strs")?.unwrap_or(false);
    let (engine, name) = (app.engine().clone(), model.name.clone());
    let work = {
        let (engine, name) = (engine.clone(), name.clone());
        let tokens: Box<dyn FnOnce() -> Result<Vec<u32>, TextError> + Send> =
            match fields.text("prompt")? {
                Some(text) if text.chars().count() > app.limits().prompt_chars => {
                    return Err(too_long("prompt", &app));
                }
                Some(text) => Box::new(move || engine.tokenize(&name, &text, begin)),
                None => {
                    let request = ChatRequest::take(&mut fields, app.limits())?;
                    let tools = request.tools.list;
                    let messages = plain(request.draft.prompts)?;
                    Box::new(move || engine.tokenize_chat(&name, &messages, &tools))
                }
            };
        tokens
    };
    let tokens = aside(&app, work).await?;
    let mut value = json!({
        "count": tokens.len(), "max_model_len": model.context, "tokens": tokens, "token_strs": null,
    });
    if with_texts {
        let texts = aside(&app, move || {
            tokens.iter().map(|it| engine.detokenize(&name, &[*it])).collect::<Result<Vec<_>, _>>()
        });
        value["token_strs"] = json!(texts.await?);
    }
    Ok(Json(value))
}

pub(crate) async fn detokenize(
    State(app): State<App>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let mut fields = fields(&app, request).await?;
    let model = served(&app, &mut fields)?;
    let values = fields.array("tokens")?.ok_or_else(|| ApiError::Missing {
        param: "tokens".to_owned(),
        hint: "send a list of numbers",
    })?;
    if values.len() > app.limits().prompt_chars {
        return Err(too_long("tokens", &app));
    }
    let tokens = tokens("tokens", values)?;
    let (engine, name) = (app.engine().clone(), model.name.clone());
    let text = aside(&app, move || engine.detokenize(&name, &tokens)).await?;
    Ok(Json(json!({"prompt": text})))
}

/// Messages without images, which only a generation decodes.
fn plain(prompts: Vec<DraftPrompt>) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::new();
    for prompt in prompts {
        let DraftPrompt::Turns(turns) = prompt else { continue };
        for Turn { role, pieces, tool_calls, tool_call_id, name } in turns {
            let text = |it: Piece| match it {
                Piece::Text(text) => Ok(Part::Text(text)),
                Piece::Image(image) => Err(ApiError::Unsupported {
                    param: image.param,
                    reason: "only text is tokenized here",
                }),
            };
            let content = pieces.into_iter().map(text).collect::<Result<_, _>>()?;
            messages.push(Message { role, content, tool_calls, tool_call_id, name });
        }
    }
    Ok(messages)
}
