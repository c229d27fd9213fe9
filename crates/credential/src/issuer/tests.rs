use super::cache_key::CredentialCacheKey;
use super::*;
use crate::fakes::{
    FakeHttpClient, START_TIME, TestClock, assume_role_response_xml, error_response_xml, operation_on,
    operation_requiring, test_caller,
};
use crate::{GatewayIdentityError, SessionPolicyError};
use durward_core::{CallerKind, HttpClientError, RefusalReason, Resource};
use http::StatusCode;
use proptest::prelude::*;

fn test_issuer(http_client: &Arc<FakeHttpClient>, clock: &TestClock) -> CredentialIssuer {
    let identity = GatewayIdentity::from_static_credential(
        "AKIABASE",
        Secret::new("base-secret-key"),
        Some(Secret::new("base-token")),
    );
    let endpoint: StsEndpoint = Arc::new(|region| {
        format!("https://sts.{region}.amazonaws.com/")
            .parse()
            .map_err(|_error| StsEndpointError::UnknownRegion(region.to_owned()))
    });
    CredentialIssuer::new(Arc::new(identity), http_client.clone(), endpoint).with_clock(clock.as_clock())
}

fn test_connection() -> ConnectionConfig {
    ConnectionConfig::new("prod", "arn:aws:iam::123456789012:role/agents", "eu-west-1")
}

/// An owned [`CredentialRequest`], to be changed field by field.
#[derive(Clone)]
struct TestCredentialRequest {
    connection: ConnectionConfig,
    caller: Caller,
    session: SessionId,
    exchange: ExchangeId,
    operation: Operation,
}

impl TestCredentialRequest {
    fn new() -> Self {
        Self {
            connection: test_connection(),
            caller: test_caller("alice@example.com"),
            session: SessionId::new(),
            exchange: ExchangeId::new(),
            operation: operation_on("s3:GetObject", "arn:aws:s3:::reports/a.csv"),
        }
    }

    fn as_request(&self) -> CredentialRequest<'_> {
        CredentialRequest {
            connection: &self.connection,
            caller: &self.caller,
            session: self.session,
            exchange: self.exchange,
            operation: &self.operation,
        }
    }
}

#[tokio::test]
async fn sends_sts_policy_identity_and_tags() {
    let (clock, request) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&clock);
    let issued = test_issuer(&sts, &clock).issue_credential(&request.as_request()).await.unwrap();
    let form = sts.form_fields(0);
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", "arn:aws:iam::123456789012:role/agents"),
        ("RoleSessionName", &format!("durward-{}", request.session)),
        ("SourceIdentity", "corp=alice@example.com"),
        ("DurationSeconds", "900"),
        ("Tags.member.1.Key", "durward:caller"),
        ("Tags.member.1.Value", "corp/alice@example.com"),
        ("Tags.member.2.Key", "durward:session"),
        ("Tags.member.2.Value", &request.session.to_string()),
        ("Tags.member.3.Key", "durward:exchange"),
        ("Tags.member.3.Value", &request.exchange.to_string()),
        ("Tags.member.4.Key", "durward:connection"),
        ("Tags.member.4.Value", "prod"),
    ] {
        assert_eq!(form.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!form.contains_key("ExternalId"));
    assert!(form["Policy"].contains("\"aws:CurrentTime\":\"2026-11-21T06:01:00Z\""), "{}", form["Policy"]);
    // The account of the role, so that a bucket of the same name in another account is out of reach.
    assert!(form["Policy"].contains("\"aws:ResourceAccount\":[\"123456789012\"]"), "{}", form["Policy"]);
    assert_eq!(issued.scope, CredentialScope::Operation);
    assert_eq!(issued.policy_sha256, Some(sha256_hex(form["Policy"].as_bytes())));
    assert_eq!(issued.access_key_id, "ASIA0");
    assert_eq!(issued.secret_access_key.expose(), "secret-0");
    assert_eq!(issued.usable_until, time::macros::datetime!(2026-11-21 06:00:55 UTC));
    assert_eq!(issued.expires_at, START_TIME + Duration::from_mins(15));

    let sent = sts.sent_requests.lock().unwrap();
    let request = &sent[0];
    assert_eq!(request.uri(), "https://sts.eu-west-1.amazonaws.com/");
    assert_eq!(request.headers()["host"], "sts.eu-west-1.amazonaws.com");
    assert_eq!(request.headers()["x-amz-security-token"], "base-token");
    let authorization = request.headers()["authorization"].to_str().unwrap();
    assert!(
        authorization.contains("Credential=AKIABASE/20261121/eu-west-1/sts/aws4_request"),
        "{authorization}"
    );
}

