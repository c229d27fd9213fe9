//! The whole gateway in front of an AWS that speaks HTTP/2 over TLS: the fake AWS behind a TLS terminator, in process.

use crate::SAMPLE_POLICIES;
use bytes::Bytes;
use durward_core::Origin;
use durward_fake_aws::aws::FakeAws;
use durward_gateway::upstream_client::UpstreamClient;
use durward_integration::{SdkClient, SdkRequest, TestGateway, TestResponse};
use durward_journal::JournalRecord;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    let mut response =
        transport.send_buffered(&behind, Request::from_parts(head, body), 1 << 20).await.unwrap();
    // S3 sends this header for an object that is encrypted with a KMS key; the model marks it as sensitive.
    response
        .headers_mut()
        .insert(KMS_KEY_ID_HEADER, "arn:aws:kms:us-east-1:123456789012:key/1".parse().unwrap());
    Ok(response.map(Full::new))
}

struct Http2Upstream {
    gateway: TestGateway,
    terminator: TlsTerminator,
    agent: SdkClient,
    _certificate_dir: tempfile::TempDir,
}

/// A gateway with the sample policies in front of the terminator, and an agent that is signed in.
async fn start_gateway() -> Http2Upstream {
    let dir = tempfile::tempdir().unwrap();
    let certificate = dir.path().join("aws.pem");
    let aws = FakeAws::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let terminator = TlsTerminator::start(&aws, &certificate).await;
    let builder = TestGateway::builder().aws().policies(SAMPLE_POLICIES.concat());
    let gateway = builder.aws_upstream(&terminator.url, certificate).start_before(aws).await;
    let agent = gateway.sign_in(&gateway.caller_token("build-agent"), "demo").await;
    Http2Upstream { gateway, terminator, agent, _certificate_dir: dir }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_reaches_an_aws_over_http2_on_one_connection() {
    let Http2Upstream { gateway, terminator, agent, _certificate_dir } = start_gateway().await;
    for key in ["0", "1", "2", "3", "4"] {
        gateway.fake_aws.put_object("demo-data", key, "region,revenue\n");
        let TestResponse(response) =
            gateway.call_aws(&agent, &SdkRequest::get_object("demo-data", key)).await;
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, &b"region,revenue\n"[..]));
        assert_eq!(response.version(), Version::HTTP_11);
        assert_eq!(response.headers()[KMS_KEY_ID_HEADER], "[masked: aws-sensitive]");
    }
    let records = gateway.journal_records().await;
    let masked: Vec<_> = records
        .into_iter()
        .filter_map(|record| match record {
            JournalRecord::Outcome { masked, .. } => Some(masked),
            _ => None,
        })
        .flatten()
        .map(|masked| (masked.data_class, masked.count))
        .collect();
    assert_eq!(masked, vec![("aws-sensitive".to_owned(), 1); 5]);
    let received: Vec<String> =
        gateway.fake_aws.received_requests().into_iter().map(|request| request.action).collect();
    assert_eq!(received.iter().filter(|action| *action == "s3:GetObject").count(), 5, "{received:?}");
    assert!(received.iter().any(|action| action == "sts:AssumeRole"), "{received:?}");
    assert_eq!(terminator.connections.load(Ordering::SeqCst), 1);
    gateway.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_what_was_signed_breaks_off_over_http2_too() {
    let Http2Upstream { gateway, agent, _certificate_dir, .. } = start_gateway().await;
    gateway.fake_aws.put_object("demo-results", "before", "");
    let put = |key| agent.sign(&SdkRequest::put_object("demo-results", key, "as signed")).unwrap();
    let allowed = gateway.send_signed(put("a")).await.status();
    let upload_count = || {
        let received = gateway.fake_aws.received_requests();
        received.iter().filter(|request| request.action == "s3:PutObject").count()
    };
    let response = gateway.send_signed(put("b").map(|_body| Bytes::from("otherwise"))).await;
    assert_eq!((allowed, response.status()), (200, 400));
    assert!(response.text().contains("XAmzContentSHA256Mismatch"), "{response:?}");
    assert_eq!(upload_count(), 1, "the second upload arrived whole");
    gateway.running.stop().await;
}
