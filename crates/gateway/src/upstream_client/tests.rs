use super::*;
use crate::body::BoxError;
use bytes::Bytes;
use durward_core::RefusalReason;
use http::{HeaderMap, Method, StatusCode, Version};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Notify};

/// Far longer than any of these tests takes: a request that hangs fails its test.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);
const CHUNK_BYTES: usize = 64 << 10;

/// A TLS origin in this process.
struct TestUpstream {
    origin: Origin,
    authority: CertificateDer<'static>,
    state: Arc<TestUpstreamState>,
}

/// What the server has received, and what it waits for.
struct TestUpstreamState {
    connections: AtomicUsize,
    /// Bytes of uploads to `/upload`.
    uploaded_bytes: AtomicUsize,
    /// Uploads that were received whole.
    completed_uploads: AtomicUsize,
    barrier: Barrier,
    /// Releases one request for `/hold`.
    release: Notify,
    /// Makes a connection send GOAWAY: it accepts no more requests.
    go_away: Notify,
}

impl TestUpstream {
    /// `barrier_size` requests for `/together` wait for each other.
    async fn start(alpn: &[&str], max_streams: u32, barrier_size: usize) -> Self {
        let generated = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(generated.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![generated.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(TestUpstreamState {
            connections: AtomicUsize::new(0),
            uploaded_bytes: AtomicUsize::new(0),
            completed_uploads: AtomicUsize::new(0),
            barrier: Barrier::new(barrier_size),
            release: Notify::new(),
            go_away: Notify::new(),
        });
        let server_state = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _source)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), server_state.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        state.connections.fetch_add(1, Ordering::SeqCst);
                        serve_connection(stream, max_streams, state).await;
                    }
                });
            }
        });
        let origin = Origin { uses_tls: true, host: "localhost".to_owned(), port };
        Self { origin, authority: generated.cert.der().clone(), state }
    }

    fn trusting_client(&self) -> UpstreamClient {
        let client = UpstreamClient::new(vec![self.origin.clone()]).unwrap();
        client.trust_only_authorities(self.origin.clone(), vec![self.authority.clone()]).unwrap()
    }

    fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    fn build_request(&self, method: Method, path: &str, body: BoxBody) -> Request<BoxBody> {
        let host = self.origin.authority();
        Request::builder().method(method).uri(path).header("host", host).body(body).unwrap()
    }

    fn get_request(&self, path: &str) -> Request<BoxBody> {
        self.build_request(Method::GET, path, BoxBody::default())
    }
}

async fn serve_connection(
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    max_streams: u32,
    state: Arc<TestUpstreamState>,
) {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service_state = state.clone();
    let service = service_fn(move |request| {
        let state = service_state.clone();
        async move { Ok::<_, Infallible>(respond(request, &state).await) }
    });
    let stream = TokioIo::new(stream);
    // A client that disconnects ends its connection with an error, which does not matter here.
    if is_http2 {
        let mut connection = pin!(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(max_streams)
                .serve_connection(stream, service)
        );
        tokio::select! {
            _ended = connection.as_mut() => return,
            () = state.go_away.notified() => connection.as_mut().graceful_shutdown(),
        }
        let _ended = connection.await;
    } else {
        let _ended = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
    }
}

async fn respond(request: Request<Incoming>, state: &TestUpstreamState) -> Response<BoxBody> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/together" => {
            state.barrier.wait().await;
        }
        "/hold" => state.release.notified().await,
        "/upload" => {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return Response::new(BoxBody::default()) };
                let length = frame.data_ref().map_or(0, Bytes::len);
                state.uploaded_bytes.fetch_add(length, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            state.completed_uploads.fetch_add(1, Ordering::SeqCst);
            return Response::new(full_body(state.uploaded_bytes.load(Ordering::SeqCst).to_string()));
        }
        "/echo" => return Response::new(request.into_body().map_err(Into::into).boxed_unsync()),
        "/endless" => return Response::new(endless_body()),
        "/head" => {
            let names: Vec<&str> = request.headers().keys().map(http::HeaderName::as_str).collect();
            let description = format!("{:?} {} {}", request.version(), request.uri(), names.join(","));
            return Response::new(full_body(description));
        }
        _ => {}
    }
    let mut response = Response::new(full_body(path));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// A body without an end.
fn endless_body() -> BoxBody {
    chunk_body(usize::MAX, |_sent| {})
}

/// A body of `count` chunks. `before_chunk` gets the number of bytes produced so far, before each chunk.
fn chunk_body(count: usize, before_chunk: impl Fn(usize) + Send + Unpin + 'static) -> BoxBody {
    let chunk = Bytes::from(vec![b'x'; CHUNK_BYTES]);
    let mut sent = 0;
    let stream = FnBody(move || {
        if sent == count {
            return None;
        }
        before_chunk(sent * CHUNK_BYTES);
        sent += 1;
        Some(Ok(Frame::data(chunk.clone())))
    });
    stream.boxed_unsync()
}

