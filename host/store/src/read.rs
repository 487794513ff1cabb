//! What is asked for: one completion, a page of them, the messages of one.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter, types::Value as Sql};
use serde_json::{Map, Value};

use crate::error::{OpenError, StoreError};

/// Connections that read at the same time: a page takes less than a millisecond, and more than the disk serves help nobody.
const READERS: usize = 4;
/// How long a question waits for one of them.
const WAIT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Ascending,
    Descending,
}

/// Which part of a list.
#[derive(Clone, Debug, Default)]
pub struct Paging {
    /// The id of the last one of the page before.
    pub after: Option<String>,
    /// With 0 the page is empty, wherever it begins.
    pub limit: usize,
    pub order: Order,
}

/// Which completions, in the order of their time.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub paging: Paging,
    pub model: Option<String>,
    /// Keys and values that they must have.
    pub metadata: Vec<(String, String)>,
}

/// Objects of the API, and whether there are more behind them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub data: Vec<Value>,
    pub has_more: bool,
}

/// One completion, and the number by which it is changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub row: i64,
    pub object: Value,
}

/// A few connections that take turns.
pub(crate) struct Readers {
    idle: Receiver<Connection>,
    back: Sender<Connection>,
}

impl Readers {
    pub(crate) fn open(path: &std::path::Path) -> Result<Self, OpenError> {
        let (back, idle) = bounded(READERS);
        for _ in 0..READERS {
            // There is room for all of them.
            let _ = back.send(crate::schema::open_reader(path)?);
        }
        Ok(Self { idle, back })
    }

    /// Asks within one transaction, so that the answer is of one moment.
    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.idle.recv_timeout(WAIT).map_err(|_| StoreError::Busy)?;
        let answer = connection
            .transaction()
            .map_err(StoreError::from)
            .and_then(|transaction| question(&transaction));
        // As above.
        let _ = self.back.send(connection);
        answer
    }
}

pub(crate) fn one(connection: &Connection, id: &str) -> Result<Option<Stored>, StoreError> {
    let found = connection
        .query_row("SELECT seq, body FROM completion WHERE id = ?1", [id], |it| {
            Ok((it.get(0)?, it.get(1)?))
        })
        .optional()?;
    found.map(|(row, body): (i64, String)| stored(connection, row, &body)).transpose()
}

fn stored(connection: &Connection, row: i64, body: &str) -> Result<Stored, StoreError> {
    let mut object: Value = serde_json::from_str(body)?;
    let mut metadata = Map::new();
    let mut query =
        connection.prepare("SELECT key, value FROM metadata WHERE completion = ?1 ORDER BY key")?;
    let mut rows = query.query([row])?;
    while let Some(it) = rows.next()? {
        metadata.insert(it.get(0)?, Value::String(it.get(1)?));
    }
    if let Some(it) = object.as_object_mut() {
        it.insert("metadata".to_owned(), Value::Object(metadata));
    }
    Ok(Stored { row, object })
}

pub(crate) fn list(connection: &Connection, listing: &Listing) -> Result<Page, StoreError> {
    if listing.paging.limit == 0 {
        return Ok(Page::default());
    }
    let mut sql = "SELECT seq, body FROM completion WHERE true".to_owned();
    let mut values: Vec<Sql> = Vec::new();
    if let Some(model) = &listing.model {
        sql += " AND model = ?";
        values.push(model.clone().into());
    }
    for (key, value) in &listing.metadata {
        sql +=
            " AND EXISTS (SELECT 1 FROM metadata WHERE completion = seq AND key = ? AND value = ?)";
        values.push(key.clone().into());
        values.push(value.clone().into());
    }
    let (compare, order) = words(listing.paging.order);
    if let Some(after) = &listing.paging.after {
        let at: Option<(i64, i64)> = connection
            .query_row("SELECT created, seq FROM completion WHERE id = ?1", [after], |it| {
                Ok((it.get(0)?, it.get(1)?))
            })
            .optional()?;
        let (created, seq) = at.ok_or(StoreError::UnknownCursor)?;
        sql += &format!(" AND (created, seq) {compare} (?, ?)");
        values.extend([created.into(), seq.into()]);
    }
    sql += &format!(" ORDER BY created {order}, seq {order} LIMIT ?");
    values.push(more_than(listing.paging.limit).into());
    let mut query = connection.prepare(&sql)?;
    let mut rows = query.query(params_from_iter(values))?;
    let mut found: Vec<(i64, String)> = Vec::new();
    while let Some(it) = rows.next()? {
        found.push((it.get(0)?, it.get(1)?));
    }
    let has_more = found.len() > listing.paging.limit;
    found.truncate(listing.paging.limit);
    let objects = found.iter().map(|(row, body)| Ok(stored(connection, *row, body)?.object));
    Ok(Page { data: objects.collect::<Result<_, StoreError>>()?, has_more })
}

/// None when there is no such completion.
pub(crate) fn messages(
    connection: &Connection,
    id: &str,
    paging: &Paging,
) -> Result<Option<Page>, StoreError> {
    let row: Option<i64> = connection
        .query_row("SELECT seq FROM completion WHERE id = ?1", [id], |it| it.get(0))
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    if paging.limit == 0 {
        return Ok(Some(Page::default()));
    }
    let (compare, order) = words(paging.order);
    let start = match (&paging.after, paging.order) {
        (None, Order::Ascending) => -1,
        (None, Order::Descending) => i64::MAX,
        (Some(after), _) => {
            position(connection, row, id, after)?.ok_or(StoreError::UnknownCursor)?
        }
    };
    let sql = format!(
        "SELECT body FROM message WHERE completion = ?1 AND position {compare} ?2 \
         ORDER BY position {order} LIMIT ?3"
    );
    let mut query = connection.prepare(&sql)?;
    let mut rows = query.query(params![row, start, more_than(paging.limit)])?;
    let mut data = Vec::new();
    while let Some(it) = rows.next()? {
        data.push(serde_json::from_str(&it.get::<_, String>(0)?)?);
    }
    let has_more = data.len() > paging.limit;
    data.truncate(paging.limit);
    Ok(Some(Page { data, has_more }))
}

/// The place of the message of this id.
fn position(
    connection: &Connection,
    row: i64,
    completion: &str,
    message: &str,
) -> Result<Option<i64>, StoreError> {
    let number = message.strip_prefix(completion).and_then(|it| it.strip_prefix('-'));
    let Some(number) = number.and_then(|it| it.parse::<i64>().ok()) else { return Ok(None) };
    let sql = "SELECT position FROM message WHERE completion = ?1 AND position = ?2";
    Ok(connection.query_row(sql, [row, number], |it| it.get(0)).optional()?)
}

fn words(order: Order) -> (&'static str, &'static str) {
    match order {
        Order::Ascending => (">", "ASC"),
        Order::Descending => ("<", "DESC"),
    }
}

/// One more than a page holds says whether there is another page.
fn more_than(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}
