//! Requests that are passed on: those that make records, and those that only pass.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde_json::Value;
use tokio::join;
use upstream::{Answer, Call};

use super::{
    Front,
    asked::{Asked, Kind},
    heard::{Heard, error_text},
    stream::{self, Begun},
    wish::wished,
    without::without,
};
use crate::{
    access::HasRecords,
    body,
    error::ApiError,
    generate::has_vision_tag,
    image::{Encoded, inspect_aside},
    json_verdict::judge,
    meters::{Answered, UNKNOWN_MODEL, Watch},
    output::Output,
    request_id::RequestIds,
    request_log::{Arrival, Counted, PromptFacts, Relayed, RequestLog, StoredChoice},
    stored::wish::Wish,
};

pub(super) const CHAT: &str = crate::chat::ROUTE;
pub(super) const COMPLETIONS: &str = "/v1/completions";
pub(super) const EMBEDDINGS: &str = "/v1/embeddings";
pub(super) const TOKENIZE: &str = "/tokenize";
pub(super) const DETOKENIZE: &str = "/detokenize";

pub(super) async fn chat(State(front): State<Front>, request: Request) -> Response {
    relay(front, Kind::Chat, CHAT, request).await
}

pub(super) async fn completions(State(front): State<Front>, request: Request) -> Response {
    relay(front, Kind::Completion, COMPLETIONS, request).await
}

pub(super) async fn embeddings(State(front): State<Front>, request: Request) -> Response {
    relay(front, Kind::Embedding, EMBEDDINGS, request).await
}

pub(super) async fn tokenize(
    State(front): State<Front>,
    request: Request,
) -> Result<Response, ApiError> {
    pass(&front, TOKENIZE, request).await
}

pub(super) async fn detokenize(
    State(front): State<Front>,
    request: Request,
) -> Result<Response, ApiError> {
    pass(&front, DETOKENIZE, request).await
}

enum Relaying {
    Whole(Response),
    Parts(Box<Begun>),
}

async fn relay(front: Front, kind: Kind, route: &'static str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut log = RequestLog::new(Arrival::new(&front.0.chain_for, &parts, route));
    let mut response = match answer(&front, &mut log, kind, &parts.headers, body).await {
        Ok(Relaying::Whole(response)) => response,
        Ok(Relaying::Parts(begun)) if begun.answer.is_stream() => stream::events(log, *begun),
        Ok(Relaying::Parts(begun)) => stream::bytes(log, *begun),
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
    kind: Kind,
    headers: &HeaderMap,
    body: Body,
) -> Result<Relaying, ApiError> {
    let limits = &front.0.config.limits;
    let bytes = Bytes::from(body::read(headers, body, limits).await?);
    log.body(bytes.len());
    let map = body::view(&bytes).await?;
    let asked = Asked::read(kind, &map, limits.images);
    log.received(asked.model.as_deref(), asked.stream);
    let is_ours = kind == Kind::Chat && asked.store && front.0.storage.storing().is_some();
    if kind == Kind::Chat {
        let wished = wished(front, &map, &asked.params, log.ids())?;
        log.wished(wished);
    }
    // Whatever its text is, it is twice in memory by now.
    drop(map);
    // What is stored here, redacted, is not to be stored elsewhere as it is.
    let bytes = if is_ours { without(bytes, &["store", "metadata"]).await? } else { bytes };

    let mut call = call(path(kind), headers, log.ids(), bytes);
    call.model = asked.model.clone().filter(|it| !it.is_empty());
    // Two upstreams may work at it, if they don't keep the answer.
    call.repeatable = is_ours || !asked.store;
    let mut watch = front
        .0
        .meters
        .watch(served(front, asked.model.as_deref().unwrap_or_default()), log.operation());
    let output = asked.params.output;
    let log_deltas = front.0.config.log_deltas && !asked.has_choices;
    let sent = Instant::now();
    // What is told costs the request no time: the upstream is at work meanwhile.
    let (answer, ()) = join!(front.0.pool.send(&call), describe(front, log, asked));
    let answer = match answer {
        Ok(it) => it,
        Err(failed) => {
            log.upstream(failed.upstream, failed.attempts);
            let error = failed.failure.into();
            watch.ended_by(&error);
            return Err(error);
        }
    };
    log.upstream(Some(Arc::clone(&answer.upstream)), answer.attempts);
    hear(log, kind, Begun { front: front.clone(), answer, sent, output, log_deltas, watch })
}

fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Chat => CHAT,
        Kind::Completion => COMPLETIONS,
        Kind::Embedding => EMBEDDINGS,
    }
}

/// A call as the client made it, under the id that the log has, so that the upstream's log has it too.
pub(super) fn call(
    path: &'static str,
    headers: &HeaderMap,
    ids: &RequestIds,
    bytes: Bytes,
) -> Call {
    let mut call = Call::new(path, headers, bytes);
    if let Ok(id) = HeaderValue::from_str(&ids.id) {
        call.headers_mut().insert("x-request-id", id);
    }
    call
}

/// The records of what was asked.
async fn describe(front: &Front, log: &mut RequestLog, asked: Asked) {
    log.prompt(&PromptFacts {
        text: &asked.prompt,
        messages: asked.messages,
        images: asked.images,
        vision_tag: asked.images > 0 || has_vision_tag(&asked.prompt),
    });
    for (index, picture) in asked.pictures.into_iter().enumerate() {
        let facts = match Encoded::from_url(picture, &front.0.config.limits) {
            Ok(it) => inspect_aside(it, &front.0.config.limits, &front.0.decoders).await,
            Err(error) => Err(error),
        };
        match facts {
            Ok(it) => log.image(index, &it),
            Err(error) => log.image_refused(index, &error),
        }
    }
    log.sent_params(&asked.params);
}

