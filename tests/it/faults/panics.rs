//! What log workers panic with. The host catches it, and a panic of its own is a bug all the same.

use std::{
    panic,
    sync::{Mutex, PoisonError},
    thread,
};

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers what log workers panicked with, beside printing it.
pub(crate) fn watch() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name().is_some_and(|it| it.starts_with("log-")) {
            PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
        }
        print(info);
    }));
}

pub(crate) fn seen() -> Vec<String> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
