//! The way out: pooled connections to upstreams, checked at dial time; HTTP/2 where a TLS origin chooses it, HTTP/1.1
//! everywhere else.
//!
//! Redirects are never followed. A request is sent once: a connection found dead before the first byte is replaced,
//! anything later is an error.

mod connector;
mod http1_pool;
mod http2_connections;
mod public_address;
#[cfg(test)]
mod tests;

pub use public_address::is_public_address;

use crate::body::{BoxBody, full_body};
use bytes::Bytes;
use connector::{ConnectedStream, Connector};
use durward_core::{Origin, Refusal};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use http1_pool::{ConnectionLease, Http1Pool, LeasedBody};
use http2_connections::{ConnectFailure, Http2Connections, OutgoingRequest, SendResult, StreamPermit};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// AWS closes idle connections after about 20 s; ours go first, so that a request rarely meets a closing one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a request that was not sent is tried on another connection.
const MAX_SEND_ATTEMPTS: usize = 3;

#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    #[error("the name `{0}` does not resolve")]
    Resolve(String),
    #[error(
        "`{0}` resolves only to addresses that must not be dialled (loopback, link-local, private or metadata)"
    )]
    ForbiddenAddress(String),
    #[error("cannot connect to `{0}`: {1}")]
    Connect(String, String),
    #[error("the upstream broke off: {0}")]
    Interrupted(String),
    /// The request's own body ended in this refusal.
    #[error("{0}")]
    RequestBody(Refusal),
}

pub struct UpstreamClient {
    connector: Connector,
    http1_pool: Http1Pool,
    http2_connections: Http2Connections,
}

/// Where a request can be sent.
enum OpenConnection {
    Http1(SendRequest<BoxBody>),
    Http2(StreamPermit),
}

impl UpstreamClient {
    /// `trusted` are the origins that the operator configured: they may be loopback or private.
    pub fn new(trusted: Vec<Origin>) -> Result<Self, String> {
        Ok(Self {
            connector: Connector::new(trusted)?,
            http1_pool: Http1Pool::default(),
            http2_connections: Http2Connections::default(),
        })
    }

