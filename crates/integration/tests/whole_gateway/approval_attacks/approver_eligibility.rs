//! Who may vote, and by which request.

use super::{put_object, start_gateway};

use bytes::Bytes;
use durward_approval::ApprovalState;
use http::{Method, Request};
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

#[tokio::test(flavor = "multi_thread")]
async fn only_eligible_approvers_may_vote() {
    let gateway = start_gateway().await;
    // An agent that acts for `boss`, who acts for `chief`.
    let token = gateway.workload_issuer.issue_token_with_claims(&json!({
        "iss": gateway.workload_issuer.url(), "sub": "agent", "aud": "durward",
        "act": {"sub": "boss", "act": {"sub": "chief"}},
        "exp": OffsetDateTime::now_utc().unix_timestamp() + 600,
    }));
    let agent = gateway.sign_in(&token, "prod").await;
    assert!(gateway.call_aws(&agent, &put_object("report")).await.is_approval_pending());
    let approval_request = gateway.wait_for_approval_request().await;
    let hour = Duration::from_hours(1);
    let groups = ["oncall", "agents"];
    let in_an_hour = OffsetDateTime::now_utc() + hour;
    let in_an_hour = in_an_hour.format(&time::format_description::well_known::Rfc3339).unwrap();
    for (what, token, wanted) in [
        (
            "the agent's name at another provider",
            gateway.approver_token("agent", &groups),
            (403, "own_request"),
        ),
        ("the one it acts for", gateway.approver_token("boss", &groups), (403, "own_request")),
        ("the same, written otherwise", gateway.approver_token("BOSS", &groups), (403, "own_request")),
        ("the one behind", gateway.approver_token("chief", &groups), (403, "own_request")),
        ("another person", gateway.approver_token("eve", &["agents"]), (403, "not_an_approver")),
        (
            "a group with a similar name",
            gateway.approver_token("eve", &["Oncall", "oncall "]),
            (403, "not_an_approver"),
        ),
        (
            "a workload",
            gateway.workload_issuer.issue_token("ann", &groups, "durward", hour),
            (401, "token_refused"),
        ),
        ("the agent itself", token.clone(), (401, "token_refused")),
        (
            "a person's token for the front ends",
            gateway.user_issuer.issue_token("ann", &groups, "durward", hour),
            (401, "token_refused"),
        ),
        (
            "a token for another audience",
            gateway.user_issuer.issue_token("ann", &groups, "other", hour),
            (401, "token_refused"),
        ),
        ("no token", String::new(), (401, "token_refused")),
    ] {
        for response in [
            json!({"vote": "approve_once"}),
            json!({"vote": "break_glass", "reason": "fire"}),
            json!({"vote": "approve_time_bound", "until": in_an_hour}),
        ] {
            let (status, body) = gateway.cast_vote(approval_request.id, &token, &response).await;
            assert_eq!(status, wanted.0, "{what}: {body}");
            // No group may use break-glass here.
            let is_break_glass = response["vote"] == "break_glass" && wanted.1 == "own_request";
            let error = if is_break_glass { "not_an_approver" } else { wanted.1 };
            assert_eq!(body["error"], error, "{what}: {body}");
        }
    }
    let now = gateway.approval_request(approval_request.id).await;
    assert_eq!((now.state, now.votes.len(), gateway.upstream_call_count()), (ApprovalState::Pending, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_stops_counting_when_the_approver_leaves_the_group() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let approval_request = gateway.create_approved_request(&agent, &put_object("report")).await;
    // The provider says so when they next show a token, although the console does not admit her new group; of two the newer counts.
    let mut left = json!({
        "iss": gateway.user_issuer.url(), "sub": "ann", "aud": "durward-people", "groups": ["others"],
        "iat": OffsetDateTime::now_utc().unix_timestamp() + 5,
        "exp": OffsetDateTime::now_utc().unix_timestamp() + 600,
    });
    let (status, body) = gateway
        .cast_vote(
            approval_request.id,
            &gateway.user_issuer.issue_token_with_claims(&left),
            &json!({"vote": "approve_once"}),
        )
        .await;
    assert_eq!((status, &body["error"]), (403, &json!("not_admitted")));
    let response = gateway.call_aws(&agent, &put_object("report")).await;
    assert!(response.is_approval_pending(), "{}", response.text());
    let fresh = gateway.wait_for_approval_request().await;
    // Nor does an older token bring her back.
    left["groups"] = json!(["oncall"]);
    left["iat"] = json!(OffsetDateTime::now_utc().unix_timestamp() - 5);
    let (status, body) = gateway
        .cast_vote(
            fresh.id,
            &gateway.user_issuer.issue_token_with_claims(&left),
            &json!({"vote": "approve_once"}),
        )
        .await;
    assert_eq!((status, &body["error"]), (403, &json!("not_an_approver")));
    assert!(gateway.call_aws(&agent, &put_object("report")).await.is_approval_pending());
    assert_eq!(
        (gateway.upstream_call_count(), gateway.approval_request(approval_request.id).await.state),
        (0, ApprovalState::Approved)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_but_the_vote_endpoint_casts_a_vote() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    assert!(gateway.call_aws(&agent, &put_object("report")).await.is_approval_pending());
    let approval_request = gateway.wait_for_approval_request().await;
    let before = gateway.approval_request(approval_request.id).await;
    let id = approval_request.id;
    let token = gateway.approver_token("ann", &["oncall"]);
    let addresses = [
        format!("/approvals/{id}"),
        format!("/approvals/{id}/votes?vote=approve_once"),
        format!("/api/v1/approval-requests/{id}"),
        format!("/api/v1/approval-requests/{id}/votes"),
        format!("/api/v1/approval-requests/{id}/votes?vote=approve_once"),
        format!("/api/v1/approval-requests/{id}/approve"),
        format!("/api/v1/approval-requests/{id}?vote=approve_once&_method=POST"),
    ];
    for address in &addresses {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::PATCH]
        {
            let request = Request::builder()
                .method(method.clone())
                .uri(address)
                .header("authorization", format!("Bearer {token}"))
                .header("x-http-method-override", "POST")
                .body(Bytes::from_static(b"{\"vote\":\"approve_once\"}"))
                .unwrap();
            let response = gateway.send_to_console(request).await;
            assert!(!response.text().contains("\"approved\""), "{method} {address}: {}", response.text());
        }
    }
    assert_eq!(gateway.approval_request(id).await, before);
    assert!(gateway.call_aws(&agent, &put_object("report")).await.is_approval_pending());
    assert_eq!(gateway.upstream_call_count(), 0);
}
