//! Which requests may go out, and to which addresses. Knows names, ports and addresses, and opens nothing.
//!
//! - A host is granted with all of its paths, by name or by address, with or without a port.
//! - Without a port, it is the scheme's own: `https`; and `http` to `localhost` and loopback addresses, where nobody listens in
//!   between. With a port, it is that port, and both schemes: who writes a port knows what is behind it.
//! - A name must not lead to an address inside: whoever answers for it in DNS would choose what the server talks to. An address
//!   that is written as such may be any, and `localhost` is a loopback address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{Uri, uri::Scheme};

/// The grants of one plugin.
#[derive(Debug)]
pub(crate) struct Policy(Vec<Grant>);

#[derive(Debug)]
struct Grant {
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: Option<u16>,
}

impl Policy {
    /// `host` or `host:port` each, as a configuration has them. What is neither grants nothing.
    pub(crate) fn new(hosts: &[String]) -> Self {
        let grant = |text: &String| {
            let text = text.to_ascii_lowercase();
            let bare = text.ends_with(']') || !text.contains(':');
            let (host, port) = match text.rsplit_once(':') {
                Some((host, port)) if !bare => (host.to_owned(), Some(port.parse().ok()?)),
                _ => (text, None),
            };
            Some(Grant { host, port })
        };
        Self(hosts.iter().filter_map(grant).collect())
    }

    /// Whether a request may go to this address of the web.
    pub(crate) fn grants(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return false };
        let secure = *scheme == Scheme::HTTPS;
        if (!secure && *scheme != Scheme::HTTP) || authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host().to_ascii_lowercase();
        let usual = if secure { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(usual);
        self.0.iter().filter(|it| it.host == host).any(|it| match it.port {
            Some(granted) => granted == port,
            None => port == usual && (secure || is_here(&host)),
        })
    }
}

/// Whether a host, granted by this name, may be at this address.
pub(crate) fn may_be_at(host: &str, address: IpAddr) -> bool {
    let address = address.to_canonical();
    match literal(host) {
        Some(it) => it.to_canonical() == address,
        None if host.eq_ignore_ascii_case("localhost") => address.is_loopback(),
        None => !is_inside(address),
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    let v6 = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    v6.unwrap_or(host).parse().ok()
}

fn is_here(host: &str) -> bool {
    host == "localhost" || literal(host).is_some_and(|it| it.to_canonical().is_loopback())
}

/// Addresses that are not on the internet, and those that hold one of them.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => is_inside_v4(it),
        IpAddr::V6(it) => is_inside_v6(it),
    }
}

fn is_inside_v4(it: Ipv4Addr) -> bool {
    let [a, b, c, _] = it.octets();
    it.is_private()
        || it.is_loopback()
        || it.is_link_local()
        || it.is_multicast()
        || it.is_documentation()
        // "This network", and what is reserved for later, broadcast included.
        || a == 0
        || a >= 240
        // Between a provider and its customers; protocol assignments; benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
}

fn is_inside_v6(it: Ipv6Addr) -> bool {
    let parts = it.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match parts {
        // Addresses of IPv4 behind a translator, and in a tunnel.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_inside_v4(v4(high, low)),
        [0x2002, high, low, ..] => is_inside_v4(v4(high, low)),
        // Global unicast is 2000::/3; of that, documentation, Teredo and other special uses are no hosts.
        [first, second, ..] => {
            first & 0xe000 != 0x2000
                || (first == 0x2001 && (second < 0x200 || second == 0xdb8))
                || (first == 0x3fff && second < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_granted_hosts_only() {
        let hosts = [
            "hooks.example.com",
            "Metrics.example.com:8443",
            "127.0.0.1:9000",
            "127.0.0.1",
            "[::1]",
            "localhost",
            "10.0.0.5",
            "nonsense:port",
        ];
        let policy = Policy::new(&hosts.map(str::to_owned));
        let check = |uri: &str, want: bool| {
            let uri: Uri = uri.parse().expect(uri);
            assert_eq!(policy.grants(&uri), want, "{uri}");
        };
        check("https://hooks.example.com", true);
        check("https://hooks.example.com/a/b?c", true);
        check("https://HOOKS.example.com:443/", true);
        check("https://hooks.example.com:444/", false);
        check("http://hooks.example.com/", false);
        check("http://hooks.example.com:443/", false);
        check("https://hooks.example.com./", false);
        check("https://evil.hooks.example.com/", false);
        check("https://hooks.example.com.evil.com/", false);
        check("https://example.com/", false);
        check("https://me@hooks.example.com/", false);
        check("https://hooks.example.com@evil.com/", false);
        check("https://metrics.example.com/", false);
        check("https://metrics.example.com:8443/", true);
        check("http://metrics.example.com:8443/", true);
        check("http://127.0.0.1:9000/", true);
        check("http://127.0.0.1/", true);
        check("http://127.0.0.1:9001/", false);
        check("http://127.0.0.2:9000/", false);
        check("http://2130706433:9000/", false);
        check("http://[::1]/", true);
        check("http://[::1]:80/", true);
        check("http://[::1]:81/", false);
        check("http://localhost/", true);
        check("http://localhost:8080/", false);
        check("https://10.0.0.5/", true);
        check("http://10.0.0.5/", false);
        check("ftp://hooks.example.com/", false);
        check("https://nonsense/", false);
        check("/path", false);
    }

    #[test]
    fn a_name_leads_outside_and_an_address_to_itself() {
        let check = |host: &str, address: &str, want: bool| {
            let address = address.parse().expect(address);
            assert_eq!(may_be_at(host, address), want, "{host} {address}");
        };
        check("example.com", "93.184.215.14", true);
        check("example.com", "2606:2800:21f:cb07::1", true);
        for inside in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
        ] {
            check("example.com", inside, false);
        }
        check("64:ff9b::1", "1.1.1.1", false);
        check("localhost", "127.0.0.1", true);
        check("localhost", "::1", true);
        check("localhost", "10.0.0.1", false);
        check("localhost", "93.184.215.14", false);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("10.0.0.5", "10.0.0.5", true);
        check("10.0.0.5", "::ffff:10.0.0.5", true);
        check("[::1]", "::1", true);
        check("[::1]", "127.0.0.1", false);
    }
}