    /// The certificate of `origin` must come from one of `authorities`, and not from one that the platform knows.
    pub fn trust_only_authorities(
        mut self,
        origin: Origin,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, String> {
        self.connector.trust_only_authorities(origin, authorities)?;
        Ok(self)
    }

    /// Sends one request; its URI must be in origin form and its `host` header set.
    pub async fn send(
        &self,
        origin: &Origin,
        request: Request<BoxBody>,
    ) -> Result<Response<BoxBody>, UpstreamError> {
        let mut sender = match self.http1_pool.take_idle(origin).await {
            Some(sender) => sender,
            // Boxed, for it is large and rare: every request would carry room for it.
            None => match Box::pin(self.open_connection(origin)).await? {
                OpenConnection::Http1(sender) => sender,
                OpenConnection::Http2(place) => {
                    return Box::pin(self.send_http2(origin, place, request)).await;
                }
            },
        };
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                // hyper hands the request back only when no byte of it was written: sending it again is safe.
                Some(unsent) => match Box::pin(self.open_connection(origin)).await? {
                    OpenConnection::Http1(fresh) => {
                        sender = fresh;
                        sender.send_request(unsent).await.map_err(|error| send_error(&error))?
                    }
                    OpenConnection::Http2(place) => {
                        return Box::pin(self.send_http2(origin, place, unsent)).await;
                    }
                },
                None => return Err(send_error(&error.into_error())),
            },
        };
        let mut lease =
            ConnectionLease { sender: Some(sender), pool: self.http1_pool.clone(), origin: origin.clone() };
        Ok(response.map(|body| {
            if body.is_end_stream() {
                lease.return_to_pool();
            }
            LeasedBody { body, lease }.boxed_unsync()
        }))
    }

    async fn send_http2(
        &self,
        origin: &Origin,
        mut place: StreamPermit,
        request: Request<BoxBody>,
    ) -> Result<Response<BoxBody>, UpstreamError> {
        let mut outgoing = OutgoingRequest::new(origin, request)?;
        for _attempt in 0..MAX_SEND_ATTEMPTS {
            outgoing = match outgoing.send(place).await? {
                SendResult::Responded(response) => return Ok(response),
                SendResult::Unsent(outgoing) => outgoing,
            };
            place = match self.open_connection(origin).await? {
                OpenConnection::Http2(place) => place,
                OpenConnection::Http1(_sender) => {
                    return Err(UpstreamError::Interrupted("it went back to HTTP/1.1 meanwhile".to_owned()));
                }
            };
        }
        Err(UpstreamError::Interrupted("it closes each connection before a request can be sent".to_owned()))
    }

    /// A place on a shared connection, or a connection of the request's own.
    async fn open_connection(&self, origin: &Origin) -> Result<OpenConnection, UpstreamError> {
        if !origin.uses_tls {
            return self.connect(origin).await;
        }
        if let Some(place) = self.http2_connections.reserve_stream(origin) {
            return Ok(OpenConnection::Http2(place));
        }
        let Some(dialling) = self.http2_connections.connect_lock(origin) else {
            return self.connect(origin).await;
        };
        let came = Instant::now();
        // Whoever is in front may be gone by now, and the next, and each of them may have dialled for as long as a dial may take.
        let Ok(mut last) = timeout(self.connector.connect_timeout, dialling.lock()).await else {
            return self.connect(origin).await;
        };
        // Whoever dialled before us may have made room for us too, or found that there is nothing to share.
        if let Some(place) = self.http2_connections.reserve_stream(origin) {
            return Ok(OpenConnection::Http2(place));
        }
        if self.http2_connections.connect_lock(origin).is_none() {
            drop(last);
            return self.connect(origin).await;
        }
        // What failed while we waited for it would have failed for us.
        if let Some(failed) = last.as_ref().filter(|failed| failed.failed_at >= came) {
            return Err(failed.error.clone());
        }
        let dialled = self.connect(origin).await;
        *last = dialled
            .as_ref()
            .err()
            .map(|error| ConnectFailure { failed_at: Instant::now(), error: error.clone() });
        dialled
    }

    async fn connect(&self, origin: &Origin) -> Result<OpenConnection, UpstreamError> {
        match self.connector.connect(origin).await? {
            ConnectedStream::Plain(stream) => http1_handshake(stream, origin).await,
            ConnectedStream::Tls(stream) => {
                self.http2_connections.mark_http1(origin);
                http1_handshake(stream, origin).await
            }
            ConnectedStream::TlsHttp2(stream) => {
                self.http2_connections.http2_handshake(origin, stream).await.map(OpenConnection::Http2)
            }
        }
    }

    /// A request with a small whole body and answer, for STS, OIDC and the like.
    pub async fn send_buffered(
        &self,
        origin: &Origin,
        request: Request<Bytes>,
        limit: usize,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let response = self.send(origin, request.map(full_body)).await?;
        let (head, body) = response.into_parts();
        let body = crate::body::read_limited_body(body, limit, "answer")
            .await
            .map_err(|refusal| UpstreamError::Interrupted(refusal.to_string()))?;
        Ok(Response::from_parts(head, body))
    }
}

/// What went wrong once a request was on its way: the body of the request, or the upstream.
fn send_error(error: &hyper::Error) -> UpstreamError {
    match std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refusal>()) {
        Some(refusal) => UpstreamError::RequestBody(refusal.clone()),
        None => UpstreamError::Interrupted(error.to_string()),
    }
}

async fn http1_handshake<S>(stream: S, origin: &Origin) -> Result<OpenConnection, UpstreamError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| UpstreamError::Connect(origin.authority(), error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(OpenConnection::Http1(sender))
}
