//! Requests to whichever upstream is best, and another one when that is safe.
//!
//! **At most one attempt an upstream, and none after any of an answer was passed on.** What is tried again: a connection that
//! could not be made; one that ended before there was an answer, for requests that may be worked at twice; and the answers
//! 429, 502, 503 and 504, while another upstream is free. When none does better, the first such answer is the answer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::{Client, Method, header::HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    answer::Answer,
    board::{Board, Member, Seat},
    breaker::Why,
    config::{Config, Upstream},
    error::{Failed, Failure},
    headers, probe,
};

/// 4 s: uvicorn, which vLLM and others run on, ends idle connections after 5, and a request on one that is ending is lost.
const IDLE_CONNECTION: std::time::Duration = std::time::Duration::from_secs(4);

/// All upstreams. Copies are the same pool; looks at its health end when the last one is dropped.
#[derive(Clone)]
pub struct Pool(Arc<Board>);

/// What an upstream is sent.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// Of the API, from its root: `/v1/chat/completions`.
    pub path: &'static str,
    pub(crate) headers: HeaderMap,
    pub body: Bytes,
    /// None: any upstream will do.
    pub model: Option<String>,
    /// Whether it does no harm when two upstreams work at it.
    pub repeatable: bool,
}

/// What is counted of an upstream, and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    pub name: Arc<str>,
    pub usable: bool,
    pub in_flight: u64,
    /// Requests that it was sent, second attempts included.
    pub attempts: u64,
    /// Those that broke, were late, or were answered with 502, 503 or 504.
    pub failures: u64,
    pub ejections: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the connections to upstream {upstream} cannot be set up: {reason}")]
pub struct StartError {
    upstream: String,
    reason: String,
}

impl Call {
    /// `headers` are the client's; those that are not for an upstream are left out.
    pub fn new(path: &'static str, headers: &HeaderMap, body: Bytes) -> Self {
        let headers = headers::of_request(headers);
        Self { method: Method::POST, path, headers, body, model: None, repeatable: true }
    }

    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }
}

impl Pool {
    /// Looks at every upstream once, and from then on.
    ///
    /// # Errors
    /// When the system's means for connections cannot be set up. An upstream that is not there is no error.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let members: Result<Vec<Member>, StartError> =
            config.upstreams.into_iter().map(member).collect();
        let board = Arc::new(Board::new(members?));
        join_all((0..board.members.len()).map(|at| probe::look(&board, at))).await;
        for at in 0..board.members.len() {
            tokio::spawn(probe::follow(Arc::downgrade(&board), at, config.check));
        }
        Ok(Self(board))
    }

    /// The answer of the best upstream. Once it is dropped, or what it returned, the upstream is not kept at work.
    ///
    /// # Errors
    /// When no upstream answers.
    pub async fn send(&self, call: &Call) -> Result<Answer, Failed> {
        let mut tried: Vec<usize> = Vec::new();
        let mut second_best: Option<Answer> = None;
        let mut last: Option<Failed> = None;
        loop {
            let attempts = tried.len() as u32;
            let seat = match self.0.choose(call.model.as_deref(), &tried) {
                Ok(it) => it,
                // The first word is the one to repeat: it says what a single upstream would have said.
                Err(failure) => {
                    return match (second_best, last) {
                        (Some(it), _) => Ok(Answer { attempts, ..it }),
                        (None, Some(it)) => Err(it),
                        (None, None) => Err(Failed { failure, upstream: None, attempts }),
                    };
                }
            };
            tried.push(seat.at);
            let attempts = attempts + 1;
            let upstream = Some(Arc::clone(&seat.member().name));
            match attempt(seat, call).await {
                Ok(it) if it.is_worth_another() => second_best = second_best.or(Some(it)),
                Ok(it) => return Ok(Answer { attempts, ..it }),
                Err(failure) => {
                    let again =
                        failure.is_before_work() || (call.repeatable && failure.is_before_answer());
                    let failed = Failed { failure, upstream, attempts };
                    if !again {
                        return Err(failed);
                    }
                    last = Some(failed);
                }
            }
        }
    }

    /// Every model once, with the description of an upstream that lists it.
    pub fn models(&self) -> Vec<(String, Option<Value>)> {
        self.0.models()
    }

    /// Whether a model is configured, or some upstream lists it.
    pub fn lists(&self, model: &str) -> bool {
        self.0.lists(model)
    }

    pub fn counts(&self) -> Vec<Counts> {
        let count = |it: &AtomicU64| it.load(Relaxed);
        let counts = self.0.members.iter().enumerate().map(|(at, member)| {
            let (in_flight, usable) = self.0.standing(at);
            Counts {
                name: Arc::clone(&member.name),
                usable,
                in_flight: in_flight as u64,
                attempts: count(&member.attempts),
                failures: count(&member.failures),
                ejections: count(&member.ejections),
            }
        });
        counts.collect()
    }

    /// How many upstreams may be asked.
    pub fn usable(&self) -> usize {
        (0..self.0.members.len()).filter(|at| self.0.standing(*at).1).count()
    }
}

fn member(settings: Upstream) -> Result<Member, StartError> {
    let client = Client::builder()
        .connect_timeout(settings.connect)
        .pool_idle_timeout(IDLE_CONNECTION)
        // Small requests and tokens matter at once.
        .tcp_nodelay(true)
        // A prompt goes where the configuration says, and nowhere else.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| StartError {
            upstream: settings.name.clone(),
            reason: error.without_url().to_string(),
        })?;
    Ok(Member {
        name: settings.name.as_str().into(),
        settings,
        client,
        attempts: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        ejections: AtomicU64::new(0),
    })
}

async fn attempt(mut seat: Seat, call: &Call) -> Result<Answer, Failure> {
    let member = seat.member();
    let upstream = Arc::clone(&member.name);
    let settings = &member.settings;
    let mut headers = call.headers.clone();
    if let Some(key) = &settings.api_key {
        headers.insert(reqwest::header::AUTHORIZATION, key.header());
    }
    let request = member
        .client
        .request(call.method.clone(), settings.url.join(call.path))
        .headers(headers)
        .body(call.body.clone());
    let after = settings.answer;
    let (failure, why) = match timeout(after, request.send()).await {
        Ok(Ok(response)) => return Answer::read(seat, response).await,
        Ok(Err(error)) if error.is_connect() => {
            (Failure::Unreachable { upstream }, Why::Unreachable)
        }
        Ok(Err(_)) => (Failure::Broken { upstream }, Why::Broken),
        Err(_) => (Failure::Late { upstream, after }, Why::Late),
    };
    seat.failed(why);
    Err(failure)
}
