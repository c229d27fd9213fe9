//! Listeners: HTTP/1.1, with limits on connections, on the size of heads and on time, in front of an [`HttpService`].
//!
//! Every connection is read through `strict_http_stream`, so a service only sees requests that cannot be read in two
//! ways. The service's future is dropped as soon as its client disconnects. What must outlive the client, an approved execution,
//! runs in a task of its own (docs/adr/0011).

use crate::body::{BoxBody, full_body};
use crate::client_socket::{ClientSocket, DETECTS_DISCONNECT};
use crate::connection_limits::ConnectionCounter;
use crate::http1_framing::FramingViolation;
use crate::keep_alive::InterimResponses;
use crate::strict_http_stream::{FramingRefusal, StrictHttpStream};
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

/// Responds to the requests of a listener.
pub trait HttpService: Send + Sync + 'static {
    fn serve_request(
        &self,
        source: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<BoxBody>> + Send;
}

/// Accepts connections and serves them, until `stop` turns true.
pub async fn serve_listener<D: HttpService>(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    service: Arc<D>,
    counter: Arc<ConnectionCounter>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepting = async {
            let permit = counter.wait_for_capacity().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepting => accepted,
            _changed = stop.wait_for(|stop| *stop) => return,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly the process is out of file descriptors (EMFILE), and accept would fail again at once.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(counted) = permit.and_then(|permit| counter.admit(source.ip(), permit)) else {
            // A response would cost more than the connection that it ends.
            tracing::debug!(%source, "closed a connection: this address has as many as it may have");
            continue;
        };
        let (service, tls) = (service.clone(), tls.clone());
        tokio::spawn(async move {
            let _counted = counted;
            // The end of a response is a short segment, which Nagle's algorithm would hold back until the client has
            // acknowledged the rest.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            let stream = ClientSocket::new(stream);
            let interims = InterimResponses::new(stream.client_presence());
            match tls {
                None => serve_connection(stream, source, service, interims).await,
                Some(tls) => {
                    // A client that never finishes its handshake would keep a socket and a task for good (Slowloris).
                    match tokio::time::timeout(limits::REQUEST_HEAD_TIMEOUT, Box::pin(tls.accept(stream)))
                        .await
                    {
                        // Boxed, so that the task of a connection without TLS does not reserve memory for it.
                        Ok(Ok(stream)) => Box::pin(serve_connection(stream, source, service, interims)).await,
                        Ok(Err(error)) => tracing::debug!(%source, %error, "TLS handshake failed"),
                        Err(_elapsed) => tracing::debug!(%source, "TLS handshake timed out"),
                    }
                }
            }
        });
    }
}

