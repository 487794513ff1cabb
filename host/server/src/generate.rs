//! What the endpoints that generate share: from a checked request to the engine's jobs, and from their last events to the
//! records that sum them up.

use std::{sync::Arc, time::Duration};

use engine::{Event, Finished, Job, Message, Part, Prompt, ServedModel, SubmitError, TokenLogprob};
use serde_json::{Value, json};

use crate::{
    choices::Choices,
    compile,
    error::ApiError,
    image::{Encoded, ImageFacts, decode_aside, fetch_aside},
    json_verdict::judge,
    meters::Asked,
    models,
    output::Output,
    params::Params,
    request_log::{Answer as Stored, PromptFacts, RequestLog},
    state::App,
    tokens::aside,
};

/// A request whose shape is right. Its images are not decoded yet.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Almost always one.
    pub(crate) prompts: Vec<DraftPrompt>,
    pub(crate) params: Params,
    /// In OpenAI's form.
    pub(crate) tools: Vec<Value>,
    /// An adapter that was named beside the model.
    pub(crate) adapter: Option<String>,
}

#[derive(Debug)]
pub(crate) enum DraftPrompt {
    Turns(Vec<Turn>),
    Text(String),
    Tokens(Vec<u32>),
}

/// One message.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) role: String,
    pub(crate) pieces: Vec<Piece>,
    /// In OpenAI's form.
    pub(crate) tool_calls: Vec<Value>,
    pub(crate) tool_call_id: Option<String>,
    pub(crate) name: Option<String>,
}

impl Turn {
    /// What it says, and what it passes to tools.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let said = self.pieces.iter().filter_map(|it| match it {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Image(_) => None,
        });
        said.chain(self.arguments())
    }

    /// What its calls pass to tools.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.tool_calls.iter().filter_map(|it| it.pointer("/function/arguments")?.as_str())
    }
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
    /// Of each prompt its answers, one prompt after the other.
    pub(crate) choices: Choices,
    /// How many answers each prompt has.
    pub(crate) per_prompt: usize,
    /// Text of each prompt.
    pub(crate) prompts: Vec<String>,
    pub(crate) images: Vec<ImageFacts>,
}

impl DraftPrompt {
    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let turns = match self {
            Self::Turns(turns) => turns.as_slice(),
            Self::Text(_) | Self::Tokens(_) => &[],
        };
        turns.iter().flat_map(|it| &it.pieces)
    }

    /// All text of all messages, arguments of calls included, joined by line ends; nothing for tokens.
    fn text(&self) -> String {
        if let Self::Text(text) = self {
            return text.clone();
        }
        let Self::Turns(turns) = self else { return String::new() };
        turns.iter().flat_map(Turn::texts).collect::<Vec<_>>().join("\n")
    }

    fn messages(&self) -> usize {
        if let Self::Turns(turns) = self { turns.len() } else { 1 }
    }
}

impl Draft {
    /// All text, joined by line ends: what the log shows, so that nothing hides in an early message.
    pub(crate) fn text(&self) -> String {
        self.prompts.iter().map(DraftPrompt::text).collect::<Vec<_>>().join("\n")
    }

    /// Tokens that came as such.
    pub(crate) fn tokens(&self) -> usize {
        let count = |it: &DraftPrompt| if let DraftPrompt::Tokens(it) = it { it.len() } else { 0 };
        self.prompts.iter().map(count).sum()
    }

    pub(crate) fn images(&self) -> usize {
        let pieces = self.prompts.iter().flat_map(DraftPrompt::pieces);
        pieces.filter(|it| matches!(it, Piece::Image(_))).count()
    }
}

