//! Who answers, and by what.

use super::test_gateway::{ApprovalTestGateway, put_object};
use bytes::Bytes;
use durward_approval::ApprovalState;
use http::{Method, Request};
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

#[tokio::test(flavor = "multi_thread")]
async fn only_eligible_approvers_may_vote() {
    let stage = ApprovalTestGateway::start().await;
    // An agent that acts for `boss`, who acts for `chief`.
    let token = stage.workload_issuer.issue_token_with_claims(&json!({
        "iss": stage.workload_issuer.url(), "sub": "agent", "aud": "durward",
        "act": {"sub": "boss", "act": {"sub": "chief"}},
        "exp": OffsetDateTime::now_utc().unix_timestamp() + 600,
    }));
    let agent = stage.sign_in(&token, "prod").await;
    assert!(stage.send_request(&agent, &put_object("report")).await.is_pending());
    let ask = stage.wait_for_request().await;
    let hour = Duration::from_hours(1);
    let groups = ["oncall", "agents"];
    let in_an_hour = OffsetDateTime::now_utc() + hour;
    let in_an_hour = in_an_hour.format(&time::format_description::well_known::Rfc3339).unwrap();
    for (what, token, wanted) in [
        (
            "the agent's name at another provider",
            stage.approver_token("agent", &groups),
            (403, "own_request"),
        ),
        ("the one it acts for", stage.approver_token("boss", &groups), (403, "own_request")),
        ("the same, written otherwise", stage.approver_token("BOSS", &groups), (403, "own_request")),
        ("the one behind", stage.approver_token("chief", &groups), (403, "own_request")),
        ("somebody else", stage.approver_token("eve", &["agents"]), (403, "not_an_approver")),
        (
            "a group with a similar name",
            stage.approver_token("eve", &["Oncall", "oncall "]),
            (403, "not_an_approver"),
        ),
        (
            "a workload",
            stage.workload_issuer.issue_token("ann", &groups, "durward", hour),
            (401, "token_refused"),
        ),
        ("the agent itself", token.clone(), (401, "token_refused")),
        (
            "a person's token for the doors",
            stage.user_issuer.issue_token("ann", &groups, "durward", hour),
            (401, "token_refused"),
        ),
        (
            "a token for somebody else",
            stage.user_issuer.issue_token("ann", &groups, "other", hour),
            (401, "token_refused"),
        ),
        ("no token", String::new(), (401, "token_refused")),
    ] {
        for answer in [
            json!({"vote": "approve_once"}),
            json!({"vote": "break_glass", "reason": "fire"}),
            json!({"vote": "approve_time_bound", "until": in_an_hour}),
        ] {
            let (status, said) = stage.cast_vote(ask.id, &token, &answer).await;
            assert_eq!(status, wanted.0, "{what}: {said}");
            // No group may use break-glass here.
            let is_break_glass = answer["vote"] == "break_glass" && wanted.1 == "own_request";
            let error = if is_break_glass { "not_an_approver" } else { wanted.1 };
            assert_eq!(said["error"], error, "{what}: {said}");
        }
    }
    let now = stage.get_request(ask.id).await;
    assert_eq!((now.state, now.votes.len(), stage.upstream_call_count()), (ApprovalState::Pending, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_stops_counting_when_the_approver_leaves_the_group() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let ask = stage.create_approved_request(&agent, &put_object("report")).await;
    // The provider says so when they next show a token; of two the newer counts.
    let mut left = json!({
        "iss": stage.user_issuer.url(), "sub": "ann", "aud": "durward-people", "groups": ["others"],
        "iat": OffsetDateTime::now_utc().unix_timestamp() + 5,
        "exp": OffsetDateTime::now_utc().unix_timestamp() + 600,
    });
    let (status, said) = stage
        .cast_vote(
            ask.id,
            &stage.user_issuer.issue_token_with_claims(&left),
            &json!({"vote": "approve_once"}),
        )
        .await;
    assert_eq!((status, &said["error"]), (409, &json!("not_pending")));
    let answer = stage.send_request(&agent, &put_object("report")).await;
    assert!(answer.is_pending(), "{}", answer.text);
    let fresh = stage.wait_for_request().await;
    // Nor does an older token bring her back.
    left["groups"] = json!(["oncall"]);
    left["iat"] = json!(OffsetDateTime::now_utc().unix_timestamp() - 5);
    let (status, said) = stage
        .cast_vote(
            fresh.id,
            &stage.user_issuer.issue_token_with_claims(&left),
            &json!({"vote": "approve_once"}),
        )
        .await;
    assert_eq!((status, &said["error"]), (403, &json!("not_an_approver")));
    assert!(stage.send_request(&agent, &put_object("report")).await.is_pending());
    assert_eq!(
        (stage.upstream_call_count(), stage.get_request(ask.id).await.state),
        (0, ApprovalState::Approved)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_but_the_vote_endpoint_casts_a_vote() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    assert!(stage.send_request(&agent, &put_object("report")).await.is_pending());
    let ask = stage.wait_for_request().await;
    let before = stage.get_request(ask.id).await;
    let id = ask.id;
    let token = stage.approver_token("ann", &["oncall"]);
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
            let answer = stage.call_console(request).await;
            assert!(!answer.text.contains("\"approved\""), "{method} {address}: {}", answer.text);
        }
    }
    assert_eq!(stage.get_request(id).await, before);
    assert!(stage.send_request(&agent, &put_object("report")).await.is_pending());
    assert_eq!(stage.upstream_call_count(), 0);
}
