//! `POST /v1/completions`: text that goes on where a prompt ends, without a chat template; whole or as a stream.

mod chunks;
mod schema;

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

pub(crate) use self::schema::tokens;
use self::{chunks::Chunks, schema::CompletionRequest};
use crate::{
    body,
    chat::{Head, unix_time},
    choices::sum,
    error::ApiError,
    generate::{self, Answer, Defaults},
    models::{self, Wanted},
    request_log::{Arrival, RequestLog},
    state::App,
    stream::{Begun, Options},
};

pub(crate) const ROUTE: &str = "/v1/completions";

/// As the OpenAI API has it.
const DEFAULTS: Defaults = Defaults { max_tokens: Some(16), temperature: 1.0 };

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

    let request = CompletionRequest::take(&mut fields, limits, app.ignore_unsupported())?;
    let adapter = request.draft.adapter.as_deref();
    let wanted = Wanted { model: request.model.as_deref(), adapter, ..Wanted::default() };
    let model = models::resolve(app, wanted)?;
    let head = Head {
        id: format!("cmpl-{}", log.ids().simple()),
        created: unix_time(),
        model: models::name_for(app, &model, request.model.as_deref()),
    };
    log.response_id(&head.id);

    let CompletionRequest { draft, echo, keep, stream, include_usage, include_metrics, .. } =
        request;
    let output = draft.params.output;
    let wants_logprobs = request.logprobs;
    let mut running = generate::start(app, log, &model, draft, DEFAULTS).await?;
    let per_prompt = running.per_prompt;
    let echoed: Vec<String> = if echo { std::mem::take(&mut running.prompts) } else { Vec::new() };

    if stream {
        let chunks = Chunks::new(head, running.choices.len(), per_prompt, echoed);
        let options = Options { include_usage, include_metrics, output, ..Options::default() };
        return Ok(Reply::Stream(Box::new(Begun::new(app, chunks, running, options).await?)));
    }
    let answers = generate::collect(&mut running.choices).await?;
    let finished: Vec<_> = answers.iter().map(|it| it.finished.clone()).collect();
    let all = sum(&finished, per_prompt).ok_or(ApiError::EngineGone)?;
    let mut choices = Vec::new();
    for (at, answers) in answers.chunks(per_prompt.max(1)).enumerate() {
        let before = echoed.get(at).map_or("", String::as_str);
        for answer in best(answers, keep.unwrap_or(per_prompt)) {
            generate::answered(log, &answer.text, &answer.finished, output);
            let mut choice = schema::choice(choices.len(), before, answer);
            if !wants_logprobs {
                choice["logprobs"] = Value::Null;
            }
            choices.push(choice);
        }
    }
    log.performance(&all);
    let mut value = json!({
        "id": head.id,
        "object": "text_completion",
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

/// The answers whose tokens are likeliest on average.
fn best(answers: &[Answer], keep: usize) -> Vec<&Answer> {
    let mut best: Vec<&Answer> = answers.iter().collect();
    if keep < best.len() {
        best.sort_by(|a, b| likelihood(b).total_cmp(&likelihood(a)));
        best.truncate(keep);
    }
    best
}

fn likelihood(answer: &Answer) -> f32 {
    let sum: f32 = answer.logprobs.iter().map(|it| it.token.logprob).sum();
    sum / answer.logprobs.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use engine::{Logprob, TokenLogprob};

    use super::*;
    use crate::choices::tests::finished;

    #[test]
    fn the_likeliest_answers_are_kept() {
        let answer = |text: &str, logprobs: &[f32]| Answer {
            text: text.to_owned(),
            logprobs: logprobs
                .iter()
                .map(|it| TokenLogprob {
                    token: Logprob { id: 0, logprob: *it, bytes: Vec::new() },
                    top: Vec::new(),
                })
                .collect(),
            finished: finished(1, logprobs.len(), 10),
        };
        let answers = [answer("a", &[-2.0]), answer("b", &[-1.0, -1.2]), answer("c", &[-1.5])];
        let texts =
            |keep| best(&answers, keep).iter().map(|it| it.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(2), ["b", "c"]);
        assert_eq!(texts(3), ["a", "b", "c"]);
    }
}
