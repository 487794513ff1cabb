//! Where compiled components are kept: the configured folder, or the user's own cache.

use std::path::{Path, PathBuf};

use plugin::Cache;

use crate::{config::CacheFolder, env::Vars};

/// Why there is no cache. The program works without: it compiles each component at each start.
#[derive(Debug, thiserror::Error)]
pub enum NoCache {
    #[error("it is switched off")]
    Off,
    #[error("there is no home folder: set log.cache")]
    NoHome,
    #[error(transparent)]
    Unusable(#[from] plugin::CacheError),
}

/// Opens the cache of a configuration.
///
/// # Errors
/// Why there is none.
pub fn open(folder: &CacheFolder, vars: &Vars) -> Result<Cache, NoCache> {
    let folder = match folder {
        CacheFolder::Off => return Err(NoCache::Off),
        CacheFolder::At(it) => it.clone(),
        CacheFolder::Default => of_user(vars).ok_or(NoCache::NoHome)?,
    };
    Ok(Cache::open(&folder)?)
}

/// As the XDG base directory specification has it.
fn of_user(vars: &Vars) -> Option<PathBuf> {
    let set = |name: &str| vars.get(name).filter(|it| Path::new(it).is_absolute());
    let base = set("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| set("HOME").map(|it| Path::new(it).join(".cache")))?;
    Some(base.join("bucksaw"))
}
