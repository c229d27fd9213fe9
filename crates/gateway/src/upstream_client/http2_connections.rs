//! HTTP/2 connections. Each is shared by as many requests as its peer accepts at once, and replaced when it is closing.
//!
//! A response that is not read blocks its own stream and no other: the flow-control window of a connection is as large as the
//! windows of all its streams (RFC 9113 section 5.2). A request is sent again only if hyper returns it, which means that none of
//! it was sent.

use super::{IDLE_TIMEOUT, UpstreamError, send_error};
use crate::body::{BoxBody, BoxError};
use bytes::Bytes;
use durward_core::Origin;
use durward_core::Refusal;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// Most requests on one connection, even if the peer accepts more.
const MAX_STREAMS_PER_CONNECTION: u32 = 100;
/// The part of one response that may arrive before it is read: the memory that a stalled reader can occupy.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
/// The part of a request's body that may wait for the peer to read it.
const MAX_SEND_BUFFER_BYTES: usize = 256 << 10;
/// Largest head of a response.
const MAX_RESPONSE_HEAD_BYTES: u32 = 64 << 10;
/// The interval at which a peer is pinged while a request waits for its response.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The connections to every origin, and the protocol that each origin is known to select.
#[derive(Default)]
pub(super) struct Http2Connections(Mutex<HashMap<Origin, Http2Peer>>);

struct Http2Peer {
    connections: Vec<Http2Connection>,
    /// The number of requests that a connection may carry, by the peer's latest SETTINGS.
    max_streams: Arc<AtomicUsize>,
    /// The origin selected HTTP/1.1 on the last connection: there is nothing to share, so requests need not wait for each other.
    is_http1: bool,
    connect_lock: ConnectLock,
}

/// Held while a connection is opened that waiting requests can share. If it fails, they share the error.
pub(super) type ConnectLock = Arc<tokio::sync::Mutex<Option<ConnectFailure>>>;

/// The last connection attempt that failed.
pub(super) struct ConnectFailure {
    pub failed_at: Instant,
    pub error: UpstreamError,
}

impl Default for Http2Peer {
    fn default() -> Self {
        Self {
            connections: Vec::new(),
            max_streams: Arc::new(AtomicUsize::new(MAX_STREAMS_PER_CONNECTION as usize)),
            is_http1: false,
            connect_lock: Arc::default(),
        }
    }
}

struct Http2Connection {
    sender: SendRequest<BoxBody>,
    load: Arc<ConnectionLoad>,
    /// When a request last reserved a stream.
    last_used: Instant,
}

#[derive(Default)]
struct ConnectionLoad {
    /// The number of requests that the connection carries.
    active_streams: AtomicUsize,
    /// The peer's limit comes with its SETTINGS, which precede its first response: that is when the limit is read.
    has_responded: AtomicBool,
    limit_check: tokio::sync::Notify,
}

/// A request's stream on a connection, released when it is dropped.
pub(super) struct StreamPermit {
    sender: SendRequest<BoxBody>,
    load: Arc<ConnectionLoad>,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.load.active_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Http2Connection {
    fn is_usable(&self) -> bool {
        let is_idle = self.load.active_streams.load(Ordering::Relaxed) == 0;
        !(self.sender.is_closed() || is_idle && self.last_used.elapsed() >= IDLE_TIMEOUT)
    }

    fn reserve_stream(&mut self) -> StreamPermit {
        // Relaxed ordering is enough: the count limits requests, and no other memory depends on it.
        self.load.active_streams.fetch_add(1, Ordering::Relaxed);
        self.last_used = Instant::now();
        StreamPermit { sender: self.sender.clone(), load: self.load.clone() }
    }
}

impl Http2Connections {
    fn with_peer<T>(&self, origin: &Origin, work: impl FnOnce(&mut Http2Peer) -> T) -> T {
        let mut peers = durward_core::lock_ignoring_poison(&self.0);
        match peers.get_mut(origin) {
            Some(peer) => work(peer),
            None => work(peers.entry(origin.clone()).or_default()),
        }
    }

    /// Reserves a stream on a connection that has a free one.
    pub fn reserve_stream(&self, origin: &Origin) -> Option<StreamPermit> {
        self.with_peer(origin, |peer| {
            peer.connections.retain(Http2Connection::is_usable);
            let limit = peer.max_streams.load(Ordering::Relaxed);
            let has_free_stream = |connection: &&mut Http2Connection| {
                connection.load.active_streams.load(Ordering::Relaxed) < limit
            };
            peer.connections.iter_mut().find(has_free_stream).map(Http2Connection::reserve_stream)
        })
    }

    /// The lock to hold while a connection is opened; `None` if the origin is known to select HTTP/1.1.
    pub fn connect_lock(&self, origin: &Origin) -> Option<ConnectLock> {
        self.with_peer(origin, |peer| (!peer.is_http1).then(|| peer.connect_lock.clone()))
    }

