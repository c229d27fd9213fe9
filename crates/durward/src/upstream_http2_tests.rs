//! The whole gateway in front of an AWS that speaks HTTP/2 over TLS: the fake AWS behind a TLS terminator, in process.

use crate::demo::{DemoAwsClient, gateway_identity, sign_in_client, write_config};
use crate::serve::{self, RunningGateway};
use bytes::Bytes;
use durward_core::Origin;
use durward_fake_aws::aws::FakeAws;
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use durward_gateway::upstream_client::UpstreamClient;
use durward_journal::JournalRecord;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

const KMS_KEY_ID_HEADER: &str = "x-amz-server-side-encryption-aws-kms-key-id";

/// Where the terminator is, and how many connections it took.
struct TlsTerminator {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl TlsTerminator {
    /// Listens with a fresh certificate, written to `certificate`, and passes everything on to `aws`.
    async fn start(aws: &FakeAws, certificate: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(certificate, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let connections = Arc::new(AtomicUsize::new(0));
        let behind = aws.url().parse::<Origin>().unwrap();
        let transport = Arc::new(UpstreamClient::new(vec![behind.clone()]).unwrap());
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _source)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                let (transport, behind) = (transport.clone(), behind.clone());
                let service =
                    service_fn(move |request| forward_request(transport.clone(), behind.clone(), request));
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move {
                    // The gateway closes it when it stops.
                    let _ended = connection.await;
                });
            }
        });
        Self { url, connections }
    }
}

/// The fake AWS checks the signature with the `host` that was signed: the `:authority`.
async fn forward_request(
    transport: Arc<UpstreamClient>,
    behind: Origin,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (mut head, body) = request.into_parts();
    assert!(!head.headers.contains_key("host"), "`host` beside `:authority`");
    let authority = head.uri.authority().unwrap().to_string();
    head.headers.insert("host", authority.parse().unwrap());
    head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
    head.version = Version::HTTP_11;
    let body = body.collect().await?.to_bytes();
    let mut answer =
        transport.send_buffered(&behind, Request::from_parts(head, body), 1 << 20).await.unwrap();
    // As S3 answers for an object sealed with a key of KMS; the model marks this header.
    answer
        .headers_mut()
        .insert(KMS_KEY_ID_HEADER, "arn:aws:kms:us-east-1:123456789012:key/1".parse().unwrap());
    Ok(answer.map(Full::new))
}

async fn start_gateway(
    dir: &Path,
    aws: &FakeAws,
    upstream: &TlsTerminator,
    issuer: &FakeOidcIssuer,
) -> (RunningGateway, DemoAwsClient) {
    let mut config = write_config(dir, aws, issuer, [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 2]).unwrap();
    config.aws.emulator_url = Some(upstream.url.clone());
    config.aws.emulator_ca_file = Some(dir.join("aws.pem"));
    let running = serve::start_gateway(config, Some(gateway_identity(aws))).await.unwrap();
    let token = issuer.issue_token("build-agent", &["agents"], "durward", Duration::from_hours(1));
    let caller = sign_in_client(&format!("http://{}", running.aws_address.unwrap()), &token).await.unwrap();
    (running, caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_reaches_an_aws_over_http2_on_one_connection() {
    let dir = tempfile::tempdir().unwrap();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let aws = FakeAws::start(loopback).await.unwrap();
    let issuer = FakeOidcIssuer::start(loopback).await.unwrap();
    for number in 0..5 {
        aws.put_object("demo-data", &number.to_string(), "region,revenue\n");
    }
    let upstream = TlsTerminator::start(&aws, &dir.path().join("aws.pem")).await;
    let (running, caller) = start_gateway(dir.path(), &aws, &upstream, &issuer).await;
    for number in 0..5 {
        let path = format!("/demo-data/{number}");
        let request = caller.sign_request(Method::GET, "s3", &path, None, b"").unwrap();
        let answer = caller.http_client.send_buffered(&caller.origin, request, 1 << 20).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (200, &b"region,revenue\n"[..]));
        assert_eq!(answer.version(), Version::HTTP_11);
        assert_eq!(answer.headers()[KMS_KEY_ID_HEADER], "[masked: aws-sensitive]");
    }
    running.flush_journal().await.unwrap();
    let masked: Vec<_> = durward_journal::read_journal(&dir.path().join("data/journal"))
        .filter_map(|entry| match entry.unwrap().decode_record().unwrap() {
            JournalRecord::Outcome { masked, .. } => Some(masked),
            _ => None,
        })
        .flatten()
        .map(|masked| (masked.data_class, masked.count))
        .collect();
    assert_eq!(masked, vec![("aws-sensitive".to_owned(), 1); 5]);
    let arrived: Vec<String> = aws.received_requests().into_iter().map(|arrival| arrival.action).collect();
    assert_eq!(arrived.iter().filter(|action| *action == "s3:GetObject").count(), 5, "{arrived:?}");
    assert!(arrived.iter().any(|action| action == "sts:AssumeRole"), "{arrived:?}");
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_what_was_signed_breaks_off_over_http2_too() {
    let dir = tempfile::tempdir().unwrap();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let aws = FakeAws::start(loopback).await.unwrap();
    let issuer = FakeOidcIssuer::start(loopback).await.unwrap();
    aws.put_object("demo-results", "before", "");
    let upstream = TlsTerminator::start(&aws, &dir.path().join("aws.pem")).await;
    let (running, caller) = start_gateway(dir.path(), &aws, &upstream, &issuer).await;
    let put = |path: &str| caller.sign_request(Method::PUT, "s3", path, None, b"as signed").unwrap();
    let answer =
        caller.http_client.send_buffered(&caller.origin, put("/demo-results/a"), 1 << 20).await.unwrap();
    let allowed = answer.status().as_u16();
    let uploads =
        || aws.received_requests().iter().filter(|arrival| arrival.action == "s3:PutObject").count();
    let bent = put("/demo-results/b").map(|_body| Bytes::from("otherwise"));
    let answer = caller.http_client.send_buffered(&caller.origin, bent, 1 << 20).await.unwrap();
    assert_eq!((allowed, answer.status().as_u16()), (200, 400));
    assert!(String::from_utf8_lossy(answer.body()).contains("XAmzContentSHA256Mismatch"), "{answer:?}");
    assert_eq!(uploads(), 1, "the second upload arrived whole");
    running.stop().await;
}
