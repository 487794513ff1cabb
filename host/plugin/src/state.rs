//! What plugins keep beyond an instance: one bounded map for each plugin name, shared by its instances on all workers. It
//! outlives a trap and a new revision of the plugin, and ends with the process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A key is a name, or a name and an id.
const KEY_BYTES_MAX: usize = 256;
/// A value is copied at each call.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Entries of one store, whatever its bytes: each costs the host about a hundred bytes more than its key and value.
const ENTRIES_MAX: usize = 65_536;

/// The stores of all plugins of a runtime. Names come from the configuration, and a name's store stays.
#[derive(Default)]
pub(crate) struct States(Mutex<HashMap<String, Arc<StateStore>>>);

impl States {
    /// Lends the store of this name, empty when the name is new. `bytes_max` binds this borrower only, so that a revision that
    /// is being tried changes nothing for the one that runs.
    pub(crate) fn grant(&self, plugin: &str, bytes_max: usize) -> StateGrant {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        StateGrant { store: stores.entry(plugin.to_owned()).or_default().clone(), bytes_max }
    }
}

/// A store, as one revision of its plugin may use it.
#[derive(Clone)]
pub(crate) struct StateGrant {
    store: Arc<StateStore>,
    /// Keys and values together.
    bytes_max: usize,
}

/// What a plugin keeps. Each call is atomic; two calls are not.
#[derive(Default)]
pub(crate) struct StateStore(Mutex<Entries>);

/// Why something was not stored, with the contract's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Ungranted,
    TooLarge,
    Full,
    NotCounter,
}

impl Refusal {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Ungranted => 1,
            Self::TooLarge => 2,
            Self::Full => 3,
            Self::NotCounter => 4,
        }
    }
}

impl StateGrant {
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.store.lock().values.get(key).cloned()
    }

    /// # Errors
    /// When the key, the value or the store would be too large. What is there stays, and so it does when a smaller bound is
    /// granted later: what takes no more room than before can always be stored.
    pub(crate) fn set(&self, key: String, value: Vec<u8>) -> Result<(), Refusal> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        self.store.lock().insert(key, value, self.bytes_max)
    }

    pub(crate) fn remove(&self, key: &str) {
        self.store.lock().remove(key);
    }

    /// Adds to a counter: 8 bytes, two's complement, little-endian; 0 when there is none. It stays at the ends of its range.
    ///
    /// # Errors
    /// As [`StateGrant::set`], and when the value there is no counter.
    pub(crate) fn add(&self, key: String, by: i64) -> Result<i64, Refusal> {
        if key.len() > KEY_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let mut entries = self.store.lock();
        let count = match entries.values.get(&key) {
            Some(it) => <[u8; 8]>::try_from(it.as_slice()).map_err(|_| Refusal::NotCounter)?,
            None => [0; 8],
        };
        let count = i64::from_le_bytes(count).saturating_add(by);
        entries.insert(key, count.to_le_bytes().to_vec(), self.bytes_max)?;
        Ok(count)
    }
}

impl StateStore {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Entries {
    values: HashMap<String, Vec<u8>>,
    /// Of all keys and values.
    bytes: usize,
}

impl Entries {
    fn insert(&mut self, key: String, value: Vec<u8>, bytes_max: usize) -> Result<(), Refusal> {
        let old = self.values.get(&key).map(|it| key.len() + it.len());
        let bytes = self.bytes - old.unwrap_or(0) + key.len() + value.len();
        let fits = match old {
            Some(_) => bytes <= bytes_max.max(self.bytes),
            None => bytes <= bytes_max && self.values.len() < ENTRIES_MAX,
        };
        if !fits {
            return Err(Refusal::Full);
        }
        self.bytes = bytes;
        self.values.insert(key, value);
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some(value) = self.values.remove(key) {
            self.bytes -= key.len() + value.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(state: &StateGrant, key: &str, bytes: usize) -> Result<(), Refusal> {
        state.set(key.to_owned(), vec![7; bytes])
    }

    #[test]
    fn a_store_takes_what_its_bounds_allow() {
        let state = States::default().grant("a", 200_000);
        let check = |key: &str, bytes: usize, want: Result<(), Refusal>| {
            assert_eq!(set(&state, key, bytes), want, "{key:.9} {bytes}");
        };
        check("", 0, Ok(()));
        check("k", VALUE_BYTES_MAX, Ok(()));
        check("k", VALUE_BYTES_MAX + 1, Err(Refusal::TooLarge));
        check(&"k".repeat(KEY_BYTES_MAX), VALUE_BYTES_MAX, Ok(()));
        check(&"k".repeat(KEY_BYTES_MAX + 1), 0, Err(Refusal::TooLarge));
        check("l", VALUE_BYTES_MAX, Ok(()));
        check("m", VALUE_BYTES_MAX, Err(Refusal::Full));
        check("l", 0, Ok(()));
        check("m", VALUE_BYTES_MAX, Ok(()));
        state.remove("k");
        state.remove("nothing");
        check("n", VALUE_BYTES_MAX, Ok(()));
        assert_eq!(state.get("k"), None);
        assert_eq!(state.get("l"), Some(vec![]));
        assert_eq!(state.get("n").map(|it| it.len()), Some(VALUE_BYTES_MAX));
    }

    #[test]
    fn counters_start_at_nothing_and_stay_in_range() {
        let state = States::default().grant("a", 1000);
        let check = |key: &str, by: i64, want: Result<i64, Refusal>| {
            assert_eq!(state.add(key.to_owned(), by), want, "{key:.9} {by}");
        };
        check("n", 3, Ok(3));
        check("n", -5, Ok(-2));
        check("n", i64::MIN, Ok(i64::MIN));
        check("n", -1, Ok(i64::MIN));
        assert_eq!(state.set("n".to_owned(), 40_i64.to_le_bytes().to_vec()), Ok(()));
        check("n", 2, Ok(42));
        assert_eq!(state.get("n"), Some(42_i64.to_le_bytes().to_vec()));
        assert_eq!(set(&state, "text", 7), Ok(()));
        check("text", 1, Err(Refusal::NotCounter));
        check(&"k".repeat(KEY_BYTES_MAX + 1), 1, Err(Refusal::TooLarge));
        assert_eq!(set(&state, "rest", 970), Ok(()));
        check("m", 1, Err(Refusal::Full));
        check("n", 1, Ok(43));
    }

    #[test]
    fn a_store_belongs_to_a_name_and_a_bound_to_a_borrower() {
        let states = States::default();
        let (first, other) = (states.grant("a", 100), states.grant("b", 100));
        assert_eq!(set(&first, "k", 50), Ok(()));
        assert_eq!(other.get("k"), None);
        let second = states.grant("a", 20);
        assert_eq!(second.get("k"), Some(vec![7; 50]));
        assert_eq!(set(&second, "l", 1), Err(Refusal::Full));
        assert_eq!(set(&second, "k", 51), Err(Refusal::Full));
        assert_eq!(set(&second, "k", 40), Ok(()));
        assert_eq!(set(&first, "l", 1), Ok(()));
    }

    #[test]
    fn entries_are_bounded_by_number_too() {
        let state = States::default().grant("a", usize::MAX);
        for key in 0..ENTRIES_MAX {
            assert_eq!(set(&state, &key.to_string(), 0), Ok(()));
        }
        assert_eq!(set(&state, "one more", 0), Err(Refusal::Full));
        assert_eq!(set(&state, "0", 1), Ok(()));
    }
}