#[tokio::test]
async fn sends_the_external_id() {
    let (clock, mut request) = (TestClock::default(), TestCredentialRequest::new());
    request.connection.external_id = Some("tenant 7/&=".to_owned());
    let sts = FakeHttpClient::fake_sts(&clock);
    test_issuer(&sts, &clock).issue_credential(&request.as_request()).await.unwrap();
    assert_eq!(sts.form_fields(0)["ExternalId"], "tenant 7/&=");
}

#[tokio::test]
async fn a_credential_is_reused_only_while_its_policy_holds() {
    let (clock, mut request) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&clock);
    let issuer = test_issuer(&sts, &clock);
    let first = issuer.issue_credential(&request.as_request()).await.unwrap();
    clock.advance(54);
    request.exchange = ExchangeId::new();
    let second = issuer.issue_credential(&request.as_request()).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    clock.advance(1);
    let third = issuer.issue_credential(&request.as_request()).await.unwrap();
    assert_eq!(third.access_key_id, "ASIA1");
    assert_eq!(sts.form_fields(1)["Tags.member.3.Value"], request.exchange.to_string());
}

#[tokio::test]
async fn a_credential_is_never_used_past_its_expiry() {
    let clock = TestClock::default();
    let sts = FakeHttpClient::new(|number, _| {
        Ok((
            StatusCode::OK,
            assume_role_response_xml(&format!("ASIA{number}"), "secret", "token", "2026-11-21T06:00:40Z"),
        ))
    });
    let issuer = test_issuer(&sts, &clock);
    let request = TestCredentialRequest::new();
    let issued = issuer.issue_credential(&request.as_request()).await.unwrap();
    assert_eq!(issued.usable_until, time::macros::datetime!(2026-11-21 06:00:10 UTC));
    clock.advance(10);
    assert!(matches!(issuer.issue_credential(&request.as_request()).await, Err(IssueError::ExpiresTooSoon)));
}

#[tokio::test]
async fn concurrent_requests_share_one_call_and_its_failure() {
    let clock = TestClock::default();
    let sts = FakeHttpClient::new(|_, _| {
        Ok((StatusCode::FORBIDDEN, error_response_xml("AccessDenied", "not you")))
    });
    let issuer = Arc::new(test_issuer(&sts, &clock));
    let request = TestCredentialRequest::new();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (issuer, mut request) = (issuer.clone(), request.clone());
            request.exchange = ExchangeId::new();
            tokio::spawn(async move { issuer.issue_credential(&request.as_request()).await.map(|_| ()) })
        })
        .collect();
    for task in tasks {
        let denied = IssueError::Refused { code: "AccessDenied".to_owned(), message: "not you".to_owned() };
        assert_eq!(task.await.unwrap(), Err(denied));
    }
    assert_eq!(sts.call_count(), 1);
    // The failure itself is not cached.
    assert!(issuer.issue_credential(&request.as_request()).await.is_err());
    assert_eq!(sts.call_count(), 2);
}

