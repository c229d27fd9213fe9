//! Approve A, run B.

use super::test_gateway::{ApprovalTestGateway, TestRequest, json_call, put_object};
use crate::mcp_attack_tests::test_gateway as mcp;
use durward_approval::{ApprovalRequestFilter, ApprovalState, Approver, VoteChoice};
use http::Method;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_one_request_lets_no_other_pass() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let approved = put_object("report");
    let ask = stage.create_approved_request(&agent, &approved).await;
    let with = |name: &'static str, value: &'static str| {
        let mut shot = approved.clone();
        shot.headers.retain(|(known, _value)| *known != name);
        shot.headers.push((name, value));
        shot
    };
    let others: Vec<(&str, TestRequest)> = vec![
        ("another object", put_object("Report")),
        ("an object below", put_object("report/")),
        ("another bucket", TestRequest { path: "/other/report".to_owned(), ..approved.clone() }),
        ("a byte of the body", TestRequest { body: "onE", ..approved.clone() }),
        ("no body", TestRequest { body: "", ..approved.clone() }),
        ("a longer body", TestRequest { body: "one\n", ..approved.clone() }),
        ("a body that is not signed", TestRequest { unsigned_body: true, ..approved.clone() }),
        ("another region", TestRequest { region: "eu-west-1", ..approved.clone() }),
        ("another method", TestRequest { method: Method::DELETE, body: "", ..approved.clone() }),
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
            TestRequest { query: "versionId=1", method: Method::DELETE, body: "", ..approved.clone() },
        ),
    ];
    for (what, other) in &others {
        let answer = stage.send_request(&agent, other).await;
        assert!(answer.is_pending(), "{what}: {} {}", answer.status, answer.text);
        // Room for the next one: a caller has only so many asks.
        let token = stage.approver_token("ann", &["oncall"]);
        let pending = stage.wait_for_request().await;
        let (status, said) =
            stage.cast_vote(pending.id, &token, &json!({"vote": "deny", "reason": "B"})).await;
        assert_eq!(status, 200, "{said}");
    }
    for (what, other) in [
        ("a copy of something else", with("x-amz-copy-source", "/data/kept")),
        ("the object's tags", TestRequest { query: "tagging", ..approved.clone() }),
        ("the object's permissions", TestRequest { query: "acl", ..approved.clone() }),
    ] {
        let answer = stage.send_request(&agent, &other).await;
        assert!(answer.status >= 400, "{what}: {} {}", answer.status, answer.text);
    }
    assert_eq!((stage.upstream_call_count(), stage.intent_count().await), (0, 0), "nothing went on");
    assert_eq!(
        stage.get_request(ask.id).await.state,
        ApprovalState::Approved,
        "and nothing used the approval"
    );
    let answer = stage.send_request(&agent, &approved).await;
    assert_eq!((answer.status, stage.upstream_call_count()), (200, 1), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_body_is_bound_too() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let target = "secretsmanager.DeleteSecret";
    let approved = json_call("secretsmanager", target, r#"{"SecretId":"db","RecoveryWindowInDays":30}"#);
    let ask = stage.create_approved_request(&agent, &approved).await;
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
        let answer = stage.send_request(&agent, &TestRequest { body, ..approved.clone() }).await;
        assert!(answer.status >= 400 && !answer.text.contains("no longer"), "{what}: {}", answer.text);
        let pending = stage.wait_for_request().await;
        assert_ne!(pending.details.digest, ask.details.digest, "{what}");
        let token = stage.approver_token("ann", &["oncall"]);
        stage.cast_vote(pending.id, &token, &json!({"vote": "deny", "reason": "B"})).await;
    }
    let twice = TestRequest {
        body: r#"{"SecretId":"db","RecoveryWindowInDays":30,"SecretId":"x"}"#,
        ..approved.clone()
    };
    assert_eq!(
        stage.send_request(&agent, &twice).await.status,
        400,
        "what two readers could read differently"
    );
    let operation = TestRequest {
        headers: vec![("x-amz-target", "secretsmanager.PutSecretValue"), approved.headers[1]],
        ..approved.clone()
    };
    assert!(stage.send_request(&agent, &operation).await.status >= 400);
    assert_eq!(
        (stage.upstream_call_count(), stage.get_request(ask.id).await.state),
        (0, ApprovalState::Approved)
    );
    stage.send_request(&agent, &approved).await;
    assert_eq!(
        (stage.upstream_call_count(), stage.get_request(ask.id).await.state),
        (1, ApprovalState::Consumed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_caller_connection_or_principal_gets_nothing() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let shot = put_object("report");
    let ask = stage.create_approved_request(&agent, &shot).await;
    let hour = Duration::from_hours(1);
    let acting = |act: serde_json::Value| {
        stage.workload_issuer.issue_token_with_claims(&json!({
            "iss": stage.workload_issuer.url(), "sub": "agent", "aud": "durward", "groups": ["agents"], "act": act,
            "exp": OffsetDateTime::now_utc().unix_timestamp() + 600,
        }))
    };
    let own = stage.workload_issuer.issue_token("agent", &["agents"], "durward", hour);
    for (what, token, connection) in [
        ("another caller", stage.workload_issuer.issue_token("other", &["agents"], "durward", hour), "prod"),
        (
            "one whose name differs in case",
            stage.workload_issuer.issue_token("Agent", &["agents"], "durward", hour),
            "prod",
        ),
        (
            "one of the same name elsewhere",
            stage.user_issuer.issue_token("agent", &["agents"], "durward", hour),
            "prod",
        ),
        ("the same for somebody", acting(json!({"sub": "boss"})), "prod"),
        ("the same for somebody who acts", acting(json!({"sub": "boss", "act": {"sub": "chief"}})), "prod"),
        ("another connection", own.clone(), "other"),
    ] {
        let other = stage.sign_in(&token, connection).await;
        let answer = stage.send_request(&other, &shot).await;
        assert!(answer.is_pending(), "{what}: {} {}", answer.status, answer.text);
        let pending = stage.wait_for_request().await;
        assert_ne!(pending.id, ask.id, "{what}");
        let token = stage.approver_token("ann", &["oncall"]);
        stage.cast_vote(pending.id, &token, &json!({"vote": "deny", "reason": "B"})).await;
    }
    assert_eq!(
        (stage.upstream_call_count(), stage.get_request(ask.id).await.state),
        (0, ApprovalState::Approved)
    );
    // Another session of the same caller is the same caller.
    let again = stage.sign_in(&own, "prod").await;
    assert_eq!(stage.send_request(&again, &shot).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumed_grant_cannot_be_reused() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let ask = stage.create_approved_request(&agent, &put_object("report")).await;
    let request = stage.sign_request(&agent, &put_object("report"));
    assert_eq!(stage.send_signed(request.clone()).await.status, 200);
    let replayed = stage.send_signed(request).await;
    assert!(replayed.status == 403 && !replayed.is_pending(), "the very same bytes: {}", replayed.text);
    let again = stage.send_request(&agent, &put_object("report")).await;
    assert!(again.is_pending(), "the same signed anew: {}", again.text);
    assert_eq!((stage.upstream_call_count(), stage.get_request(ask.id).await.uses), (1, 1));
    let third = stage.wait_for_request().await;
    assert_ne!(third.id, ask.id);
    let token = stage.approver_token("bea", &["oncall"]);
    let (status, said) = stage.cast_vote(ask.id, &token, &json!({"vote": "approve_once"})).await;
    assert_eq!((status, &said["error"]), (409, &json!("not_pending")), "nor does an answer revive it");
    assert!(stage.send_request(&agent, &put_object("report")).await.is_pending());
    assert_eq!(stage.upstream_call_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_tool_call_is_for_its_arguments() {
    let stage = mcp::McpTestGateway::start().await;
    let policies = mcp::MCP_POLICIES
        .replace("@approval(\"oncall\")", "@approval(\"oncall\") @on_timeout(\"queue\") @timeout(\"10m\")");
    std::fs::write(stage.dir.path().join("policies/all.cedar"), policies).unwrap();
    stage.gateway.parts.policies.reload().unwrap();
    stage.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let approved = mcp::tool_call("pay", json!({"to": "acme", "amount": 1}));
    let refused = stage.post_message(&approved).await;
    assert!(refused.text().contains("the approval is pending"), "{}", refused.text());
    let approvals = &stage.gateway.parts.approvals;
    let pending =
        ApprovalRequestFilter { states: vec![ApprovalState::Pending], ..ApprovalRequestFilter::default() };
    let ask = approvals.list(pending).await.unwrap().pop().unwrap();
    let ann = Approver {
        id: "people/ann".to_owned(),
        name: "Ann".to_owned(),
        subject: "ann".to_owned(),
        groups: vec!["oncall".to_owned()],
        groups_as_of: OffsetDateTime::now_utc(),
    };
    approvals.cast_vote(ask.id, &ann, VoteChoice::ApproveOnce).await.unwrap();
    for (what, other) in [
        ("another amount", mcp::tool_call("pay", json!({"to": "acme", "amount": 2}))),
        ("a number as text", mcp::tool_call("pay", json!({"to": "acme", "amount": "1"}))),
        ("one argument more", mcp::tool_call("pay", json!({"to": "acme", "amount": 1, "now": true}))),
        ("one argument less", mcp::tool_call("pay", json!({"to": "acme"}))),
        ("another tool's name", mcp::tool_call("Pay", json!({"to": "acme", "amount": 1}))),
    ] {
        let answer = stage.post_message(&other).await;
        // The name is another tool, which nobody asks about: it passes as itself.
        if what == "another tool's name" {
            assert_eq!(stage.mcp_server.received_requests().last().unwrap().json()["params"]["name"], "Pay");
        } else {
            assert!(answer.text().contains("the approval is pending"), "{what}: {}", answer.text());
        }
    }
    let before = stage.mcp_server.received_requests().len();
    assert_eq!(approvals.get(ask.id).await.unwrap().unwrap().state, ApprovalState::Approved);
    let other = stage.build_request(&stage.caller_token("other"), &[], approved.to_string());
    assert!(stage.send_request(other).await.text().contains("the approval is pending"), "another caller");
    assert!(stage.post_message(&approved).await.text().contains("\"content\""));
    assert!(stage.post_message(&approved).await.text().contains("the approval is pending"), "once");
    assert_eq!(stage.mcp_server.received_requests().len(), before + 1);
}
