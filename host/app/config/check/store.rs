//! `[store]`: where completions are kept, which, and how many. Nothing is opened here.

use std::{path::Path, time::Duration};

use crate::config::{Problems, Store, raw};

/// Thirty days.
const AGE_HOURS: u64 = 720;
/// Some hundred thousand completions of a few pages.
const MIB: u64 = 1024;

pub(super) fn check(raw: raw::Store, folder: &Path, problems: &mut Problems) -> Store {
    if raw.path.as_deref().unwrap_or_default().is_empty() {
        problems.add("store.path", "missing: write where the database is to be");
    }
    Store {
        path: folder.join(raw.path.unwrap_or_default()),
        all: raw.all.unwrap_or(false),
        chain: raw.chain,
        max_age: Duration::from_secs(60 * 60 * raw.max_age_hours.unwrap_or(AGE_HOURS)),
        max_bytes: raw.max_mib.unwrap_or(MIB) << 20,
    }
}
