//! `POST /v1/chat/completions`, whole or as a stream.

pub(crate) mod calls;
mod chunks;
pub(crate) mod message;
pub(crate) mod schema;
mod tools;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use self::{chunks::Chunks, message::Reading, schema::ChatRequest};
use crate::{
    body,
    choices::sum,
    error::ApiError,
    generate::{self, Defaults},
    models::{self, Wanted},
    request_log::{Arrival, RequestLog},
    state::App,
    stored::wish::Wished,
    stream::{Begun, Options},
};

pub(crate) const ROUTE: &str = "/v1/chat/completions";

/// As the OpenAI API has it.
const DEFAULTS: Defaults = Defaults { max_tokens: None, temperature: 1.0 };

/// What all chunks of an answer share.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

enum Reply {
    Whole(Value),
    Stream(Box<Begun<Chunks>>),
}

pub(crate) async fn completions(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut log = RequestLog::new(Arrival::new(app.chain_for(), &parts, ROUTE));
    match answer(&app, &mut log, &parts.headers, body).await {
        Ok(Reply::Whole(value)) => {
            log.finish(StatusCode::OK);
            Json(value).into_response()
        }
        Ok(Reply::Stream(begun)) => begun.respond(log, app.limits().keep_alive),
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
) -> Result<Reply, ApiError> {
    let limits = app.limits();
    let bytes = body::read(headers, body, limits).await?;
    log.body(bytes.len());
    let mut fields = body::parse(bytes).await?;
    log.received(fields.peek_text("model"), fields.peek_flag("stream"));

    let mut request = ChatRequest::take(&mut fields, limits)?;
    let wanted = Wanted {
        model: request.model.as_deref(),
        adapter: request.draft.adapter.as_deref(),
        images: request.draft.images() > 0,
    };
    let model = models::resolve(app, wanted)?;
    let head = Head {
        id: format!("chatcmpl-{}", log.ids().simple()),
        created: unix_time(),
        model: models::name_for(app, &model, request.model.as_deref()),
    };
    log.response_id(&head.id);
    let has_tools = !request.tools.list.is_empty();
    let format = has_tools.then(|| app.engine().tool_format(&model.name));
    log.wished(Wished::of(app, &mut request, &head, format)?);

    let ChatRequest { mut draft, tools, stream, include_usage, include_metrics, .. } = request;
    let output = draft.params.output;
    if let Some(format) = format {
        draft.params.form = tools.form(format, draft.params.form.take());
        draft.tools = tools.list;
    }
    let mut running = generate::start(app, log, &model, draft, DEFAULTS).await?;

    if stream {
        let chunks = Chunks::new(head, running.choices.len(), format);
        let options = Options { include_usage, include_metrics, output, ..Options::default() };
        return Ok(Reply::Stream(Box::new(Begun::new(app, chunks, running, options).await?)));
    }
    let answers = generate::collect(&mut running.choices).await?;
    let mut choices = Vec::with_capacity(answers.len());
    for (index, answer) in answers.iter().enumerate() {
        let reading = Reading { format, response_id: &head.id, index };
        let (choice, is_call) = message::choice(answer, reading);
        generate::answered(log, &answer.text, &answer.finished, output.filter(|_| !is_call));
        choices.push(choice);
    }
    let finished: Vec<_> = answers.iter().map(|it| it.finished.clone()).collect();
    let all = sum(&finished, running.per_prompt).ok_or(ApiError::EngineGone)?;
    log.performance(&all);
    generate::store(log, answers.iter().map(|it| (it.text.as_str(), &it.finished)), &all);
    let mut value = json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": choices,
        "usage": generate::usage(&all),
    });
    if include_metrics {
        value["metrics"] = generate::metrics(&all);
    }
    Ok(Reply::Whole(value))
}

pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}
