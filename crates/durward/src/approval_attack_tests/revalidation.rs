//! What holds at the moment of use: policy, connection, credential, time.

use super::test_gateway::{APPROVAL_POLICIES, ApprovalTestGateway, put_object, wait_until};
use crate::mcp_attack_tests::test_gateway as mcp;
use durward_approval::{ApprovalRequestFilter, ApprovalState, Approver, VoteChoice};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

const APPROVAL_ANNOTATION: &str = "@approval(\"oncall\")";

fn stricter_policies() -> Vec<(&'static str, String)> {
    let also = |text: &str| format!("{APPROVAL_POLICIES}\n{text}");
    vec![
        (
            "a final forbid instead",
            APPROVAL_POLICIES
                .replace(APPROVAL_ANNOTATION, "")
                .replace("@timeout(\"10m\") @on_timeout(\"queue\")", ""),
        ),
        (
            "a final forbid too",
            also("@id(\"never\") forbid (principal, action == Aws::Action::\"s3:PutObject\", resource);"),
        ),
        ("another group", APPROVAL_POLICIES.replace(APPROVAL_ANNOTATION, "@approval(\"security\")")),
        (
            "a higher quorum",
            APPROVAL_POLICIES.replace(APPROVAL_ANNOTATION, "@approval(\"oncall\") @quorum(\"2\")"),
        ),
        (
            "a second forbid that asks",
            also(
                "@id(\"second\") @approval(\"oncall\") @on_timeout(\"queue\") forbid (principal, action == Aws::Action::\"s3:PutObject\", resource);",
            ),
        ),
        ("another policy that asks instead", APPROVAL_POLICIES.replace("@id(\"ask\")", "@id(\"other\")")),
        (
            "no permit any more",
            APPROVAL_POLICIES.replace(
                "@id(\"work\") permit (principal, action,",
                "@id(\"work\") permit (principal, action == Aws::Action::\"s3:GetObject\",",
            ),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_evaluated_by_the_policies_at_its_use() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let ask = stage.create_approved_request(&agent, &put_object("report")).await;
    for (what, policies) in stricter_policies() {
        stage.replace_policies(&policies);
        let answer = stage.send_request(&agent, &put_object("report")).await;
        assert_eq!((answer.status, stage.upstream_call_count()), (403, 0), "{what}: {}", answer.text);
        assert_eq!(stage.get_request(ask.id).await.state, ApprovalState::Approved, "{what}");
    }
    stage.replace_policies(APPROVAL_POLICIES);
    let answer = stage.send_request(&agent, &put_object("report")).await;
    assert_eq!((answer.status, stage.upstream_call_count()), (200, 1), "as it was approved: {}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_while_a_request_is_held_take_effect() {
    let stage = Arc::new(ApprovalTestGateway::start_with_hold(Duration::from_mins(5)).await);
    let closed = APPROVAL_POLICIES.replace(
        "permit (principal, action == Action::\"connect\"",
        "forbid (principal, action == Action::\"connect\"",
    );
    let mut cases = stricter_policies();
    cases.push(("the connection is closed", closed));
    for (number, (what, policies)) in cases.into_iter().enumerate() {
        stage.replace_policies(APPROVAL_POLICIES);
        let agent = stage.sign_in_agent(&format!("agent-{number}")).await;
        let held = tokio::spawn({
            let stage = stage.clone();
            async move { stage.send_request(&agent, &put_object("report")).await }
        });
        let ask = stage.wait_for_request().await;
        stage.replace_policies(&policies);
        stage.approve_request(ask.id, "ann").await;
        let answer = held.await.unwrap();
        assert_eq!((answer.status, stage.upstream_call_count()), (403, 0), "{what}: {}", answer.text);
        assert_eq!(stage.get_request(ask.id).await.state, ApprovalState::Approved, "{what}: not used");
    }

    stage.replace_policies(APPROVAL_POLICIES);
    let agent = stage.sign_in_agent("agent").await;
    let held = tokio::spawn({
        let stage = stage.clone();
        async move { (stage.send_request(&agent, &put_object("report")).await, agent) }
    });
    let ask = stage.wait_for_request().await;
    stage.replace_policies("permit (principal, action, resource);");
    stage.approve_request(ask.id, "ann").await;
    let (answer, agent) = held.await.unwrap();
    assert_eq!((answer.status, stage.upstream_call_count()), (200, 1), "{}", answer.text);
    let needless = stage.get_request(ask.id).await;
    assert_eq!(
        (needless.state, needless.uses),
        (ApprovalState::Expired, 0),
        "it passed without the approval"
    );
    stage.replace_policies(APPROVAL_POLICIES);
    let again = tokio::spawn({
        let stage = stage.clone();
        async move { stage.send_request(&agent, &put_object("report")).await }
    });
    assert_ne!(stage.wait_for_request().await.id, ask.id, "which is not good for the next one");
    again.abort();
    assert_eq!(stage.upstream_call_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_expires_while_waiting_for_approval_is_refused() {
    let stage = Arc::new(ApprovalTestGateway::start_with_hold(Duration::from_mins(5)).await);
    let agent = Arc::new(stage.agent_expiring_in(Duration::from_secs(5)));
    let held = tokio::spawn({
        let (stage, agent) = (stage.clone(), agent.clone());
        async move { stage.send_request(&agent, &put_object("report")).await }
    });
    let ask = stage.wait_for_request().await;
    wait_until("the credential ends", || async { stage.is_expired(&agent).then_some(()) }).await;
    stage.approve_request(ask.id, "ann").await;
    let answer = held.await.unwrap();
    assert!(
        answer.status >= 400 && answer.text.contains("expired while the request waited for approval"),
        "{}",
        answer.text
    );
    assert_eq!(
        (stage.upstream_call_count(), stage.get_request(ask.id).await.state),
        (0, ApprovalState::Approved)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_while_waiting_for_approval_is_refused() {
    let stage = Arc::new(mcp::McpTestGateway::start_with_hold(Duration::from_mins(5)).await);
    // As long as a token is accepted after its end, but for five seconds.
    let ends = OffsetDateTime::now_utc() - durward_identity::CLOCK_LEEWAY + Duration::from_secs(5);
    let token = stage.issuer.issue_token_with_claims(&json!({
        "iss": stage.issuer.url(), "sub": "agent", "aud": "durward", "groups": ["agents"],
        "exp": ends.unix_timestamp(),
    }));
    let held = tokio::spawn({
        let (stage, token) = (stage.clone(), token.clone());
        let message = mcp::tool_call("pay", json!({"amount": 1}));
        async move { stage.send_request(stage.build_request(&token, &[], message.to_string())).await }
    });
    let approvals = &stage.gateway.parts.approvals;
    let ask = wait_until("somebody is asked", || async {
        approvals
            .list(ApprovalRequestFilter {
                states: vec![ApprovalState::Pending],
                ..ApprovalRequestFilter::default()
            })
            .await
            .unwrap()
            .pop()
    })
    .await;
    let verifier = &stage.gateway.parts.token_verifier;
    wait_until("the token ends", || async {
        verifier.verify(&token, OffsetDateTime::now_utc()).await.err().map(|_ended| ())
    })
    .await;
    let ann = Approver {
        id: "people/ann".to_owned(),
        name: "Ann".to_owned(),
        subject: "ann".to_owned(),
        groups: vec!["oncall".to_owned()],
        groups_as_of: OffsetDateTime::now_utc(),
    };
    approvals.cast_vote(ask.id, &ann, VoteChoice::ApproveOnce).await.unwrap();
    let answer = held.await.unwrap();
    assert!(
        answer.text().contains("expired while the request waited for approval"),
        "{} {}",
        answer.status(),
        answer.text()
    );
    assert!(stage.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_not_an_approval() {
    let stage = ApprovalTestGateway::start().await;
    stage.replace_policies(
        &APPROVAL_POLICIES
            .replace("@timeout(\"10m\") @on_timeout(\"queue\")", "@timeout(\"1s\") @on_timeout(\"reject\")"),
    );
    let agent = stage.sign_in_agent("agent").await;
    assert_eq!(stage.send_request(&agent, &put_object("report")).await.status, 403);
    let ask = wait_until("its time is over", || async {
        stage.list_requests(&[ApprovalState::TimedOut]).await.pop()
    })
    .await;
    let token = stage.approver_token("ann", &["oncall"]);
    let (status, said) = stage.cast_vote(ask.id, &token, &json!({"vote": "approve_once"})).await;
    assert_eq!((status, &said["error"]), (409, &json!("not_pending")), "too late is too late");
    assert_eq!(stage.send_request(&agent, &put_object("report")).await.status, 403);
    assert_eq!(stage.upstream_call_count(), 0);
}