struct FnBody<F>(F);

impl<F: FnMut() -> Option<Result<Frame<Bytes>, BoxError>> + Unpin> http_body::Body for FnBody<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        std::task::Poll::Ready((self.0)())
    }
}

async fn read_body_text(response: Response<BoxBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn with_test_timeout<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, work).await.expect("the test hangs")
}

#[tokio::test]
async fn a_hundred_requests_at_once_share_one_http2_connection() {
    let server = TestUpstream::start(&["h2", "http/1.1"], 200, 100).await;
    let client = Arc::new(server.trusting_client());
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (client, origin, request) =
            (client.clone(), server.origin.clone(), server.get_request("/together"));
        requests.spawn(async move { client.send(&origin, request).await.unwrap().status() });
    }
    let statuses = with_test_timeout(requests.join_all()).await;
    assert!(statuses.iter().all(|status| *status == StatusCode::ACCEPTED));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn requests_beyond_the_stream_limit_use_another_connection() {
    let server = TestUpstream::start(&["h2"], 2, 5).await;
    let client = Arc::new(server.trusting_client());
    with_test_timeout(client.send(&server.origin, server.get_request("/"))).await.unwrap();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (client, origin, request) =
            (client.clone(), server.origin.clone(), server.get_request("/together"));
        requests.spawn(async move { client.send(&origin, request).await.unwrap().status() });
    }
    with_test_timeout(requests.join_all()).await;
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn the_head_is_rewritten_for_http2() {
    let server = TestUpstream::start(&["h2"], 10, 1).await;
    let mut request = server.get_request("/head?a=b//../c");
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "1"), ("te", "gzip"), ("x-amz-date", "d")]
    {
        headers.insert(name, value.parse().unwrap());
    }
    request.headers_mut().extend(headers);
    let response = with_test_timeout(server.trusting_client().send(&server.origin, request)).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_11);
    let authority = server.origin.authority();
    assert_eq!(
        read_body_text(response).await,
        format!("HTTP/2.0 https://{authority}/head?a=b//../c x-amz-date")
    );
}

