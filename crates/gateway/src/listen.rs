//! Listeners: HTTP/1.1 with limits on heads and time, in front of a door.
//!
//! Request smuggling needs two readers that disagree: hyper refuses conflicting lengths and codings, and what it
//! tolerates is refused in [`refuse_ambiguous`] before a door sees it.

use crate::aws_door::AwsDoor;
use crate::body::{Body, full};
use crate::rooms::Rooms;
use durward_core::limits;
use http::{Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Serves the AWS door until `stop` turns true.
pub async fn serve_aws(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    door: Arc<AwsDoor>,
    rooms: Arc<Rooms>,
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
        let (door, rooms, tls) = (door.clone(), rooms.clone(), tls.clone());
        tokio::spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            match tls {
                None => serve_connection(stream, source, door, rooms).await,
                Some(tls) => match tokio::time::timeout(limits::HEAD_TIME, tls.accept(stream)).await {
                    Ok(Ok(stream)) => serve_connection(stream, source, door, rooms).await,
                    Ok(Err(error)) => tracing::debug!(%source, %error, "TLS handshake failed"),
                    Err(_elapsed) => tracing::debug!(%source, "TLS handshake timed out"),
                },
            }
        });
    }
}

async fn serve_connection<S>(stream: S, source: SocketAddr, door: Arc<AwsDoor>, rooms: Arc<Rooms>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (door, rooms) = (door.clone(), rooms.clone());
        async move {
            let response = match refuse_ambiguous(&request) {
                Some(refused) => refused,
                None => door.answer(&rooms, source, request).await,
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
    if let Err(error) = served {
        tracing::debug!(%source, %error, "connection ended");
    }
}

/// What HTTP allows or servers tolerate, and two readers could read differently. The connection is closed after it.
fn refuse_ambiguous(request: &Request<Incoming>) -> Option<Response<Body>> {
    let headers = request.headers();
    let count = |name| headers.get_all(name).iter().count();
    let why = if request.version() != Version::HTTP_11 {
        "only HTTP/1.1 is served"
    } else if count(header::HOST) != 1 {
        "exactly one Host header is needed"
    } else if count(header::CONTENT_LENGTH) > 1 || count(header::TRANSFER_ENCODING) > 1 {
        "a length or transfer coding is given twice"
    } else if headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING)
    {
        "Content-Length and Transfer-Encoding exclude each other"
    } else if headers
        .get(header::TRANSFER_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        "the only transfer coding is chunked"
    } else if headers.contains_key(header::UPGRADE) {
        "protocol upgrades are not served"
    } else {
        return None;
    };
    let mut response = Response::new(full(format!("durward: {why}\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    Some(response)
}