    pub fn mark_http1(&self, origin: &Origin) {
        self.with_peer(origin, |peer| peer.is_http1 = true);
    }

    /// Starts HTTP/2 on a new connection and reserves its first stream.
    pub async fn http2_handshake<S>(&self, origin: &Origin, stream: S) -> Result<StreamPermit, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, mut connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES * MAX_STREAMS_PER_CONNECTION)
            // Until the peer has sent its limit: it refuses streams beyond it (RFC 9113 section 5.1.2).
            .initial_max_send_streams(1)
            .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
            .max_header_list_size(MAX_RESPONSE_HEAD_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| UpstreamError::Connect(origin.authority(), error.to_string()))?;
        let load = Arc::new(ConnectionLoad::default());
        let driver_load = load.clone();
        let limit = self.with_peer(origin, |peer| peer.max_streams.clone());
        tokio::spawn(async move {
            let ended = loop {
                tokio::select! {
                    ended = &mut connection => break ended,
                    () = driver_load.limit_check.notified() => {}
                }
                let max_streams =
                    connection.current_max_send_streams().min(MAX_STREAMS_PER_CONNECTION as usize);
                limit.store(max_streams, Ordering::Relaxed);
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream HTTP/2 connection ended");
            }
        });
        let mut connection = Http2Connection { sender, load, last_used: Instant::now() };
        let permit = connection.reserve_stream();
        self.with_peer(origin, |peer| {
            peer.is_http1 = false;
            peer.connections.push(connection);
        });
        Ok(permit)
    }
}

/// A request in HTTP/2 form, whose body remembers the refusal that ended it.
pub(super) struct OutgoingRequest {
    request: Request<BoxBody>,
    body_refusal: Arc<OnceLock<Refusal>>,
}

/// The result of sending a request on one connection.
pub(super) enum SendResult {
    Responded(Response<BoxBody>),
    /// The connection was closing: none of it was sent.
    Unsent(OutgoingRequest),
}

impl OutgoingRequest {
    /// Converts origin form and `host` to `:scheme`, `:authority` and `:path`. hyper drops the headers that HTTP/2 forbids (RFC
    /// 9113 section 8.2.2).
    pub fn new(origin: &Origin, request: Request<BoxBody>) -> Result<Self, UpstreamError> {
        let invalid =
            |what: &str| UpstreamError::Interrupted(format!("the request's {what} cannot be written"));
        let (mut head, body) = request.into_parts();
        // The signature covers `host`, so exactly that value is sent.
        let authority = match head.headers.remove(header::HOST) {
            Some(host) => Authority::try_from(host.as_bytes()),
            None => Authority::try_from(origin.authority()),
        };
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = Some(authority.map_err(|_error| invalid("host"))?);
        head.uri = Uri::from_parts(uri).map_err(|_error| invalid("target"))?;
        head.version = Version::HTTP_2;
        let refusal = Arc::new(OnceLock::new());
        let body = if body.is_end_stream() {
            body
        } else {
            RefusalCapturingBody { body, refusal: refusal.clone() }.boxed_unsync()
        };
        Ok(Self { request: Request::from_parts(head, body), body_refusal: refusal })
    }

    pub async fn send(self, mut permit: StreamPermit) -> Result<SendResult, UpstreamError> {
        let Self { request, body_refusal } = self;
        match permit.sender.try_send_request(request).await {
            Ok(response) => {
                if !permit.load.has_responded.swap(true, Ordering::Relaxed) {
                    permit.load.limit_check.notify_one();
                }
                let (mut head, body) = response.into_parts();
                // The caller gets this head over its own connection, which speaks HTTP/1.1.
                head.version = Version::HTTP_11;
                let body = if body.is_end_stream() {
                    BoxBody::default()
                } else {
                    PermitHoldingBody { body, _permit: permit }.boxed_unsync()
                };
                Ok(SendResult::Responded(Response::from_parts(head, body)))
            }
            Err(mut error) => match error.take_message() {
                Some(request) => Ok(SendResult::Unsent(Self { request, body_refusal })),
                // hyper resets the stream when a body fails and does not report the cause.
                None => Err(match body_refusal.get() {
                    Some(refusal) => UpstreamError::RequestBody(refusal.clone()),
                    None => send_error(&error.into_error()),
                }),
            },
        }
    }
}

struct RefusalCapturingBody {
    body: BoxBody,
    refusal: Arc<OnceLock<Refusal>>,
}

impl http_body::Body for RefusalCapturingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Err(error))) = &polled
            && let Some(refusal) = error.downcast_ref::<Refusal>()
        {
            self.refusal.get_or_init(|| refusal.clone());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response, which keeps its stream reserved while it is read.
struct PermitHoldingBody {
    body: Incoming,
    _permit: StreamPermit,
}

impl http_body::Body for PermitHoldingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
