//! `[plugins.NAME.grants]`: what of the host a plugin may use. Whether it asks for it is found out when it is loaded.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::{Problems, raw};

/// Longest name and longest label that DNS knows.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

pub(super) fn check(key: &str, raw: raw::Grants, problems: &mut Problems) -> plugin::Grants {
    let mut http = Vec::new();
    for (at, text) in raw.http.iter().flatten().enumerate() {
        match host(text) {
            Ok(it) => http.push(it),
            // The text is not repeated: addresses of webhooks hold secrets.
            Err(what) => problems.add(format!("{key}.http[{at}]"), format!("not a host: {what}")),
        }
    }
    plugin::Grants {
        alert: raw.alert.unwrap_or_default(),
        state: raw.state_kib.map(|it| usize::try_from(it << 10).unwrap_or(usize::MAX)),
        http,
    }
}

/// `host` or `host:port` in lower case, or what is wrong with it.
fn host(text: &str) -> Result<String, &'static str> {
    if text.contains("://") {
        return Err("leave out the scheme, as in \"hooks.example.com\"");
    }
    if text.contains('*') {
        return Err("a wildcard would grant hosts that nobody thought of: name each host");
    }
    if text.contains('@') {
        return Err("leave out the user");
    }
    if text.contains(['/', '?', '#', '\\']) {
        return Err("leave out the path: a host is granted with all of its paths");
    }
    let (name, port) = split(text)?;
    let port = port.map(number).transpose()?;
    if let Some(address) = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        address.parse::<Ipv6Addr>().map_err(|_| "what is in the brackets is no IPv6 address")?;
    } else if name.rsplit('.').next().is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit())) {
        name.parse::<Ipv4Addr>().map_err(|_| "write a name, as in \"hooks.example.com\"")?;
    } else if !name.is_ascii() {
        return Err("write it as DNS has it, in ASCII (xn--…)");
    } else if name.len() > NAME_MAX || !name.split('.').all(is_label) {
        return Err("a name is letters, digits and hyphens, with dots between its parts");
    }
    let name = name.to_ascii_lowercase();
    Ok(port.map_or_else(|| name.clone(), |it| format!("{name}:{it}")))
}

/// The host and the port, which an IPv6 address leaves in doubt unless it has brackets.
fn split(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    const COLONS: &str = "write an IPv6 address in brackets, as in \"[::1]:9000\"";
    if text.starts_with('[') {
        let end = text.find(']').ok_or(COLONS)? + 1;
        let (name, rest) = text.split_at(end);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((name, Some(port))),
            None if rest.is_empty() => Ok((name, None)),
            None => Err(COLONS),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(COLONS),
        Some((name, port)) => Ok((name, Some(port))),
        None => Ok((text, None)),
    }
}

fn number(port: &str) -> Result<u16, &'static str> {
    let digits = port.bytes().all(|it| it.is_ascii_digit());
    let number = port.parse::<u16>().ok().filter(|it| digits && *it > 0);
    number.ok_or("a port is a number from 1 to 65535")
}

/// Underscores are in no host name of the internet, and in many of a container network.
fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_maybe_a_port() {
        let check = |text: &str, want: Result<&str, &str>| match (host(text), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
            (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check("hooks.example.com", Ok("hooks.example.com"));
        check("Hooks.Example.COM:443", Ok("hooks.example.com:443"));
        check("127.0.0.1:9000", Ok("127.0.0.1:9000"));
        check("localhost", Ok("localhost"));
        check("my_service:080", Ok("my_service:80"));
        check("[::1]:9000", Ok("[::1]:9000"));
        check("[2001:DB8::1]", Ok("[2001:db8::1]"));
        check("https://hooks.example.com", Err("scheme"));
        check("hooks.example.com/services", Err("path"));
        check("hooks.example.com?x", Err("path"));
        check("me@hooks.example.com", Err("user"));
        check("*.example.com", Err("wildcard"));
        check("::1", Err("brackets"));
        check("[::1", Err("brackets"));
        check("[::1]x", Err("brackets"));
        check("[nowhere]", Err("IPv6"));
        check("example.com:", Err("port"));
        check("example.com:0", Err("port"));
        check("example.com:+80", Err("port"));
        check("example.com:65536", Err("port"));
        check("", Err("a name"));
        check(":80", Err("a name"));
        check("a..b", Err("a name"));
        check("-a.b", Err("a name"));
        check("a b", Err("a name"));
        check("example.com.", Err("a name"));
        check("300.1.2.3", Err("a name"));
        check("누구.example.com", Err("ASCII"));
        check(&"x".repeat(64), Err("a name"));
        check(&vec!["x".repeat(50); 6].join("."), Err("a name"));
    }
}
