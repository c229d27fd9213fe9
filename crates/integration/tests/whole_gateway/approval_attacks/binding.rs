//! Approve A, run B.

use super::{put_object, start_gateway};
use crate::mcp_attacks;
use bytes::Bytes;
use durward_approval::ApprovalState;
use durward_integration::{SdkRequest, tool_call};
use http::Method;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_one_request_lets_no_other_pass() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let approved = put_object("report");
    let approval_request = gateway.create_approved_request(&agent, &approved).await;
    let with = |name: &'static str, value: &'static str| {
        let mut sdk_request = approved.clone();
        sdk_request.headers.retain(|(known, _value)| *known != name);
        sdk_request.headers.push((name, value));
        sdk_request
    };
    let others: Vec<(&str, SdkRequest)> = vec![
        ("another object", put_object("Report")),
        ("an object below", put_object("report/")),
        ("another bucket", SdkRequest { path: "/other/report".to_owned(), ..approved.clone() }),
        ("a byte of the body", SdkRequest { body: "onE".into(), ..approved.clone() }),
        ("no body", SdkRequest { body: "".into(), ..approved.clone() }),
        ("a longer body", SdkRequest { body: "one\n".into(), ..approved.clone() }),
        ("a body that is not signed", SdkRequest { is_body_unsigned: true, ..approved.clone() }),
        ("another region", SdkRequest { region: "eu-west-1", ..approved.clone() }),
        ("another method", SdkRequest { method: Method::DELETE, body: Bytes::new(), ..approved.clone() }),
        ("everybody may read it", with("x-amz-acl", "public-read")),
        (
            "a grant",
            with("x-amz-grant-full-control", "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\""),
        ),
        ("another owner", with("x-amz-expected-bucket-owner", "210987654321")),
        ("a redirect", with("x-amz-website-redirect-location", "https://evil.example")),
        ("another key", with("x-amz-server-side-encryption-aws-kms-key-id", "mine")),
        ("metadata", with("x-amz-meta-who", "me")),
        ("tags", with("x-amz-tagging", "critical=false")),
        ("another kind", with("content-type", "text/html")),
        ("a condition", with("if-none-match", "*")),
        (
            "a query that changes it",
            SdkRequest {
                query: "versionId=1",
                method: Method::DELETE,
                body: Bytes::new(),
                ..approved.clone()
            },
        ),
    ];
    for (what, other) in &others {
        let response = gateway.call_aws(&agent, other).await;
        assert!(response.is_approval_pending(), "{what}: {} {}", response.status(), response.text());
        // Room for the next one: a caller has only so many requests.
        let token = gateway.approver_token("ann", &["oncall"]);
        let pending = gateway.wait_for_approval_request().await;
        let (status, body) =
            gateway.cast_vote(pending.id, &token, &json!({"vote": "deny", "reason": "B"})).await;
        assert_eq!(status, 200, "{body}");
    }
    for (what, other) in [
        ("a copy of something else", with("x-amz-copy-source", "/data/kept")),
        ("the object's tags", SdkRequest { query: "tagging", ..approved.clone() }),
        ("the object's permissions", SdkRequest { query: "acl", ..approved.clone() }),
    ] {
        let response = gateway.call_aws(&agent, &other).await;
        assert!(response.status() >= 400, "{what}: {} {}", response.status(), response.text());
    }
    assert_eq!(
        (gateway.upstream_call_count(), gateway.intent_count().await),
        (0, 0),
        "nothing was forwarded"
    );
    assert_eq!(
        gateway.approval_request(approval_request.id).await.state,
        ApprovalState::Approved,
        "and nothing used the approval"
    );
    let response = gateway.call_aws(&agent, &approved).await;
    assert_eq!((response.status(), gateway.upstream_call_count()), (200, 1), "{}", response.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_body_is_bound_too() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let target = "secretsmanager.DeleteSecret";
    let approved =
        SdkRequest::json_call("secretsmanager", target, r#"{"SecretId":"db","RecoveryWindowInDays":30}"#);
    let approval_request = gateway.create_approved_request(&agent, &approved).await;
    for (what, body) in [
        ("another secret", r#"{"SecretId":"dB","RecoveryWindowInDays":30}"#),
        ("another number", r#"{"SecretId":"db","RecoveryWindowInDays":7}"#),
        ("one less", r#"{"SecretId":"db"}"#),
        ("one more", r#"{"SecretId":"db","RecoveryWindowInDays":30,"ForceDeleteWithoutRecovery":true}"#),
        (
            "another account",
            r#"{"SecretId":"arn:aws:secretsmanager:us-east-1:210987654321:secret:db","RecoveryWindowInDays":30}"#,
        ),
    ] {
        let response =
            gateway.call_aws(&agent, &SdkRequest { body: Bytes::from(body), ..approved.clone() }).await;
        assert!(
            response.status() >= 400 && !response.text().contains("no longer"),
            "{what}: {}",
            response.text()
        );
        let pending = gateway.wait_for_approval_request().await;
        assert_ne!(pending.details.digest, approval_request.details.digest, "{what}");
        let token = gateway.approver_token("ann", &["oncall"]);
        gateway.cast_vote(pending.id, &token, &json!({"vote": "deny", "reason": "B"})).await;
    }
    let twice = SdkRequest {
        body: r#"{"SecretId":"db","RecoveryWindowInDays":30,"SecretId":"x"}"#.into(),
        ..approved.clone()
    };
    assert_eq!(
        gateway.call_aws(&agent, &twice).await.status(),
        400,
        "a duplicate member, which two parsers could read differently"
    );
    let operation = SdkRequest {
        headers: vec![("x-amz-target", "secretsmanager.PutSecretValue"), approved.headers[1]],
        ..approved.clone()
    };
    assert!(gateway.call_aws(&agent, &operation).await.status() >= 400);
    assert_eq!(
        (gateway.upstream_call_count(), gateway.approval_request(approval_request.id).await.state),
        (0, ApprovalState::Approved)
    );
    gateway.call_aws(&agent, &approved).await;
    assert_eq!(
        (gateway.upstream_call_count(), gateway.approval_request(approval_request.id).await.state),
        (1, ApprovalState::Consumed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_caller_connection_or_principal_gets_nothing() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let sdk_request = put_object("report");
    let approval_request = gateway.create_approved_request(&agent, &sdk_request).await;
    let hour = Duration::from_hours(1);
    let acting = |act: serde_json::Value| {
        gateway.workload_issuer.issue_token_with_claims(&json!({
            "iss": gateway.workload_issuer.url(), "sub": "agent", "aud": "durward", "groups": ["agents"], "act": act,
            "exp": OffsetDateTime::now_utc().unix_timestamp() + 600,
        }))
    };
    let own = gateway.workload_issuer.issue_token("agent", &["agents"], "durward", hour);
    for (what, token, connection) in [
        (
            "another caller",
            gateway.workload_issuer.issue_token("other", &["agents"], "durward", hour),
            "prod",
        ),
        (
            "one whose name differs in case",
            gateway.workload_issuer.issue_token("Agent", &["agents"], "durward", hour),
            "prod",
        ),
        (
            "one of the same name elsewhere",
            gateway.user_issuer.issue_token("agent", &["agents"], "durward", hour),
            "prod",
        ),
        ("the same on behalf of another", acting(json!({"sub": "boss"})), "prod"),
        (
            "the same on behalf of one who acts for another",
            acting(json!({"sub": "boss", "act": {"sub": "chief"}})),
            "prod",
        ),
        ("another connection", own.clone(), "other"),
    ] {
        let other = gateway.sign_in(&token, connection).await;
        let response = gateway.call_aws(&other, &sdk_request).await;
        assert!(response.is_approval_pending(), "{what}: {} {}", response.status(), response.text());
        let pending = gateway.wait_for_approval_request().await;
        assert_ne!(pending.id, approval_request.id, "{what}");
        let token = gateway.approver_token("ann", &["oncall"]);
        gateway.cast_vote(pending.id, &token, &json!({"vote": "deny", "reason": "B"})).await;
    }
    assert_eq!(
        (gateway.upstream_call_count(), gateway.approval_request(approval_request.id).await.state),
        (0, ApprovalState::Approved)
    );
    // Another session of the same caller is the same caller.
    let again = gateway.sign_in(&own, "prod").await;
    assert_eq!(gateway.call_aws(&again, &sdk_request).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumed_grant_cannot_be_reused() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let approval_request = gateway.create_approved_request(&agent, &put_object("report")).await;
    let date = OffsetDateTime::now_utc() + Duration::from_mins(1);
    let request = agent.sign_at(&put_object("report"), date).unwrap();
    assert_eq!(gateway.send_signed(request.clone()).await.status(), 200);
    let replayed = gateway.send_signed(request).await;
    assert!(
        replayed.status() == 403 && !replayed.is_approval_pending(),
        "the very same bytes: {}",
        replayed.text()
    );
    let again = gateway.call_aws(&agent, &put_object("report")).await;
    assert!(again.is_approval_pending(), "the same signed anew: {}", again.text());
    assert_eq!(
        (gateway.upstream_call_count(), gateway.approval_request(approval_request.id).await.uses),
        (1, 1)
    );
    let third = gateway.wait_for_approval_request().await;
    assert_ne!(third.id, approval_request.id);
    let token = gateway.approver_token("bea", &["oncall"]);
    let (status, body) =
        gateway.cast_vote(approval_request.id, &token, &json!({"vote": "approve_once"})).await;
    assert_eq!((status, &body["error"]), (409, &json!("not_pending")), "nor does an response revive it");
    assert!(gateway.call_aws(&agent, &put_object("report")).await.is_approval_pending());
    assert_eq!(gateway.upstream_call_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_fails_burns_no_grant() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let approved = gateway.create_approved_request(&agent, &put_object("report")).await;
    for segment in std::fs::read_dir(gateway.journal_dir()).unwrap() {
        std::fs::remove_file(segment.unwrap().path()).unwrap();
    }
    let refused = gateway.call_aws(&agent, &put_object("report")).await;
    assert_eq!(refused.status(), 500, "{}", refused.text());
    assert!(refused.text().contains("its grant was not consumed"), "{}", refused.text());
    let kept = gateway.approval_request(approved.id).await;
    assert_eq!((kept.state, kept.uses, gateway.upstream_call_count()), (ApprovalState::Approved, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_tool_call_is_for_its_arguments() {
    let gateway = mcp_attacks::start_gateway().await;
    let policies = mcp_attacks::MCP_POLICIES
        .replace("@approval(\"oncall\")", "@approval(\"oncall\") @on_timeout(\"queue\") @timeout(\"10m\")");
    gateway.replace_policies(&policies);
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let approved = tool_call("pay", json!({"to": "acme", "amount": 1}));
    let refused = gateway.post_mcp(&approved).await;
    assert!(refused.text().contains("the approval is pending"), "{}", refused.text());
    let approval_request = gateway.wait_for_approval_request().await;
    gateway.approve_without_console(approval_request.id, "ann").await;
    for (what, other) in [
        ("another amount", tool_call("pay", json!({"to": "acme", "amount": 2}))),
        ("a number as text", tool_call("pay", json!({"to": "acme", "amount": "1"}))),
        ("one argument more", tool_call("pay", json!({"to": "acme", "amount": 1, "now": true}))),
        ("one argument less", tool_call("pay", json!({"to": "acme"}))),
        ("another tool's name", tool_call("Pay", json!({"to": "acme", "amount": 1}))),
    ] {
        let response = gateway.post_mcp(&other).await;
        assert!(response.text().contains("the approval is pending"), "{what}: {}", response.text());
    }
    let before = gateway.mcp_server.received_requests().len();
    assert_eq!(gateway.approval_request(approval_request.id).await.state, ApprovalState::Approved);
    let other = gateway.mcp_request(&gateway.caller_token("other"), &[], approved.to_string());
    assert!(gateway.send_mcp(other).await.text().contains("the approval is pending"), "another caller");
    assert!(gateway.post_mcp(&approved).await.text().contains("\"content\""));
    assert!(gateway.post_mcp(&approved).await.text().contains("the approval is pending"), "once");
    assert_eq!(gateway.mcp_server.received_requests().len(), before + 1);
}
