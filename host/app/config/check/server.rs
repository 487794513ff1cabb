//! `[server]`: the address and the limits of requests.

use std::time::Duration;

use axum::http::HeaderName;

use super::{address, mebibytes};
use crate::config::{Problems, Server, raw};

const LISTEN: &str = "127.0.0.1:8000";
const GRACE_SECONDS: u64 = 30;
const TENANT_HEADER: &str = "x-tenant";

pub(super) fn check(raw: &raw::Server, problems: &mut Problems) -> Server {
    let mut limits = server::Limits::default();
    if let Some(it) = raw.body_mib {
        limits.body_bytes = mebibytes(it);
    }
    if let Some(it) = raw.images {
        limits.images = usize::try_from(it).unwrap_or(usize::MAX);
    }
    if let Some(it) = raw.image_megapixels {
        limits.image_pixels = it * 1_000_000;
    }
    let listen = raw.listen.as_deref().unwrap_or(LISTEN);
    let tenant_header = raw.tenant_header.as_deref().unwrap_or(TENANT_HEADER);
    if HeaderName::from_lowercase(tenant_header.as_bytes()).is_err() {
        let message = format!(
            "{tenant_header:?} is not the name of a header in lower case: write one, as in {TENANT_HEADER:?}"
        );
        problems.add("server.tenant_header", message);
    }
    limits.image_hosts = hosts(raw, problems);
    if let Some(seconds) = raw.request_seconds {
        limits.request_time = (seconds > 0).then(|| Duration::from_secs(seconds));
    }
    if let Some(seconds) = raw.receive_seconds {
        limits.head_time = Duration::from_secs(seconds);
        limits.body_time = limits.head_time;
    }
    let listen = address("server.listen", listen, LISTEN, problems);
    let is_open = raw.api_keys.as_ref().is_none_or(Vec::is_empty) && !listen.ip().is_loopback();
    if raw.runtime_adapters == Some(true) && is_open {
        let message = "anybody could have folders of this machine read: add server.api_keys, or listen on 127.0.0.1";
        problems.add("server.runtime_adapters", message);
    }
    Server {
        served_model_names: names(raw, problems),
        api_keys: keys(raw, problems),
        runtime_adapters: raw.runtime_adapters.unwrap_or(false),
        ignore_unsupported: raw.ignore_unsupported.unwrap_or(false),
        base64_embeddings: raw.base64_embeddings.unwrap_or(true),
        listen,
        limits,
        grace: Duration::from_secs(raw.grace_seconds.unwrap_or(GRACE_SECONDS)),
        tenant_header: tenant_header.to_owned(),
    }
}

fn names(raw: &raw::Server, problems: &mut Problems) -> Vec<String> {
    let names = raw.served_model_names.clone().unwrap_or_default();
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            let key = format!("server.served_model_names[{at}]");
            problems.add(key, "empty: write a name, or \"*\" for every name");
        }
    }
    names
}

/// Nothing said here repeats a key.
fn keys(raw: &raw::Server, problems: &mut Problems) -> Vec<server::Key> {
    let texts = raw.api_keys.iter().flatten().enumerate();
    let keys = texts.filter_map(|(at, text)| {
        let key = server::Key::new(text);
        if key.is_none() {
            let message = "not fit for a key: write at least 16 letters, digits and signs of ASCII, \
                           as in \"${API_KEY}\"; openssl rand -hex 16 makes them";
            problems.add(format!("server.api_keys[{at}]"), message);
        }
        key
    });
    keys.collect()
}

/// Names of hosts as a URL has them: no scheme, no port, no path.
fn hosts(raw: &raw::Server, problems: &mut Problems) -> Vec<String> {
    let is_host = |it: &str| {
        !it.is_empty()
            && it.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-'))
            && it.parse::<std::net::IpAddr>().is_err()
    };
    let hosts = raw.image_hosts.clone().unwrap_or_default();
    for (at, host) in hosts.iter().enumerate() {
        if !is_host(host) {
            let message = format!(
                "{host:?} is not the name of a host: write one, as in \"images.example.com\""
            );
            problems.add(format!("server.image_hosts[{at}]"), message);
        }
    }
    hosts.iter().map(|it| it.to_ascii_lowercase()).collect()
}
