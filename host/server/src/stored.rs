//! Stored completions: `GET`, `POST` and `DELETE` on `/v1/chat/completions` and what is below it.
//!
//! A change of metadata is content like any other, so it goes to the store as records, through the chain; this is the one
//! request that waits for what becomes of its records. Everything else is asked of the store on a blocking thread.

mod query;
mod storage;
pub(crate) mod wish;

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::timeout};

pub(crate) use self::storage::Storage;
use crate::{
    body, chat,
    error::ApiError,
    keep::{Changed, CompletionStore, Page, StoreError, StoredCompletion},
    request_log::{Arrival, RequestLog},
};

pub(crate) const ONE: &str = "/v1/chat/completions/{completion_id}";
pub(crate) const MESSAGES: &str = "/v1/chat/completions/{completion_id}/messages";

/// A change is released and written within milliseconds, unless plugins or the disk hang.
const CHANGE_TIME: Duration = Duration::from_secs(5);

type Id = Result<Path<String>, PathRejection>;

pub(crate) async fn list(State(storage): State<Storage>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let log = begin(&storage, &parts, chat::ROUTE);
    end(log, page_of_all(&storage, &parts).await)
}

pub(crate) async fn get(State(storage): State<Storage>, id: Id, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let log = begin(&storage, &parts, ONE);
    let answer = match known(id) {
        Ok(id) => one(&storage, id).await.map(|it| it.object),
        Err(error) => Err(error),
    };
    end(log, answer)
}

pub(crate) async fn messages(State(storage): State<Storage>, id: Id, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let log = begin(&storage, &parts, MESSAGES);
    end(log, page_of_messages(&storage, id, &parts).await)
}

pub(crate) async fn change(State(storage): State<Storage>, id: Id, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut log = begin(&storage, &parts, ONE);
    let answer = async {
        let id = known(id)?;
        let bytes = body::read(&parts.headers, body, storage.limits()).await?;
        let mut fields = body::parse(bytes).await?;
        if !fields.has("metadata") {
            let hint = "send {\"metadata\": {…}}, or null for none";
            return Err(ApiError::Missing { param: "metadata".to_owned(), hint });
        }
        let metadata = wish::checked_metadata(fields.take("metadata"))?;
        let row = one(&storage, id.clone()).await?.row;
        set(&storage, &mut log, row, &metadata).await?;
        Ok(one(&storage, id).await?.object)
    };
    let answer = answer.await;
    end(log, answer)
}

pub(crate) async fn delete(State(storage): State<Storage>, id: Id, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let log = begin(&storage, &parts, ONE);
    let answer = async {
        let id = known(id)?;
        let object = json!({"object": "chat.completion.deleted", "id": id, "deleted": true});
        let is_gone = ask(&storage, move |it| it.delete(&id)).await?;
        if is_gone { Ok(object) } else { Err(ApiError::NotStored) }
    };
    end(log, answer.await)
}

fn begin(storage: &Storage, parts: &Parts, route: &'static str) -> RequestLog {
    let mut log = RequestLog::new(Arrival::new(storage.chain_for(), parts, route));
    log.received(None, false);
    log
}

fn end(mut log: RequestLog, answer: Result<Value, ApiError>) -> Response {
    match answer {
        Ok(value) => {
            log.finish(StatusCode::OK);
            Json(value).into_response()
        }
        Err(error) => {
            log.refuse(&error);
            error.into_response()
        }
    }
}

/// An id that is no text is the id of nothing.
fn known(id: Id) -> Result<String, ApiError> {
    id.map(|Path(it)| it).map_err(|_| ApiError::NotStored)
}

async fn page_of_all(storage: &Storage, parts: &Parts) -> Result<Value, ApiError> {
    let listing = query::listing(&parts.uri)?;
    Ok(envelope(ask(storage, move |it| it.list(listing)).await?))
}

async fn page_of_messages(storage: &Storage, id: Id, parts: &Parts) -> Result<Value, ApiError> {
    let id = known(id)?;
    let paging = query::paging(&parts.uri)?;
    let page = ask(storage, move |it| it.messages(&id, paging)).await?;
    page.map(envelope).ok_or(ApiError::NotStored)
}

/// The API's object around a page.
fn envelope(page: Page) -> Value {
    let id = |it: Option<&Value>| it.map(|it| it["id"].clone());
    json!({
        "object": "list",
        "first_id": id(page.data.first()),
        "last_id": id(page.data.last()),
        "has_more": page.has_more,
        "data": page.data,
    })
}

async fn one(storage: &Storage, id: String) -> Result<StoredCompletion, ApiError> {
    ask(storage, move |it| it.get(&id)).await?.ok_or(ApiError::NotStored)
}

async fn ask<T, F>(storage: &Storage, question: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&dyn CompletionStore) -> Result<T, StoreError> + Send + 'static,
{
    let store = storage.store()?.clone();
    match tokio::task::spawn_blocking(move || question(&*store)).await {
        Ok(answer) => answer.map_err(ApiError::Store),
        Err(error) if error.is_panic() => Err(ApiError::Panic),
        Err(_) => Err(ApiError::ShuttingDown),
    }
}

/// Sends a change through the chain, and waits until the store has it.
async fn set(
    storage: &Storage,
    log: &mut RequestLog,
    row: i64,
    metadata: &[(String, String)],
) -> Result<(), ApiError> {
    let (tell, told) = oneshot::channel();
    let waiting = Waiting { store: storage.store()?.clone(), batch: wish::next_batch() };
    let tell = Box::new(move |changed| {
        // Whoever asked may have left.
        let _ = tell.send(changed);
    });
    waiting.store.expect(waiting.batch, tell).map_err(ApiError::Store)?;
    log.store_update(waiting.batch, row, metadata);
    match timeout(CHANGE_TIME, told).await {
        Ok(Ok(Changed::Done)) => Ok(()),
        Ok(Ok(Changed::Gone)) => Err(ApiError::NotStored),
        Ok(Ok(Changed::Withheld(why))) => Err(ApiError::ChangeWithheld(why)),
        Ok(Ok(Changed::Failed) | Err(_)) => {
            let why = "the change could not be stored: see the log of the server";
            Err(ApiError::Store(StoreError::Failed(why.to_owned())))
        }
        Err(_) => Err(ApiError::Store(StoreError::Busy)),
    }
}

/// Nobody is told any more when the request is over.
struct Waiting {
    store: Arc<dyn CompletionStore>,
    batch: i64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.store.forget(self.batch);
    }
}
