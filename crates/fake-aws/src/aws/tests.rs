use super::*;
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_aws::sigv4::{SigningKey, sha256_hex};
use durward_core::Secret;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use std::fmt::Write as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A credential, and how a request that it signs differs from a right one.
#[derive(Clone)]
struct TestClient {
    access_key_id: String,
    secret: String,
    session_token: Option<String>,
    clock_offset: time::Duration,
    service: &'static str,
}

impl TestClient {
    fn gateway(aws: &FakeAws, service: &'static str) -> Self {
        Self {
            access_key_id: GATEWAY_ACCESS_KEY_ID.to_owned(),
            secret: aws.gateway_secret(),
            session_token: None,
            clock_offset: time::Duration::ZERO,
            service,
        }
    }

    /// Sends a request that is signed for `signed_body` and has `body`.
    async fn send(
        &self,
        aws: &FakeAws,
        target: Option<&str>,
        signed_body: &str,
        body: &str,
    ) -> (u16, String) {
        let signing_time = OffsetDateTime::now_utc() + self.clock_offset;
        let date = signing_time.date().to_string().replace('-', "");
        let key = SigningKey::derive(&self.secret, &date, "us-east-1", self.service);
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&aws.address.to_string()).unwrap());
        headers.insert(
            "x-amz-content-sha256",
            HeaderValue::from_str(&sha256_hex(signed_body.as_bytes())).unwrap(),
        );
        if let Some(target) = target {
            headers.insert("x-amz-target", HeaderValue::from_str(target).unwrap());
        }
        let token = self.session_token.clone().map(Secret::new);
        let params = SigningParams {
            access_key_id: &self.access_key_id,
            session_token: token.as_ref(),
            signing_key: &key,
            region: "us-east-1",
            service: self.service,
            signing_time,
        };
        let hash = sha256_hex(signed_body.as_bytes());
        sign_request(&params, &Method::POST, "/", "", &mut headers, &hash).unwrap();
        let mut text = "POST / HTTP/1.1\r\nconnection: close\r\n".to_owned();
        for (name, value) in &headers {
            write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
        }
        write!(text, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut stream = TcpStream::connect(aws.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn list_tables(&self, aws: &FakeAws) -> (u16, String) {
        self.send(aws, Some("DynamoDB_20120810.ListTables"), "{}", "{}").await
    }
}

async fn start() -> FakeAws {
    FakeAws::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap();
    rest.split_once('<').unwrap().0
}

/// A DynamoDB client with a session of a role, restricted by `policy`.
async fn assume_role(aws: &FakeAws, policy: Option<&Value>) -> TestClient {
    let policy = policy.map(|policy| {
        let text = policy.to_string();
        let encoded = durward_aws::sigv4::percent_encode(text.as_bytes());
        format!("&Policy={encoded}")
    });
    let form = format!(
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A{ACCOUNT_ID}%3Arole%2Fdemo&RoleSessionName=s{}",
        policy.unwrap_or_default()
    );
    let (status, body) = TestClient::gateway(aws, "sts").send(aws, None, &form, &form).await;
    assert_eq!(status, 200, "{body}");
    TestClient {
        access_key_id: element(&body, "AccessKeyId").to_owned(),
        secret: element(&body, "SecretAccessKey").to_owned(),
        session_token: Some(element(&body, "SessionToken").to_owned()),
        clock_offset: time::Duration::ZERO,
        service: "dynamodb",
    }
}

#[tokio::test]
async fn executes_a_request_with_a_right_signature() {
    let aws = start().await;
    let client = TestClient::gateway(&aws, "dynamodb");
    assert_eq!(client.list_tables(&aws).await, (200, "{\"TableNames\":[]}".to_owned()));
    let [received] = aws.received_requests().try_into().unwrap();
    assert_eq!(received.action, "dynamodb:ListTables");
    assert!(received.is_allowed && !received.has_session_policy);
}

#[tokio::test]
async fn refuses_each_wrong_credential_and_records_nothing() {
    let aws = start().await;
    let right = TestClient::gateway(&aws, "dynamodb");
    let session = assume_role(&aws, None).await;
    let before = aws.received_requests().len();
    let wrong = [
        ("SignatureDoesNotMatch", TestClient { secret: "guessed".to_owned(), ..right.clone() }),
        (
            "InvalidClientTokenId",
            TestClient { access_key_id: "AKIAUNKNOWN000000000".to_owned(), ..right.clone() },
        ),
        ("RequestTimeTooSkewed", TestClient { clock_offset: -time::Duration::minutes(20), ..right.clone() }),
        ("RequestTimeTooSkewed", TestClient { clock_offset: time::Duration::minutes(20), ..right.clone() }),
        ("InvalidClientTokenId", TestClient { session_token: None, ..session.clone() }),
        (
            "InvalidClientTokenId",
            TestClient { session_token: Some("IQoJother".to_owned()), ..session.clone() },
        ),
    ];
    for (code, client) in wrong {
        let (status, body) = client.list_tables(&aws).await;
        assert!(status == 400 && body.contains(code), "{code}: {status} {body}");
    }
    let target = Some("DynamoDB_20120810.ListTables");
    let (_, body) = right.send(&aws, target, "{}", "{\"Limit\":1}").await;
    assert!(body.contains("XAmzContentSHA256Mismatch"), "{body}");
    assert_eq!(aws.received_requests().len(), before);
    assert_eq!(session.list_tables(&aws).await.0, 200);
}

#[tokio::test]
async fn enforces_the_session_policy() {
    let aws = start().await;
    let policy = |action: &str| json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [action], "Resource": ["*"]}]});
    let allowed = assume_role(&aws, Some(&policy("dynamodb:ListTables"))).await;
    assert_eq!(allowed.list_tables(&aws).await.0, 200);
    let denied = assume_role(&aws, Some(&policy("dynamodb:GetItem"))).await;
    let (_, body) = denied.list_tables(&aws).await;
    assert!(body.contains("AccessDenied"), "{body}");
    let received: Vec<_> =
        aws.received_requests().into_iter().filter(|one| one.action == "dynamodb:ListTables").collect();
    assert_eq!(received.iter().map(|one| one.is_allowed).collect::<Vec<_>>(), [true, false]);
    assert!(received.iter().all(|one| one.has_session_policy));
}

#[tokio::test]
async fn only_the_gateway_assumes_roles() {
    let aws = start().await;
    let session = TestClient { service: "sts", ..assume_role(&aws, None).await };
    let form = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fother";
    let (status, body) = session.send(&aws, None, form, form).await;
    assert!(status == 403 && body.contains("AccessDenied"), "{status} {body}");
}

#[tokio::test]
async fn stops_when_the_last_clone_is_dropped() {
    let aws = start().await;
    let (clone, address) = (aws.clone(), aws.address);
    drop(aws);
    let client = TestClient::gateway(&clone, "dynamodb");
    assert_eq!(client.list_tables(&clone).await.0, 200);
    drop(clone);
    // The task is aborted at its next await; the connection that is refused then says that the listener is gone.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
