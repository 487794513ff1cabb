//! Answers as server-sent events: an endpoint's chunks, the usage if it was asked for, `[DONE]`.
//!
//! The request's log lives in the stream: when the client leaves, the stream is dropped and with it the log, which says so.

#[cfg(test)]
pub(crate) mod tests;

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode},
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use engine::{Event, Finished, Piece};
use futures_util::stream;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    choices::{Choices, sum},
    error::ApiError,
    generate::{self, Running, answered, metrics, usage},
    output::Output,
    request_log::RequestLog,
    state::App,
};

/// How an endpoint writes the chunks of its answers.
pub(crate) trait Writer: Send + 'static {
    /// What comes before any text.
    fn begin(&mut self) -> Vec<Value>;

    fn piece(&mut self, choice: usize, piece: &Piece) -> Vec<Value>;

    /// The end of a choice; its last chunk has the reason.
    fn finish(&mut self, choice: usize, finished: &Finished) -> Vec<Value>;

    /// A chunk without choices.
    fn empty(&self) -> Value;

    /// Whether a choice is calls of tools rather than text.
    fn is_call(&self, _choice: usize) -> bool {
        false
    }
}

/// What a client asks of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) include_usage: bool,
    pub(crate) include_metrics: bool,
    /// What the text is asked to be.
    pub(crate) output: Option<Output>,
    /// Whether each piece of text is a record. Only of one answer: pieces of several can't be told apart in a log.
    pub(crate) log_deltas: bool,
}

/// An answer whose generation has begun.
pub(crate) struct Begun<W> {
    writer: W,
    running: Running,
    /// What was waited for before the head of the answer went out.
    first: Option<(usize, Event)>,
    options: Options,
}

impl<W: Writer> Begun<W> {
    /// Waits for the first of the answer: long enough for an early failure to become a status, not so long that a proxy gives up.
    pub(crate) async fn new(
        app: &App,
        writer: W,
        mut running: Running,
        options: Options,
    ) -> Result<Self, ApiError> {
        let first = async {
            loop {
                let next = running.choices.next().await?;
                // The model may fail over a prompt that fits.
                if !matches!(next, Some((_, Event::Started { .. }))) {
                    return Ok(next);
                }
            }
        };
        let first: Result<_, ApiError> =
            timeout(app.limits().first_event, first).await.unwrap_or(Ok(None));
        let first = first?;
        let one = running.choices.len() == 1;
        let options = Options { log_deltas: app.log_deltas() && one, ..options };
        Ok(Self { writer, running, first, options })
    }

    pub(crate) fn respond(self, mut log: RequestLog, keep_alive: Duration) -> Response {
        log.began(StatusCode::OK);
        let chunks = stream::unfold(Chunks::new(log, self), |mut chunks| async move {
            let data = chunks.next().await?;
            Some((Ok::<_, Infallible>(sse::Event::default().data(data)), chunks))
        });
        let mut response =
            Sse::new(chunks).keep_alive(KeepAlive::new().interval(keep_alive)).into_response();
        // nginx would collect the whole stream first.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

struct Chunks<W> {
    log: RequestLog,
    writer: W,
    choices: Choices,
    per_prompt: usize,
    options: Options,
    /// Made and not yet sent.
    ready: VecDeque<String>,
    /// Of each choice.
    texts: Vec<String>,
    finished: Vec<Option<Finished>>,
    chars: usize,
    ended: bool,
}

impl<W: Writer> Chunks<W> {
    fn new(log: RequestLog, begun: Begun<W>) -> Self {
        let Begun { mut writer, running, first, options } = begun;
        let ready = writer.begin();
        let count = running.choices.len();
        let mut chunks = Self {
            log,
            writer,
            choices: running.choices,
            per_prompt: running.per_prompt,
            options,
            ready: VecDeque::new(),
            texts: vec![String::new(); count],
            finished: vec![None; count],
            chars: 0,
            ended: false,
        };
        chunks.push(ready);
        if let Some((at, event)) = first {
            chunks.take(at, event);
        }
        chunks
    }

    /// The data of the next server-sent event.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(data);
            }
            if self.ended {
                return None;
            }
            match self.choices.next().await {
                Ok(Some((at, event))) => self.take(at, event),
                Ok(None) => self.end(),
                Err(error) => self.fail(&error),
            }
        }
    }

    fn take(&mut self, at: usize, event: Event) {
        match event {
            Event::Started { .. } | Event::Failed(_) => {}
            Event::Text(piece) => {
                if !piece.text.is_empty() {
                    self.chars += piece.text.chars().count();
                    self.log.sent(self.chars);
                    if self.options.log_deltas {
                        self.log.delta(&piece.text);
                    }
                    self.texts[at].push_str(&piece.text);
                }
                let chunks = self.writer.piece(at, &piece);
                self.push(chunks);
            }
            Event::Finished(finished) => {
                let chunks = self.writer.finish(at, &finished);
                self.push(chunks);
                self.finished[at] = Some(finished);
                // At once, so that nobody who has read the end finds the log without it.
                if self.finished.iter().all(Option::is_some) {
                    self.end();
                }
            }
        }
    }

    fn end(&mut self) {
        let finished: Vec<_> = self.finished.drain(..).flatten().collect();
        for (at, (text, finished)) in self.texts.iter().zip(&finished).enumerate() {
            let output = self.options.output.filter(|_| !self.writer.is_call(at));
            answered(&mut self.log, text, finished, output);
        }
        if let Some(all) = sum(&finished, self.per_prompt) {
            self.log.performance(&all);
            let texts = self.texts.iter().map(String::as_str);
            generate::store(&mut self.log, texts.zip(&finished), &all);
            let Options { include_usage, include_metrics, .. } = self.options;
            if include_usage || include_metrics {
                let mut chunk = self.writer.empty();
                if include_usage {
                    chunk["usage"] = usage(&all);
                }
                if include_metrics {
                    chunk["metrics"] = metrics(&all);
                }
                self.ready.push_back(chunk.to_string());
            }
        }
        self.log.finish(StatusCode::OK);
        self.ready.push_back("[DONE]".to_owned());
        self.ended = true;
    }

    /// The status went out long ago: an error is an event of the stream, and its last.
    fn fail(&mut self, error: &ApiError) {
        self.log.refuse(error);
        self.ready.push_back(error.body().to_string());
        self.ended = true;
    }

    fn push(&mut self, chunks: Vec<Value>) {
        for mut chunk in chunks {
            if self.options.include_usage {
                chunk["usage"] = Value::Null;
            }
            self.ready.push_back(chunk.to_string());
        }
    }
}
