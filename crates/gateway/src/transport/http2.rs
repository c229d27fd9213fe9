//! HTTP/2 connections: each shared by as many requests as its peer takes at once, replaced when it is closing.
//!
//! An answer that nobody reads holds back its own stream and no other: the window of a connection has room for the
//! windows of all its streams. A request is sent again only when hyper hands it back, which is when none of it was sent.

use super::{IDLE_TIME, Origin, TransportError, broken};
use crate::body::{Body, BoxError};
use bytes::Bytes;
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
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// Requests that share one connection at most, also where the peer would take more.
const STREAMS: u32 = 100;
/// What may arrive of one answer before it is read: the memory that a reader who has stopped can hold.
const STREAM_WINDOW: u32 = 512 << 10;
/// Of a request's body, what may wait for the peer to read on.
const SEND_BUFFER: usize = 256 << 10;
/// Largest head of an answer.
const HEAD: u32 = 64 << 10;
/// While a request waits for its answer, how often the peer is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);

/// The connections to every origin, and what is known of the protocol each one speaks.
#[derive(Default)]
pub(super) struct Shared(Mutex<HashMap<Origin, Peer>>);

struct Peer {
    connections: Vec<Connection>,
    /// How many requests a connection may carry, by the peer's newest word.
    limit: Arc<AtomicUsize>,
    /// It chose HTTP/1.1 when it was last asked: dialling need not wait for one another.
    http1: bool,
    dialling: Dialling,
}

/// Held while a connection is dialled that others may then share; so they share how it failed.
pub(super) type Dialling = Arc<tokio::sync::Mutex<Option<Failed>>>;

/// The last dial that failed, and when.
pub(super) struct Failed {
    pub at: Instant,
    pub error: TransportError,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            connections: Vec::new(),
            limit: Arc::new(AtomicUsize::new(STREAMS as usize)),
            http1: false,
            dialling: Arc::default(),
        }
    }
}

struct Connection {
    sender: SendRequest<Body>,
    load: Arc<Load>,
    /// When a request last took it.
    used: Instant,
}

#[derive(Default)]
struct Load {
    /// How many requests the connection carries.
    active: AtomicUsize,
    /// The peer's limit comes before its first answer: that is when to look at it.
    answered: AtomicBool,
    look: tokio::sync::Notify,
}

/// A request's place on a connection, free again when it is dropped.
pub(super) struct Place {
    sender: SendRequest<Body>,
    load: Arc<Load>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn is_usable(&self) -> bool {
        let idle = self.load.active.load(Ordering::Relaxed) == 0;
        !(self.sender.is_closed() || idle && self.used.elapsed() >= IDLE_TIME)
    }

    fn place(&mut self) -> Place {
        self.load.active.fetch_add(1, Ordering::Relaxed);
        self.used = Instant::now();
        Place { sender: self.sender.clone(), load: self.load.clone() }
    }
}

impl Shared {
    fn with<T>(&self, origin: &Origin, work: impl FnOnce(&mut Peer) -> T) -> T {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match peers.get_mut(origin) {
            Some(peer) => work(peer),
            None => work(peers.entry(origin.clone()).or_default()),
        }
    }

    /// A place on a connection that has room.
    pub fn place(&self, origin: &Origin) -> Option<Place> {
        self.with(origin, |peer| {
            peer.connections.retain(Connection::is_usable);
            let limit = peer.limit.load(Ordering::Relaxed);
            let has_room =
                |connection: &&mut Connection| connection.load.active.load(Ordering::Relaxed) < limit;
            peer.connections.iter_mut().find(has_room).map(Connection::place)
        })
    }

    /// What to hold while dialling, unless the origin is known to speak HTTP/1.1.
    pub fn dialling(&self, origin: &Origin) -> Option<Dialling> {
        self.with(origin, |peer| (!peer.http1).then(|| peer.dialling.clone()))
    }

    pub fn speaks_http1(&self, origin: &Origin) {
        self.with(origin, |peer| peer.http1 = true);
    }

    /// Opens HTTP/2 on a fresh connection and takes the first place on it.
    pub async fn open<S>(&self, origin: &Origin, stream: S) -> Result<Place, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, mut connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW * STREAMS)
            // Until the peer has said what it takes: it refuses what is too much.
            .initial_max_send_streams(1)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEAD)
            .keep_alive_interval(PING_EVERY)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| TransportError::Connect(origin.authority(), error.to_string()))?;
        let load = Arc::new(Load::default());
        let told = load.clone();
        let limit = self.with(origin, |peer| peer.limit.clone());
        tokio::spawn(async move {
            let ended = loop {
                tokio::select! {
                    ended = &mut connection => break ended,
                    () = told.look.notified() => {}
                }
                let takes = connection.current_max_send_streams().min(STREAMS as usize);
                limit.store(takes, Ordering::Relaxed);
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream HTTP/2 connection ended");
            }
        });
        let mut connection = Connection { sender, load, used: Instant::now() };
        let place = connection.place();
        self.with(origin, |peer| {
            peer.http1 = false;
            peer.connections.push(connection);
        });
        Ok(place)
    }
}

/// A request as HTTP/2 writes it, whose body remembers why it broke off.
pub(super) struct Outgoing {
    request: Request<Body>,
    refusal: Arc<OnceLock<Refusal>>,
}

/// What became of a request on one connection.
pub(super) enum Sent {
    Answered(Response<Body>),
    /// The connection was closing: none of it was sent.
    Unsent(Outgoing),
}

impl Outgoing {
    /// From origin form and `host` to `:scheme`, `:authority` and `:path`. hyper drops the headers that HTTP/2 forbids.
    pub fn new(origin: &Origin, request: Request<Body>) -> Result<Self, TransportError> {
        let invalid = |what: &str| TransportError::Broken(format!("the request's {what} cannot be written"));
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
            Watched { body, refusal: refusal.clone() }.boxed_unsync()
        };
        Ok(Self { request: Request::from_parts(head, body), refusal })
    }

    pub async fn send(self, mut place: Place) -> Result<Sent, TransportError> {
        let Self { request, refusal } = self;
        match place.sender.try_send_request(request).await {
            Ok(response) => {
                if !place.load.answered.swap(true, Ordering::Relaxed) {
                    place.load.look.notify_one();
                }
                let (mut head, body) = response.into_parts();
                // To whoever is answered with it, which protocol brought it means nothing.
                head.version = Version::HTTP_11;
                let body = if body.is_end_stream() {
                    Body::default()
                } else {
                    Streamed { body, _place: place }.boxed_unsync()
                };
                Ok(Sent::Answered(Response::from_parts(head, body)))
            }
            Err(mut error) => match error.take_message() {
                Some(request) => Ok(Sent::Unsent(Self { request, refusal })),
                // hyper resets the stream when a body fails and keeps the reason to itself.
                None => Err(match refusal.get() {
                    Some(refusal) => TransportError::Upload(refusal.clone()),
                    None => broken(&error.into_error()),
                }),
            },
        }
    }
}

struct Watched {
    body: Body,
    refusal: Arc<OnceLock<Refusal>>,
}

impl http_body::Body for Watched {
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
struct Streamed {
    body: Incoming,
    _place: Place,
}

impl http_body::Body for Streamed {
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
