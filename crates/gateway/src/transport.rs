//! The way out: pooled HTTP/1.1 connections to upstreams, checked at dial time.
//!
//! Addresses are checked after resolution and the checked address is the one dialled, so a name that resolves to a
//! metadata service, loopback or link-local address is refused whatever the name says. Redirects are never followed.
//! A request is sent once: a connection found dead before the first byte is replaced, anything later is an error.

use crate::body::{Body, BoxError, full};
use bytes::Bytes;
use durward_core::Refusal;
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DIAL_TIME: Duration = Duration::from_secs(10);
/// AWS closes idle connections after about 20 s; ours go first, so that a request rarely meets a closing one.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// Idle connections kept for one origin.
const IDLE_MOST: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl Origin {
    pub fn https(host: &str) -> Self {
        Self { tls: true, host: host.to_owned(), port: 443 }
    }

    /// From an absolute `http` or `https` URL.
    pub fn of(url: &Uri) -> Option<Self> {
        let tls = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { tls, host, port: url.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }

    /// The `Host` header: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("the name `{0}` does not resolve")]
    Resolve(String),
    #[error(
        "`{0}` resolves only to addresses that must not be dialled (loopback, link-local, private or metadata)"
    )]
    Forbidden(String),
    #[error("cannot connect to `{0}`: {1}")]
    Connect(String, String),
    #[error("the upstream broke off: {0}")]
    Broken(String),
    /// The request's own body ended in this refusal.
    #[error("{0}")]
    Upload(Refusal),
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

type Pool = Arc<Mutex<HashMap<Origin, Vec<Idle>>>>;

pub struct Transport {
    tls: tokio_rustls::TlsConnector,
    pool: Pool,
    /// Configured by the operator: may be loopback or private.
    trusted: Vec<Origin>,
}

impl Transport {
    pub fn new(trusted: Vec<Origin>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|error| error.to_string())?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config).into(), pool: Pool::default(), trusted })
    }

    /// Sends one request; its URI must be in origin form and its `host` header set.
    pub async fn send(
        &self,
        origin: &Origin,
        request: Request<Body>,
    ) -> Result<Response<Body>, TransportError> {
        let mut sender = match self.idle(origin).await {
            Some(sender) => sender,
            // Boxed, for it is large and rare: every request would carry room for it.
            None => Box::pin(self.dial(origin)).await?,
        };
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                // hyper hands the request back only when no byte of it was written: sending it again is safe.
                Some(unsent) => {
                    sender = Box::pin(self.dial(origin)).await?;
                    sender.send_request(unsent).await.map_err(|error| broken(&error))?
                }
                None => return Err(broken(&error.into_error())),
            },
        };
        let mut lease = Lease { sender: Some(sender), pool: self.pool.clone(), origin: origin.clone() };
        Ok(response.map(|body| {
            if body.is_end_stream() {
                lease.give_back();
            }
            Leased { body, lease }.boxed_unsync()
        }))
    }

    async fn idle(&self, origin: &Origin) -> Option<SendRequest<Body>> {
        loop {
            let idle = self.pool.lock().unwrap_or_else(PoisonError::into_inner).get_mut(origin)?.pop()?;
            let mut sender = idle.sender;
            if idle.since.elapsed() < IDLE_TIME && !sender.is_closed() && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn dial(&self, origin: &Origin) -> Result<SendRequest<Body>, TransportError> {
        let named = || origin.authority();
        let refused =
            |error: &dyn std::fmt::Display| TransportError::Connect(origin.authority(), error.to_string());
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((origin.host.as_str(), origin.port))
            .await
            .map_err(|_error| TransportError::Resolve(named()))?
            .collect();
        let trusted = self.trusted.contains(origin);
        let allowed: Vec<SocketAddr> =
            addresses.into_iter().filter(|address| trusted || is_public(address.ip())).collect();
        if allowed.is_empty() {
            return Err(TransportError::Forbidden(named()));
        }
        let stream = timeout(DIAL_TIME, TcpStream::connect(allowed.as_slice()))
            .await
            .map_err(|elapsed| refused(&elapsed))?
            .map_err(|error| refused(&error))?;
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        if !origin.tls {
            return connected(stream, origin).await;
        }
        let name =
            rustls::pki_types::ServerName::try_from(origin.host.clone()).map_err(|error| refused(&error))?;
        let stream = timeout(DIAL_TIME, self.tls.connect(name, stream))
            .await
            .map_err(|elapsed| refused(&elapsed))?
            .map_err(|error| refused(&error))?;
        connected(stream, origin).await
    }

    /// A request with a small whole body and answer, for STS, OIDC and the like.
    pub async fn call(
        &self,
        origin: &Origin,
        request: Request<Bytes>,
        limit: usize,
    ) -> Result<Response<Bytes>, TransportError> {
        let response = self.send(origin, request.map(full)).await?;
        let (head, body) = response.into_parts();
        let body = crate::body::read_whole(body, limit, "answer")
            .await
            .map_err(|refusal| TransportError::Broken(refusal.to_string()))?;
        Ok(Response::from_parts(head, body))
    }
}

/// What went wrong once a request was on its way: the body of the request, or the upstream.
fn broken(error: &hyper::Error) -> TransportError {
    match std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refusal>()) {
        Some(refusal) => TransportError::Upload(refusal.clone()),
        None => TransportError::Broken(error.to_string()),
    }
}

