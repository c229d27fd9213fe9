//! A caller, operations, a clock and HTTP clients for the tests of this crate.

use bytes::Bytes;
use durward_core::timestamps::{Clock, format_rfc3339};
use durward_core::{
    AccessLevel, Caller, CallerKind, FrontEndKind, HttpClient, HttpClientError, HttpFuture, HttpLimits,
    Operation, OperationTraits, RequiredPermission, Resource,
};
use http::{Request, Response, StatusCode};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

pub const START_TIME: OffsetDateTime = datetime!(2026-11-21 06:00:00.25 UTC);

pub const ASSUME_ROLE_RESPONSE_XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <AssumeRoleResult>\n    \
<SourceIdentity>alice</SourceIdentity><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn>\
<AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser>\n    <Credentials>\
<AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>wJalr/secret+key</SecretAccessKey>\
<SessionToken>token==&amp;more</SessionToken><Expiration>2026-11-21T06:15:00Z</Expiration></Credentials>\
<PackedPolicySize>6</PackedPolicySize></AssumeRoleResult><ResponseMetadata><RequestId>1</RequestId>\
</ResponseMetadata></AssumeRoleResponse>";

pub fn assume_role_response_xml(access_key_id: &str, secret: &str, token: &str, expiration: &str) -> String {
    ASSUME_ROLE_RESPONSE_XML
        .replace("ASIAEXAMPLE", access_key_id)
        .replace("wJalr/secret+key", secret)
        .replace("token==&amp;more", token)
        .replace("2026-11-21T06:15:00Z", expiration)
}

pub fn error_response_xml(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
}

pub fn test_caller(subject: &str) -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example".to_owned(),
        subject: subject.to_owned(),
        kind: CallerKind::Human,
        groups: Vec::new(),
        act: Vec::new(),
    }
}

pub fn operation_on(action: &str, arn: &str) -> Operation {
    operation_requiring(&[(action, Resource::Arn(arn.to_owned()))])
}

pub fn operation_requiring(permissions: &[(&str, Resource)]) -> Operation {
    Operation {
        front_end: FrontEndKind::Aws,
        service: "s3".to_owned(),
        name: "GetObject".to_owned(),
        required_permissions: permissions
            .iter()
            .map(|(action, resource)| RequiredPermission {
                action: (*action).to_owned(),
                resource: resource.clone(),
                access_level: AccessLevel::Read,
            })
            .collect(),
        parameters: serde_json::json!({}),
        sensitive_pointers: Vec::new(),
        region: None,
        account: None,
        traits: OperationTraits::default(),
        uninspected_parts: Vec::new(),
        body_sha256: None,
    }
}

/// A clock that tests move.
#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn now(&self) -> OffsetDateTime {
        START_TIME + Duration::seconds(self.0.load(Ordering::SeqCst))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn as_clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

pub type FakeResponse = Result<(StatusCode, String), HttpClientError>;
type FakeResponseFn = dyn Fn(usize, &Request<Bytes>) -> FakeResponse + Send + Sync;

/// An HTTP client that keeps the requests and responds with the result of a function.
pub struct FakeHttpClient {
    pub sent_requests: Mutex<Vec<Request<Bytes>>>,
    respond: Box<FakeResponseFn>,
}

impl FakeHttpClient {
    /// `respond` gets the number of the request, from 0.
    pub fn new(
        respond: impl Fn(usize, &Request<Bytes>) -> FakeResponse + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { sent_requests: Mutex::new(Vec::new()), respond: Box::new(respond) })
    }

    /// Every connection is refused.
    pub fn unreachable() -> Arc<Self> {
        Self::new(|_, _| Err(HttpClientError::Failed("connection refused".to_owned())))
    }

    /// Like STS: each response is another credential, `ASIA<n>`, that expires after 900 s of the clock.
    pub fn fake_sts(clock: &TestClock) -> Arc<Self> {
        let clock = clock.clone();
        Self::new(move |number, _| {
            let expires = format_rfc3339(clock.now() + Duration::seconds(900));
            Ok((
                StatusCode::OK,
                assume_role_response_xml(
                    &format!("ASIA{number}"),
                    &format!("secret-{number}"),
                    "token",
                    &expires,
                ),
            ))
        })
    }

    pub fn call_count(&self) -> usize {
        self.sent_requests.lock().unwrap().len()
    }

    /// The decoded form fields of request `number`.
    pub fn form_fields(&self, number: usize) -> BTreeMap<String, String> {
        let sent = self.sent_requests.lock().unwrap();
        let body = std::str::from_utf8(sent[number].body()).unwrap();
        body.split('&')
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                let value = percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned();
                (name.to_owned(), value)
            })
            .collect()
    }
}

impl HttpClient for FakeHttpClient {
    fn send(&self, request: Request<Bytes>, _limits: HttpLimits) -> HttpFuture<'_> {
        Box::pin(async move {
            let number = self.call_count();
            let result = (self.respond)(number, &request);
            self.sent_requests.lock().unwrap().push(request);
            // Other tasks run meanwhile, as with a real network.
            tokio::task::yield_now().await;
            let (status, body) = result?;
            let mut response = Response::new(Bytes::from(body));
            *response.status_mut() = status;
            Ok(response)
        })
    }
}
