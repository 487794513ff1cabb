//! Making a guest's request: admitted, bounded in size and time, sent without following redirects, answered whole.

use std::{
    io::ErrorKind,
    io::Read as _,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use ureq::unversioned::{
    resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
    transport::{DefaultConnector, NextTimeout},
};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{
    Denials, Outbound,
    limiter::{Exceeded, Permit},
    policy,
};

/// More than any alert or batch of a few records takes.
const REQUEST_BODY_MAX: usize = 256 << 10;
/// A plugin wants to know whether it went well, and perhaps a small answer.
const RESPONSE_BODY_MAX: u64 = 1 << 20;
/// Names and values together, in either direction.
const HEADERS_MAX: usize = 16 << 10;
/// From the first call to the last byte of the answer.
const TIME_MAX: Duration = Duration::from_secs(5);

type Answer =
    Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

/// What the library asks the host.
pub(super) struct Hooks {
    /// None while the guest is set up, or tried.
    pub(super) outbound: Option<Outbound>,
    /// When the entry that the guest is in has to end.
    pub(super) deadline: Instant,
    denials: Denials,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.word())]
enum Denial {
    Host,
    Address,
    Rate,
    InFlight,
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    Timeout,
    /// The guest did not end its request.
    Unfinished,
    NoName,
    Refused,
    Tls,
    Protocol,
}

impl Denial {
    /// For metrics and records. What the other side did wrong is one word: it says nothing of the plugin.
    fn word(self) -> &'static str {
        match self {
            Self::Host => "http_host",
            Self::Address => "http_address",
            Self::Rate => "http_rate",
            Self::InFlight => "http_in_flight",
            Self::RequestHeaders => "http_request_headers",
            Self::RequestBody => "http_request_body",
            Self::ResponseHeaders => "http_response_headers",
            Self::ResponseBody => "http_response_body",
            Self::Timeout => "http_timeout",
            Self::Unfinished | Self::NoName | Self::Refused | Self::Tls | Self::Protocol => {
                "http_failed"
            }
        }
    }
}

impl From<Denial> for Error {
    fn from(it: Denial) -> Self {
        match it {
            Denial::Host => Self::HttpRequestDenied,
            Denial::Address => Self::DestinationIpProhibited,
            Denial::Rate | Denial::InFlight => Self::ConnectionLimitReached,
            Denial::RequestHeaders => Self::HttpRequestHeaderSectionSize(None),
            Denial::RequestBody => Self::HttpRequestBodySize(Some(REQUEST_BODY_MAX as u64)),
            Denial::ResponseHeaders => Self::HttpResponseHeaderSectionSize(None),
            Denial::ResponseBody => Self::HttpResponseBodySize(Some(RESPONSE_BODY_MAX)),
            Denial::Timeout => Self::ConnectionTimeout,
            Denial::NoName => Self::DnsError { rcode: None, info_code: None },
            Denial::Refused => Self::ConnectionRefused,
            Denial::Tls => Self::TlsProtocolError,
            Denial::Unfinished | Denial::Protocol => Self::HttpProtocolError,
        }
    }
}

impl From<Exceeded> for Denial {
    fn from(it: Exceeded) -> Self {
        match it {
            Exceeded::Rate => Self::Rate,
            Exceeded::InFlight => Self::InFlight,
        }
    }
}

impl From<ureq::Error> for Denial {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Timeout,
            ureq::Error::BodyExceedsLimit(_) => Self::ResponseBody,
            ureq::Error::LargeResponseHeader(..) => Self::ResponseHeaders,
            ureq::Error::HostNotFound => Self::NoName,
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => Self::Tls,
            ureq::Error::Other(it) => it.downcast_ref::<Self>().copied().unwrap_or(Self::Protocol),
            ureq::Error::ConnectionFailed => Self::Refused,
            ureq::Error::Io(it) => match it.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Timeout,
                ErrorKind::ConnectionRefused => Self::Refused,
                _ => Self::Protocol,
            },
            _ => Self::Protocol,
        }
    }
}

impl Hooks {
    pub(super) fn new(denials: Denials) -> Self {
        Self { outbound: None, deadline: Instant::now(), denials }
    }

