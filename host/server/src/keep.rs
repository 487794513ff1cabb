//! What the server asks of a store of completions. Implemented by the application: the server knows no database.

use serde_json::Value;

/// Completions that were stored. All but [`Self::expect`] and [`Self::forget`] may wait for a disk: called on blocking threads.
pub trait CompletionStore: Send + Sync {
    /// # Errors
    /// When the store fails.
    fn get(&self, id: &str) -> Result<Option<StoredCompletion>, StoreError>;

    /// # Errors
    /// When the store fails, or there is no completion that the page begins after.
    fn list(&self, listing: Listing) -> Result<Page, StoreError>;

    /// The messages of a request; none when there is no such completion.
    ///
    /// # Errors
    /// As [`Self::list`].
    fn messages(&self, id: &str, paging: Paging) -> Result<Option<Page>, StoreError>;

    /// The answer says whether there was one.
    ///
    /// # Errors
    /// When the store fails.
    fn delete(&self, id: &str) -> Result<bool, StoreError>;

    /// Says whom to tell what becomes of the change of this number, whose records are sent next.
    ///
    /// # Errors
    /// When too many wait already.
    fn expect(&self, batch: i64, told: Box<dyn FnOnce(Changed) + Send>) -> Result<(), StoreError>;

    /// Nobody waits for this change any more.
    fn forget(&self, batch: i64);
}

/// One completion, and the number by which it is changed.
#[derive(Clone, Debug)]
pub struct StoredCompletion {
    pub row: i64,
    /// The object `chat.completion`.
    pub object: Value,
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// The id of the last one of the page before.
    pub after: Option<String>,
    pub limit: usize,
    /// The latest first.
    pub descending: bool,
}

/// Which completions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub paging: Paging,
    pub model: Option<String>,
    /// Keys and values that they must have.
    pub metadata: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
pub struct Page {
    pub data: Vec<Value>,
    pub has_more: bool,
}

/// What became of a change of metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Done,
    /// The completion is not there any more.
    Gone,
    /// An editor failed, or a record was lost: nothing was changed. The word is of a closed set.
    Withheld(&'static str),
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("there is nothing of this id to begin after: it may be gone")]
    UnknownCursor,
    #[error("the store is busy: try again shortly")]
    Busy,
    /// In the store's own words, which repeat nothing that is stored.
    #[error("{0}")]
    Failed(String),
}
