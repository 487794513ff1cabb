//! What the two endpoints that generate share: from a checked request to the engine's events, and from the last event to
//! the records that sum it up.

use std::sync::Arc;

use engine::{Event, Finished, Job, Message, Part, Sampling, ServedModel, SubmitError};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    error::ApiError,
    image::{Encoded, ImageFacts, decode_aside},
    json_verdict::judge,
    models,
    params::{Output, Params},
    request_log::{Answer, PromptFacts, RequestLog},
    state::App,
};

/// What comes back from the engine; dropping it cancels the job.
pub(crate) type Events = UnboundedReceiver<Event>;

/// A request whose shape is right. Its images are not decoded yet.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) turns: Vec<Turn>,
    pub(crate) params: Params,
    /// An adapter that was named beside the model.
    pub(crate) adapter: Option<String>,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) role: String,
    pub(crate) pieces: Vec<Piece>,
}

#[derive(Debug)]
pub(crate) enum Piece {
    Text(String),
    Image(ImageSource),
}

#[derive(Debug)]
pub(crate) struct ImageSource {
    /// Where in the request it is, for errors.
    pub(crate) param: String,
    pub(crate) encoded: Encoded,
}

/// What an endpoint does when the client says nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    /// None: as much as the model's context holds.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) temperature: f64,
}

/// A request that the engine took.
pub(crate) struct Running {
    pub(crate) events: Events,
    pub(crate) images: Vec<ImageFacts>,
}

impl Draft {
    /// All text of all messages, joined by line ends: what the log shows, so that nothing hides in an early message.
    pub(crate) fn text(&self) -> String {
        let pieces = self.turns.iter().flat_map(|it| &it.pieces);
        let texts: Vec<&str> = pieces
            .filter_map(|it| match it {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Image(_) => None,
            })
            .collect();
        texts.join("\n")
    }

    pub(crate) fn images(&self) -> usize {
        let pieces = self.turns.iter().flat_map(|it| &it.pieces);
        pieces.filter(|it| matches!(it, Piece::Image(_))).count()
    }
}

/// Logs the prompt, the images and the parameters, and hands the job to the engine.
pub(crate) async fn start(
    app: &App,
    log: &mut RequestLog,
    model: &ServedModel,
    draft: Draft,
    defaults: Defaults,
) -> Result<Running, ApiError> {
    log.serving(&model.name);
    let text = draft.text();
    let images = draft.images();
    log.prompt(&PromptFacts {
        text: &text,
        messages: draft.turns.len(),
        images,
        vision_tag: (images > 0 && model.vision) || has_vision_tag(&text),
    });
    drop(text);

    let mut facts = Vec::with_capacity(images);
    let mut messages = Vec::with_capacity(draft.turns.len());
    for turn in draft.turns {
        let content = content(app, log, turn.pieces, &mut facts).await?;
        messages.push(Message { role: turn.role, content });
    }

    let params = draft.params;
    let temperature = params.temperature.unwrap_or(defaults.temperature);
    let max_tokens = params.max_tokens.or(defaults.max_tokens);
    log.params(&params, max_tokens.unwrap_or(model.context), temperature);
    let sampling = Sampling {
        max_tokens,
        temperature,
        top_p: params.top_p,
        top_k: params.top_k,
        seed: params.seed.map_or_else(random, i64::cast_unsigned),
        stop: params.stop,
    };
    let adapter = draft.adapter;
    let job = Job {
        model: model.name.clone(),
        adapter_requested: adapter.clone(),
        messages,
        sampling,
        span: log.span().clone(),
    };
    let events = app.engine().submit(job).map_err(|error| match (error, adapter) {
        (SubmitError::UnknownModel(_), Some(adapter)) => {
            models::adapter_refused(app.engine().models(), &adapter, &model.name)
        }
        (other, _) => other.into(),
    })?;
    Ok(Running { events, images: facts })
}

async fn content(
    app: &App,
    log: &RequestLog,
    pieces: Vec<Piece>,
    facts: &mut Vec<ImageFacts>,
) -> Result<Vec<Part>, ApiError> {
    let mut content = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let ImageSource { param, encoded } = match piece {
            Piece::Text(text) => {
                content.push(Part::Text(text));
                continue;
            }
            Piece::Image(source) => source,
        };
        match decode_aside(encoded, app.limits(), app.decoders()).await {
            Ok(decoded) => {
                log.image(facts.len(), &decoded.facts);
                facts.push(decoded.facts);
                content.push(Part::Image(Arc::new(decoded.image)));
            }
            Err(source) => {
                log.image_refused(facts.len(), &source);
                return Err(ApiError::Image { param, source });
            }
        }
    }
    Ok(content)
}

fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

/// Whether the text itself holds a placeholder by which one of the usual chat templates marks an image.
fn has_vision_tag(text: &str) -> bool {
    const TAGS: [&str; 6] =
        ["<image>", "<|image|>", "<|image_pad|>", "<|vision_start|>", "<start_of_image>", "[IMG]"];
    TAGS.iter().any(|it| text.contains(it))
}

/// The whole answer at once.
pub(crate) async fn collect(events: &mut Events) -> Result<(String, Finished), ApiError> {
    let mut text = String::new();
    loop {
        match events.recv().await {
            Some(Event::Started { .. }) => {}
            Some(Event::Text(piece)) => text.push_str(&piece),
            Some(Event::Finished(finished)) => return Ok((text, finished)),
            Some(Event::Failed(error)) => return Err(error.into()),
            None => return Err(ApiError::EngineGone),
        }
    }
}

/// The records between the last token and the end of the request.
pub(crate) fn conclude(
    log: &mut RequestLog,
    text: &str,
    finished: &Finished,
    output: Option<Output>,
) {
    let reason = finished.reason.as_str();
    log.response(text, reason);
    if let Some(verdict) = judge(text, output, reason == "length") {
        log.json_verdict(&verdict, output);
    }
    log.performance(finished);
    log.store(&[Answer { index: 0, text, finish_reason: reason }], finished);
}

/// Tokens over the whole generation, prefill included, as the guide's sample has it: 145 tokens in 1850 ms are 78.4.
pub(crate) fn tokens_per_second(finished: &Finished) -> f64 {
    let seconds = finished.timings.generation.as_secs_f64();
    if seconds > 0.0 { finished.output_tokens as f64 / seconds } else { 0.0 }
}

pub(crate) fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logged_prompt_holds_the_text_of_every_message() {
        let text = |it: &str| Piece::Text(it.to_owned());
        let image = || {
            Piece::Image(ImageSource { param: String::new(), encoded: Encoded::Raw(Vec::new()) })
        };
        let turn = |pieces| Turn { role: "user".to_owned(), pieces };
        let draft = Draft {
            turns: vec![
                turn(vec![text("be kind")]),
                turn(vec![image(), text("what"), text("is it")]),
            ],
            params: Params::default(),
            adapter: None,
        };
        assert_eq!(draft.text(), "be kind\nwhat\nis it");
        assert_eq!(draft.images(), 1);
    }

    #[test]
    fn vision_tags_are_seen_in_text() {
        let check = |text: &str, expected: bool| assert_eq!(has_vision_tag(text), expected);
        check("<image>\nwhat is it", true);
        check("a <|vision_start|> b", true);
        check("an image", false);
    }
}
