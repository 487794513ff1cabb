//! `POST /vision` in front of servers that don't have it: a chat of one message, and its answer in the guide's form.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Front,
    heard::Heard,
    relay::{self, CHAT, call, conclude},
    stream,
};
use crate::{
    access::HasRecords,
    body,
    error::ApiError,
    generate::{Draft, DraftPrompt, Piece, milliseconds},
    image::{Encoded, ImageFacts, inspect_aside},
    output::Output,
    request_log::{Arrival, PromptFacts, Relayed, RequestLog, SentParams},
    vision::{DEFAULTS, ROUTE, VisionRequest, describe, read},
};

pub(super) async fn vision(State(front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut log = RequestLog::new(Arrival::new(&front.0.chain_for, &parts, ROUTE));
    let mut response = match answer(&front, &mut log, &parts, body).await {
        Ok(response) => response,
        Err(error) => {
            log.refuse(&error);
            error.into_response()
        }
    };
    response.extensions_mut().insert(HasRecords);
    response
}

async fn answer(
    front: &Front,
    log: &mut RequestLog,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let limits = &front.0.config.limits;
    let bytes = body::read(&parts.headers, body, limits).await?;
    log.body(bytes.len());
    let (mut fields, files) = read(parts, bytes, limits).await?;
    log.received(fields.peek_text("model"), false);
    let format = fields.peek("response_format").cloned();
    let VisionRequest { model, draft } = VisionRequest::take(&mut fields, files, limits)?;
    let output = draft.params.output;
    // An adapter is a model of its own to a server of this API.
    let model = draft.adapter.clone().or(model).or_else(|| {
        let first = front.0.pool.models().into_iter().next();
        first.map(|(name, _)| name)
    });
    let text = draft.text();
    let images = draft.images();
    let vision_tag = images > 0;
    log.prompt(&PromptFacts { text: &text, messages: 1, images, vision_tag });
    let (chat, facts) = as_chat(front, log, draft, model.as_deref(), format).await?;

    let mut call = call(CHAT, &parts.headers, log.ids(), Bytes::from(chat.to_string()));
    drop(chat);
    call.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    call.model = model;
    let name = relay::served(front, call.model.as_deref().unwrap_or_default());
    let mut watch = front.0.meters.watch(name, log.operation());
    let sent = Instant::now();
    let answer = front.0.pool.send(&call).await.map_err(|failed| {
        log.upstream(failed.upstream, failed.attempts);
        let error = failed.failure.into();
        watch.ended_by(&error);
        error
    });
    let mut answer = answer?;
    log.upstream(Some(Arc::clone(&answer.upstream)), answer.attempts);
    let garbage = || ApiError::UpstreamGarbage { upstream: answer.upstream.to_string() };
    let bytes = answer.body.take_whole().ok_or_else(garbage);
    let bytes = bytes.inspect_err(|it| watch.ended_by(it))?;
    let value = serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object);
    if !answer.status.is_success() {
        let error = relay::refusal(&answer, value.as_ref());
        log.refuse(&error);
        watch.ended_by(&error);
        return Ok(match value {
            Some(_) => stream::head(&answer).map(|()| Body::from(bytes)),
            None => error.into_response(),
        });
    }
    let value = value.ok_or_else(garbage).inspect_err(|it| watch.ended_by(it))?;
    let mut heard = Heard::default();
    heard.take(&value);
    let relayed = Relayed {
        input_tokens: heard.input_tokens,
        output_tokens: heard.output_tokens,
        first: None,
        total: sent.elapsed(),
    };
    conclude(log, &mut watch, front, &heard, &relayed, output);
    let vision = as_vision(log, &heard, &value, (&relayed, &facts));
    log.finish(answer.status);
    Ok(Json(vision).into_response())
}

/// The body of the chat, with the facts of its images.
async fn as_chat(
    front: &Front,
    log: &mut RequestLog,
    draft: Draft,
    model: Option<&str>,
    format: Option<Value>,
) -> Result<(Value, Vec<ImageFacts>), ApiError> {
    let mut content = Vec::new();
    let mut facts = Vec::new();
    let turns = draft.prompts.into_iter().flat_map(|it| match it {
        DraftPrompt::Turns(turns) => turns,
        DraftPrompt::Text(_) | DraftPrompt::Tokens(_) => Vec::new(),
    });
    for piece in turns.flat_map(|it| it.pieces) {
        let source = match piece {
            Piece::Text(text) => {
                content.push(json!({"type": "text", "text": text}));
                continue;
            }
            Piece::Image(source) => source,
        };
        let base64 = match &source.encoded {
            Encoded::Base64(text) => text.clone(),
            Encoded::Raw(bytes) => STANDARD.encode(bytes),
            Encoded::Remote(url) => {
                // The upstream fetches it, and nothing is known of it here.
                content.push(json!({"type": "image_url", "image_url": {"url": url}}));
                continue;
            }
        };
        match inspect_aside(source.encoded, &front.0.config.limits, &front.0.decoders).await {
            Ok(it) => {
                log.image(facts.len(), &it);
                let url = format!("data:image/{};base64,{base64}", it.format.to_ascii_lowercase());
                content.push(json!({"type": "image_url", "image_url": {"url": url}}));
                facts.push(it);
            }
            Err(error) => {
                log.image_refused(facts.len(), &error);
                return Err(ApiError::Image { param: source.param, source: error });
            }
        }
    }
    let params = draft.params;
    let sent = SentParams {
        max_tokens: params.max_tokens.or(DEFAULTS.max_tokens).map(|it| it as u64),
        temperature: Some(params.temperature.unwrap_or(DEFAULTS.temperature)),
        top_p: params.top_p,
        top_k: params.top_k.and_then(|it| i64::try_from(it).ok()),
        seed: params.seed,
        stop: params.stop,
        output: params.output.filter(|it| *it != Output::Text),
    };
    log.sent_params(&sent);
    let mut chat = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        chat.extend(value.map(|it| (name.to_owned(), it)));
    };
    set("model", model.map(Value::from));
    set("messages", Some(json!([{"role": "user", "content": content}])));
    set("max_tokens", sent.max_tokens.map(Value::from));
    set("temperature", sent.temperature.map(Value::from));
    set("top_p", sent.top_p.map(Value::from));
    set("top_k", sent.top_k.map(Value::from));
    set("seed", sent.seed.map(Value::from));
    set("stop", (!sent.stop.is_empty()).then(|| json!(sent.stop)));
    set("response_format", format.filter(|it| !it.is_null()));
    Ok((Value::Object(chat), facts))
}

/// The answer as [`crate::vision`] gives it; what the upstream does not say is left out.
fn as_vision(
    log: &RequestLog,
    heard: &Heard,
    value: &Value,
    (relayed, images): (&Relayed, &[ImageFacts]),
) -> Value {
    let generation = milliseconds(relayed.total).round() as u64;
    let mut timings = json!({"generation_ms": generation});
    if let Some(tokens) = relayed.output_tokens {
        let speed = tokens as f64 / relayed.total.as_secs_f64().max(1e-9);
        timings["tokens_per_second"] = json!((speed * 10.0).round() / 10.0);
    }
    timings["endpoint_total_ms"] = json!(log.elapsed_ms().round() as u64);
    let mut vision = json!({
        "request_id": log.ids().id,
        "model": heard.model,
        "response": heard.text(),
        "finish_reason": heard.finish_reason,
        "usage": value.get("usage"),
        "timings": timings,
    });
    match images {
        [] => {}
        [image] => vision["image"] = describe(image),
        images => vision["images"] = images.iter().map(describe).collect(),
    }
    vision
}
