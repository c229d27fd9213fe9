//! Attack classes A and B against the whole gateway, in process, with the strict stand-in as AWS. Each asserts what the
//! caller gets and that AWS saw nothing.

use crate::demo::{Caller, gateway_identity, sign_in, write_config};
use crate::serve::{self, Running};
use bytes::Bytes;
use durward_journal::Record;
use durward_standin::aws::Aws;
use durward_standin::issuer::Issuer;
use http::{HeaderValue, Method, Request};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

struct Stage {
    aws: Aws,
    running: Running,
    caller: Caller,
    dir: tempfile::TempDir,
    _issuer: Issuer,
}

impl Stage {
    async fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let aws = Aws::start(loopback).await.unwrap();
        let issuer = Issuer::start(loopback).await.unwrap();
        aws.put_object("demo-data", "a.csv", "region,revenue\n");
        let config = write_config(dir.path(), &aws, &issuer, [loopback; 2]).unwrap();
        let running = serve::start(config, Some(gateway_identity(&aws))).await.unwrap();
        let token = issuer.issue("build-agent", &["agents"], "durward", Duration::from_hours(1));
        let caller = sign_in(&format!("http://{}", running.aws.unwrap()), &token).await.unwrap();
        Self { aws, running, caller, dir, _issuer: issuer }
    }

    /// What AWS saw beside the gateway's own STS calls.
    fn seen(&self) -> usize {
        self.aws.arrivals().iter().filter(|arrival| !arrival.action.starts_with("sts:AssumeRole")).count()
    }

    async fn send(&self, request: Request<Bytes>) -> u16 {
        self.caller.transport.call(&self.caller.origin, request, 1 << 20).await.unwrap().status().as_u16()
    }

    fn journal(&self) -> String {
        let mut journal = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("data/journal")).unwrap() {
            journal.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        String::from_utf8_lossy(&journal).into_owned()
    }

    fn get(&self) -> Request<Bytes> {
        self.caller.signed(Method::GET, "s3", "/demo-data/a.csv", None, b"").unwrap()
    }

    /// Sends raw bytes on a connection of their own and returns what comes back until it closes or falls silent.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.running.aws.unwrap()).unwrap();
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
    let stage = Stage::set().await;
    let request = stage.get();
    assert_eq!(stage.send(request.clone()).await, 200);
    assert_eq!(stage.send(request).await, 403);
    assert_eq!(stage.seen(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_signature_body_header_path_or_method_reaches_nobody() {
    let stage = Stage::set().await;
    let mut forged = stage.get();
    let text = forged.headers()["authorization"].to_str().unwrap().to_owned();
    let flipped = if text.ends_with('0') { "1" } else { "0" };
    let text = format!("{}{flipped}", &text[..text.len() - 1]);
    forged.headers_mut().insert("authorization", HeaderValue::from_str(&text).unwrap());
    assert_eq!(stage.send(forged).await, 403);

    let mut moved = stage.get();
    *moved.uri_mut() = "/demo-data/b.csv".parse().unwrap();
    assert_eq!(stage.send(moved).await, 403);

    let mut other_method = stage.get();
    *other_method.method_mut() = Method::DELETE;
    assert_eq!(stage.send(other_method).await, 403);

    let secret = b"{\"SecretId\":\"a\"}";
    let target = Some("secretsmanager.GetSecretValue");
    let mut body = stage.caller.signed(Method::POST, "secretsmanager", "/", target, secret).unwrap();
    *body.body_mut() = Bytes::from_static(b"{\"SecretId\":\"b\"}");
    // The json protocols answer 400 where S3 answers 403.
    assert_eq!(stage.send(body).await, 400);

    let mut retargeted = stage.caller.signed(Method::POST, "secretsmanager", "/", target, secret).unwrap();
    retargeted.headers_mut().insert("x-amz-target", HeaderValue::from_static("secretsmanager.DeleteSecret"));
    assert_eq!(stage.send(retargeted).await, 400);
    assert_eq!(stage.seen(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_amz_header_or_a_second_credential_refuses_the_request() {
    let stage = Stage::set().await;
    let mut extra = stage.get();
    extra.headers_mut().insert("x-amz-copy-source", HeaderValue::from_static("other/key"));
    assert_eq!(stage.send(extra).await, 400);
    let mut both = stage.get();
    *both.uri_mut() = "/demo-data/a.csv?X-Amz-Signature=00".parse().unwrap();
    assert_eq!(stage.send(both).await, 400);
    assert_eq!(stage.seen(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_the_target_contradicts_is_refused() {
    let stage = Stage::set().await;
    for (service, target) in [
        ("iam", "DynamoDB_20120810.DeleteTable"),
        ("dynamodb", "secretsmanager.GetSecretValue"),
        ("secretsmanager", "DynamoDB_20120810.ListTables"),
        ("nosuchservice", "X.Y"),
    ] {
        let request = stage.caller.signed(Method::POST, service, "/", Some(target), b"{}").unwrap();
        let status = stage.send(request).await;
        assert!(status == 400 || status == 403, "{service} {target}: {status}");
    }
    assert_eq!(stage.seen(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_never_lets_a_second_request_through() {
    let stage = Stage::set().await;
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
        let answer = stage.raw(format!("{head}{canary}").as_bytes());
        assert!(!answer.contains(" 200 "), "{head:?}: {answer}");
    }
    assert_eq!(stage.aws.arrivals().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_upstream_is_in_the_journal_or_an_answer() {
    let stage = Stage::set().await;
    stage.aws.put_secret("prod/db", "canary-4f1d");
    let target = Some("secretsmanager.GetSecretValue");
    let request = stage
        .caller
        .signed(Method::POST, "secretsmanager", "/", target, b"{\"SecretId\":\"prod/db\"}")
        .unwrap();
    let answer = stage.caller.transport.call(&stage.caller.origin, request, 1 << 20).await.unwrap();
    assert_eq!(answer.status(), 200);
    stage.running.flush().await.unwrap();
    let text = stage.journal();
    assert!(text.contains("GetSecretValue"));
    for canary in ["canary-4f1d".to_owned(), stage.aws.gateway_secret(), "IQoJstandin".to_owned()] {
        assert!(!text.contains(&canary));
        assert!(!String::from_utf8_lossy(answer.body()).contains(&canary));
    }
}

/// Bodies of known length are not polled for their end by the server: their outcome must stand before their last byte.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_read_to_its_end_is_recorded_so() {
    let stage = Stage::set().await;
    stage.aws.put_object("demo-data", "empty", "");
    for path in ["/demo-data/a.csv", "/demo-data/empty"] {
        let request = stage.caller.signed(Method::GET, "s3", path, None, b"").unwrap();
        let answer = stage.caller.transport.call(&stage.caller.origin, request, 1 << 20).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    stage.running.flush().await.unwrap();
    let outcomes: Vec<_> = durward_journal::read(&stage.dir.path().join("data/journal"))
        .filter_map(|entry| match entry.unwrap().record().unwrap() {
            Record::Outcome { response_bytes, failure, .. } => Some((response_bytes, failure)),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, [(15, None), (0, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_what_it_promises() {
    let dir = crate::demo::directory().unwrap();
    assert_eq!(crate::demo::demo(&dir, true).await, Ok(0));
    assert!(!dir.exists());
}
