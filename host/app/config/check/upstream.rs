//! `[[engine.upstream]]`: the servers that answer, in place of an engine here.

use std::{collections::BTreeSet, time::Duration};

use upstream::{ApiKey, BaseUrl, Config, Upstream};

use super::choose;
use crate::config::{Problems, raw};

/// Four times the sequences that vLLM batches by default (256): more would wait there, out of sight.
const IN_FLIGHT: u64 = 1024;
/// A network of its own answers in milliseconds; over the internet, with TLS, in under a second.
const CONNECT_SECONDS: u64 = 5;
/// As long as the clients of OpenAI wait by default.
const ANSWER_SECONDS: u64 = 600;
/// A server that is busy with long prompts may pause a stream for that long.
const IDLE_SECONDS: u64 = 120;
const CHECK_SECONDS: u64 = 5;
/// It stands in each record.
const NAME_CHARS: usize = 64;

/// None: the engine is here.
pub(super) fn check(raw: &raw::Engine, problems: &mut Problems) -> Option<Config> {
    let kind = raw.kind.as_deref().unwrap_or("local");
    let is_upstream =
        choose("engine.kind", kind, &[("local", false), ("upstream", true)], problems)?;
    if !is_upstream {
        let here = [
            ("engine.upstream", !raw.upstreams.is_empty()),
            ("engine.check_seconds", raw.check_seconds.is_some()),
        ];
        for (key, _) in here.iter().filter(|it| it.1) {
            problems.add(*key, "only upstreams have it: write kind = \"upstream\", or remove it");
        }
        return None;
    }
    only_upstreams(raw, problems);
    if raw.upstreams.is_empty() {
        let message = "missing: write an [[engine.upstream]] with a name and a url for each server";
        problems.add("engine.upstream", message);
    }
    let mut names = BTreeSet::new();
    let upstreams = raw
        .upstreams
        .iter()
        .enumerate()
        .filter_map(|(at, it)| one(&format!("engine.upstream[{at}]"), it, &mut names, problems))
        .collect();
    let check = Duration::from_secs(raw.check_seconds.unwrap_or(CHECK_SECONDS));
    Some(Config { upstreams, check })
}

/// What an engine has and upstreams have not.
fn only_upstreams(raw: &raw::Engine, problems: &mut Problems) {
    let there = [
        ("model", raw.model.is_some()),
        ("name", raw.name.is_some()),
        ("adapters", !raw.adapters.is_empty()),
        ("device", raw.device.is_some()),
        ("dtype", raw.dtype.is_some()),
        ("threads", raw.threads.is_some()),
        ("queue", raw.queue.is_some()),
        ("nvml_library", raw.nvml_library.is_some()),
        ("dequantize", raw.dequantize.is_some()),
        ("max_num_seqs", raw.max_num_seqs.is_some()),
        ("max_num_batched_tokens", raw.max_num_batched_tokens.is_some()),
        ("image_tokens", raw.image_tokens.is_some()),
        ("kv_cache_mib", raw.kv_cache_mib.is_some()),
        ("gpu_memory_utilization", raw.gpu_memory_utilization.is_some()),
        ("prefix_caching", raw.prefix_caching.is_some()),
        ("adapter_fallback", raw.adapter_fallback.is_some()),
    ];
    for (key, _) in there.iter().filter(|it| it.1) {
        let message =
            "with kind = \"upstream\" no model runs here: remove it, or write kind = \"local\"";
        problems.add(format!("engine.{key}"), message);
    }
}

/// What a server with an engine has, and one in front of others has not.
pub(super) fn unused(raw: &raw::Raw, problems: &mut Problems) {
    if raw.engine.kind.as_deref() != Some("upstream") {
        return;
    }
    let server = &raw.server;
    let there = [
        ("server.served_model_names", server.served_model_names.is_some()),
        ("server.runtime_adapters", server.runtime_adapters.is_some()),
        ("server.ignore_unsupported", server.ignore_unsupported.is_some()),
        ("server.base64_embeddings", server.base64_embeddings.is_some()),
        ("server.request_seconds", server.request_seconds.is_some()),
    ];
    for (key, _) in there.iter().filter(|it| it.1) {
        let message = "with kind = \"upstream\" it would do nothing: remove it";
        problems.add(*key, message);
    }
}

fn one<'a>(
    key: &str,
    raw: &'a raw::Upstream,
    names: &mut BTreeSet<&'a str>,
    problems: &mut Problems,
) -> Option<Upstream> {
    let name = raw.name.as_deref();
    match name {
        None => problems.add(format!("{key}.name"), "missing: say what the log calls it"),
        Some(it) if !is_name(it) => {
            let message =
                format!("{it:?} is not a name: write letters, digits, and . _ - between them");
            problems.add(format!("{key}.name"), message);
        }
        Some(it) if !names.insert(it) => {
            problems.add(format!("{key}.name"), format!("{it:?} is the name of another one"));
        }
        Some(_) => {}
    }
    let url = match raw.url.as_deref().map(BaseUrl::parse) {
        Some(Ok(it)) => Some(it),
        Some(Err(error)) => {
            problems.add(format!("{key}.url"), error.to_string());
            None
        }
        None => {
            problems.add(format!("{key}.url"), "missing: write http://HOST:PORT");
            None
        }
    };
    let api_key = raw.api_key.as_deref().filter(|it| !it.is_empty());
    let header = api_key.and_then(ApiKey::new);
    if api_key.is_some() && header.is_none() {
        problems.add(format!("{key}.api_key"), "it cannot be sent in a header");
    }
    if raw.models.as_ref().is_some_and(Vec::is_empty) {
        let message = "it names no model: remove it, to ask for those that the server lists";
        problems.add(format!("{key}.models"), message);
    }
    let seconds = |it: Option<u64>, default| Duration::from_secs(it.unwrap_or(default));
    Some(Upstream {
        name: name?.to_owned(),
        url: url?,
        api_key: header,
        models: raw.models.clone().unwrap_or_default(),
        max_in_flight: usize::try_from(raw.max_in_flight.unwrap_or(IN_FLIGHT))
            .unwrap_or(usize::MAX),
        connect: seconds(raw.connect_seconds, CONNECT_SECONDS),
        answer: seconds(raw.answer_seconds, ANSWER_SECONDS),
        idle: seconds(raw.idle_seconds, IDLE_SECONDS),
    })
}

fn is_name(text: &str) -> bool {
    let is_symbol = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    (1..=NAME_CHARS).contains(&text.len()) && text.bytes().all(is_symbol)
}