/// What has come already in one piece is heard and told here; anything else is heard while it is passed on.
fn hear(log: &mut RequestLog, kind: Kind, mut begun: Begun) -> Result<Relaying, ApiError> {
    let status = begun.answer.status;
    if status.is_success() && begun.answer.is_stream() {
        return Ok(Relaying::Parts(Box::new(begun)));
    }
    let Some(bytes) = begun.answer.body.take_whole() else {
        return Ok(Relaying::Parts(Box::new(begun)));
    };
    let Begun { front, answer, sent, output, mut watch, .. } = begun;
    let value = serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object);
    let response = stream::head(&answer).map(|()| Body::from(bytes));
    if !status.is_success() {
        let error = refusal(&answer, value.as_ref());
        log.refuse(&error);
        watch.ended_by(&error);
        // What has no form of the API's is put into one.
        let response = if value.is_some() { response } else { error.into_response() };
        return Ok(Relaying::Whole(response));
    }
    let Some(value) = value else {
        watch.failed();
        return Err(ApiError::UpstreamGarbage { upstream: answer.upstream.to_string() });
    };
    let mut heard = Heard::default();
    heard.take(&value);
    let relayed = Relayed {
        input_tokens: heard.input_tokens,
        output_tokens: heard.output_tokens,
        first: None,
        total: sent.elapsed(),
    };
    if kind == Kind::Embedding {
        identify(log, &front, &heard);
        log.relayed(&relayed);
        count(&mut watch, &front, &heard, &relayed);
    } else {
        conclude(log, &mut watch, &front, &heard, &relayed, output);
    }
    log.finish(status);
    Ok(Relaying::Whole(response))
}

/// The error of an answer that is none, for the log.
pub(super) fn refusal(answer: &Answer, value: Option<&Value>) -> ApiError {
    let said = match value {
        Some(it) => error_text(it.get("error").unwrap_or(it)),
        None => "something that is not JSON".to_owned(),
    };
    ApiError::UpstreamSaid { status: answer.status, said }
}

/// The records between the last word and the end of the request.
pub(super) fn conclude(
    log: &mut RequestLog,
    watch: &mut Watch,
    front: &Front,
    heard: &Heard,
    relayed: &Relayed,
    output: Option<Output>,
) {
    identify(log, front, heard);
    let (text, calls) = (heard.text(), heard.tool_calls());
    log.spoken(&heard.spoken(&text, calls.as_deref()));
    if let Some(verdict) = judge(&text, output, heard.finish_reason == Some("length")) {
        log.json_verdict(&verdict, output);
    }
    log.relayed(relayed);
    count(watch, front, heard, relayed);
    if heard.has_choices() {
        log.store_relayed(|wish| kept(front, heard, wish));
    }
}

fn count(watch: &mut Watch, front: &Front, heard: &Heard, relayed: &Relayed) {
    if let Some(model) = heard.model.as_deref().filter(|it| front.0.pool.lists(it)) {
        watch.is_of(&front.0.meters, model);
    }
    // vLLM knows these alone: calls of tools, too, come to a natural end.
    let reason = heard.finish_reason.filter(|it| ["length", "abort", "error"].contains(it));
    watch.answered(&Answered {
        reason,
        input_tokens: relayed.input_tokens,
        output_tokens: relayed.output_tokens,
        first: relayed.first,
    });
}

/// What is stored of an answer that was wished for; none when it was too long to be heard whole.
fn kept(
    front: &Front,
    heard: &Heard,
    wish: &mut Wish,
) -> Option<(Vec<StoredChoice>, Option<Counted>)> {
    let choices = heard.stored()?;
    // Its client asks for it by what the answer said.
    if let Some(id) = &heard.id {
        id.clone_into(&mut wish.id);
    }
    wish.created = heard.created.unwrap_or(wish.created);
    if let Some(model) = heard.model.as_deref().filter(|it| front.0.pool.lists(it)) {
        model.clone_into(&mut wish.model);
    }
    let tokens = heard.input_tokens.zip(heard.output_tokens);
    let counted = tokens.map(|(input, output)| Counted { input, output, images: 0 });
    Some((choices, counted))
}

/// The name of a model that some upstream serves, or a word for all others.
pub(super) fn served<'a>(front: &Front, model: &'a str) -> &'a str {
    if front.0.pool.lists(model) { model } else { UNKNOWN_MODEL }
}

/// Names of models are metadata, so they have to be ones that are served.
fn identify(log: &mut RequestLog, front: &Front, heard: &Heard) {
    if let Some(model) = heard.model.as_deref().filter(|it| front.0.pool.lists(it)) {
        log.serving(model);
    }
    if let Some(id) = &heard.id {
        log.response_id(id);
    }
}

/// A request that generates nothing: it has no records.
async fn pass(front: &Front, path: &'static str, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = Bytes::from(body::read(&parts.headers, body, &front.0.config.limits).await?);
    let model = body::view(&bytes).await?.remove("model");
    let ids = RequestIds::of(&parts.extensions, &parts.headers);
    let mut call = call(path, &parts.headers, &ids, bytes);
    call.model = model.and_then(|it| it.as_str().map(str::to_owned)).filter(|it| !it.is_empty());
    let mut answer = front.0.pool.send(&call).await.map_err(|it| it.failure)?;
    match answer.body.take_whole() {
        Some(bytes) => Ok(stream::head(&answer).map(|()| Body::from(bytes))),
        // Tokens of a prompt that may be sent fit.
        None => Err(ApiError::UpstreamGarbage { upstream: answer.upstream.to_string() }),
    }
}
