//! An answer in parts: passed on as it comes, and heard meanwhile.
//!
//! Nothing is asked of the upstream before the client has taken what was there, so a slow client slows its upstream and no
//! buffer grows. The request's log lives in the stream, and so does the connection to the upstream: when the client leaves,
//! both are dropped, the one says so and the other ends the upstream's work.

use std::{io, time::Duration, time::Instant};

use axum::{
    body::Body as HttpBody,
    http::{HeaderValue, Response as HttpResponse, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use upstream::{Answer, Body, Failure};

use super::{Front, heard::Heard, relay::conclude, sse::Sse};
use crate::{
    error::ApiError,
    meters::{Answered, Watch},
    output::Output,
    request_log::{Relayed, RequestLog},
};

/// What is needed to go on with an answer whose head has come.
pub(super) struct Begun {
    pub(super) front: Front,
    pub(super) answer: Answer,
    /// When the request went out.
    pub(super) sent: Instant,
    pub(super) output: Option<Output>,
    /// Whether each piece of text is a record.
    pub(super) log_deltas: bool,
    pub(super) watch: Watch,
}

/// Passes a stream of events on.
pub(super) fn events(mut log: RequestLog, begun: Begun) -> Response {
    log.began(begun.answer.status);
    let mut response = head(&begun.answer);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    // nginx would collect the whole stream first.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    let Begun { front, answer, sent, output, log_deltas, watch } = begun;
    let relay = Relay {
        log,
        front,
        upstream: answer.upstream.to_string(),
        status: answer.status,
        body: answer.body,
        sent,
        first: None,
        sse: Sse::default(),
        heard: Heard::default(),
        output,
        log_deltas,
        watch,
        is_told: false,
        is_over: false,
    };
    let pieces = stream::unfold(relay, |mut relay| async move {
        let piece = relay.next().await?;
        Some((Ok::<_, io::Error>(piece), relay))
    });
    response.map(|()| HttpBody::from_stream(pieces))
}

/// Passes on what is no stream of events and too long to be kept. Its text is not heard.
pub(super) fn bytes(mut log: RequestLog, begun: Begun) -> Response {
    log.began(begun.answer.status);
    let response = head(&begun.answer);
    let length = begun.answer.headers.get(header::CONTENT_LENGTH);
    let left = length.and_then(|it| it.to_str().ok()).and_then(|it| it.parse().ok());
    let Begun { answer, sent, watch, .. } = begun;
    let passing = Passing {
        log,
        status: answer.status,
        body: answer.body,
        sent,
        left,
        watch,
        is_told: false,
    };
    let pieces = stream::unfold(Some(passing), |passing| async move {
        let mut passing = passing?;
        match passing.next().await? {
            Ok(piece) => Some((Ok(piece), Some(passing))),
            // An error, not an end: the client must see that the answer is incomplete.
            Err(failure) => Some((Err(io::Error::other(failure)), None)),
        }
    });
    response.map(|()| HttpBody::from_stream(pieces))
}

struct Passing {
    log: RequestLog,
    status: StatusCode,
    body: Body,
    sent: Instant,
    /// Bytes that are still to come, if the upstream said how many there are.
    left: Option<usize>,
    watch: Watch,
    is_told: bool,
}

impl Passing {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match self.body.chunk().await {
            Ok(Some(piece)) => {
                self.left = self.left.map(|it| it.saturating_sub(piece.len()));
                // Nobody asks for more when all that was announced has come.
                if self.left == Some(0) {
                    self.end();
                }
                Some(Ok(piece))
            }
            Ok(None) => {
                self.end();
                None
            }
            Err(failure) => {
                self.log.refuse(&failure.clone().into());
                self.watch.failed();
                Some(Err(failure))
            }
        }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        self.log.relayed(&Relayed { total: self.sent.elapsed(), ..Relayed::default() });
        if self.status.is_success() {
            self.log.store_relayed(|_| None);
            self.watch.answered(&Answered::default());
        } else {
            self.watch.ended_by(&said(self.status));
        }
        finish(&mut self.log, self.status);
    }
}

/// The end of an answer that is whole, good or not.
fn finish(log: &mut RequestLog, status: StatusCode) {
    if status.is_success() {
        log.finish(status);
    } else {
        log.refuse(&said(status));
    }
}

fn said(status: StatusCode) -> ApiError {
    ApiError::UpstreamSaid { status, said: "something long".to_owned() }
}

/// Status and headers as the upstream sent them.
pub(super) fn head(answer: &Answer) -> HttpResponse<()> {
    let mut response = HttpResponse::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers.clone();
    response
}

struct Relay {
    log: RequestLog,
    front: Front,
    upstream: String,
    status: StatusCode,
    body: Body,
    sent: Instant,
    first: Option<Duration>,
    sse: Sse,
    heard: Heard,
    output: Option<Output>,
    log_deltas: bool,
    watch: Watch,
    /// The terminal record is written.
    is_told: bool,
    is_over: bool,
}

impl Relay {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            let piece = match self.body.chunk().await {
                Ok(Some(bytes)) => {
                    let mut events = Vec::new();
                    let piece = self.sse.feed(bytes, &mut events);
                    self.take(events);
                    piece
                }
                Ok(None) => self.end(),
                Err(failure) => self.fail(&failure.into()),
            };
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    }

    fn take(&mut self, events: Vec<Vec<u8>>) {
        for data in events {
            if self.is_told {
                return;
            }
            if data == b"[DONE]" {
                self.finish();
                continue;
            }
            // What is no JSON goes on all the same: it may mean something to the client. Nobody here knows what it said.
            let Ok(value) = serde_json::from_slice::<Value>(&data) else {
                if !std::mem::replace(&mut self.heard.is_cut, true) {
                    self.log.unheard(&self.upstream);
                }
                continue;
            };
            let fresh = self.heard.take(&value);
            if let Some(said) = self.heard.error.take() {
                self.is_told = true;
                let status = StatusCode::OK;
                let error = ApiError::UpstreamSaid { status, said };
                self.log.refuse(&error);
                self.watch.ended_by(&error);
                return;
            }
            if self.first.is_none() && self.heard.chars() > 0 {
                let first = self.sent.elapsed();
                self.first = Some(first);
                self.log.first_word(first);
            }
            self.log.sent(self.heard.chars());
            if self.log_deltas && !fresh.is_empty() {
                self.log.delta(&fresh);
            }
        }
    }

    /// Everything has been said, though the connection may still be there: a client that leaves now has its answer.
    fn finish(&mut self) {
        self.is_told = true;
        if !self.status.is_success() {
            let error = ApiError::UpstreamSaid {
                status: self.status,
                said: "a stream of events".to_owned(),
            };
            self.watch.ended_by(&error);
            self.log.refuse(&error);
            return;
        }
        self.heard.is_cut |= self.sse.lost > 0;
        let relayed = Relayed {
            input_tokens: self.heard.input_tokens,
            output_tokens: self.heard.output_tokens,
            first: self.first,
            total: self.sent.elapsed(),
        };
        conclude(&mut self.log, &mut self.watch, &self.front, &self.heard, &relayed, self.output);
        finish(&mut self.log, self.status);
    }

    fn end(&mut self) -> Bytes {
        let mut events = Vec::new();
        let rest = self.sse.end(&mut events);
        self.take(events);
        self.is_over = true;
        if self.is_told {
            return rest;
        }
        // Some servers don't say `[DONE]`, but all say why they end.
        if self.heard.all_ended() {
            self.finish();
            return rest;
        }
        let failure = Failure::Broken { upstream: self.upstream.as_str().into() };
        // What is left of a line would be nothing that a client could read.
        self.fail(&failure.into())
    }

    /// The status went out long ago: an error is an event of the stream. It ends the one that broke off.
    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.is_over = true;
        if std::mem::replace(&mut self.is_told, true) {
            return Bytes::new();
        }
        self.log.refuse(error);
        self.watch.ended_by(error);
        format!("\n\ndata: {}\n\n", error.body()).into()
    }
}
