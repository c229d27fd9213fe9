//! The way out: pooled connections to upstreams, checked at dial time; HTTP/2 where a TLS origin chooses it, HTTP/1.1
//! everywhere else.
//!
//! Redirects are never followed. A request is sent once: a connection found dead before the first byte is replaced,
//! anything later is an error.

mod address;
mod dial;
mod http2;
mod pool;
#[cfg(test)]
mod tests;

pub use address::is_public;

use crate::body::{Body, full};
use bytes::Bytes;
use dial::{Dialled, Dialler};
use durward_core::Refusal;
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use http2::{Failed, Outgoing, Place, Sent, Shared};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use pool::{Lease, Leased, Pool};
use rustls::pki_types::CertificateDer;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// AWS closes idle connections after about 20 s; ours go first, so that a request rarely meets a closing one.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// How often a request that was not sent is tried on another connection.
const ATTEMPTS: usize = 3;

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

#[derive(Debug, Clone, thiserror::Error)]
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

pub struct Transport {
    dialler: Dialler,
    pool: Pool,
    shared: Shared,
}

/// Where a request can be sent.
enum Opened {
    Http1(SendRequest<Body>),
    Http2(Place),
}

impl Transport {
    /// `trusted` are the origins that the operator configured: they may be loopback or private.
    pub fn new(trusted: Vec<Origin>) -> Result<Self, String> {
        Ok(Self { dialler: Dialler::new(trusted)?, pool: Pool::default(), shared: Shared::default() })
    }

    /// The certificate of `origin` must come from one of `authorities`, and not from one that the platform knows.
    pub fn trust_only(
        mut self,
        origin: Origin,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, String> {
        self.dialler.trust_only(origin, authorities)?;
        Ok(self)
    }

    /// Sends one request; its URI must be in origin form and its `host` header set.
    pub async fn send(
        &self,
        origin: &Origin,
        request: Request<Body>,
    ) -> Result<Response<Body>, TransportError> {
        let mut sender = match self.pool.idle(origin).await {
            Some(sender) => sender,
            // Boxed, for it is large and rare: every request would carry room for it.
            None => match Box::pin(self.open(origin)).await? {
                Opened::Http1(sender) => sender,
                Opened::Http2(place) => return Box::pin(self.send_http2(origin, place, request)).await,
            },
        };
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                // hyper hands the request back only when no byte of it was written: sending it again is safe.
                Some(unsent) => match Box::pin(self.open(origin)).await? {
                    Opened::Http1(fresh) => {
                        sender = fresh;
                        sender.send_request(unsent).await.map_err(|error| broken(&error))?
                    }
                    Opened::Http2(place) => return Box::pin(self.send_http2(origin, place, unsent)).await,
                },
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

    async fn send_http2(
        &self,
        origin: &Origin,
        mut place: Place,
        request: Request<Body>,
    ) -> Result<Response<Body>, TransportError> {
        let mut outgoing = Outgoing::new(origin, request)?;
        for _attempt in 0..ATTEMPTS {
            outgoing = match outgoing.send(place).await? {
                Sent::Answered(response) => return Ok(response),
                Sent::Unsent(outgoing) => outgoing,
            };
            place = match self.open(origin).await? {
                Opened::Http2(place) => place,
                Opened::Http1(_sender) => {
                    return Err(TransportError::Broken("it went back to HTTP/1.1 meanwhile".to_owned()));
                }
            };
        }
        Err(TransportError::Broken("it closes each connection before a request can be sent".to_owned()))
    }

    /// A place on a shared connection, or a connection of the request's own.
    async fn open(&self, origin: &Origin) -> Result<Opened, TransportError> {
        if !origin.tls {
            return self.dial(origin).await;
        }
        if let Some(place) = self.shared.place(origin) {
            return Ok(Opened::Http2(place));
        }
        let Some(dialling) = self.shared.dialling(origin) else { return self.dial(origin).await };
        let came = Instant::now();
        // Whoever is in front may be gone by now, and the next, and each of them may have dialled for as long as a dial may take.
        let Ok(mut last) = timeout(self.dialler.patience, dialling.lock()).await else {
            return self.dial(origin).await;
        };
        // Whoever dialled before us may have made room for us too, or found that there is nothing to share.
        if let Some(place) = self.shared.place(origin) {
            return Ok(Opened::Http2(place));
        }
        if self.shared.dialling(origin).is_none() {
            drop(last);
            return self.dial(origin).await;
        }
        // What failed while we waited for it would have failed for us.
        if let Some(failed) = last.as_ref().filter(|failed| failed.at >= came) {
            return Err(failed.error.clone());
        }
        let dialled = self.dial(origin).await;
        *last = dialled.as_ref().err().map(|error| Failed { at: Instant::now(), error: error.clone() });
        dialled
    }

    async fn dial(&self, origin: &Origin) -> Result<Opened, TransportError> {
        match self.dialler.dial(origin).await? {
            Dialled::Plain(stream) => connected(stream, origin).await,
            Dialled::Tls(stream) => {
                self.shared.speaks_http1(origin);
                connected(stream, origin).await
            }
            Dialled::TlsHttp2(stream) => self.shared.open(origin, stream).await.map(Opened::Http2),
        }
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

async fn connected<S>(stream: S, origin: &Origin) -> Result<Opened, TransportError>
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
    Ok(Opened::Http1(sender))
}
