//! The store as the server sees it, and as the chains see it: one says what it asks in its own words, and the store in its.

use std::sync::Arc;

use server::{Changed, Listing, Page, Paging, StoreError, StoredCompletion};
use store::{Order, Settings, Store};

use crate::config::{self, Config, Problem, Problems};

/// Opens the store of a configuration, if it has one.
///
/// # Errors
/// When the database cannot be used.
pub fn open(config: &Config) -> Result<Option<Arc<Store>>, Problems> {
    let Some(config::Store { path, max_age, max_bytes, .. }) = &config.store else {
        return Ok(None);
    };
    let settings = Settings { path: path.clone(), max_age: *max_age, max_bytes: *max_bytes };
    let problem = |error: store::OpenError| {
        Problems(vec![Problem { key: "store.path".to_owned(), message: error.to_string() }])
    };
    Ok(Some(Arc::new(Store::open(settings).map_err(problem)?)))
}

/// How the chains of a configuration keep completions in the store that was opened at the start.
pub fn keeping(config: &Config, store: Option<&Arc<Store>>) -> Option<chain::Keeping> {
    let chain = config.store.as_ref().and_then(|it| it.chain.as_deref());
    Some(chain::Keeping { keeper: store?.clone(), chain: chain.map(Arc::from) })
}

/// A store that is served.
pub struct Served(pub Arc<Store>);

impl server::CompletionStore for Served {
    fn get(&self, id: &str) -> Result<Option<StoredCompletion>, StoreError> {
        let found = self.0.get(id).map_err(failed)?;
        Ok(found.map(|it| StoredCompletion { row: it.row, object: it.object }))
    }

    fn list(&self, listing: Listing) -> Result<Page, StoreError> {
        let Listing { paging, model, metadata } = listing;
        let listing = store::Listing { paging: part(paging), model, metadata };
        self.0.list(&listing).map(page).map_err(failed)
    }

    fn messages(&self, id: &str, paging: Paging) -> Result<Option<Page>, StoreError> {
        let found = self.0.messages(id, &part(paging)).map_err(failed)?;
        Ok(found.map(page))
    }

    fn delete(&self, id: &str) -> Result<bool, StoreError> {
        self.0.delete(id).map_err(failed)
    }

    fn expect(&self, batch: i64, told: Box<dyn FnOnce(Changed) + Send>) -> Result<(), StoreError> {
        let told = move |changed| {
            told(match changed {
                store::Changed::Done => Changed::Done,
                store::Changed::Gone => Changed::Gone,
                store::Changed::Withheld(why) => Changed::Withheld(why),
                store::Changed::Failed => Changed::Failed,
            });
        };
        self.0.expect(batch, told).map_err(failed)
    }

    fn forget(&self, batch: i64) {
        self.0.forget(batch);
    }
}

fn part(paging: Paging) -> store::Paging {
    let Paging { after, limit, descending } = paging;
    let order = if descending { Order::Descending } else { Order::Ascending };
    store::Paging { after, limit, order }
}

fn page(page: store::Page) -> Page {
    Page { data: page.data, has_more: page.has_more }
}

fn failed(error: store::StoreError) -> StoreError {
    match error {
        store::StoreError::UnknownCursor => StoreError::UnknownCursor,
        store::StoreError::Busy => StoreError::Busy,
        other => StoreError::Failed(other.to_string()),
    }
}