#[tokio::test]
async fn a_policy_that_does_not_pack_is_retried_with_actions_only() {
    let clock = TestClock::default();
    let sts = FakeHttpClient::new(|number, request| {
        let body = std::str::from_utf8(request.body()).unwrap();
        if body.contains("reports") {
            return Ok((
                StatusCode::BAD_REQUEST,
                error_response_xml("PackedPolicyTooLarge", "104% of the limit"),
            ));
        }
        Ok((
            StatusCode::OK,
            assume_role_response_xml(&format!("ASIA{number}"), "s", "t", "2026-11-21T06:15:00Z"),
        ))
    });
    let issued =
        test_issuer(&sts, &clock).issue_credential(&TestCredentialRequest::new().as_request()).await.unwrap();
    assert_eq!((sts.call_count(), issued.scope), (2, CredentialScope::Actions));
    assert!(sts.form_fields(1)["Policy"].contains(r#""Action":["s3:GetObject"],"Resource":["*"]"#));
    assert_eq!(issued.policy_sha256, Some(sha256_hex(sts.form_fields(1)["Policy"].as_bytes())));
}

#[tokio::test]
async fn a_policy_that_never_packs_is_refused_after_two_calls() {
    let clock = TestClock::default();
    let sts = FakeHttpClient::new(|_, _| {
        Ok((StatusCode::BAD_REQUEST, error_response_xml("PackedPolicyTooLarge", "tags")))
    });
    let error = test_issuer(&sts, &clock)
        .issue_credential(&TestCredentialRequest::new().as_request())
        .await
        .unwrap_err();
    assert_eq!((sts.call_count(), error.sts_error_code()), (2, Some("PackedPolicyTooLarge")));
}

#[tokio::test]
async fn session_scope_sends_no_policy_and_serves_the_session() {
    let (clock, mut request) = (TestClock::default(), TestCredentialRequest::new());
    request.connection.scope = ConnectionScope::Session;
    let sts = FakeHttpClient::fake_sts(&clock);
    let issuer = test_issuer(&sts, &clock);
    let issued = issuer.issue_credential(&request.as_request()).await.unwrap();
    let form = sts.form_fields(0);
    assert!(!form.contains_key("Policy") && form.contains_key("SourceIdentity"));
    assert_eq!(form["Tags.member.1.Value"], "corp/alice@example.com");
    assert_eq!((issued.scope, &issued.policy_sha256), (CredentialScope::Session, &None));
    assert_eq!(issued.usable_until, START_TIME + Duration::from_mins(10));

    request.operation = operation_on("sqs:SendMessage", "arn:aws:sqs:eu-west-1:1:q");
    clock.advance(599);
    assert!(Arc::ptr_eq(&issued, &issuer.issue_credential(&request.as_request()).await.unwrap()));
    request.session = SessionId::new();
    assert!(!Arc::ptr_eq(&issued, &issuer.issue_credential(&request.as_request()).await.unwrap()));
}

#[tokio::test]
async fn a_forgotten_session_gets_nothing_from_the_cache() {
    let (clock, request) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&clock);
    let issuer = test_issuer(&sts, &clock);
    issuer.issue_credential(&request.as_request()).await.unwrap();
    issuer.forget_session(SessionId::new());
    issuer.issue_credential(&request.as_request()).await.unwrap();
    assert_eq!(sts.call_count(), 1);
    issuer.forget_session(request.session);
    issuer.issue_credential(&request.as_request()).await.unwrap();
    assert_eq!(sts.call_count(), 2);
}

#[tokio::test]
async fn a_session_that_is_forgotten_during_the_call_is_not_cached() {
    let (clock, request) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&clock);
    let issuer = Arc::new(test_issuer(&sts, &clock));
    let call = tokio::spawn({
        let (issuer, request) = (issuer.clone(), request.clone());
        async move { issuer.issue_credential(&request.as_request()).await.map(|_issued| ()) }
    });
    // The fake yields once after it kept the request, and this runtime has one thread.
    while sts.call_count() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!call.is_finished());
    issuer.forget_session(SessionId::new());
    issuer.forget_session(request.session);
    call.await.unwrap().unwrap();
    assert!(lock_ignoring_poison(&issuer.cache).by_key.is_empty());
    // The next call of the session is cached, and the ended call is no longer listed.
    issuer.issue_credential(&request.as_request()).await.unwrap();
    let cache = lock_ignoring_poison(&issuer.cache);
    assert_eq!((cache.by_key.len(), cache.calls.len()), (1, 1));
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let (clock, mut request) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&clock);
    let issuer = test_issuer(&sts, &clock);
    for number in 0..MAX_CACHED_CREDENTIALS + 3 {
        request.operation = operation_on("s3:GetObject", &format!("arn:aws:s3:::reports/{number}"));
        issuer.issue_credential(&request.as_request()).await.unwrap();
    }
    assert_eq!(lock_ignoring_poison(&issuer.cache).by_key.len(), MAX_CACHED_CREDENTIALS);
    clock.advance(60);
    request.operation = operation_on("s3:GetObject", "arn:aws:s3:::reports/last");
    issuer.issue_credential(&request.as_request()).await.unwrap();
    assert_eq!(lock_ignoring_poison(&issuer.cache).by_key.len(), 1);
}

