//! HTTP/2 connections: each shared by as many requests as its peer takes at once, replaced when it is closing.
//!
//! An answer that nobody reads holds back its own stream and no other: the window of a connection has room for the
//! windows of all its streams. A request is sent again only when hyper hands it back, which is when none of it was sent.

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

/// Requests that share one connection at most, also where the peer would take more.
const MAX_STREAMS_PER_CONNECTION: u32 = 100;
/// What may arrive of one answer before it is read: the memory that a reader who has stopped can hold.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
/// Of a request's body, what may wait for the peer to read on.
const MAX_SEND_BUFFER_BYTES: usize = 256 << 10;
/// Largest head of an answer.
const MAX_RESPONSE_HEAD_BYTES: u32 = 64 << 10;
/// While a request waits for its answer, how often the peer is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The connections to every origin, and what is known of the protocol each one speaks.
#[derive(Default)]
pub(super) struct Http2Connections(Mutex<HashMap<Origin, Http2Peer>>);

struct Http2Peer {
    connections: Vec<Http2Connection>,
    /// How many requests a connection may carry, by the peer's newest word.
    max_streams: Arc<AtomicUsize>,
    /// It chose HTTP/1.1 when it was last asked: dialling need not wait for one another.
    is_http1: bool,
    connect_lock: ConnectLock,
}

/// Held while a connection is dialled that others may then share; so they share how it failed.
pub(super) type ConnectLock = Arc<tokio::sync::Mutex<Option<ConnectFailure>>>;

/// The last dial that failed, and when.
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
    /// When a request last took it.
    last_used: Instant,
}

#[derive(Default)]
struct ConnectionLoad {
    /// How many requests the connection carries.
    active_streams: AtomicUsize,
    /// The peer's limit comes before its first answer: that is when to look at it.
    has_responded: AtomicBool,
    limit_check: tokio::sync::Notify,
}

/// A request's place on a connection, free again when it is dropped.
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
        let idle = self.load.active_streams.load(Ordering::Relaxed) == 0;
        !(self.sender.is_closed() || idle && self.last_used.elapsed() >= IDLE_TIMEOUT)
    }

    fn reserve_stream(&mut self) -> StreamPermit {
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

    /// A place on a connection that has room.
    pub fn reserve_stream(&self, origin: &Origin) -> Option<StreamPermit> {
        self.with_peer(origin, |peer| {
            peer.connections.retain(Http2Connection::is_usable);
            let limit = peer.max_streams.load(Ordering::Relaxed);
            let has_room = |connection: &&mut Http2Connection| {
                connection.load.active_streams.load(Ordering::Relaxed) < limit
            };
            peer.connections.iter_mut().find(has_room).map(Http2Connection::reserve_stream)
        })
    }

    /// What to hold while dialling, unless the origin is known to speak HTTP/1.1.
    pub fn connect_lock(&self, origin: &Origin) -> Option<ConnectLock> {
        self.with_peer(origin, |peer| (!peer.is_http1).then(|| peer.connect_lock.clone()))
    }

    pub fn mark_http1(&self, origin: &Origin) {
        self.with_peer(origin, |peer| peer.is_http1 = true);
    }

    /// Opens HTTP/2 on a fresh connection and takes the first place on it.
    pub async fn http2_handshake<S>(&self, origin: &Origin, stream: S) -> Result<StreamPermit, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, mut connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES * MAX_STREAMS_PER_CONNECTION)
            // Until the peer has said what it takes: it refuses what is too much.
            .initial_max_send_streams(1)
            .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
            .max_header_list_size(MAX_RESPONSE_HEAD_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| UpstreamError::Connect(origin.authority(), error.to_string()))?;
        let load = Arc::new(ConnectionLoad::default());
        let told = load.clone();
        let limit = self.with_peer(origin, |peer| peer.max_streams.clone());
        tokio::spawn(async move {
            let ended = loop {
                tokio::select! {
                    ended = &mut connection => break ended,
                    () = told.limit_check.notified() => {}
                }
                let takes = connection.current_max_send_streams().min(MAX_STREAMS_PER_CONNECTION as usize);
                limit.store(takes, Ordering::Relaxed);
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream HTTP/2 connection ended");
            }
        });
        let mut connection = Http2Connection { sender, load, last_used: Instant::now() };
        let place = connection.reserve_stream();
        self.with_peer(origin, |peer| {
            peer.is_http1 = false;
            peer.connections.push(connection);
        });
        Ok(place)
    }
}

/// A request as HTTP/2 writes it, whose body remembers why it broke off.
pub(super) struct OutgoingRequest {
    request: Request<BoxBody>,
    body_refusal: Arc<OnceLock<Refusal>>,
}

/// What became of a request on one connection.
pub(super) enum SendResult {
    Responded(Response<BoxBody>),
    /// The connection was closing: none of it was sent.
    Unsent(OutgoingRequest),
}

impl OutgoingRequest {
    /// From origin form and `host` to `:scheme`, `:authority` and `:path`. hyper drops the headers that HTTP/2 forbids.
    pub fn new(origin: &Origin, request: Request<BoxBody>) -> Result<Self, UpstreamError> {
        let invalid =
            |what: &str| UpstreamError::Interrupted(format!("the request's {what} cannot be written"));
        let (mut head, body) = request.into_parts();
        // The signature covers `host`: what is sent is what was signed.
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

    pub async fn send(self, mut place: StreamPermit) -> Result<SendResult, UpstreamError> {
        let Self { request, body_refusal: refusal } = self;
        match place.sender.try_send_request(request).await {
            Ok(response) => {
                if !place.load.has_responded.swap(true, Ordering::Relaxed) {
                    place.load.limit_check.notify_one();
                }
                let (mut head, body) = response.into_parts();
                // To whoever is answered with it, which protocol brought it means nothing.
                head.version = Version::HTTP_11;
                let body = if body.is_end_stream() {
                    BoxBody::default()
                } else {
                    PermitHoldingBody { body, _permit: place }.boxed_unsync()
                };
                Ok(SendResult::Responded(Response::from_parts(head, body)))
            }
            Err(mut error) => match error.take_message() {
                Some(request) => Ok(SendResult::Unsent(Self { request, body_refusal: refusal })),
                // hyper resets the stream when a body fails and keeps the reason to itself.
                None => Err(match refusal.get() {
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

/// An answer's body, which keeps its request's place while it is read.
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
