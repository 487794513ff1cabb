//! Images from where they are: only from hosts that the operator named, and never from an address that is not public,
//! whatever a name resolves to. No redirect is followed and no proxy asked: both would go elsewhere.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ureq::{
    Agent, Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::ImageError;
use crate::Limits;

/// Longer ones name no image.
const URL_BYTES_MAX: usize = 2048;

/// Whether a URL is one that may be fetched, by its text.
pub(super) fn check(url: &str, hosts: &[String]) -> Result<(), ImageError> {
    if hosts.is_empty() || url.len() > URL_BYTES_MAX {
        return Err(ImageError::Remote);
    }
    let uri: Uri = url.parse().map_err(|_| ImageError::Remote)?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_user = uri.authority().is_some_and(|it| it.as_str().contains('@'));
    let host = uri.host().map(str::to_ascii_lowercase);
    match host {
        Some(host) if is_web && !has_user && hosts.contains(&host) => Ok(()),
        Some(_) if is_web => Err(ImageError::OtherHost),
        _ => Err(ImageError::Remote),
    }
}

/// The file. It blocks, for `limits.fetch_time` at most. Errors don't repeat the URL, which may hold a secret.
pub(super) fn fetch(
    url: &str,
    limits: &Limits,
    allows: fn(IpAddr) -> bool,
) -> Result<Vec<u8>, ImageError> {
    check(url, &limits.image_hosts)?;
    let config = Agent::config_builder()
        .timeout_global(Some(limits.fetch_time))
        .max_redirects(0)
        .proxy(None)
        .http_status_as_error(false)
        .build();
    let resolver = Checked { inner: DefaultResolver::default(), allows };
    let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
    let failed = |reason: &str| ImageError::NotFetched(reason.to_owned());
    let mut response = agent.get(url).call().map_err(|error| failed(reason(&error)))?;
    let status = response.status();
    if !status.is_success() {
        return Err(ImageError::NotFetched(format!("its server answered {}", status.as_u16())));
    }
    let limit = limits.image_bytes;
    let mut bytes = Vec::new();
    // One more than allowed, so that what is too large is told from what just fits. The limit of the library is on what comes
    // over the wire, which may be compressed.
    let mut reader = response.body_mut().as_reader().take(limit as u64 + 1);
    match reader.read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > limit => Err(ImageError::TooLarge { bytes: bytes.len(), limit }),
        Ok(_) => Ok(bytes),
        Err(error) => Err(failed(reason(&error.into()))),
    }
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::Timeout(_) => "it took too long",
        Error::HostNotFound => "its host has no public address",
        Error::Tls(_) | Error::Rustls(_) => "its server cannot be trusted",
        _ => "its server does not answer",
    }
}

/// Lets no address through that is not allowed, so that a name in the list cannot come to mean something inside.
struct Checked {
    inner: DefaultResolver,
    allows: fn(IpAddr) -> bool,
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checked")
    }
}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        for address in found.iter().filter(|it| (self.allows)(it.ip())) {
            kept.push(*address);
        }
        if kept.is_empty() { Err(Error::HostNotFound) } else { Ok(kept) }
    }
}

/// Whether an address is one of the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => is_public_v4(it),
        IpAddr::V6(it) => is_public_v6(it),
    }
}

fn is_public_v4(it: Ipv4Addr) -> bool {
    let [a, b, c, _] = it.octets();
    !(it.is_private()
        || it.is_loopback()
        || it.is_link_local()
        || it.is_multicast()
        || it.is_documentation()
        || a == 0
        || a >= 240
        // Shared by carriers, protocols, and benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && matches!(b, 18 | 19)))
}

fn is_public_v6(it: Ipv6Addr) -> bool {
    if let Some(inner) = it.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let first = it.segments()[0];
    // Global unicast, without what is for documents, or leads to an IPv4 address by way of a translator.
    first & 0xe000 == 0x2000
        && first != 0x2002
        && !(first == 0x2001 && matches!(it.segments()[1], 0 | 0x0db8))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    fn code(result: Result<(), ImageError>) -> &'static str {
        result.err().map_or("ok", |it| match it {
            ImageError::Remote => "remote",
            ImageError::OtherHost => "other",
            _ => "else",
        })
    }

    #[test]
    fn only_hosts_of_the_list_are_asked() {
        let hosts = ["images.example.com".to_owned()];
        for (url, expected) in [
            ("https://images.example.com/a.png", "ok"),
            ("http://IMAGES.example.com/a.png?x=1", "ok"),
            ("https://images.example.com:8443/a.png", "ok"),
            ("https://example.com/a.png", "other"),
            ("https://images.example.com.evil.org/", "other"),
            ("https://images.example.com@evil.org/", "other"),
            ("https://user:pass@images.example.com/", "other"),
            ("https://evil.org/#images.example.com", "other"),
            ("https://169.254.169.254/latest/meta-data", "other"),
            ("ftp://images.example.com/a.png", "remote"),
            ("file:///etc/passwd", "remote"),
            ("images.example.com", "remote"),
            ("", "remote"),
        ] {
            assert_eq!(code(check(url, &hosts)), expected, "{url}");
        }
        assert_eq!(code(check("https://images.example.com/a.png", &[])), "remote");
    }

    #[test]
    fn addresses_inside_are_not_public() {
        for (address, expected) in [
            ("93.184.215.14", true),
            ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }

    /// What is fetched from a server that answers this.
    fn fetched(answer: &[u8], allows: fn(IpAddr) -> bool) -> Result<Vec<u8>, ImageError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = answer.to_vec();
        thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&answer);
        });
        let hosts = vec!["localhost".to_owned()];
        let limits = Limits { image_hosts: hosts, image_bytes: 40, ..Limits::default() };
        fetch(&format!("http://localhost:{port}/a.png"), &limits, allows)
    }

    #[test]
    fn what_is_fetched_has_limits() {
        let ok = |body: &str| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let all = |_: IpAddr| true;
        assert_eq!(fetched(&ok("1234"), all).unwrap(), b"1234");
        let check = |answer: &[u8], allows: fn(IpAddr) -> bool, expected: &str| {
            let error = fetched(answer, allows).map(|it| it.len()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&ok(&"x".repeat(41)), all, "over the limit of 40");
        // A thousand letters in 29 bytes.
        let packed = [
            31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 75, 76, 28, 5, 163, 96, 20, 12, 119, 0, 0, 3, 218, 56,
            154, 232, 3, 0, 0,
        ];
        let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 29\r\n\r\n";
        check(&[head.as_bytes(), &packed].concat(), all, "over the limit of 40");
        check(&ok("1234"), is_public, "no public address");
        let elsewhere =
            b"HTTP/1.1 302 Found\r\nlocation: http://localhost/\r\ncontent-length: 0\r\n\r\n";
        check(elsewhere, all, "302");
        check(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", all, "404");
    }
}