#[tokio::test]
async fn failures_have_the_reason_of_their_cause_and_never_hold_a_secret() {
    type FailureCase = (crate::fakes::FakeResponse, fn(&IssueError) -> bool, RefusalReason);
    let cases: Vec<FailureCase> = vec![
        (
            Ok((StatusCode::BAD_REQUEST, error_response_xml("Throttling", "Rate exceeded"))),
            |error| matches!(error, IssueError::Throttled { .. }),
            RefusalReason::Busy,
        ),
        (
            Ok((StatusCode::SERVICE_UNAVAILABLE, error_response_xml("ServiceUnavailable", "later"))),
            |error| matches!(error, IssueError::Unavailable(_)),
            RefusalReason::Upstream,
        ),
        (
            Ok((StatusCode::BAD_GATEWAY, "<html>base-secret-key</html>".to_owned())),
            |error| matches!(error, IssueError::Unavailable(_)),
            RefusalReason::Upstream,
        ),
        (
            Err(HttpClientError::Failed("tls: base-secret-key".to_owned())),
            |error| matches!(error, IssueError::Unavailable(_)),
            RefusalReason::Upstream,
        ),
        (
            Ok((
                StatusCode::FORBIDDEN,
                error_response_xml("AccessDenied", "you said base-token, base-secret-key"),
            )),
            |error| error.sts_error_code() == Some("AccessDenied"),
            RefusalReason::Internal,
        ),
        (
            Ok((StatusCode::OK, assume_role_response_xml("ASIA", "base-secret-key", "base-token", "never"))),
            |error| matches!(error, IssueError::InvalidResponse(_)),
            RefusalReason::Internal,
        ),
    ];
    for (response, expected, reason) in cases {
        let sts = FakeHttpClient::new(move |_, _| response.clone());
        let error = test_issuer(&sts, &TestClock::default())
            .issue_credential(&TestCredentialRequest::new().as_request())
            .await
            .unwrap_err();
        assert!(expected(&error), "{error:?}");
        let refusal = error.refusal();
        assert_eq!(refusal.reason, reason);
        for text in [format!("{error}"), format!("{error:?}"), format!("{refusal:?}")] {
            assert!(!text.contains("base-secret-key") && !text.contains("base-token"), "{text}");
        }
        assert!(!refusal.message.contains("arn:"));
    }
}

#[tokio::test]
async fn an_operation_without_permissions_never_reaches_sts() {
    let (clock, mut request) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&clock);
    request.operation = operation_requiring(&[]);
    assert_eq!(
        test_issuer(&sts, &clock).issue_credential(&request.as_request()).await.unwrap_err(),
        IssueError::Policy(SessionPolicyError::NoRequiredPermission)
    );
    assert_eq!(sts.call_count(), 0);
}

#[tokio::test]
async fn an_expired_gateway_credential_is_retried_once() {
    let sts = FakeHttpClient::new(|_, _| {
        Ok((StatusCode::FORBIDDEN, error_response_xml("ExpiredToken", "expired")))
    });
    let error = test_issuer(&sts, &TestClock::default())
        .issue_credential(&TestCredentialRequest::new().as_request())
        .await
        .unwrap_err();
    assert_eq!((sts.call_count(), error.sts_error_code()), (2, Some("ExpiredToken")));
}