    /// Whether a request with this head may be made now, and until when.
    fn admit(&self, request: &Request<WasiBody>) -> Result<(Permit, Sender), Denial> {
        let outbound = self.outbound.as_ref().ok_or(Denial::Host)?;
        if !outbound.policy.grants(request.uri()) {
            return Err(Denial::Host);
        }
        let path = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
        if size(request.headers()) + path > HEADERS_MAX {
            return Err(Denial::RequestHeaders);
        }
        let now = Instant::now();
        let permit = outbound.limiter.take(now)?;
        Ok((permit, Sender { deadline: self.deadline.min(now + TIME_MAX) }))
    }
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let admitted = self.admit(&request);
        let denials = self.denials.clone();
        Box::new(async move {
            let answer = match admitted {
                Ok((permit, sender)) => sender.send(request, options, permit).await,
                Err(it) => Err(it),
            };
            let response = answer.inspect_err(|it| denials.count(it.word()))?;
            Ok((response, Box::new(async { Ok(()) }) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

/// One admitted request.
#[derive(Clone, Copy)]
struct Sender {
    deadline: Instant,
}

impl Sender {
    async fn send(
        self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        permit: Permit,
    ) -> Result<Response<WasiBody>, Denial> {
        let (mut head, body) = request.into_parts();
        // The guest may still be writing it.
        let whole = Limited::new(body, REQUEST_BODY_MAX).collect();
        let body = tokio::time::timeout_at(self.deadline.into(), whole)
            .await
            .map_err(|_| Denial::Timeout)?
            .map_err(|it| match it.is::<http_body_util::LengthLimitError>() {
                true => Denial::RequestBody,
                false => Denial::Unfinished,
            })?
            .to_bytes();
        // Both follow from the request, and the client writes them.
        head.headers.remove(header::HOST);
        head.headers.remove(header::CONTENT_LENGTH);
        // The thread goes on to the deadline when the guest has given up, and so long its request is under way.
        let sent = tokio::task::spawn_blocking(move || {
            let answer = self.exchange(Request::from_parts(head, ()), &body, options);
            drop(permit);
            answer
        });
        let response = sent.await.map_err(|_| Denial::Protocol)??;
        Ok(response.map(|it| Full::new(it).map_err(|it| match it {}).boxed_unsync()))
    }

    /// Sends, and reads the whole answer.
    fn exchange(
        self,
        head: Request<()>,
        body: &[u8],
        options: Option<RequestOptions>,
    ) -> Result<Response<Bytes>, Denial> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Denial::Timeout);
        }
        let options = options.unwrap_or_default();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(left))
            .timeout_connect(options.connect_timeout)
            .timeout_recv_response(options.first_byte_timeout)
            .timeout_per_read(options.between_bytes_timeout)
            // Where it leads is not granted, and the guest may ask for it itself.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(HEADERS_MAX)
            .allow_non_standard_methods(true)
            // The environment is the server's.
            .proxy(None)
            .user_agent("bucksaw")
            // Every request is checked against the address that it goes to.
            .max_idle_connections(0)
            .build();
        let agent = ureq::Agent::with_parts(
            config,
            DefaultConnector::default(),
            Checked(DefaultResolver::default()),
        );
        let answer = match body {
            [] => agent.run(head),
            _ => agent.run(head.map(|()| body)),
        };
        let (head, mut body) = answer?.into_parts();
        if size(&head.headers) > HEADERS_MAX {
            return Err(Denial::ResponseHeaders);
        }
        let mut bytes = Vec::new();
        // The limit of the library is on what comes over the wire, which may be compressed.
        let mut reader = body.as_reader().take(RESPONSE_BODY_MAX + 1);
        reader.read_to_end(&mut bytes).map_err(ureq::Error::from)?;
        if bytes.len() as u64 > RESPONSE_BODY_MAX {
            return Err(Denial::ResponseBody);
        }
        Ok(Response::from_parts(head, Bytes::from(bytes)))
    }
}

fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Finds the addresses of a host, and leaves out those that it may not be at. What is left is what is connected to.
#[derive(Debug)]
struct Checked<R>(R);

impl<R: Resolver> Resolver for Checked<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        for address in found.iter() {
            if policy::may_be_at(uri.host().unwrap_or_default(), address.ip()) {
                kept.push(*address);
            }
        }
        if kept.is_empty() {
            return Err(ureq::Error::Other(Box::new(Denial::Address)));
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// What every name leads to, whoever asks.
    #[derive(Debug)]
    struct Rebound(SocketAddr);

    impl Resolver for Rebound {
        fn resolve(
            &self,
            _: &Uri,
            _: &ureq::config::Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            found.push(self.0);
            Ok(found)
        }
    }

    #[test]
    fn a_name_that_leads_inside_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        listener.set_nonblocking(true).expect("a socket that does not wait");
        let address = listener.local_addr().expect("an address");
        let check = |host: &str, want: Denial, connects: bool| {
            let config = ureq::Agent::config_builder()
                .timeout_global(Some(Duration::from_millis(100)))
                .build();
            let resolver = Checked(Rebound(address));
            let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
            let error = agent.get(format!("http://{host}:{}/", address.port())).call().map(drop);
            assert_eq!(error.map_err(Denial::from), Err(want), "{host}");
            assert_eq!(listener.accept().is_ok(), connects, "{host}");
        };
        check("hooks.example.com", Denial::Address, false);
        check("10.0.0.1", Denial::Address, false);
        check("127.0.0.2", Denial::Address, false);
        // The same address under a name that may be there: nobody answers, but somebody knocked.
        check("localhost", Denial::Timeout, true);
        check("127.0.0.1", Denial::Timeout, true);
    }
}
