//! Attack classes A and B against the whole gateway, in process, with the strict fake AWS. Each asserts what the
//! caller gets and that AWS saw nothing.

use crate::demo::{DemoAwsClient, gateway_identity, sign_in_client, write_config};
use crate::serve::{self, RunningGateway};
use bytes::Bytes;
use durward_fake_aws::aws::{FakeAws, SESSION_TOKEN_PREFIX};
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use durward_journal::JournalRecord;
use http::{HeaderValue, Method, Request};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

struct AwsTestGateway {
    fake_aws: FakeAws,
    gateway: RunningGateway,
    caller: DemoAwsClient,
    dir: tempfile::TempDir,
    _issuer: FakeOidcIssuer,
}

impl AwsTestGateway {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let aws = FakeAws::start(loopback).await.unwrap();
        let issuer = FakeOidcIssuer::start(loopback).await.unwrap();
        aws.put_object("demo-data", "a.csv", "region,revenue\n");
        let config = write_config(dir.path(), &aws, &issuer, [loopback; 2]).unwrap();
        let running = serve::start_gateway(config, Some(gateway_identity(&aws))).await.unwrap();
        let token = issuer.issue_token("build-agent", &["agents"], "durward", Duration::from_hours(1));
        let caller =
            sign_in_client(&format!("http://{}", running.aws_address.unwrap()), &token).await.unwrap();
        Self { fake_aws: aws, gateway: running, caller, dir, _issuer: issuer }
    }

    /// What AWS saw beside the gateway's own STS calls.
    fn upstream_call_count(&self) -> usize {
        self.fake_aws
            .received_requests()
            .iter()
            .filter(|arrival| !arrival.action.starts_with("sts:AssumeRole"))
            .count()
    }

    async fn send_request(&self, request: Request<Bytes>) -> u16 {
        self.caller
            .http_client
            .send_buffered(&self.caller.origin, request, 1 << 20)
            .await
            .unwrap()
            .status()
            .as_u16()
    }

    fn read_journal(&self) -> String {
        let mut journal = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("data/journal")).unwrap() {
            journal.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        String::from_utf8_lossy(&journal).into_owned()
    }

    fn signed_get(&self) -> Request<Bytes> {
        self.caller.sign_request(Method::GET, "s3", "/demo-data/a.csv", None, b"").unwrap()
    }

    /// Sends raw bytes on a connection of their own and returns what comes back until it closes or falls silent.
    fn send_raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.gateway.aws_address.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            answer.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_good_once() {
    let stage = AwsTestGateway::start().await;
    let request = stage.signed_get();
    assert_eq!(stage.send_request(request.clone()).await, 200);
    assert_eq!(stage.send_request(request).await, 403);
    assert_eq!(stage.upstream_call_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_signature_body_header_path_or_method_reaches_nobody() {
    let stage = AwsTestGateway::start().await;
    let mut forged = stage.signed_get();
    let text = forged.headers()["authorization"].to_str().unwrap().to_owned();
    let flipped = if text.ends_with('0') { "1" } else { "0" };
    let text = format!("{}{flipped}", &text[..text.len() - 1]);
    forged.headers_mut().insert("authorization", HeaderValue::from_str(&text).unwrap());
    assert_eq!(stage.send_request(forged).await, 403);

    let mut moved = stage.signed_get();
    *moved.uri_mut() = "/demo-data/b.csv".parse().unwrap();
    assert_eq!(stage.send_request(moved).await, 403);

    let mut other_method = stage.signed_get();
    *other_method.method_mut() = Method::DELETE;
    assert_eq!(stage.send_request(other_method).await, 403);

    let secret = b"{\"SecretId\":\"a\"}";
    let target = Some("secretsmanager.GetSecretValue");
    let mut body = stage.caller.sign_request(Method::POST, "secretsmanager", "/", target, secret).unwrap();
    *body.body_mut() = Bytes::from_static(b"{\"SecretId\":\"b\"}");
    // The json protocols answer 400 where S3 answers 403.
    assert_eq!(stage.send_request(body).await, 400);

    let mut retargeted =
        stage.caller.sign_request(Method::POST, "secretsmanager", "/", target, secret).unwrap();
    retargeted.headers_mut().insert("x-amz-target", HeaderValue::from_static("secretsmanager.DeleteSecret"));
    assert_eq!(stage.send_request(retargeted).await, 400);
    assert_eq!(stage.upstream_call_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_amz_header_or_a_second_credential_refuses_the_request() {
    let stage = AwsTestGateway::start().await;
    let mut extra = stage.signed_get();
    extra.headers_mut().insert("x-amz-copy-source", HeaderValue::from_static("other/key"));
    assert_eq!(stage.send_request(extra).await, 400);
    let mut both = stage.signed_get();
    *both.uri_mut() = "/demo-data/a.csv?X-Amz-Signature=00".parse().unwrap();
    assert_eq!(stage.send_request(both).await, 400);
    assert_eq!(stage.upstream_call_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_the_target_contradicts_is_refused() {
    let stage = AwsTestGateway::start().await;
    for (service, target) in [
        ("iam", "DynamoDB_20120810.DeleteTable"),
        ("dynamodb", "secretsmanager.GetSecretValue"),
        ("secretsmanager", "DynamoDB_20120810.ListTables"),
        ("nosuchservice", "X.Y"),
    ] {
        let request = stage.caller.sign_request(Method::POST, service, "/", Some(target), b"{}").unwrap();
        let status = stage.send_request(request).await;
        assert!(status == 400 || status == 403, "{service} {target}: {status}");
    }
    assert_eq!(stage.upstream_call_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_never_lets_a_second_request_through() {
    let stage = AwsTestGateway::start().await;
    let canary = "GET /demo-data/canary HTTP/1.1\r\nHost: x\r\n\r\n";
    for head in [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "POST / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
    ] {
        let answer = stage.send_raw(format!("{head}{canary}").as_bytes());
        assert!(!answer.contains(" 200 "), "{head:?}: {answer}");
        // One response: the connection is closed before the second request is read.
        let responses = answer.lines().filter(|line| line.starts_with("HTTP/1.")).count();
        assert_eq!(responses, 1, "{head:?}: {answer}");
    }
    assert_eq!(stage.fake_aws.received_requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_upstream_secret_is_in_the_journal_or_a_response() {
    let stage = AwsTestGateway::start().await;
    stage.fake_aws.put_secret("prod/db", "canary-4f1d");
    let target = Some("secretsmanager.GetSecretValue");
    let request = stage
        .caller
        .sign_request(Method::POST, "secretsmanager", "/", target, b"{\"SecretId\":\"prod/db\"}")
        .unwrap();
    let answer =
        stage.caller.http_client.send_buffered(&stage.caller.origin, request, 1 << 20).await.unwrap();
    assert_eq!(answer.status(), 200);
    stage.gateway.flush_journal().await.unwrap();
    let text = stage.read_journal();
    assert!(text.contains("GetSecretValue"));
    for canary in ["canary-4f1d".to_owned(), stage.fake_aws.gateway_secret(), SESSION_TOKEN_PREFIX.to_owned()]
    {
        assert!(!text.contains(&canary));
        assert!(!String::from_utf8_lossy(answer.body()).contains(&canary));
    }
}

/// Bodies of known length are not polled for their end by the server: their outcome must stand before their last byte.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_read_to_its_end_is_recorded_so() {
    let stage = AwsTestGateway::start().await;
    stage.fake_aws.put_object("demo-data", "empty", "");
    for path in ["/demo-data/a.csv", "/demo-data/empty"] {
        let request = stage.caller.sign_request(Method::GET, "s3", path, None, b"").unwrap();
        let answer =
            stage.caller.http_client.send_buffered(&stage.caller.origin, request, 1 << 20).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    stage.gateway.flush_journal().await.unwrap();
    let outcomes: Vec<_> = durward_journal::read_journal(&stage.dir.path().join("data/journal"))
        .filter_map(|entry| match entry.unwrap().decode_record().unwrap() {
            JournalRecord::Outcome { response_bytes, failure, .. } => Some((response_bytes, failure)),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, [(15, None), (0, None)]);
}
