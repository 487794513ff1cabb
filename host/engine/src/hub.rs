//! Models from the Hugging Face hub: their files end up in the hub's own cache folder, and are loaded from there.
//!
//! `HF_HOME`, `HF_ENDPOINT` and `HF_TOKEN` mean what they mean elsewhere. Without a network a model that was fetched before
//! still loads.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{ApiBuilder, ApiRepo},
};

use crate::{
    checkpoint::shards_of,
    error::{LoadError, first_line},
};

/// What is fetched where the repository has it, beside the weights.
const WANTED: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A dropped connection is tried again this often.
const RETRIES: usize = 3;

/// The folder that holds the files of `owner/name` or `owner/name@revision`.
pub(crate) fn fetch(id: &str) -> Result<PathBuf, LoadError> {
    let fail = |reason: String| LoadError::Hub { id: id.to_owned(), reason };
    let (name, revision) = id.split_once('@').unwrap_or((id, "main"));
    let repo =
        |revision: &str| Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned());

    let mut builder = ApiBuilder::from_env().with_progress(false).with_retries(RETRIES);
    if let Ok(token) = env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let api = builder.build().map_err(|error| fail(first_line(&error)))?;
    let info = match api.repo(repo(revision)).info() {
        Ok(info) => info,
        Err(error) => {
            return cached(&repo(revision)).ok_or_else(|| fail(first_line(&error)));
        }
    };

    // By commit, so that a push in between can't mix two versions.
    let pinned = api.repo(repo(&info.sha));
    let present: BTreeSet<&str> =
        info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let get = |file: &str| get(&pinned, file).map_err(&fail);
    for file in WANTED.into_iter().filter(|file| present.contains(file)) {
        get(file)?;
    }
    if present.contains(INDEX) {
        let index = get(INDEX)?;
        for shard in shards_of(&read(&index).map_err(&fail)?).map_err(&fail)? {
            get(&shard)?;
        }
    } else if present.contains(SINGLE) {
        get(SINGLE)?;
    } else {
        return Err(fail(format!("it has no {SINGLE}; other formats are loaded from a file")));
    }

    let folder = cached(&repo(&info.sha)).ok_or_else(|| fail("it has no config.json".into()))?;
    // What the name means now, for a start without a network. Losing that is no reason not to start.
    let _ = Cache::from_env().repo(repo(revision)).create_ref(&info.sha);
    Ok(folder)
}

fn get(repo: &ApiRepo, file: &str) -> Result<PathBuf, String> {
    repo.get(file).map_err(|error| format!("{file}: {}", first_line(&error)))
}

fn read(path: &Path) -> Result<serde_json::Value, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// The folder of a version that is in the cache.
fn cached(repo: &Repo) -> Option<PathBuf> {
    let config = Cache::from_env().repo(repo.clone()).get("config.json")?;
    config.parent().map(PathBuf::from)
}
