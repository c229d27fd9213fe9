//! Attack classes A and B of the threat model, on the AWS front end.

use crate::SAMPLE_POLICIES;
use bytes::Bytes;
use durward_core::RefusalReason;
use durward_fake_aws::aws::SESSION_TOKEN_PREFIX;
use durward_identity::RevocationTarget;
use durward_integration::{SdkClient, SdkRequest, TestGateway};
use durward_journal::JournalRecord;
use http::{HeaderValue, Method, Request};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use time::OffsetDateTime;

/// A gateway with the sample policies, and an agent that is signed in.
async fn start_gateway() -> (TestGateway, SdkClient) {
    let gateway = TestGateway::builder().aws().policies(SAMPLE_POLICIES.concat()).start().await;
    gateway.fake_aws.put_object("demo-data", "a.csv", "region,revenue\n");
    let token = gateway.caller_token("build-agent");
    let agent = gateway.sign_in(&token, "demo").await;
    (gateway, agent)
}

fn signed_get(agent: &SdkClient) -> Request<Bytes> {
    agent.sign(&SdkRequest::get_object("demo-data", "a.csv")).unwrap()
}

/// Sends raw bytes on a connection of their own and returns what comes back until it closes or falls silent.
fn send_raw(gateway: &TestGateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.running.aws_address.unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut response = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        response.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_good_once() {
    let (gateway, agent) = start_gateway().await;
    // Dated apart from now: a signature may be used again around its date.
    let date = OffsetDateTime::now_utc() + Duration::from_mins(1);
    let request = agent.sign_at(&SdkRequest::get_object("demo-data", "a.csv"), date).unwrap();
    assert_eq!(gateway.send_signed(request.clone()).await.status(), 200);
    let replayed = gateway.send_signed(request).await;
    assert_eq!(replayed.status(), 403);
    assert!(replayed.text().contains("this signature was used before"), "{}", replayed.text());
    assert_eq!(gateway.upstream_call_count(), 1);
    let is_replay_of_session = |record: &JournalRecord| {
        matches!(record, JournalRecord::Refused { session: Some(_), reason: RefusalReason::Replay, .. })
    };
    assert!(gateway.journal_records().await.iter().any(is_replay_of_session), "the session has the refusal");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_calls_within_a_second_are_no_replay() {
    let (gateway, agent) = start_gateway().await;
    let request = signed_get(&agent);
    for _ in 0..3 {
        assert_eq!(gateway.send_signed(request.clone()).await.status(), 200);
    }
    assert_eq!(gateway.upstream_call_count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_before_the_start_is_signed_again() {
    let (gateway, agent) = start_gateway().await;
    let date = OffsetDateTime::now_utc() - Duration::from_mins(1);
    let request = agent.sign_at(&SdkRequest::get_object("demo-data", "a.csv"), date).unwrap();
    let refused = gateway.send_signed(request).await;
    // SDKs sign again after this one.
    assert!(
        refused.status() == 503 && refused.text().contains("<Code>SlowDown</Code>"),
        "{}",
        refused.text()
    );
    assert_eq!(gateway.upstream_call_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_signature_body_header_path_or_method_reaches_nobody() {
    let (gateway, agent) = start_gateway().await;
    let mut forged = signed_get(&agent);
    let text = forged.headers()["authorization"].to_str().unwrap().to_owned();
    let flipped = if text.ends_with('0') { "1" } else { "0" };
    let text = format!("{}{flipped}", &text[..text.len() - 1]);
    forged.headers_mut().insert("authorization", HeaderValue::from_str(&text).unwrap());
    assert_eq!(gateway.send_signed(forged).await.status(), 403);

    let mut moved = signed_get(&agent);
    *moved.uri_mut() = "/demo-data/b.csv".parse().unwrap();
    assert_eq!(gateway.send_signed(moved).await.status(), 403);

    let mut other_method = signed_get(&agent);
    *other_method.method_mut() = Method::DELETE;
    assert_eq!(gateway.send_signed(other_method).await.status(), 403);

    let read =
        SdkRequest::json_call("secretsmanager", "secretsmanager.GetSecretValue", r#"{"SecretId":"a"}"#);
    let mut body = agent.sign(&read).unwrap();
    *body.body_mut() = Bytes::from_static(b"{\"SecretId\":\"b\"}");
    // The JSON protocols answer 400 where S3 answers 403.
    assert_eq!(gateway.send_signed(body).await.status(), 400);

    let mut retargeted = agent.sign(&read).unwrap();
    retargeted.headers_mut().insert("x-amz-target", HeaderValue::from_static("secretsmanager.DeleteSecret"));
    assert_eq!(gateway.send_signed(retargeted).await.status(), 400);
    assert_eq!(gateway.upstream_call_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_amz_header_or_a_second_credential_refuses_the_request() {
    let (gateway, agent) = start_gateway().await;
    let mut extra = signed_get(&agent);
    extra.headers_mut().insert("x-amz-copy-source", HeaderValue::from_static("other/key"));
    assert_eq!(gateway.send_signed(extra).await.status(), 400);
    let mut both = signed_get(&agent);
    *both.uri_mut() = "/demo-data/a.csv?X-Amz-Signature=00".parse().unwrap();
    assert_eq!(gateway.send_signed(both).await.status(), 400);
    assert_eq!(gateway.upstream_call_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_the_target_contradicts_is_refused() {
    let (gateway, agent) = start_gateway().await;
    for (service, target) in [
        ("iam", "DynamoDB_20120810.DeleteTable"),
        ("dynamodb", "secretsmanager.GetSecretValue"),
        ("secretsmanager", "DynamoDB_20120810.ListTables"),
        ("nosuchservice", "X.Y"),
    ] {
        let request = agent.sign(&SdkRequest::json_call(service, target, "{}")).unwrap();
        let status = gateway.send_signed(request).await.status();
        assert!(status == 400 || status == 403, "{service} {target}: {status}");
    }
    assert_eq!(gateway.upstream_call_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_never_lets_a_second_request_through() {
    let (gateway, _agent) = start_gateway().await;
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
        let response = send_raw(&gateway, format!("{head}{canary}").as_bytes());
        assert!(!response.contains(" 200 "), "{head:?}: {response}");
        // One response: the connection is closed before the second request is read.
        let responses = response.lines().filter(|line| line.starts_with("HTTP/1.")).count();
        assert_eq!(responses, 1, "{head:?}: {response}");
    }
    assert_eq!(gateway.fake_aws.received_requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_upstream_secret_is_in_the_journal_or_a_response() {
    let (gateway, agent) = start_gateway().await;
    gateway.fake_aws.put_secret("prod/db", "canary-4f1d");
    let read =
        SdkRequest::json_call("secretsmanager", "secretsmanager.GetSecretValue", r#"{"SecretId":"prod/db"}"#);
    let response = gateway.call_aws(&agent, &read).await;
    assert_eq!(response.status(), 200);
    let text = gateway.journal_text().await;
    assert!(text.contains("GetSecretValue"));
    for canary in
        ["canary-4f1d".to_owned(), gateway.fake_aws.gateway_secret(), SESSION_TOKEN_PREFIX.to_owned()]
    {
        assert!(!text.contains(&canary));
        assert!(!response.text().contains(&canary));
    }
}

/// The session is younger than the revocation; the token that opened it is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_before_the_revocation_of_its_caller_opens_no_session() {
    let (gateway, _agent) = start_gateway().await;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let token_of = |issued_at: Option<i64>| {
        let mut claims = json!({
            "iss": gateway.workload_issuer.url(), "sub": "build-agent", "aud": "durward", "groups": ["agents"],
            "exp": now + 600,
        });
        if let Some(issued_at) = issued_at {
            claims["iat"] = json!(issued_at);
        }
        gateway.workload_issuer.issue_token_with_claims(&claims)
    };
    let sign_in = async |token: &str| SdkClient::sign_in(gateway.aws_origin(), token, "demo").await;
    let read = SdkRequest::get_object("demo-data", "a.csv");
    let old_session = sign_in(&token_of(Some(now - 100))).await.unwrap();
    assert_eq!(gateway.call_aws(&old_session, &read).await.status(), 200);

    let revoked = RevocationTarget::Caller("work/build-agent".to_owned());
    let at = OffsetDateTime::now_utc() - Duration::from_secs(10);
    gateway.running.parts.revocations.revoke(&revoked, "people/ann", "leaked", at).await.unwrap();
    for (what, token) in [("old", token_of(Some(now - 100))), ("of unknown age", token_of(None))] {
        let refused = sign_in(&token).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("revoked after this token was issued"), "a token {what}: {refused}");
    }
    assert_eq!(gateway.call_aws(&old_session, &read).await.status(), 403);
    let new_session = sign_in(&token_of(Some(now - 5))).await.unwrap();
    assert_eq!(gateway.call_aws(&new_session, &read).await.status(), 200, "a newer token is accepted");
    assert!(gateway.journal_text().await.contains("leaked"), "the record says why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_policy_closes_is_closed_for_open_sessions() {
    let (gateway, agent) = start_gateway().await;
    let read = SdkRequest::get_object("demo-data", "a.csv");
    assert_eq!(gateway.call_aws(&agent, &read).await.status(), 200);
    let closed = SAMPLE_POLICIES.concat() + "forbid (principal, action == Action::\"connect\", resource);";
    gateway.replace_policies(&closed);
    let refused = gateway.call_aws(&agent, &read).await;
    assert!(
        refused.status() == 403 && refused.text().contains("may no longer use `demo`"),
        "{}",
        refused.text()
    );
    assert_eq!(gateway.upstream_call_count(), 1);
}

/// Masking reads a response by the model. In another format it would find nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_caller_cannot_choose_another_format_of_the_response() {
    let (gateway, agent) = start_gateway().await;
    gateway.fake_aws.put_secret("prod/db", "canary-4f1d");
    let mut read =
        SdkRequest::json_call("secretsmanager", "secretsmanager.GetSecretValue", r#"{"SecretId":"prod/db"}"#);
    read.headers.push(("accept", "application/xml"));
    let mut form = SdkRequest::json_call("iam", "", "Action=ListUsers&Version=2010-05-08&ContentType=JSON");
    form.headers = vec![("content-type", "application/x-www-form-urlencoded")];
    for (request, name) in [(read, "Accept"), (form, "ContentType")] {
        let response = gateway.call_aws(&agent, &request).await;
        assert_eq!(response.status(), 400, "{name}: {}", response.text());
        assert!(response.text().contains(name) && response.text().contains("leave"), "{}", response.text());
    }
    assert_eq!(gateway.upstream_call_count(), 0);
}

/// JSON escapes each of these bytes with six, so the parameters as a record are larger than a record may be.
#[tokio::test(flavor = "multi_thread")]
async fn a_denied_request_is_recorded_however_large_it_is() {
    let (gateway, agent) = start_gateway().await;
    let body = format!(r#"{{"TableName":"t","Item":{{"a":{{"S":"{}"}}}}}}"#, "\u{7f}\\u0001".repeat(1 << 20));
    let denied = SdkRequest::json_call("dynamodb", "DynamoDB_20120810.PutItem", body);
    let response = gateway.call_aws(&agent, &denied).await;
    assert_eq!(response.status(), 400, "{}", response.text());
    assert!(response.text().contains("AccessDenied"), "{}", response.text());
    let records = gateway.journal_records().await;
    let refused = records.iter().find_map(|record| match record {
        JournalRecord::Refused { operation, omitted_parameters, .. } => Some((operation, omitted_parameters)),
        _ => None,
    });
    let (operation, omitted) = refused.expect("the refusal is recorded");
    assert_eq!(operation.as_ref().unwrap().required_permissions[0].action, "dynamodb:PutItem");
    assert!(omitted.as_ref().unwrap().bytes > 1 << 20);
    assert!(gateway.journal_text().await.len() < 64 << 10, "the disk is not for what was refused");
}

/// Slow clients without a credential hold connections, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn half_sent_sign_ins_leave_the_gateway_to_others() {
    let (gateway, agent) = start_gateway().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 50000\r\n\r\nAction";
    let stalled: Vec<TcpStream> = (0..500)
        .map(|_number| {
            let mut stream = TcpStream::connect(gateway.running.aws_address.unwrap()).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let read = SdkRequest::get_object("demo-data", "a.csv");
    assert_eq!(gateway.call_aws(&agent, &read).await.status(), 200);
    // The gateway answers each of them when its time is over, and does not wait for the rest of the body.
    stalled[0].set_read_timeout(Some(Duration::from_mins(2))).unwrap();
    let mut response = String::new();
    (&stalled[0]).take(64 << 10).read_to_string(&mut response).unwrap();
    assert!(response.contains("did not arrive in time"), "{response}");
}

/// A session policy would narrow the session: the gateway must not issue a wider one than was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_narrows_its_session_is_refused() {
    let (gateway, _agent) = start_gateway().await;
    let token = gateway.caller_token("build-agent");
    let sign_in = async |more: &str| {
        let form = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdemo\
             &RoleSessionName=a&WebIdentityToken={token}{more}"
        );
        let request = Request::post("/")
            .header("host", gateway.aws_origin().authority())
            .header("content-type", "application/x-www-form-urlencoded");
        gateway.send_signed(request.body(Bytes::from(form)).unwrap()).await
    };
    let plain = sign_in("").await;
    assert_eq!(plain.status(), 200, "{}", plain.text());
    for more in
        ["&Policy=%7B%7D", "&PolicyArns.member.1.arn=a", "&PolicyArns.member.2.arn=a", "&ProviderId=p"]
    {
        let response = sign_in(more).await;
        assert_eq!(response.status(), 400, "{more}: {}", response.text());
        assert!(response.text().contains("is not supported by this gateway"), "{}", response.text());
    }
}

/// Bodies of known length are not polled for their end by the server: their outcome must stand before their last byte.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_read_to_its_end_is_recorded_so() {
    let (gateway, agent) = start_gateway().await;
    gateway.fake_aws.put_object("demo-data", "empty", "");
    for key in ["a.csv", "empty"] {
        let response = gateway.call_aws(&agent, &SdkRequest::get_object("demo-data", key)).await;
        assert_eq!(response.status(), 200);
    }
    let records = gateway.journal_records().await;
    let outcomes: Vec<_> = records
        .into_iter()
        .filter_map(|record| match record {
            JournalRecord::Outcome { response_bytes, failure, .. } => Some((response_bytes, failure)),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, [(15, None), (0, None)]);
}

/// What policy cannot compare must not disappear from it: the forbid would not hold then.
#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_is_decided_however_its_number_is_written() {
    let policies = r#"
        permit (principal, action == Action::"connect", resource == Connection::"demo");
        permit (principal, action == Aws::Action::"dynamodb:ListTables", resource);
        @id("few") forbid (principal, action == Aws::Action::"dynamodb:ListTables", resource)
        when { context.params has Limit && context.params.Limit > 100 };"#;
    let gateway = TestGateway::builder().aws().policies(policies).start().await;
    let agent = gateway.sign_in(&gateway.caller_token("build-agent"), "demo").await;
    let named = "`context.params.Limit` is not a whole number of 64 bits";
    for (limit, refusal) in [
        ("500", "is forbidden by policy `few`"),
        ("500.0", "is forbidden by policy `few`"),
        ("5e2", "is forbidden by policy `few`"),
        ("1e18", "is forbidden by policy `few`"),
        ("9223372036854775808", named),
        ("1e30", named),
        ("100.5", named),
        ("100.00000000000000000001", named),
        ("null", "`context.params.Limit` is null"),
    ] {
        let body = format!(r#"{{"Limit":{limit}}}"#);
        let request = SdkRequest::json_call("dynamodb", "DynamoDB_20120810.ListTables", body);
        let response = gateway.call_aws(&agent, &request).await;
        assert!(
            response.status() == 400 && response.text().contains(refusal),
            "{limit}: {}",
            response.text()
        );
    }
    assert_eq!(gateway.upstream_call_count(), 0);
    for body in [r#"{"Limit":1.0e2}"#, r#"{"Limit":50,"ExclusiveStartTableName":null}"#] {
        let request = SdkRequest::json_call("dynamodb", "DynamoDB_20120810.ListTables", body);
        let response = gateway.call_aws(&agent, &request).await;
        assert_eq!(response.status(), 200, "{body}: {}", response.text());
    }
}

/// The ARN of a bucket has no account, so policy cannot see whose it is. AWS can.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_account_is_out_of_reach() {
    let policies = r#"
        permit (principal, action == Action::"connect", resource);
        permit (principal, action in [Aws::Action::"Read", Aws::Action::"Write"], resource in Aws::Account::"123456789012");"#;
    let gateway = TestGateway::builder().aws().policies(policies).start().await;
    let agent = gateway.sign_in(&gateway.caller_token("build-agent"), "demo").await;
    // The fake AWS knows its owner by the twelve digits.
    for (bucket, status) in [("data-999999999999", 403), ("demo-data", 200)] {
        gateway.fake_aws.put_object(bucket, "a.csv", "region,revenue\n");
        let read = gateway.call_aws(&agent, &SdkRequest::get_object(bucket, "a.csv")).await;
        assert_eq!(read.status(), status, "{bucket}: {}", read.text());
        let written = gateway.call_aws(&agent, &SdkRequest::put_object(bucket, "b.csv", "secret")).await;
        assert_eq!(written.status(), status, "{bucket}: {}", written.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_access_point_or_alias_evades_a_forbid_on_a_bucket() {
    let policies = r#"
        permit (principal, action, resource);
        forbid (principal, action, resource is Aws::Resource) when { resource.arn like "arn:aws:s3:::prod/*" };
        forbid (principal, action, resource in Aws::Resource::"arn:aws:s3:::prod");"#;
    let gateway = TestGateway::builder().aws().policies(policies).start().await;
    let agent = gateway.sign_in(&gateway.caller_token("build-agent"), "demo").await;
    let copy = |source| SdkRequest {
        headers: vec![("x-amz-copy-source", source)],
        ..SdkRequest::put_object("results", "copy.csv", "")
    };
    let through = "so a permit must name it";
    for (request, reason) in [
        (SdkRequest::get_object("prod", "customers.csv"), "is forbidden by"),
        (copy("prod/customers.csv"), "is forbidden by"),
        (SdkRequest::get_object("reports-abcdefgh-s3alias", "customers.csv"), through),
        (SdkRequest::get_object("lambda-abcdefgh--ol-s3", "customers.csv"), through),
        (SdkRequest::put_object("reports-abcdefgh-s3alias", "customers.csv", "x"), through),
        (SdkRequest::delete_object("reports-abcdefgh-s3alias", "customers.csv"), through),
        (copy("reports-abcdefgh-s3alias/customers.csv"), through),
        (copy("arn:aws:s3:us-east-1:123456789012:accesspoint/reports/object/customers.csv"), through),
        (
            copy("arn%3Aaws%3As3%3Aus-east-1%3A123456789012%3Aaccesspoint/reports/object/customers.csv"),
            through,
        ),
        (copy("arn:aws:s3:::prod/object/customers.csv"), "not that of an object behind an access point"),
    ] {
        let response = gateway.call_aws(&agent, &request).await;
        let sent = (&request.path, &request.headers);
        assert!((400..500).contains(&response.status()), "{sent:?}: {}", response.text());
        assert!(response.text().contains(reason), "{sent:?}: {}", response.text());
    }
    assert_eq!(gateway.upstream_call_count(), 0);
}
