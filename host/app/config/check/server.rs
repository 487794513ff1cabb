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
    Server {
        listen: address("server.listen", listen, LISTEN, problems),
        limits,
        grace: Duration::from_secs(raw.grace_seconds.unwrap_or(GRACE_SECONDS)),
        tenant_header: tenant_header.to_owned(),
    }
}
