use super::cache_key::CredentialCacheKey;
use super::*;
use crate::fakes::{
    FakeHttpClient, START_TIME, TestClock, assume_role_response_xml, error_response_xml, operation_on,
    operation_requiring, test_caller,
};
use crate::{GatewayIdentityError, SessionPolicyError};
use durward_core::{CallerKind, RefusalReason};
use http::StatusCode;
use proptest::prelude::*;

fn test_issuer(transport: &Arc<FakeHttpClient>, hands: &TestClock) -> CredentialIssuer {
    let identity = GatewayIdentity::from_static_credential(
        "AKIABASE",
        Secret::new("base-secret-key"),
        Some(Secret::new("base-token")),
    );
    let endpoint: StsEndpoint = Arc::new(|region| {
        format!("https://sts.{region}.amazonaws.com/").parse().map_err(|_error| "no such region".to_owned())
    });
    CredentialIssuer::new(Arc::new(identity), transport.clone(), endpoint).with_clock(hands.as_clock())
}

fn test_connection() -> ConnectionConfig {
    ConnectionConfig::new("prod", "arn:aws:iam::123456789012:role/agents", "eu-west-1")
}

/// An owned [`LendRequest`], to be changed field by field.
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
    let (hands, ask) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&hands);
    let lent = test_issuer(&sts, &hands).issue_credential(&ask.as_request()).await.unwrap();
    let form = sts.form_fields(0);
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", "arn:aws:iam::123456789012:role/agents"),
        ("RoleSessionName", &format!("durward-{}", ask.session)),
        ("SourceIdentity", "alice@example.com"),
        ("DurationSeconds", "900"),
        ("Tags.member.1.Key", "durward:caller"),
        ("Tags.member.1.Value", "corp/alice@example.com"),
        ("Tags.member.2.Key", "durward:session"),
        ("Tags.member.2.Value", &ask.session.to_string()),
        ("Tags.member.3.Key", "durward:exchange"),
        ("Tags.member.3.Value", &ask.exchange.to_string()),
        ("Tags.member.4.Key", "durward:connection"),
        ("Tags.member.4.Value", "prod"),
    ] {
        assert_eq!(form.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!form.contains_key("ExternalId"));
    assert!(form["Policy"].contains("\"aws:CurrentTime\":\"2026-11-21T06:01:00Z\""), "{}", form["Policy"]);
    assert_eq!(lent.scope, CredentialScope::Operation);
    assert_eq!(lent.policy_sha256, Some(sha256_hex(form["Policy"].as_bytes())));
    assert_eq!(lent.access_key_id, "ASIA0");
    assert_eq!(lent.secret_access_key.expose(), "secret-0");
    assert_eq!(lent.usable_until, time::macros::datetime!(2026-11-21 06:00:55 UTC));
    assert_eq!(lent.expires_at, START_TIME + Duration::from_mins(15));

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
    let (hands, mut ask) = (TestClock::default(), TestCredentialRequest::new());
    ask.connection.external_id = Some("tenant 7/&=".to_owned());
    let sts = FakeHttpClient::fake_sts(&hands);
    test_issuer(&sts, &hands).issue_credential(&ask.as_request()).await.unwrap();
    assert_eq!(sts.form_fields(0)["ExternalId"], "tenant 7/&=");
}

#[tokio::test]
async fn a_credential_is_reused_only_while_its_policy_holds() {
    let (hands, mut ask) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&hands);
    let lender = test_issuer(&sts, &hands);
    let first = lender.issue_credential(&ask.as_request()).await.unwrap();
    hands.advance(54);
    ask.exchange = ExchangeId::new();
    let second = lender.issue_credential(&ask.as_request()).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    hands.advance(1);
    let third = lender.issue_credential(&ask.as_request()).await.unwrap();
    assert_eq!(third.access_key_id, "ASIA1");
    assert_eq!(sts.form_fields(1)["Tags.member.3.Value"], ask.exchange.to_string());
}

