//! Policies, connections, credentials and time are checked again at the moment of use.

use super::{APPROVAL_POLICIES, put_object, start_gateway, start_with_hold};
use crate::mcp_attacks;
use durward_approval::ApprovalState;
use durward_integration::{tool_call, wait_until};
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
            "a second forbid that requests",
            also(
                "@id(\"second\") @approval(\"oncall\") @on_timeout(\"queue\") forbid (principal, action == Aws::Action::\"s3:PutObject\", resource);",
            ),
        ),
        (
            "another policy that needs an approval instead",
            APPROVAL_POLICIES.replace("@id(\"needs-approval\")", "@id(\"other\")"),
        ),
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
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let approval_request = gateway.create_approved_request(&agent, &put_object("report")).await;
    for (what, policies) in stricter_policies() {
        gateway.replace_policies(&policies);
        let response = gateway.call_aws(&agent, &put_object("report")).await;
        assert_eq!(
            (response.status(), gateway.upstream_call_count()),
            (403, 0),
            "{what}: {}",
            response.text()
        );
        assert_eq!(
            gateway.approval_request(approval_request.id).await.state,
            ApprovalState::Approved,
            "{what}"
        );
    }
    gateway.replace_policies(APPROVAL_POLICIES);
    let response = gateway.call_aws(&agent, &put_object("report")).await;
    assert_eq!(
        (response.status(), gateway.upstream_call_count()),
        (200, 1),
        "the policies of the approval: {}",
        response.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_while_a_request_is_held_take_effect() {
    let gateway = Arc::new(start_with_hold(Duration::from_mins(5)).await);
    let closed = APPROVAL_POLICIES.replace(
        "permit (principal, action == Action::\"connect\"",
        "forbid (principal, action == Action::\"connect\"",
    );
    let mut cases = stricter_policies();
    cases.push(("the connection is closed", closed));
    for (number, (what, policies)) in cases.into_iter().enumerate() {
        gateway.replace_policies(APPROVAL_POLICIES);
        let agent = gateway.sign_in_agent(&format!("agent-{number}")).await;
        let held = tokio::spawn({
            let gateway = gateway.clone();
            async move { gateway.call_aws(&agent, &put_object("report")).await }
        });
        let approval_request = gateway.wait_for_approval_request().await;
        gateway.replace_policies(&policies);
        gateway.approve(approval_request.id, "ann").await;
        let response = held.await.unwrap();
        assert_eq!(
            (response.status(), gateway.upstream_call_count()),
            (403, 0),
            "{what}: {}",
            response.text()
        );
        assert_eq!(
            gateway.approval_request(approval_request.id).await.state,
            ApprovalState::Approved,
            "{what}: not used"
        );
    }

    gateway.replace_policies(APPROVAL_POLICIES);
    let agent = gateway.sign_in_agent("agent").await;
    let held = tokio::spawn({
        let gateway = gateway.clone();
        async move { (gateway.call_aws(&agent, &put_object("report")).await, agent) }
    });
    let approval_request = gateway.wait_for_approval_request().await;
    gateway.replace_policies("permit (principal, action, resource);");
    gateway.approve(approval_request.id, "ann").await;
    let (response, agent) = held.await.unwrap();
    assert_eq!((response.status(), gateway.upstream_call_count()), (200, 1), "{}", response.text());
    let needless = gateway.approval_request(approval_request.id).await;
    assert_eq!(
        (needless.state, needless.uses),
        (ApprovalState::Expired, 0),
        "it passed without the approval"
    );
    gateway.replace_policies(APPROVAL_POLICIES);
    let again = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.call_aws(&agent, &put_object("report")).await }
    });
    assert_ne!(
        gateway.wait_for_approval_request().await.id,
        approval_request.id,
        "which is not good for the next one"
    );
    again.abort();
    assert_eq!(gateway.upstream_call_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_expires_while_waiting_for_approval_is_refused() {
    let gateway = Arc::new(start_with_hold(Duration::from_mins(5)).await);
    let agent = Arc::new(gateway.agent_expiring_in(Duration::from_secs(5)));
    let held = tokio::spawn({
        let (gateway, agent) = (gateway.clone(), agent.clone());
        async move { gateway.call_aws(&agent, &put_object("report")).await }
    });
    let approval_request = gateway.wait_for_approval_request().await;
    wait_until("the credential ends", || async { gateway.is_expired(&agent).then_some(()) }).await;
    gateway.approve(approval_request.id, "ann").await;
    let response = held.await.unwrap();
    assert!(
        response.status() >= 400 && response.text().contains("expired while the request waited for approval"),
        "{}",
        response.text()
    );
    assert_eq!(
        (gateway.upstream_call_count(), gateway.approval_request(approval_request.id).await.state),
        (0, ApprovalState::Approved)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_while_waiting_for_approval_is_refused() {
    let gateway = Arc::new(mcp_attacks::start_with_hold(Duration::from_mins(5)).await);
    // As long as a token is accepted after its end, but for five seconds.
    let ends = OffsetDateTime::now_utc() - durward_identity::CLOCK_LEEWAY + Duration::from_secs(5);
    let token = gateway.workload_issuer.issue_token_with_claims(&json!({
        "iss": gateway.workload_issuer.url(), "sub": "agent", "aud": "durward", "groups": ["agents"],
        "exp": ends.unix_timestamp(),
    }));
    let held = tokio::spawn({
        let (gateway, token) = (gateway.clone(), token.clone());
        let message = tool_call("pay", json!({"amount": 1}));
        async move { gateway.send_mcp(gateway.mcp_request(&token, &[], message.to_string())).await }
    });
    let approval_request = gateway.wait_for_approval_request().await;
    let verifier = &gateway.running.parts.token_verifier;
    wait_until("the token ends", || async {
        verifier.verify(&token, OffsetDateTime::now_utc()).await.err().map(|_ended| ())
    })
    .await;
    gateway.approve_without_console(approval_request.id, "ann").await;
    let response = held.await.unwrap();
    assert!(
        response.text().contains("expired while the request waited for approval"),
        "{} {}",
        response.status(),
        response.text()
    );
    assert!(gateway.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_not_an_approval() {
    let gateway = start_gateway().await;
    gateway.replace_policies(
        &APPROVAL_POLICIES
            .replace("@timeout(\"10m\") @on_timeout(\"queue\")", "@timeout(\"1s\") @on_timeout(\"reject\")"),
    );
    let agent = gateway.sign_in_agent("agent").await;
    assert_eq!(gateway.call_aws(&agent, &put_object("report")).await.status(), 403);
    let approval_request = wait_until("its time is over", || async {
        gateway.list_approval_requests(&[ApprovalState::TimedOut]).await.pop()
    })
    .await;
    let token = gateway.approver_token("ann", &["oncall"]);
    let (status, body) =
        gateway.cast_vote(approval_request.id, &token, &json!({"vote": "approve_once"})).await;
    assert_eq!((status, &body["error"]), (409, &json!("not_pending")), "too late is too late");
    assert_eq!(gateway.call_aws(&agent, &put_object("report")).await.status(), 403);
    assert_eq!(gateway.upstream_call_count(), 0);
}