/// Logs the prompt, the images and the parameters, and hands the jobs to the engine: `per_prompt` for each prompt.
pub(crate) async fn start(
    app: &App,
    log: &mut RequestLog,
    model: &ServedModel,
    draft: Draft,
    defaults: Defaults,
) -> Result<Running, ApiError> {
    log.serving(&model.name);
    let prompts = texts(app, &model.name, &draft).await?;
    let images = draft.images();
    let text = prompts.join("\n");
    log.prompt(&PromptFacts {
        text: &text,
        messages: draft.prompts.iter().map(DraftPrompt::messages).sum(),
        images,
        vision_tag: (images > 0 && model.vision) || has_vision_tag(&text),
    });
    drop(text);

    let mut facts = Vec::with_capacity(images);
    let mut ready = Vec::with_capacity(draft.prompts.len());
    for prompt in draft.prompts {
        ready.push(match prompt {
            DraftPrompt::Turns(turns) => {
                let messages = messages(app, log, turns, &mut facts).await?;
                Prompt::Chat { messages, tools: draft.tools.clone() }
            }
            DraftPrompt::Text(text) => Prompt::Text(text),
            DraftPrompt::Tokens(tokens) => Prompt::Tokens(tokens),
        });
    }

    let params = draft.params;
    let temperature = params.temperature.unwrap_or(defaults.temperature);
    let max_tokens = params.max_tokens.or(defaults.max_tokens);
    log.params(&params, max_tokens.unwrap_or(model.context), temperature);
    if let Some(form) = &params.form {
        compile::ahead(app, &model.name, form).await?;
    }

    let per_prompt = params.choices.unwrap_or(1);
    let (answers, places) = (ready.len().saturating_mul(per_prompt), app.engine().capacity());
    if answers > places {
        // Asked again, it would be refused again: so this is no 429.
        let reason = format!("asks for {answers} answers, and {places} may wait (engine.queue)");
        return Err(ApiError::invalid("n", reason));
    }
    let seed = params.seed.map_or_else(random, i64::cast_unsigned);
    let deadline = app.limits().request_time.map(|it| log.started() + it);
    let adapter = draft.adapter;
    let mut jobs = Vec::with_capacity(ready.len() * per_prompt);
    for prompt in ready {
        let prompt = Arc::new(prompt);
        for _ in 0..per_prompt {
            // The same seed would give the same answer each time.
            let seed = seed.wrapping_add(jobs.len() as u64);
            let job = Job {
                model: model.name.clone(),
                adapter_requested: adapter.clone(),
                prompt: Arc::clone(&prompt),
                sampling: params.sampling(max_tokens, temperature, seed),
                constraint: params.constraint().cloned(),
                priority: params.priority,
                deadline,
                span: log.span().clone(),
            };
            // With one that is refused, those before it are given up.
            jobs.push(app.engine().submit(job).map_err(|error| match (error, &adapter) {
                (SubmitError::UnknownModel(_), Some(adapter)) => {
                    models::adapter_refused(&app.engine().models(), adapter, &model.name)
                }
                (other, _) => other.into(),
            })?);
        }
    }
    let asked = Asked {
        model: &model.name,
        operation: log.operation(),
        per_prompt,
        max_tokens,
        context: model.context,
    };
    let watches = app.meters().watch_jobs(&asked, jobs.len());
    let choices = Choices::new(jobs, watches, deadline);
    Ok(Running { choices, per_prompt, prompts, images: facts })
}

/// The text of each prompt.
async fn texts(app: &App, model: &str, draft: &Draft) -> Result<Vec<String>, ApiError> {
    let mut texts = Vec::with_capacity(draft.prompts.len());
    for prompt in &draft.prompts {
        texts.push(match prompt {
            DraftPrompt::Tokens(tokens) => {
                let (engine, model, tokens) =
                    (app.engine().clone(), model.to_owned(), tokens.clone());
                // Tokens that are none are refused by the engine.
                aside(app, move || Ok(engine.detokenize(&model, &tokens).unwrap_or_default()))
                    .await?
            }
            other => other.text(),
        });
    }
    Ok(texts)
}

async fn messages(
    app: &App,
    log: &RequestLog,
    turns: Vec<Turn>,
    facts: &mut Vec<ImageFacts>,
) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::with_capacity(turns.len());
    for turn in turns {
        let Turn { role, pieces, tool_calls, tool_call_id, name } = turn;
        let content = content(app, log, pieces, facts).await?;
        messages.push(Message { role, content, tool_calls, tool_call_id, name });
    }
    Ok(messages)
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
        let limits = app.limits();
        let decoded = match fetch_aside(encoded, limits, app.fetchers()).await {
            Ok(encoded) => decode_aside(encoded, limits, app.decoders()).await,
            Err(error) => Err(error),
        };
        match decoded {
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
pub(crate) fn has_vision_tag(text: &str) -> bool {
    const TAGS: [&str; 6] =
        ["<image>", "<|image|>", "<|image_pad|>", "<|vision_start|>", "<start_of_image>", "[IMG]"];
    TAGS.iter().any(|it| text.contains(it))
}

/// One whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) finished: Finished,
}

