//! A store with the host's bounds, one for each thread, so that handlers which keep something can be tested. Each test of
//! Rust's harness has a thread of its own, and so begins with an empty store that takes 64 KiB.

use std::{cell::RefCell, collections::BTreeMap};

/// The host's bounds.
const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 64 << 10;
/// What a test is granted that asks for nothing else.
const GRANTED: usize = 64 << 10;

/// The numbers of the contract.
const STORED: u32 = 0;
const NOT_GRANTED: u32 = 1;
const TOO_LARGE: u32 = 2;
const FULL: u32 = 3;
const NOT_COUNTER: u32 = 4;

thread_local! {
    static STORE: RefCell<Store> =
        const { RefCell::new(Store { granted: Some(GRANTED), values: BTreeMap::new() }) };
}

struct Store {
    granted: Option<usize>,
    values: BTreeMap<String, Vec<u8>>,
}

/// Empties this thread's store. `granted` is the room that keys and values have from now on, in bytes; with none, the plugin is
/// not granted a store.
pub fn reset(granted: Option<usize>) {
    STORE.set(Store { granted, values: BTreeMap::new() });
}

pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
    STORE.with_borrow(|it| it.values.get(key).cloned())
}

pub(crate) fn set(key: &str, value: &[u8]) -> u32 {
    STORE.with_borrow_mut(|it| it.set(key, value))
}

pub(crate) fn remove(key: &str) {
    STORE.with_borrow_mut(|it| it.values.remove(key));
}

pub(crate) fn add(key: &str, by: i64) -> Result<i64, u32> {
    STORE.with_borrow_mut(|it| it.add(key, by))
}

impl Store {
    fn set(&mut self, key: &str, value: &[u8]) -> u32 {
        let Some(granted) = self.granted else {
            return NOT_GRANTED;
        };
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return TOO_LARGE;
        }
        let others = self.values.iter().filter(|(it, _)| *it != key);
        let taken: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        if taken + key.len() + value.len() > granted {
            return FULL;
        }
        self.values.insert(key.to_owned(), value.to_owned());
        STORED
    }

    fn add(&mut self, key: &str, by: i64) -> Result<i64, u32> {
        let count = match self.values.get(key) {
            Some(it) => <[u8; 8]>::try_from(it.as_slice()).map_err(|_| NOT_COUNTER)?,
            None => [0; 8],
        };
        let count = i64::from_le_bytes(count).saturating_add(by);
        match self.set(key, &count.to_le_bytes()) {
            STORED => Ok(count),
            number => Err(number),
        }
    }
}
