//! What a handler keeps beyond an instance: a small store that the host lends. Natively it is a map of the thread's own, see
//! [`native::state`](crate::native::state).
//!
//! A handler that calls anything in here imports the host's store, and configuration has to grant it:
//! `grants = { state_kib = 64 }`. The store belongs to the plugin's name: all instances share it, and it outlives them. It is
//! there while records are handled, not in [`Plugin::configure`](crate::Plugin::configure). Each call is atomic; two calls are
//! not.

use std::fmt;

#[cfg(target_family = "wasm")]
use crate::bindings::handler::bucksaw::plugin::state as host;
#[cfg(not(target_family = "wasm"))]
use crate::native::state as host;

/// Why something was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// Configuration does not grant a store, or the plugin is still being set up.
    NotGranted,
    /// A key has at most 256 bytes, a value 64 KiB.
    TooLarge,
    /// The store has no room for it.
    Full,
    /// What is under the key has not the 8 bytes of a counter.
    NotCounter,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotGranted => "no store is granted",
            Self::TooLarge => "the key or the value is too large",
            Self::Full => "the store is full",
            Self::NotCounter => "the value is not a counter",
        })
    }
}

impl std::error::Error for StateError {}

/// The value of a key, if there is one.
pub fn get(key: &str) -> Option<Vec<u8>> {
    host::get(key)
}

/// Stores a value in place of the one before.
///
/// # Errors
/// When it was not stored; the one before is still there.
pub fn set(key: &str, value: &[u8]) -> Result<(), StateError> {
    match host::set(key, value) {
        0 => Ok(()),
        number => Err(error(number)),
    }
}

/// Removes a key and its value.
pub fn remove(key: &str) {
    host::remove(key);
}

/// Adds to a counter, which starts at 0 and stays at the ends of its range, and says what it is now.
///
/// # Errors
/// When the sum was not stored; the counter is what it was.
pub fn add(key: &str, by: i64) -> Result<i64, StateError> {
    host::add(key, by).map_err(error)
}

fn error(number: u32) -> StateError {
    match number {
        2 => StateError::TooLarge,
        3 => StateError::Full,
        4 => StateError::NotCounter,
        _ => StateError::NotGranted,
    }
}
