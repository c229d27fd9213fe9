//! Listeners: HTTP/1.1 with limits on heads and time, in front of a door.
//!
//! Every connection is read through [`crate::strict_io`], so that a door only sees requests with one reading.

use crate::body::{Body, full};
use crate::framing::Violation;
use crate::interim::Interims;
use crate::rooms::Rooms;
use crate::socket::{SEES_DEPARTURES, Socket};
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
            let interims = Interims::new(stream.presence());
            match tls {
                None => serve_connection(stream, source, door, interims).await,
                Some(tls) => {
                    match tokio::time::timeout(limits::HEAD_TIME, Box::pin(tls.accept(stream))).await {
                        // Boxed, so that a connection without TLS has no room for it.
                        Ok(Ok(stream)) => Box::pin(serve_connection(stream, source, door, interims)).await,
                        Ok(Err(error)) => tracing::debug!(%source, %error, "TLS handshake failed"),
                        Err(_elapsed) => tracing::debug!(%source, "TLS handshake timed out"),
                    }
                }
            }
        });
    }
}

async fn serve_connection<S, D>(stream: S, source: SocketAddr, door: Arc<D>, interims: Interims)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Serve,
{
    let verdict = Verdict::default();
    let client = interims.clone();
    let stream = StrictIo::new(stream, verdict.clone(), interims.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let door = door.clone();
        let interim = interims.next();
        request.extensions_mut().insert(interim.clone());
        let refused = verdict.next();
        async move {
            let response = match refused {
                Some(violation) => refuse(source, violation),
                None => door.serve(source, request).await,
            };
            interim.answered();
            Ok::<Response<Body>, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIME)
        .max_buf_size(limits::HEAD)
        .max_headers(limits::HEADERS)
        // The parser would notice a client that leaves only by reading, for which it keeps a buffer ready at each request that
        // waits, and not at all behind a body that is not read yet.
        .half_close(SEES_DEPARTURES)
        .serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        biased;
        served = connection => served,
        () = client.left() => {
            tracing::debug!(%source, "the client closed its connection");
            return;
        }
    };
    match served {
        // What the parser refuses, it answers itself: `strict_io` should have refused it before, and said why.
        Err(error) if error.is_parse() => {
            tracing::warn!(%source, %error, "the HTTP parser refused a request");
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BoxError;
    use crate::interim::Interim;
    use bytes::Bytes;
    use http_body_util::BodyExt as _;
    use hyper::body::Frame;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::{Mutex, mpsc};
    use tokio::time::timeout;

    /// Far beyond what any of these takes.
    const LIMIT: Duration = Duration::from_secs(30);

    /// Waits with each request and never reads its body; tells when one came and when it is over.
    struct Waits(mpsc::UnboundedSender<&'static str>);

    struct Over(mpsc::UnboundedSender<&'static str>);

    impl Drop for Over {
        fn drop(&mut self) {
            self.0.send("over").unwrap();
        }
    }

    impl Serve for Waits {
        async fn serve(&self, _source: SocketAddr, request: Request<Incoming>) -> Response<Body> {
            let _over = Over(self.0.clone());
            self.0.send("came").unwrap();
            std::future::pending::<()>().await;
            drop(request);
            Response::new(full(""))
        }
    }

    /// Refuses every request without a look at its body.
    struct Refuses;

    impl Serve for Refuses {
        async fn serve(&self, _source: SocketAddr, _request: Request<Incoming>) -> Response<Body> {
            let mut response = Response::new(full("no"));
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        }
    }

    async fn open<D: Serve>(door: D) -> (TcpStream, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, None, Arc::new(door), stopped));
        (TcpStream::connect(address).await.unwrap(), stop)
    }

    #[tokio::test]
    async fn a_request_ends_when_its_client_leaves_also_behind_a_body_that_nobody_reads() {
        let bodies = [
            "content-length: 0\r\n\r\n",
            "content-length: 1000000\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n",
        ];
        for body in bodies {
            let (told, mut news) = mpsc::unbounded_channel();
            let (mut client, _stop) = open(Waits(told)).await;
            client.write_all(format!("PUT /b/k HTTP/1.1\r\nhost: x\r\n{body}").as_bytes()).await.unwrap();
            assert_eq!(timeout(LIMIT, news.recv()).await.unwrap(), Some("came"));
            if !body.contains(": 0") {
                // More than the parser takes at once, so that the end stands behind what is not read.
                client.write_all(&[b'5'; 1]).await.unwrap();
                if body.contains("length") {
                    client.write_all(&vec![b'x'; 100 << 10]).await.unwrap();
                }
            }
            assert!(news.try_recv().is_err(), "it waits while its client is there");
            drop(client);
            assert_eq!(timeout(LIMIT, news.recv()).await.unwrap(), Some("over"), "{body}");
        }
    }

    /// What [`Signals`] does next with the request it holds.
    #[derive(Debug)]
    enum Step {
        /// Asks for an interim response in the name of the request of this index.
        Ask(usize),
        /// Begins an answer in pieces, and asks again between them.
        Answer,
    }

    /// Holds each request and does as it is told, and tells when it has.
    struct Signals {
        steps: Mutex<mpsc::UnboundedReceiver<Step>>,
        done: mpsc::UnboundedSender<()>,
        seen: std::sync::Mutex<Vec<Interim>>,
    }

    impl Serve for Signals {
        async fn serve(&self, _source: SocketAddr, request: Request<Incoming>) -> Response<Body> {
            let own = request.extensions().get::<Interim>().unwrap().clone();
            self.seen.lock().unwrap().push(own.clone());
            request.into_body().collect().await.unwrap();
            loop {
                let step = self.steps.lock().await.recv().await.unwrap();
                self.done.send(()).unwrap();
                match step {
                    Step::Ask(index) => self.seen.lock().unwrap()[index].ask(),
                    Step::Answer => return Response::new(Pieces { interim: own, polls: 0 }.boxed_unsync()),
                }
            }
        }
    }

    /// `a`, a pause with a sign of life asked for, `b`.
    struct Pieces {
        interim: Interim,
        polls: usize,
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.polls += 1;
            let piece = match self.polls {
                1 => "a",
                2..5 => {
                    self.interim.ask();
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                5 => "b",
                _ => return Poll::Ready(None),
            };
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
        }
    }

    #[tokio::test]
    async fn signs_of_life_come_before_the_answer_they_were_asked_for_and_never_inside_one() {
        const SIGN: &str = "HTTP/1.1 100 Continue\r\n\r\n";
        let (order, steps) = mpsc::unbounded_channel();
        let (done, mut did) = mpsc::unbounded_channel();
        let (mut client, _stop) =
            open(Signals { steps: Mutex::new(steps), done, seen: std::sync::Mutex::default() }).await;
        // One thread: what was done was written before this goes on.
        let mut step = async |step: Step| {
            order.send(step).unwrap();
            timeout(LIMIT, did.recv()).await.unwrap().unwrap();
        };
        for index in 0..3 {
            client.write_all(b"PUT /b/k HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n").await.unwrap();
            client.write_all(b"content-length: 1\r\n\r\n").await.unwrap();
            // The parser's own, which asks for the body and is no answer.
            assert_eq!(read_text(&mut client, SIGN.len()).await, SIGN);
            client.write_all(b"x").await.unwrap();
            for _ in 0..2 {
                step(Step::Ask(index)).await;
                assert_eq!(read_text(&mut client, SIGN.len()).await, SIGN);
            }
            if index > 0 {
                // Whatever still runs for a request that was answered says nothing about this one.
                step(Step::Ask(index - 1)).await;
            }
            step(Step::Answer).await;
            let mut answer = String::new();
            while !answer.ends_with("0\r\n\r\n") {
                answer += &read_text(&mut client, 1).await;
            }
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert_eq!(body, "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
        }
    }

    async fn read_text(client: &mut TcpStream, length: usize) -> String {
        let mut read = vec![0; length];
        timeout(LIMIT, client.read_exact(&mut read)).await.unwrap().unwrap();
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_still_sends_gets_the_answer() {
        let (client, _stop) = open(Refuses).await;
        let (mut read, mut write) = client.into_split();
        write.write_all(b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 8000000\r\n\r\n").await.unwrap();
        // It writes all of it before it reads, as simple clients do. Without lingering this meets a reset.
        timeout(LIMIT, write.write_all(&vec![b'x'; 8_000_000])).await.unwrap().unwrap();
        let mut answer = String::new();
        timeout(LIMIT, read.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("no"), "{answer}");
    }
}
