//! Listeners: HTTP/1.1 with limits on heads and time, in front of a door.
//!
//! Every connection is read through [`crate::strict_io`], so that a door only sees requests with one reading.

use crate::body::{Body, full};
use crate::framing::Violation;
use crate::interim::Interim;
use crate::rooms::Rooms;
use crate::socket::Socket;
use crate::strict_io::{StrictIo, Verdict};
use durward_core::limits;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What answers the requests of a listener.
pub trait Serve: Send + Sync + 'static {
    fn serve(
        &self,
        source: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// A door with the rooms behind it.
pub struct Open<D> {
    pub door: Arc<D>,
    pub rooms: Arc<Rooms>,
}

/// Serves a door until `stop` turns true.
pub async fn serve<D: Serve>(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    door: Arc<D>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _changed = stop.wait_for(|stop| *stop) => return,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: give connections time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let (door, tls) = (door.clone(), tls.clone());
        tokio::spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            let stream = Socket::new(stream);
            let interim = Interim::new(stream.presence());
            match tls {
                None => serve_connection(stream, source, door, interim).await,
                Some(tls) => match tokio::time::timeout(limits::HEAD_TIME, tls.accept(stream)).await {
                    Ok(Ok(stream)) => serve_connection(stream, source, door, interim).await,
                    Ok(Err(error)) => tracing::debug!(%source, %error, "TLS handshake failed"),
                    Err(_elapsed) => tracing::debug!(%source, "TLS handshake timed out"),
                },
            }
        });
    }
}

async fn serve_connection<S, D>(stream: S, source: SocketAddr, door: Arc<D>, interim: Interim)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Serve,
{
    let verdict = Verdict::default();
    let stream = StrictIo::new(stream, verdict.clone(), interim.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let door = door.clone();
        request.extensions_mut().insert(interim.clone());
        let refused = verdict.next();
        async move {
            let response = match refused {
                Some(violation) => refuse(source, violation),
                None => door.serve(source, request).await,
            };
            Ok::<Response<Body>, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIME)
        .max_buf_size(limits::HEAD)
        .max_headers(limits::HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    match served {
        // What the parser refuses, it answers itself: `strict_io` should have refused it before, and said why.
        Err(error) if error.is_parse() => tracing::warn!(%source, %error, "the HTTP parser refused a request"),
        Err(error) => tracing::debug!(%source, %error, "connection ended"),
        Ok(()) => {}
    }
}

/// The answer to a request whose framing has more than one reading. The connection is closed after it.
fn refuse(source: SocketAddr, violation: Violation) -> Response<Body> {
    tracing::info!(%source, "refused: {}", violation.why);
    let mut response = Response::new(full(format!("durward: {}\n", violation.why)));
    *response.status_mut() = StatusCode::from_u16(violation.status).unwrap_or(StatusCode::BAD_REQUEST);
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}
