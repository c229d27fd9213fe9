//! The client for upstreams: pooled connections whose addresses are checked when they are opened; HTTP/2 where a TLS origin
//! selects it, HTTP/1.1 everywhere else.
//!
//! Redirects are never followed: a redirect could take a signed request or a credential to another host. A request is sent once:
//! a connection that is found dead before the first byte is replaced, and any later failure is an error.

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
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// AWS endpoints close idle connections after about 20 s. Ours are closed earlier, so that a request rarely meets a closing one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The most that is read at once of an HTTP/1.1 response, and the largest head of one. hyper's own 408 KiB make a client that does not
/// read its response cost more than a megabyte.
const MAX_READ_BUFFER_BYTES: usize = 128 << 10;
/// The number of connections that are tried for a request of which nothing was sent.
const MAX_SEND_ATTEMPTS: usize = 3;

#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    #[error("the name `{0}` does not resolve")]
    Resolve(String),
    #[error(
        "`{0}` resolves only to addresses that are not allowed (loopback, link-local, private or metadata); \
         an MCP server in a private network needs `allow_private_address = true`"
    )]
    ForbiddenAddress(String),
    #[error("cannot connect to `{0}`: {1}")]
    Connect(String, String),
    #[error("the upstream closed the connection early: {0}")]
    Interrupted(String),
    /// The body of the request ended in this refusal.
    #[error("{0}")]
    RequestBody(Refusal),
}

/// There is no client: TLS cannot be set up on this machine, or an authority's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct UpstreamSetupError(#[from] rustls::Error);

pub struct UpstreamClient {
    connector: Connector,
    http1_pool: Http1Pool,
    http2_connections: Http2Connections,
}

/// A connection that takes one request.
enum OpenConnection {
    Http1(SendRequest<BoxBody>),
    Http2(StreamPermit),
}

impl UpstreamClient {
    /// `trusted_origins` were configured by the operator: they may resolve to loopback or private addresses, and none that is a
    /// name to a metadata service.
    pub fn new(trusted_origins: Vec<Origin>) -> Result<Self, UpstreamSetupError> {
        Ok(Self {
            connector: Connector::new(trusted_origins)?,
            http1_pool: Http1Pool::default(),
            http2_connections: Http2Connections::default(),
        })
    }

    /// Accepts a certificate of `origin` only from one of `authorities`, and not from those that the platform trusts.
    pub fn trust_only_authorities(
        mut self,
        origin: Origin,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, UpstreamSetupError> {
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
            // Boxed: it is large and rare, and every request would reserve memory for it.
            None => match Box::pin(self.open_connection(origin)).await? {
                OpenConnection::Http1(sender) => sender,
                OpenConnection::Http2(permit) => {
                    return Box::pin(self.send_http2(origin, permit, request)).await;
                }
            },
        };
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                // hyper returns the request only if no byte of it was written, so sending it again executes nothing twice.
                Some(unsent) => match Box::pin(self.open_connection(origin)).await? {
                    OpenConnection::Http1(fresh) => {
                        sender = fresh;
                        sender.send_request(unsent).await.map_err(|error| send_error(&error))?
                    }
                    OpenConnection::Http2(permit) => {
                        return Box::pin(self.send_http2(origin, permit, unsent)).await;
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
        mut permit: StreamPermit,
        request: Request<BoxBody>,
    ) -> Result<Response<BoxBody>, UpstreamError> {
        let mut outgoing = OutgoingRequest::new(origin, request)?;
        for _attempt in 0..MAX_SEND_ATTEMPTS {
            outgoing = match outgoing.send(permit).await? {
                SendResult::Responded(response) => return Ok(response),
                SendResult::Unsent(outgoing) => outgoing,
            };
            permit = match self.open_connection(origin).await? {
                OpenConnection::Http2(permit) => permit,
                OpenConnection::Http1(_sender) => {
                    return Err(UpstreamError::Interrupted("it no longer selects HTTP/2".to_owned()));
                }
            };
        }
        Err(UpstreamError::Interrupted("it closes every connection before a request can be sent".to_owned()))
    }

    /// A stream on a shared connection, or a new connection. Requests that would share a connection open one at a time: after a
    /// start or a GOAWAY, all waiting requests would otherwise connect at once.
    async fn open_connection(&self, origin: &Origin) -> Result<OpenConnection, UpstreamError> {
        if !origin.uses_tls {
            return self.connect(origin).await;
        }
        if let Some(permit) = self.http2_connections.reserve_stream(origin) {
            return Ok(OpenConnection::Http2(permit));
        }
        let Some(connect_lock) = self.http2_connections.connect_lock(origin) else {
            return self.connect(origin).await;
        };
        let waiting_since = Instant::now();
        // The requests ahead may each take the whole connect timeout. None waits for more than one.
        let Ok(mut last_failure) = timeout(self.connector.connect_timeout, connect_lock.lock()).await else {
            return self.connect(origin).await;
        };
        // A connection opened in the meantime may have a free stream, or the origin may have selected HTTP/1.1, which is not
        // shared.
        if let Some(permit) = self.http2_connections.reserve_stream(origin) {
            return Ok(OpenConnection::Http2(permit));
        }
        if self.http2_connections.connect_lock(origin).is_none() {
            drop(last_failure);
            return self.connect(origin).await;
        }
        // An attempt that failed during the wait would have failed for this request, too.
        if let Some(failure) = last_failure.as_ref().filter(|failure| failure.failed_at >= waiting_since) {
            return Err(failure.error.clone());
        }
        let connected = self.connect(origin).await;
        *last_failure = connected
            .as_ref()
            .err()
            .map(|error| ConnectFailure { failed_at: Instant::now(), error: error.clone() });
        connected
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

    /// Sends a request with a small body and reads its response whole, for STS, OIDC and the like.
    pub async fn send_buffered(
        &self,
        origin: &Origin,
        request: Request<Bytes>,
        limit: usize,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let response = self.send(origin, request.map(full_body)).await?;
        let (head, body) = response.into_parts();
        let body = crate::body::read_limited_body(body, limit, "response")
            .await
            .map_err(|refusal| UpstreamError::Interrupted(refusal.to_string()))?;
        Ok(Response::from_parts(head, body))
    }
}

/// A failure after sending began: the body of the request failed, or the upstream did.
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
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_READ_BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| UpstreamError::Connect(origin.authority(), error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(OpenConnection::Http1(sender))
}