#[test]
fn debug_output_holds_no_secret() {
    let issued = IssuedCredential {
        access_key_id: "ASIA".to_owned(),
        secret_access_key: Secret::new("hush-1"),
        session_token: Secret::new("hush-2"),
        expires_at: START_TIME,
        usable_until: START_TIME,
        scope: CredentialScope::Operation,
        policy_sha256: None,
        session: SessionId::new(),
    };
    assert!(!format!("{issued:?}").contains("hush"));
    let error = IssueError::from(GatewayIdentityError::Expired { source_name: "environment" });
    assert_eq!(error.refusal().reason, RefusalReason::Internal);
}

/// One way to make an request different from another, by a text.
type RequestChange = fn(&mut TestCredentialRequest, &str);

const REQUEST_CHANGES: [(&str, RequestChange); 19] = [
    ("connection name", |request, text| request.connection.name.push_str(text)),
    ("role", |request, text| request.connection.role_arn.push_str(text)),
    ("external id", |request, text| request.connection.external_id = Some(text.to_owned())),
    ("duration", |request, _| request.connection.session_duration += Duration::from_secs(1)),
    ("scope", |request, _| request.connection.scope = ConnectionScope::Session),
    ("region", |request, text| request.connection.region.push_str(text)),
    ("source ip", |request, text| request.connection.policy_conditions.source_ip.push(text.to_owned())),
    ("source vpce", |request, text| request.connection.policy_conditions.source_vpce.push(text.to_owned())),
    ("bucket accounts", |request, text| {
        request.connection.policy_conditions.bucket_accounts.push(text.to_owned());
    }),
    ("provider", |request, text| request.caller.provider.push_str(text)),
    ("issuer", |request, text| request.caller.issuer.push_str(text)),
    ("subject", |request, text| request.caller.subject.push_str(text)),
    ("kind", |request, _| request.caller.kind = CallerKind::Workload),
    ("groups", |request, text| request.caller.groups.push(text.to_owned())),
    ("act", |request, text| request.caller.act.push(text.to_owned())),
    ("session", |request, _| request.session = SessionId::new()),
    ("action", |request, text| request.operation.required_permissions[0].action.push_str(text)),
    ("resource", |request, text| {
        request.operation.required_permissions[0].resource =
            Resource::Arn(format!("arn:aws:s3:::reports/a.csv{text}"));
    }),
    ("required permission", |request, text| {
        let mut more = request.operation.required_permissions[0].clone();
        more.action.push_str(text);
        request.operation.required_permissions.push(more);
    }),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any two different sets of changes give two different keys, whatever the texts, delimiters included.
    #[test]
    fn requests_that_differ_in_any_input_never_share(
        one in proptest::collection::btree_map(0..REQUEST_CHANGES.len(), "[a-c0-9:,/*]{1,4}", 0..4),
        two in proptest::collection::btree_map(0..REQUEST_CHANGES.len(), "[a-c0-9:,/*]{1,4}", 0..4),
    ) {
        let base = TestCredentialRequest::new();
        let changed = |changes: &std::collections::BTreeMap<usize, String>| {
            let mut request = base.clone();
            for (&index, text) in changes {
                REQUEST_CHANGES[index].1(&mut request, text);
            }
            request
        };
        let (first, second) = (changed(&one), changed(&two));
        let same_session = first.session == second.session;
        let same_permissions = |a: &TestCredentialRequest, b: &TestCredentialRequest| {
            let set = |request: &TestCredentialRequest| request.operation.required_permissions.iter()
                .map(|permission| (permission.action.clone(), permission.resource.to_text()))
                .collect::<std::collections::BTreeSet<_>>();
            set(a) == set(b) || a.connection.scope == ConnectionScope::Session
        };
        let equal = first.connection == second.connection
            && first.caller == second.caller
            && same_session
            && same_permissions(&first, &second);
        prop_assert_eq!(equal, CredentialCacheKey::from_request(&first.as_request()) == CredentialCacheKey::from_request(&second.as_request()));
    }

    /// The same end to end: a credential that STS issued for one request is never used for the other.
    #[test]
    fn no_two_different_requests_get_one_credential(index in 0..REQUEST_CHANGES.len(), text in "[a-z]{1,4}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let clock = TestClock::default();
        let sts = FakeHttpClient::fake_sts(&clock);
        let issuer = test_issuer(&sts, &clock);
        let request = TestCredentialRequest::new();
        let mut other = request.clone();
        let (name, change) = REQUEST_CHANGES[index];
        change(&mut other, &text);
        let (first, again, second) = runtime.block_on(async {
            (
                issuer.issue_credential(&request.as_request()).await.unwrap(),
                issuer.issue_credential(&request.as_request()).await.unwrap(),
                issuer.issue_credential(&other.as_request()).await.unwrap(),
            )
        });
        prop_assert_eq!(&first.access_key_id, &again.access_key_id);
        prop_assert_ne!(&first.access_key_id, &second.access_key_id, "{}", name);
    }
}

