//! `[admin]`: the address for those who run the server. Nothing said here repeats the key.

use std::net::SocketAddr;

use super::address;
use crate::config::{Admin, Problems, raw};

const LISTEN: &str = "127.0.0.1:8001";
/// 16 hexadecimal digits are 64 random bits, too many to try over a network.
const KEY_MIN: usize = 16;
/// It comes in a header, which has to fit beside the others.
const KEY_MAX: usize = 256;

/// `server`: the address that requests come to.
pub(super) fn check(raw: raw::Admin, server: SocketAddr, problems: &mut Problems) -> Admin {
    let text = raw.listen.as_deref().unwrap_or(LISTEN);
    let listen = address("admin.listen", text, LISTEN, problems);
    // With port 0 the system chooses two ports.
    if listen == server && listen.port() != 0 {
        problems.add("admin.listen", "server.listen has this address: write another port");
    }
    let key = raw.key.unwrap_or_default();
    if let Some(message) = wrong(&key) {
        problems.add("admin.key", message);
    }
    Admin { listen, key }
}

fn wrong(key: &str) -> Option<String> {
    let what = match key.chars().count() {
        0 => "missing: write one, as in \"${ADMIN_KEY}\"; openssl rand -hex 16 makes it".to_owned(),
        it if it < KEY_MIN => format!(
            "too short to be safe: write at least {KEY_MIN} characters; openssl rand -hex 16 makes them"
        ),
        it if it > KEY_MAX => format!("too long for a header: write at most {KEY_MAX} characters"),
        _ if key.bytes().all(|it| it.is_ascii_graphic()) => return None,
        _ => "it comes in a header: write letters, digits and signs of ASCII, no spaces".to_owned(),
    };
    Some(what)
}