#[tokio::test]
async fn a_credential_is_never_used_past_its_expiry() {
    let hands = TestClock::default();
    let sts = FakeHttpClient::new(|number, _| {
        Ok((
            StatusCode::OK,
            assume_role_response_xml(&format!("ASIA{number}"), "secret", "token", "2026-11-21T06:00:40Z"),
        ))
    });
    let lender = test_issuer(&sts, &hands);
    let ask = TestCredentialRequest::new();
    let lent = lender.issue_credential(&ask.as_request()).await.unwrap();
    assert_eq!(lent.usable_until, time::macros::datetime!(2026-11-21 06:00:10 UTC));
    hands.advance(10);
    assert!(matches!(lender.issue_credential(&ask.as_request()).await, Err(IssueError::InvalidResponse(_))));
}

#[tokio::test]
async fn concurrent_requests_share_one_call_and_its_failure() {
    let hands = TestClock::default();
    let sts = FakeHttpClient::new(|_, _| {
        Ok((StatusCode::FORBIDDEN, error_response_xml("AccessDenied", "not you")))
    });
    let lender = Arc::new(test_issuer(&sts, &hands));
    let ask = TestCredentialRequest::new();
    let asks: Vec<_> = (0..8)
        .map(|_| {
            let (lender, mut ask) = (lender.clone(), ask.clone());
            ask.exchange = ExchangeId::new();
            tokio::spawn(async move { lender.issue_credential(&ask.as_request()).await.map(|_| ()) })
        })
        .collect();
    for each in asks {
        let denied = IssueError::Refused { code: "AccessDenied".to_owned(), message: "not you".to_owned() };
        assert_eq!(each.await.unwrap(), Err(denied));
    }
    assert_eq!(sts.call_count(), 1);
    // The failure itself is not remembered.
    assert!(lender.issue_credential(&ask.as_request()).await.is_err());
    assert_eq!(sts.call_count(), 2);
}

#[tokio::test]
async fn a_policy_that_does_not_pack_is_retried_with_actions_only() {
    let hands = TestClock::default();
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
    let lent =
        test_issuer(&sts, &hands).issue_credential(&TestCredentialRequest::new().as_request()).await.unwrap();
    assert_eq!((sts.call_count(), lent.scope), (2, CredentialScope::Actions));
    assert!(sts.form_fields(1)["Policy"].contains(r#""Action":["s3:GetObject"],"Resource":["*"]"#));
    assert_eq!(lent.policy_sha256, Some(sha256_hex(sts.form_fields(1)["Policy"].as_bytes())));
}

#[tokio::test]
async fn a_policy_that_never_packs_is_refused_after_two_calls() {
    let hands = TestClock::default();
    let sts = FakeHttpClient::new(|_, _| {
        Ok((StatusCode::BAD_REQUEST, error_response_xml("PackedPolicyTooLarge", "tags")))
    });
    let error = test_issuer(&sts, &hands)
        .issue_credential(&TestCredentialRequest::new().as_request())
        .await
        .unwrap_err();
    assert_eq!((sts.call_count(), error.sts_error_code()), (2, Some("PackedPolicyTooLarge")));
}

#[tokio::test]
async fn session_scope_sends_no_policy_and_serves_the_session() {
    let (hands, mut ask) = (TestClock::default(), TestCredentialRequest::new());
    ask.connection.scope = ConnectionScope::Session;
    let sts = FakeHttpClient::fake_sts(&hands);
    let lender = test_issuer(&sts, &hands);
    let lent = lender.issue_credential(&ask.as_request()).await.unwrap();
    let form = sts.form_fields(0);
    assert!(!form.contains_key("Policy") && form.contains_key("SourceIdentity"));
    assert_eq!(form["Tags.member.1.Value"], "corp/alice@example.com");
    assert_eq!((lent.scope, &lent.policy_sha256), (CredentialScope::Session, &None));
    assert_eq!(lent.usable_until, START_TIME + Duration::from_mins(10));

    ask.operation = operation_on("sqs:SendMessage", "arn:aws:sqs:eu-west-1:1:q");
    hands.advance(599);
    assert!(Arc::ptr_eq(&lent, &lender.issue_credential(&ask.as_request()).await.unwrap()));
    ask.session = SessionId::new();
    assert!(!Arc::ptr_eq(&lent, &lender.issue_credential(&ask.as_request()).await.unwrap()));
}

#[tokio::test]
async fn a_revoked_session_gets_nothing_from_the_cache() {
    let (hands, ask) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&hands);
    let lender = test_issuer(&sts, &hands);
    lender.issue_credential(&ask.as_request()).await.unwrap();
    lender.forget_session(SessionId::new());
    lender.issue_credential(&ask.as_request()).await.unwrap();
    assert_eq!(sts.call_count(), 1);
    lender.forget_session(ask.session);
    lender.issue_credential(&ask.as_request()).await.unwrap();
    assert_eq!(sts.call_count(), 2);
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let (hands, mut ask) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&hands);
    let lender = test_issuer(&sts, &hands);
    for number in 0..MAX_CACHED_CREDENTIALS + 3 {
        ask.operation = operation_on("s3:GetObject", &format!("arn:aws:s3:::reports/{number}"));
        lender.issue_credential(&ask.as_request()).await.unwrap();
    }
    assert_eq!(lender.with_cache(|cache| cache.len()), MAX_CACHED_CREDENTIALS);
    hands.advance(60);
    ask.operation = operation_on("s3:GetObject", "arn:aws:s3:::reports/last");
    lender.issue_credential(&ask.as_request()).await.unwrap();
    assert_eq!(lender.with_cache(|cache| cache.len()), 1);
}