#[test]
fn the_order_of_permissions_and_the_exchange_do_not_matter() {
    let mut one = TestCredentialRequest::new();
    one.operation = operation_requiring(&[
        ("s3:GetObject", Resource::Arn("arn:aws:s3:::a".to_owned())),
        ("s3:PutObject", Resource::Any),
    ]);
    let mut two = one.clone();
    two.operation.required_permissions.reverse();
    two.exchange = ExchangeId::new();
    assert_eq!(
        CredentialCacheKey::from_request(&one.as_request()),
        CredentialCacheKey::from_request(&two.as_request())
    );
}

#[test]
fn any_resource_is_not_one_named_star() {
    let mut one = TestCredentialRequest::new();
    one.operation = operation_requiring(&[("s3:GetObject", Resource::Any)]);
    let mut two = one.clone();
    two.operation = operation_on("s3:GetObject", "*");
    assert_ne!(
        CredentialCacheKey::from_request(&one.as_request()),
        CredentialCacheKey::from_request(&two.as_request())
    );
}

#[tokio::test]
async fn a_failed_sts_call_is_retried_once() {
    for broken in [
        Err(HttpClientError::Failed("connection closed before message completed".to_owned())),
        Ok((StatusCode::SERVICE_UNAVAILABLE, error_response_xml("ServiceUnavailable", "later"))),
    ] {
        let failure = broken.clone();
        let sts = FakeHttpClient::new(move |at, _| match at {
            0 => failure.clone(),
            _ => Ok((StatusCode::OK, crate::fakes::ASSUME_ROLE_RESPONSE_XML.to_owned())),
        });
        let issued = test_issuer(&sts, &TestClock::default())
            .issue_credential(&TestCredentialRequest::new().as_request())
            .await
            .unwrap();
        assert_eq!((sts.call_count(), issued.access_key_id.as_str()), (2, "ASIAEXAMPLE"));
        let sts = FakeHttpClient::new(move |_, _| broken.clone());
        let error = test_issuer(&sts, &TestClock::default())
            .issue_credential(&TestCredentialRequest::new().as_request())
            .await
            .unwrap_err();
        assert!(matches!(error, IssueError::Unavailable(_)));
        assert_eq!(sts.call_count(), 2, "one retry only");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_slowly_is_not_retried() {
    for (seconds, calls) in [(2, 2), (3, 1)] {
        let sts =
            SlowHttpClient { delay: Duration::from_secs(seconds), inner: FakeHttpClient::unreachable() };
        let sts = Arc::new(sts);
        let identity = GatewayIdentity::from_static_credential("AKIABASE", Secret::new("base"), None);
        let endpoint: StsEndpoint = Arc::new(|_region| Ok(Uri::from_static("https://sts.example/")));
        let issuer = CredentialIssuer::new(Arc::new(identity), sts.clone(), endpoint)
            .with_clock(TestClock::default().as_clock());
        let error = issuer.issue_credential(&TestCredentialRequest::new().as_request()).await.unwrap_err();
        assert!(matches!(error, IssueError::Unavailable(_)));
        assert_eq!(sts.inner.call_count(), calls, "after {seconds} s");
    }
}

/// Waits before each request.
struct SlowHttpClient {
    delay: Duration,
    inner: Arc<FakeHttpClient>,
}

impl HttpClient for SlowHttpClient {
    fn send(
        &self,
        request: http::Request<bytes::Bytes>,
        limits: durward_core::HttpLimits,
    ) -> durward_core::HttpFuture<'_> {
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            self.inner.send(request, limits).await
        })
    }
}