/// Sends what was asked and answered to the store, if it is to be stored.
pub(crate) fn store<'a>(
    log: &mut RequestLog,
    answers: impl Iterator<Item = (&'a str, &'a Finished)>,
    all: &Finished,
) {
    let answers: Vec<Stored<'_>> = answers
        .enumerate()
        .map(|(index, (text, finished))| Stored { index, text, finished })
        .collect();
    log.store(&answers, all);
}

/// All answers, when all of them are complete.
pub(crate) async fn collect(choices: &mut Choices) -> Result<Vec<Answer>, ApiError> {
    let mut parts: Vec<(String, Vec<TokenLogprob>, Option<Finished>)> = Vec::new();
    parts.resize_with(choices.len(), Default::default);
    while let Some((at, event)) = choices.next().await? {
        let (text, logprobs, end) = &mut parts[at];
        match event {
            Event::Started { .. } | Event::Failed(_) => {}
            Event::Text(piece) => {
                text.push_str(&piece.text);
                logprobs.extend(piece.logprobs);
            }
            Event::Finished(finished) => *end = Some(finished),
        }
    }
    let answer = |(text, logprobs, end): (String, Vec<TokenLogprob>, Option<Finished>)| {
        end.map(|finished| Answer { text, logprobs, finished }).ok_or(ApiError::EngineGone)
    };
    parts.into_iter().map(answer).collect()
}

/// The records of an answer that is complete.
pub(crate) fn answered(
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
}

/// Tokens over the whole generation, prefill included, as the guide's sample has it: 145 tokens in 1850 ms are 78.4.
pub(crate) fn tokens_per_second(finished: &Finished) -> f64 {
    let seconds = finished.timings.generation.as_secs_f64();
    if seconds > 0.0 { finished.output_tokens as f64 / seconds } else { 0.0 }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What `usage` of the OpenAI API says.
pub(crate) fn usage(finished: &Finished) -> Value {
    json!({
        "prompt_tokens": finished.input_tokens,
        "completion_tokens": finished.output_tokens,
        "total_tokens": finished.input_tokens + finished.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": finished.cached_tokens,
            "image_tokens": finished.image_tokens,
        },
    })
}

/// What vLLM tells of one request in its answer, by its names.
pub(crate) fn metrics(finished: &Finished) -> Value {
    let timings = &finished.timings;
    let between = finished.output_tokens.saturating_sub(1);
    let mean = (between > 0).then(|| milliseconds(timings.decode) / between as f64);
    json!({
        "time_to_first_token_ms": milliseconds(timings.first_token),
        "generation_time_ms": milliseconds(timings.generation),
        "queue_time_ms": milliseconds(timings.queue),
        "mean_itl_ms": mean,
        "tokens_per_second": tokens_per_second(finished),
    })
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
        let turn = |pieces| Turn { role: "user".to_owned(), pieces, ..Turn::default() };
        let turns =
            vec![turn(vec![text("be kind")]), turn(vec![image(), text("what"), text("is it")])];
        let draft = Draft {
            prompts: vec![DraftPrompt::Turns(turns), DraftPrompt::Text("more".to_owned())],
            params: Params::default(),
            tools: Vec::new(),
            adapter: None,
        };
        assert_eq!(draft.text(), "be kind\nwhat\nis it\nmore");
        assert_eq!(draft.images(), 1);
    }

    #[test]
    fn vision_tags_are_seen_in_text() {
        let check = |text: &str, expected: bool| assert_eq!(has_vision_tag(text), expected);
        check("<image>\nwhat is it", true);
        check("a <|vision_start|> b", true);
        check("an image", false);
    }

    #[test]
    fn metrics_have_the_names_that_clients_know() {
        let told = metrics(&crate::choices::tests::finished(3, 5, 100));
        assert_eq!(told["time_to_first_token_ms"], 50.0);
        assert_eq!(told["mean_itl_ms"], 12.5);
        assert_eq!(told["tokens_per_second"], 50.0);
        assert!(metrics(&crate::choices::tests::finished(3, 1, 100))["mean_itl_ms"].is_null());
    }
}
