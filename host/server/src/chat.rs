//! `POST /v1/chat/completions`, whole or as a stream.

pub(crate) mod schema;
mod stream;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use engine::{Event, Finished};
use serde_json::{Value, json};
use tokio::time::timeout;

use self::{
    schema::ChatRequest,
    stream::{Begun, Head},
};
use crate::{
    body,
    error::ApiError,
    generate::{self, Defaults, Running},
    models::{self, Wanted},
    request_log::{Arrival, RequestLog},
    state::App,
    stored::wish::Wished,
};

pub(crate) const ROUTE: &str = "/v1/chat/completions";

/// As the OpenAI API has it.
const DEFAULTS: Defaults = Defaults { max_tokens: None, temperature: 1.0 };

enum Answer {
    Whole(Value),
    Stream(Box<Begun>),
}

pub(crate) async fn completions(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut log = RequestLog::new(Arrival::new(app.chain_for(), &parts, ROUTE));
    match answer(&app, &mut log, &parts.headers, body).await {
        Ok(Answer::Whole(value)) => {
            log.finish(StatusCode::OK);
            Json(value).into_response()
        }
        Ok(Answer::Stream(begun)) => stream::respond(log, *begun, app.limits().keep_alive),
        Err(error) => {
            log.refuse(&error);
            error.into_response()
        }
    }
}

async fn answer(
    app: &App,
    log: &mut RequestLog,
    headers: &HeaderMap,
    body: Body,
) -> Result<Answer, ApiError> {
    let limits = app.limits();
    let bytes = body::read(headers, body, limits).await?;
    log.body(bytes.len());
    let mut fields = body::parse(bytes).await?;
    log.received(fields.peek_text("model"), fields.peek_flag("stream"));

    let mut request = ChatRequest::take(&mut fields, limits)?;
    let wanted = Wanted {
        model: request.model.as_deref(),
        images: request.draft.images() > 0,
        ..Wanted::default()
    };
    let model = models::resolve(app.engine().models(), wanted)?;
    let head = Head {
        id: format!("chatcmpl-{}", log.ids().simple()),
        created: unix_time(),
        model: model.name.clone(),
    };
    log.response_id(&head.id);
    log.wished(Wished::of(app, &mut request, (&head.id, head.created, &head.model))?);
    let output = request.draft.params.output;
    let Running { mut events, .. } =
        generate::start(app, log, model, request.draft, DEFAULTS).await?;

    if !request.stream {
        let (text, finished) = generate::collect(&mut events).await?;
        generate::conclude(log, &text, &finished, output);
        return Ok(Answer::Whole(completion(&head, &text, &finished)));
    }
    // Long enough for an early failure to become a status, not so long that a proxy gives up.
    let first = match timeout(limits.first_event, events.recv()).await {
        Ok(Some(Event::Failed(error))) => return Err(error.into()),
        Ok(None) => return Err(ApiError::EngineGone),
        Ok(first) => first,
        Err(_) => None,
    };
    let include_usage = request.include_usage;
    let log_deltas = app.log_deltas();
    Ok(Answer::Stream(Box::new(Begun { head, events, first, include_usage, log_deltas, output })))
}

fn completion(head: &Head, text: &str, finished: &Finished) -> Value {
    json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": finished.reason.as_str(),
        }],
        "usage": usage(finished),
    })
}

pub(crate) fn usage(finished: &Finished) -> Value {
    json!({
        "prompt_tokens": finished.input_tokens,
        "completion_tokens": finished.output_tokens,
        "total_tokens": finished.input_tokens + finished.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": finished.image_tokens},
    })
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}