async fn connected<S>(stream: S, origin: &Origin) -> Result<SendRequest<Body>, TransportError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| TransportError::Connect(origin.authority(), error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// Gives the connection back when the answer has been read to its end; an answer left halfway closes it.
struct Lease {
    sender: Option<SendRequest<Body>>,
    pool: Pool,
    origin: Origin,
}

impl Lease {
    fn give_back(&mut self) {
        if let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed()) {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = pool.entry(self.origin.clone()).or_default();
            if idle.len() < IDLE_MOST {
                idle.push(Idle { sender, since: Instant::now() });
            }
        }
    }
}

struct Leased {
    body: Incoming,
    lease: Lease,
}

impl http_body::Body for Leased {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // Whoever reads a body of known length does not ask again after its last piece.
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.lease.give_back();
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.lease.sender.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// Whether an address is one that AWS or an identity provider on the internet can have.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(v6) => {
            let mapped = v6.to_ipv4_mapped().or_else(|| match v6.segments() {
                // NAT64 (RFC 6052), local NAT64 (RFC 8215), 6to4 (RFC 3056) and IPv4-compatible forms carry an IPv4 address.
                [0x64, 0xff9b, .., high, low] | [0, 0, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                    let [a, b] = high.to_be_bytes();
                    let [c, d] = low.to_be_bytes();
                    Some(std::net::Ipv4Addr::new(a, b, c, d))
                }
                _ => None,
            });
            if let Some(v4) = mapped {
                return is_public(IpAddr::V4(v4));
            }
            // 2000::/3 is what is routed on the internet.
            v6.segments()[0] & 0xe000 == 0x2000
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_dials_metadata_loopback_or_private_addresses_in_any_form() {
        for text in [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "ff02::1",
            "fc00::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["52.94.236.248", "2600:1f18::1", "64:ff9b::52.94.236.248"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn an_untrusted_name_that_resolves_to_loopback_is_refused_and_a_trusted_one_is_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin =
            Origin { tls: false, host: "localhost".to_owned(), port: listener.local_addr().unwrap().port() };
        let strict = Transport::new(Vec::new()).unwrap();
        assert!(matches!(strict.dial(&origin).await, Err(TransportError::Forbidden(_))));
        let trusting = Transport::new(vec![origin.clone()]).unwrap();
        assert!(trusting.dial(&origin).await.is_ok());
    }
}