async fn serve_connection<S, D>(stream: S, source: SocketAddr, service: Arc<D>, interims: InterimResponses)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: HttpService,
{
    let framing_refusal = FramingRefusal::default();
    let client = interims.clone();
    let stream = StrictHttpStream::new(stream, framing_refusal.clone(), interims.clone());
    let hyper_service = service_fn(move |mut request: Request<Incoming>| {
        let service = service.clone();
        let interim_responder = interims.begin_request();
        request.extensions_mut().insert(interim_responder.clone());
        let violation = framing_refusal.next_violation();
        async move {
            let response = match violation {
                Some(violation) => violation_response(source, violation),
                None => service.serve_request(source, request).await,
            };
            interim_responder.response_started();
            Ok::<Response<BoxBody>, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::REQUEST_HEAD_TIMEOUT)
        .max_buf_size(limits::MAX_HEAD_BYTES)
        .max_headers(limits::MAX_HEADER_FIELDS)
        // hyper detects a disconnect only by reading ahead. That costs a read buffer for each held request, and it does not
        // work behind a body that has not been read. `ClientSocket` detects it without reading.
        .half_close(DETECTS_DISCONNECT)
        .serve_connection(TokioIo::new(stream), hyper_service);
    let served = tokio::select! {
        biased;
        served = connection => served,
        () = client.client_disconnected() => {
            tracing::debug!(%source, "the client closed its connection");
            return;
        }
    };
    match served {
        // hyper responds to what it refuses without a reason. `StrictHttpStream` should have refused it first, with one.
        Err(error) if error.is_parse() => {
            tracing::warn!(%source, %error, "the HTTP parser refused a request");
        }
        Err(error) => tracing::debug!(%source, %error, "connection ended"),
        Ok(()) => {}
    }
}

/// The response to a request that is framed ambiguously. The connection is closed after it (RFC 9112 sections 6.1 and 6.3): the
/// bytes that follow may be a smuggled request.
fn violation_response(source: SocketAddr, violation: FramingViolation) -> Response<BoxBody> {
    tracing::info!(%source, "refused: {}", violation.reason);
    let mut response = Response::new(full_body(format!("durward: {}\n", violation.reason)));
    *response.status_mut() = StatusCode::from_u16(violation.status).unwrap_or(StatusCode::BAD_REQUEST);
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BoxError;
    use crate::connection_limits::ConnectionLimits;
    use crate::keep_alive::InterimResponder;
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

    /// Far longer than any of these tests takes.
    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    /// Never responds and never reads a body. Reports when a request arrives and when it is dropped.
    struct PendingService(mpsc::UnboundedSender<&'static str>);

    struct DropNotifier(mpsc::UnboundedSender<&'static str>);

    impl Drop for DropNotifier {
        fn drop(&mut self) {
            self.0.send("dropped").unwrap();
        }
    }

    impl HttpService for PendingService {
        async fn serve_request(&self, _source: SocketAddr, request: Request<Incoming>) -> Response<BoxBody> {
            let _notifier = DropNotifier(self.0.clone());
            self.0.send("arrived").unwrap();
            std::future::pending::<()>().await;
            drop(request);
            Response::new(full_body(""))
        }
    }

    /// Refuses every request without reading its body.
    struct RefusingService;

    impl HttpService for RefusingService {
        async fn serve_request(&self, _source: SocketAddr, _request: Request<Incoming>) -> Response<BoxBody> {
            let mut response = Response::new(full_body("no"));
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        }
    }

    async fn start_and_connect<D: HttpService>(service: D) -> (TcpStream, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let counter = ConnectionCounter::new(ConnectionLimits { total: 16, per_address: 16 });
        tokio::spawn(serve_listener(listener, None, Arc::new(service), counter, stopped));
        (TcpStream::connect(address).await.unwrap(), stop)
    }

    #[tokio::test]
    async fn a_request_is_dropped_when_its_client_disconnects_behind_an_unread_body() {
        let bodies = [
            "content-length: 0\r\n\r\n",
            "content-length: 1000000\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n",
        ];
        for body in bodies {
            let (event_sender, mut events) = mpsc::unbounded_channel();
            let (mut client, _stop) = start_and_connect(PendingService(event_sender)).await;
            client.write_all(format!("PUT /b/k HTTP/1.1\r\nhost: x\r\n{body}").as_bytes()).await.unwrap();
            assert_eq!(timeout(TEST_TIMEOUT, events.recv()).await.unwrap(), Some("arrived"));
            if !body.contains(": 0") {
                // More than hyper buffers, so that the end of the stream lies behind unread bytes.
                client.write_all(&[b'5'; 1]).await.unwrap();
                if body.contains("length") {
                    client.write_all(&vec![b'x'; 100 << 10]).await.unwrap();
                }
            }
            assert!(events.try_recv().is_err(), "the request is held while its client is connected");
            drop(client);
            assert_eq!(timeout(TEST_TIMEOUT, events.recv()).await.unwrap(), Some("dropped"), "{body}");
        }
    }

    /// What [`SteppedService`] does next with the request that it holds.
    #[derive(Debug)]
    enum ServiceStep {
        /// Requests an interim response for the request with this index.
        RequestInterim(usize),
        /// Starts a chunked response, and requests interim responses between its chunks.
        Respond,
    }

    /// Holds each request, executes the steps it is sent, and reports each one.
    struct SteppedService {
        steps: Mutex<mpsc::UnboundedReceiver<ServiceStep>>,
        step_done: mpsc::UnboundedSender<()>,
        responders: std::sync::Mutex<Vec<InterimResponder>>,
    }

    impl HttpService for SteppedService {
        async fn serve_request(&self, _source: SocketAddr, request: Request<Incoming>) -> Response<BoxBody> {
            let own = request.extensions().get::<InterimResponder>().unwrap().clone();
            self.responders.lock().unwrap().push(own.clone());
            request.into_body().collect().await.unwrap();
            loop {
                let step = self.steps.lock().await.recv().await.unwrap();
                self.step_done.send(()).unwrap();
                match step {
                    ServiceStep::RequestInterim(index) => {
                        self.responders.lock().unwrap()[index].request_interim();
                    }
                    ServiceStep::Respond => {
                        return Response::new(PausingBody { responder: own, poll_count: 0 }.boxed_unsync());
                    }
                }
            }
        }
    }

    /// `a`, a pause in which interim responses are requested, `b`.
    struct PausingBody {
        responder: InterimResponder,
        poll_count: usize,
    }

    impl http_body::Body for PausingBody {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.poll_count += 1;
            let piece = match self.poll_count {
                1 => "a",
                2..5 => {
                    self.responder.request_interim();
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
    async fn interim_responses_precede_their_own_final_response_and_never_split_one() {
        const CONTINUE_RESPONSE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
        let (step_sender, steps) = mpsc::unbounded_channel();
        let (done_sender, mut steps_done) = mpsc::unbounded_channel();
        let (mut client, _stop) = start_and_connect(SteppedService {
            steps: Mutex::new(steps),
            step_done: done_sender,
            responders: std::sync::Mutex::default(),
        })
        .await;
        // The test runtime has one thread: whatever a step writes is written before this continues.
        let mut step = async |step: ServiceStep| {
            step_sender.send(step).unwrap();
            timeout(TEST_TIMEOUT, steps_done.recv()).await.unwrap().unwrap();
        };
        for index in 0..3 {
            client.write_all(b"PUT /b/k HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n").await.unwrap();
            client.write_all(b"content-length: 1\r\n\r\n").await.unwrap();
            // hyper's own, which asks for the body.
            assert_eq!(read_exact_text(&mut client, CONTINUE_RESPONSE.len()).await, CONTINUE_RESPONSE);
            client.write_all(b"x").await.unwrap();
            for _ in 0..2 {
                step(ServiceStep::RequestInterim(index)).await;
                assert_eq!(read_exact_text(&mut client, CONTINUE_RESPONSE.len()).await, CONTINUE_RESPONSE);
            }
            if index > 0 {
                // Leftover work of an earlier request must not send anything for this one.
                step(ServiceStep::RequestInterim(index - 1)).await;
            }
            step(ServiceStep::Respond).await;
            let mut response = String::new();
            while !response.ends_with("0\r\n\r\n") {
                response += &read_exact_text(&mut client, 1).await;
            }
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            assert_eq!(body, "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
        }
    }

    async fn read_exact_text(client: &mut TcpStream, length: usize) -> String {
        let mut read = vec![0; length];
        timeout(TEST_TIMEOUT, client.read_exact(&mut read)).await.unwrap().unwrap();
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_is_still_sending_gets_the_response() {
        let (client, _stop) = start_and_connect(RefusingService).await;
        let (mut read, mut write) = client.into_split();
        write.write_all(b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 8000000\r\n\r\n").await.unwrap();
        // It writes the whole body before it reads, as simple clients do. Without lingering it would get a TCP reset.
        timeout(TEST_TIMEOUT, write.write_all(&vec![b'x'; 8_000_000])).await.unwrap().unwrap();
        let mut response = String::new();
        timeout(TEST_TIMEOUT, read.read_to_string(&mut response)).await.unwrap().unwrap();
        assert!(response.starts_with("HTTP/1.1 403 ") && response.ends_with("no"), "{response}");
    }
}