#[tokio::test]
async fn large_bodies_stream_both_ways_as_fast_as_they_are_read() {
    let server = TestUpstream::start(&["h2"], 10, 1).await;
    let state = server.state.clone();
    let count = 1024;
    let upload = chunk_body(count, move |sent| {
        let unread = sent - state.uploaded_bytes.load(Ordering::SeqCst);
        assert!(unread <= 4 << 20, "{unread} bytes were buffered before the peer read them");
    });
    let client = server.trusting_client();
    let request = server.build_request(Method::PUT, "/upload", upload);
    let response = with_test_timeout(client.send(&server.origin, request)).await.unwrap();
    assert_eq!(read_body_text(response).await, (count * CHUNK_BYTES).to_string());
    let request = server.build_request(Method::POST, "/echo", chunk_body(count, |_sent| {}));
    let mut echo = with_test_timeout(client.send(&server.origin, request)).await.unwrap().into_body();
    let mut echoed = 0;
    while let Some(frame) = with_test_timeout(echo.frame()).await {
        echoed += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!((echoed, server.connections()), (count * CHUNK_BYTES, 1));
}

#[tokio::test]
async fn unread_responses_do_not_block_others() {
    let server = TestUpstream::start(&["h2"], 200, 1).await;
    let client = server.trusting_client();
    let mut unread = Vec::new();
    for _ in 0..90 {
        unread.push(
            with_test_timeout(client.send(&server.origin, server.get_request("/endless"))).await.unwrap(),
        );
    }
    // Of each, only as much arrives as a stream's window holds.
    let mut echo = with_test_timeout(
        client.send(&server.origin, server.build_request(Method::POST, "/echo", chunk_body(64, |_sent| {}))),
    )
    .await
    .unwrap()
    .into_body();
    let mut echoed = 0;
    while let Some(frame) = with_test_timeout(echo.frame()).await {
        echoed += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!((echoed, server.connections()), (64 * CHUNK_BYTES, 1));
    drop(unread);
}

#[tokio::test]
async fn a_connection_that_goes_away_ends_its_requests_and_takes_no_new_ones() {
    let server = TestUpstream::start(&["h2"], 10, 1).await;
    let client = Arc::new(server.trusting_client());
    for round in 1..=3 {
        let (sender, origin, request) = (client.clone(), server.origin.clone(), server.get_request("/hold"));
        let held =
            tokio::spawn(
                async move { sender.send(&origin, request).await.map(|response| response.status()) },
            );
        with_test_timeout(client.send(&server.origin, server.get_request("/"))).await.unwrap();
        assert_eq!(server.connections(), round);
        server.state.go_away.notify_one();
        // Requests follow until one meets the closing connection. It must not fail, but be sent on the next connection.
        while server.connections() == round {
            with_test_timeout(client.send(&server.origin, server.get_request("/"))).await.unwrap();
        }
        server.state.release.notify_one();
        assert_eq!(with_test_timeout(held).await.unwrap().unwrap(), StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn an_origin_that_offers_http1_only_gets_it_over_pooled_connections() {
    for alpn in [&["http/1.1"][..], &[]] {
        let server = TestUpstream::start(alpn, 10, 20).await;
        let client = Arc::new(server.trusting_client());
        for _ in 0..3 {
            let response =
                with_test_timeout(client.send(&server.origin, server.get_request("/head"))).await.unwrap();
            assert_eq!(read_body_text(response).await, "HTTP/1.1 /head host");
        }
        assert_eq!(server.connections(), 1);
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (client, origin, request) =
                (client.clone(), server.origin.clone(), server.get_request("/together"));
            requests.spawn(async move { client.send(&origin, request).await.unwrap().status() });
        }
        with_test_timeout(requests.join_all()).await;
        assert_eq!(server.connections(), 20);
    }
}

#[tokio::test]
async fn a_body_refused_midway_never_completes_upstream_and_its_refusal_is_returned() {
    for alpn in ["h2", "http/1.1"] {
        let server = TestUpstream::start(&[alpn], 10, 1).await;
        let client = server.trusting_client();
        let chunks_left = AtomicU32::new(3);
        let body = FnBody(move || {
            if chunks_left.fetch_sub(1, Ordering::SeqCst) > 0 {
                return Some(Ok(Frame::data(Bytes::from_static(b"some"))));
            }
            Some(Err(Refusal::new(RefusalReason::BodyMismatch, "not the signed body").into()))
        });
        let request = server.build_request(Method::PUT, "/upload", body.boxed_unsync());
        match with_test_timeout(client.send(&server.origin, request)).await {
            Err(UpstreamError::RequestBody(refusal)) => {
                assert_eq!(refusal.reason, RefusalReason::BodyMismatch)
            }
            other => panic!("{other:?}"),
        }
        // The response to the next request shows that the server has read past the upload.
        with_test_timeout(client.send(&server.origin, server.get_request("/"))).await.unwrap();
        assert_eq!(server.state.completed_uploads.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn the_certificate_must_come_from_the_configured_authority() {
    let (server, other) =
        (TestUpstream::start(&["h2"], 1, 1).await, TestUpstream::start(&["h2"], 1, 1).await);
    let wrong = UpstreamClient::new(vec![server.origin.clone()])
        .unwrap()
        .trust_only_authorities(server.origin.clone(), vec![other.authority.clone()])
        .unwrap();
    let unknown = UpstreamClient::new(vec![server.origin.clone()]).unwrap();
    for client in [wrong, unknown] {
        let refused = with_test_timeout(client.send(&server.origin, server.get_request("/"))).await;
        assert!(matches!(refused, Err(UpstreamError::Connect(..))));
    }
}

#[tokio::test]
async fn an_untrusted_name_that_resolves_to_loopback_is_refused_and_a_trusted_one_is_connected() {
    let server = TestUpstream::start(&["h2"], 1, 1).await;
    for uses_tls in [true, false] {
        let origin = Origin { uses_tls, ..server.origin.clone() };
        let strict = UpstreamClient::new(Vec::new()).unwrap();
        assert!(matches!(strict.connect(&origin).await, Err(UpstreamError::ForbiddenAddress(_))));
    }
    assert!(server.trusting_client().connect(&server.origin).await.is_ok());
}

#[tokio::test]
async fn buffered_requests_work_over_http2() {
    let server = TestUpstream::start(&["h2"], 1, 1).await;
    let request = Request::post("/echo").header("host", server.origin.authority());
    let request = request.body(Bytes::from_static(b"Action=AssumeRole")).unwrap();
    let response = with_test_timeout(server.trusting_client().send_buffered(&server.origin, request, 100))
        .await
        .unwrap();
    assert_eq!(response.into_body(), "Action=AssumeRole");
}

#[tokio::test]
async fn requests_to_an_unresponsive_origin_fail_together_and_not_one_after_another() {
    // The operating system accepts connections to it, and no TLS handshake ever follows.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let origin = Origin { uses_tls: true, host: "localhost".to_owned(), port };
    let mut client = UpstreamClient::new(vec![origin.clone()]).unwrap();
    client.connector.connect_timeout = Duration::from_millis(500);
    let client = Arc::new(client);
    let started_at = Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, origin) = (client.clone(), origin.clone());
        let request =
            Request::builder().uri("/").header("host", "localhost").body(BoxBody::default()).unwrap();
        requests.spawn(async move { client.send(&origin, request).await });
    }
    for result in with_test_timeout(requests.join_all()).await {
        assert!(matches!(result, Err(UpstreamError::Connect(..))));
    }
    // One connection attempt, and one more for requests that came too late for it. One after another they would take ten seconds.
    assert!(started_at.elapsed() < Duration::from_secs(3), "{:?}", started_at.elapsed());
}
