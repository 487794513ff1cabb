//! An answer as it comes in: its head, and its body piece by piece, each only when it is asked for.
//!
//! Before an answer is handed over, a part of its body is waited for, so that an upstream that dies before it has said anything
//! can be replaced by another one: the first piece of a stream, or the whole of what is no stream, up to a bound.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Response, StatusCode,
    header::{self, HeaderMap},
};
use tokio::time::timeout;

use crate::{board::Seat, breaker::Why, error::Failure, headers};

/// 8 MiB: any answer of a model and embeddings of a hundred texts. What is longer is passed on while it comes.
const WHOLE_MAX: usize = 8 << 20;

/// A stream waits so long for its first piece, so that a death before it is not seen by the client. Then its head goes out.
const FIRST_PIECE: Duration = Duration::from_secs(10);

pub struct Answer {
    pub upstream: Arc<str>,
    /// Upstreams that were asked, this one included.
    pub attempts: u32,
    pub status: StatusCode,
    /// Those that may pass.
    pub headers: HeaderMap,
    pub body: Body,
}

impl Answer {
    pub(crate) async fn read(mut seat: Seat, response: Response) -> Result<Self, Failure> {
        let status = response.status();
        let is_gone = is_gone(status);
        if is_gone {
            seat.failed(Why::Status);
        } else {
            seat.answered();
        }
        let mut answer = Self {
            upstream: Arc::clone(&seat.member().name),
            attempts: 1,
            status,
            headers: headers::end_to_end(response.headers()),
            body: Body::new(seat, response, is_gone),
        };
        if answer.is_stream() {
            answer.body.read_first().await?;
        } else {
            answer.body.read_whole().await?;
        }
        Ok(answer)
    }

    /// Whether it is made of server-sent events.
    pub fn is_stream(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        kind.is_some_and(|it| it.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
    }

    /// Whether another upstream may have a better one.
    pub(crate) fn is_worth_another(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || is_gone(self.status)
    }
}

/// What a server says that is not there, or a proxy in front of it.
fn is_gone(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// The body of an answer. To drop it ends the connection, and with it the upstream's work.
pub struct Body {
    ready: VecDeque<Bytes>,
    /// None when all of it is `ready`.
    rest: Option<(Response, Seat)>,
    upstream: Arc<str>,
    idle: Duration,
    /// Its status was a failure already: its end is no success, and no other failure.
    is_gone: bool,
}

impl Body {
    fn new(seat: Seat, response: Response, is_gone: bool) -> Self {
        let member = seat.member();
        let (upstream, idle) = (Arc::clone(&member.name), member.settings.idle);
        Self { ready: VecDeque::new(), rest: Some((response, seat)), upstream, idle, is_gone }
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// The connection ended too early, or nothing came for too long. There is nothing more then.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        if let Some(it) = self.ready.pop_front() {
            return Ok(Some(it));
        }
        self.receive().await
    }

    /// All of it in one piece, if it has come already and nothing was taken out yet.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        if self.rest.is_some() {
            return None;
        }
        if self.ready.len() < 2 {
            return Some(self.ready.pop_front().unwrap_or_default());
        }
        let mut whole = BytesMut::with_capacity(self.ready.iter().map(Bytes::len).sum());
        self.ready.drain(..).for_each(|it| whole.extend_from_slice(&it));
        Some(whole.freeze())
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some((response, seat)) = &mut self.rest else { return Ok(None) };
        let (failure, why) = match timeout(self.idle, response.chunk()).await {
            Ok(Ok(Some(it))) => return Ok(Some(it)),
            Ok(Ok(None)) => {
                if !self.is_gone {
                    seat.succeeded();
                }
                self.rest = None;
                return Ok(None);
            }
            Ok(Err(_)) => (Failure::Broken { upstream: Arc::clone(&self.upstream) }, Why::Broken),
            Err(_) => {
                let upstream = Arc::clone(&self.upstream);
                (Failure::Late { upstream, after: self.idle }, Why::Late)
            }
        };
        // One that began with such a status has failed already: a failure counts once.
        if !self.is_gone {
            seat.failed(why);
        }
        self.rest = None;
        Err(failure)
    }

    async fn read_first(&mut self) -> Result<(), Failure> {
        // One that hesitates may take its time now that its head is known.
        let Ok(first) = timeout(FIRST_PIECE, self.receive()).await else { return Ok(()) };
        // A stream of nothing is no answer.
        let nothing = || Failure::Broken { upstream: Arc::clone(&self.upstream) };
        let first = first?.ok_or_else(nothing)?;
        self.ready.push_back(first);
        Ok(())
    }

    async fn read_whole(&mut self) -> Result<(), Failure> {
        let mut size = 0;
        while let Some(it) = self.receive().await? {
            size += it.len();
            self.ready.push_back(it);
            if size > WHOLE_MAX {
                break;
            }
        }
        Ok(())
    }
}