#[tokio::test]
async fn failures_say_whose_fault_it_is_and_never_a_secret() {
    type FailureCase = (Result<(StatusCode, String), String>, fn(&IssueError) -> bool, RefusalReason);
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
            Err("tls: base-secret-key".to_owned()),
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
    for (answer, expected, reason) in cases {
        let sts = FakeHttpClient::new(move |_, _| answer.clone());
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
    let (hands, mut ask) = (TestClock::default(), TestCredentialRequest::new());
    let sts = FakeHttpClient::fake_sts(&hands);
    ask.operation = operation_requiring(&[]);
    assert_eq!(
        test_issuer(&sts, &hands).issue_credential(&ask.as_request()).await.unwrap_err(),
        IssueError::Policy(SessionPolicyError::NoRequiredPermission)
    );
    assert_eq!(sts.call_count(), 0);
}

#[tokio::test]
async fn an_expired_base_credential_is_looked_up_again_once() {
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
    let lent = IssuedCredential {
        access_key_id: "ASIA".to_owned(),
        secret_access_key: Secret::new("hush-1"),
        session_token: Secret::new("hush-2"),
        expires_at: START_TIME,
        usable_until: START_TIME,
        scope: CredentialScope::Operation,
        policy_sha256: None,
        session: SessionId::new(),
    };
    assert!(!format!("{lent:?}").contains("hush"));
    let error = IssueError::from(GatewayIdentityError::Expired { source_name: "environment" });
    assert_eq!(error.refusal().reason, RefusalReason::Internal);
}

/// One way to make an ask different from another, by a text.
type RequestChange = fn(&mut TestCredentialRequest, &str);

const REQUEST_CHANGES: [(&str, RequestChange); 18] = [
    ("connection name", |ask, text| ask.connection.name.push_str(text)),
    ("role", |ask, text| ask.connection.role_arn.push_str(text)),
    ("external id", |ask, text| ask.connection.external_id = Some(text.to_owned())),
    ("duration", |ask, _| ask.connection.session_duration += Duration::from_secs(1)),
    ("scope", |ask, _| ask.connection.scope = ConnectionScope::Session),
    ("region", |ask, text| ask.connection.region.push_str(text)),
    ("source ip", |ask, text| ask.connection.policy_conditions.source_ip.push(text.to_owned())),
    ("source vpce", |ask, text| ask.connection.policy_conditions.source_vpce.push(text.to_owned())),
    ("provider", |ask, text| ask.caller.provider.push_str(text)),
    ("issuer", |ask, text| ask.caller.issuer.push_str(text)),
    ("subject", |ask, text| ask.caller.subject.push_str(text)),
    ("kind", |ask, _| ask.caller.kind = CallerKind::Workload),
    ("groups", |ask, text| ask.caller.groups.push(text.to_owned())),
    ("act", |ask, text| ask.caller.act.push(text.to_owned())),
    ("session", |ask, _| ask.session = SessionId::new()),
    ("action", |ask, text| ask.operation.required_permissions[0].action.push_str(text)),
    ("resource", |ask, text| {
        ask.operation.required_permissions[0].resource =
            Resource::Arn(format!("arn:aws:s3:::reports/a.csv{text}"));
    }),
    ("demand", |ask, text| {
        let mut more = ask.operation.required_permissions[0].clone();
        more.action.push_str(text);
        ask.operation.required_permissions.push(more);
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
            let mut ask = base.clone();
            for (&index, text) in changes {
                REQUEST_CHANGES[index].1(&mut ask, text);
            }
            ask
        };
        let (first, second) = (changed(&one), changed(&two));
        let same_session = first.session == second.session;
        let same_demands = |a: &TestCredentialRequest, b: &TestCredentialRequest| {
            let set = |ask: &TestCredentialRequest| ask.operation.required_permissions.iter()
                .map(|demand| (demand.action.clone(), demand.resource.to_text()))
                .collect::<std::collections::BTreeSet<_>>();
            set(a) == set(b) || a.connection.scope == ConnectionScope::Session
        };
        let equal = first.connection == second.connection
            && first.caller == second.caller
            && same_session
            && same_demands(&first, &second);
        prop_assert_eq!(equal, CredentialCacheKey::from_request(&first.as_request()) == CredentialCacheKey::from_request(&second.as_request()));
    }

    /// The same end to end: credentials that STS issued to one ask are never lent to the other.
    #[test]
    fn no_two_different_requests_get_one_credential(index in 0..REQUEST_CHANGES.len(), text in "[a-z]{1,4}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let hands = TestClock::default();
        let sts = FakeHttpClient::fake_sts(&hands);
        let lender = test_issuer(&sts, &hands);
        let ask = TestCredentialRequest::new();
        let mut other = ask.clone();
        let (name, change) = REQUEST_CHANGES[index];
        change(&mut other, &text);
        let (first, again, second) = runtime.block_on(async {
            (
                lender.issue_credential(&ask.as_request()).await.unwrap(),
                lender.issue_credential(&ask.as_request()).await.unwrap(),
                lender.issue_credential(&other.as_request()).await.unwrap(),
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
        Err("connection closed before message completed".to_owned()),
        Ok((StatusCode::SERVICE_UNAVAILABLE, error_response_xml("ServiceUnavailable", "later"))),
    ] {
        let failure = broken.clone();
        let sts = FakeHttpClient::new(move |at, _| match at {
            0 => failure.clone(),
            _ => Ok((StatusCode::OK, crate::fakes::ASSUME_ROLE_RESPONSE_XML.to_owned())),
        });
        let lent = test_issuer(&sts, &TestClock::default())
            .issue_credential(&TestCredentialRequest::new().as_request())
            .await
            .unwrap();
        assert_eq!((sts.call_count(), lent.access_key_id.as_str()), (2, "ASIAEXAMPLE"));
        let sts = FakeHttpClient::new(move |_, _| broken.clone());
        let error = test_issuer(&sts, &TestClock::default())
            .issue_credential(&TestCredentialRequest::new().as_request())
            .await
            .unwrap_err();
        assert!(matches!(error, IssueError::Unavailable(_)));
        assert_eq!(sts.call_count(), 2, "not for ever");
    }
}
