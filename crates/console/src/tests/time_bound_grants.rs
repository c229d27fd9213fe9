//! Time-bound grants: every user sees the active ones, approvers may revoke them, and a revoked grant lets nothing pass.

use super::test_console::{TestBrowser, TestConsole, TestResponse, new_approval_request};
use durward_approval::{ApprovalEventKind, ApprovalRequest, ApprovalState, NewApprovalRequest};
use http::{Method, StatusCode};
use std::time::Duration;

/// A request that needs one approval.
fn single_vote_request() -> NewApprovalRequest {
    let mut new = new_approval_request();
    new.requirements[0].quorum = 1;
    new
}

async fn consumes_grant(console: &TestConsole, approval_request: &ApprovalRequest) -> bool {
    console.consume_grant(&approval_request.details).await
}

async fn approve_for_fifteen_minutes(
    alice: &mut TestBrowser<'_>,
    approval_request: &ApprovalRequest,
) -> TestResponse {
    let response = alice.cast_vote(approval_request, "vote=approve_time_bound&minutes=15").await;
    assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.body);
    response
}

/// The section of the approvals page.
async fn grants_section(browser: &mut TestBrowser<'_>) -> String {
    let page = browser.get("/").await.body;
    let (_before, rest) = page.split_once("<section id=\"time-bound-grants\"").unwrap();
    rest.split_once("</section>").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_approvals_page_lists_active_time_bound_grants() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    assert!(grants_section(&mut alice).await.contains("None. A time-bound grant is"));
    let approval_request = console.open_approval_request_with(single_vote_request()).await;
    approve_for_fifteen_minutes(&mut alice, &approval_request).await;
    assert!(
        consumes_grant(&console, &approval_request).await
            && consumes_grant(&console, &approval_request).await
    );
    let mut once = single_vote_request();
    once.digest = [9; 32];
    let once = console.open_approval_request_with(once).await;
    // The active grant covers it, so no new request is opened.
    assert_eq!(once.id, approval_request.id);
    let mut carol = console.sign_in_person("carol", "finance").await;
    let section = grants_section(&mut carol).await;
    for wanted in [
        "Active time-bound grants <span class=\"count\">1</span>",
        "corp/agent-7 for boss",
        "through prod (<span class=\"nowrap\">123456789012</span>, <span class=\"nowrap\">eu-west-1</span>)",
        "s3:DeleteBucket",
        "arn:aws:s3:::payroll",
        ">2 times<",
        ">corp/alice<",
        &format!("href=\"/approvals/{}\"", approval_request.id),
    ] {
        assert!(section.contains(wanted), "{wanted}: {section}");
    }
    assert!(!section.contains("#voting"), "carol may not revoke: {section}");
    assert!(
        grants_section(&mut alice)
            .await
            .contains(&format!("href=\"/approvals/{}#voting\"", approval_request.id))
    );
    let page = carol.get("/").await.body;
    assert_eq!(
        page.matches(&format!("href=\"/approvals/{}\"", approval_request.id)).count(),
        1,
        "the grant is in two lists: {page}"
    );
    console.advance_clock(Duration::from_mins(16));
    assert!(grants_section(&mut carol).await.contains("None. A time-bound grant is"));
    assert!(!consumes_grant(&console, &approval_request).await);
}

#[tokio::test]
async fn a_single_use_approval_is_not_listed_as_a_grant() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let approval_request = console.open_approval_request_with(single_vote_request()).await;
    assert_eq!(alice.cast_vote(&approval_request, "vote=approve_once").await.status, StatusCode::SEE_OTHER);
    assert!(grants_section(&mut alice).await.contains("None. A time-bound grant is"));
    assert!(
        alice
            .get(&format!("/approvals/{}", approval_request.id))
            .await
            .body
            .contains("Withdraw the approval")
    );
}

/// A withdrawal is no denial, and it does not change what is said of the votes before it.
#[tokio::test]
async fn an_approval_that_is_withdrawn_keeps_its_votes() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let mut bob = console.sign_in_person("bob", "oncall").await;
    for person in [&mut alice, &mut bob] {
        let response = person.cast_vote(&approval_request, "vote=approve_once").await;
        assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.body);
    }
    console.advance_clock(Duration::from_secs(5));
    let withdrawn = bob.cast_vote(&approval_request, "vote=deny&reason=wrong+bucket").await;
    let page = bob.get(withdrawn.location()).await.body;
    for wanted in [
        "The approval is withdrawn.",
        ">withdrawn</span>",
        "The approval was withdrawn before it was used. <strong>corp/bob</strong> withdrew it: <q>wrong bucket</q>.",
        "2 of 2 approved",
        "<strong>approved once</strong> by corp/alice <span class=\"faint\">(alice; oncall)</span>",
        "<strong>approved once</strong> by corp/bob <span class=\"faint\">(bob)</span>",
        "<strong>approval withdrawn</strong> by corp/bob <span class=\"faint\">(bob; oncall)</span>: wrong bucket",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert!(!page.contains("Your denial is recorded.") && !page.contains("It was denied"), "{page}");
}

#[tokio::test]
async fn an_approver_revokes_a_time_bound_grant_and_nothing_more_passes() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let approval_request = console.open_approval_request_with(single_vote_request()).await;
    let approved = approve_for_fifteen_minutes(&mut alice, &approval_request).await;
    assert!(alice.get(approved.location()).await.body.contains("Your approval is recorded."));
    assert!(consumes_grant(&console, &approval_request).await);
    let mut carol = console.sign_in_person("carol", "finance").await;
    let page = carol.get(&format!("/approvals/{}", approval_request.id)).await.body;
    assert!(page.contains("grant active") && !page.contains("Revoke the grant"), "{page}");
    let refused = carol.cast_vote(&approval_request, "vote=deny&reason=no").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    let mut bob = console.sign_in_person("bob", "oncall").await;
    let page = bob.get(&format!("/approvals/{}", approval_request.id)).await.body;
    assert!(page.contains("Revoke the grant") && page.contains("Revoke this grant"), "{page}");
    let path = format!("/approvals/{}/votes", approval_request.id);
    let forged = bob.send(Method::POST, &path, "csrf=forged&vote=deny&reason=no").await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    assert!(consumes_grant(&console, &approval_request).await, "the forged form revoked the grant");
    let revoked = bob.cast_vote(&approval_request, "vote=deny&reason=it+went+too+far").await;
    assert_eq!(revoked.status, StatusCode::SEE_OTHER, "{}", revoked.body);
    assert!(!consumes_grant(&console, &approval_request).await);
    let now = console.approvals.get(approval_request.id).await.unwrap().unwrap();
    assert_eq!(
        (now.state, now.history.last().unwrap().kind),
        (ApprovalState::Denied, ApprovalEventKind::Withdrawn)
    );
    let page = bob.get(revoked.location()).await.body;
    for wanted in [
        "The grant is revoked.",
        "The time-bound grant was revoked by <strong>corp/bob</strong>: <q>it went too far</q>. It was used 2 times",
        "<strong>time-bound grant created</strong>",
        "<strong>time-bound grant revoked</strong> by corp/bob",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert_eq!(page.matches("approved a time-bound grant").count(), 1, "each vote once: {page}");
    let alices_page = alice.get(approved.location()).await.body;
    assert!(
        !alices_page.contains("Your approval is recorded."),
        "the approval is still confirmed: {alices_page}"
    );
    assert!(grants_section(&mut alice).await.contains("None. A time-bound grant is"));
}

#[tokio::test]
async fn a_vote_is_confirmed_for_a_minute_and_only_to_the_voter() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let voted = alice.cast_vote(&approval_request, "vote=approve_once").await;
    let path = voted.location();
    assert!(alice.get(path).await.body.contains("Your approval is recorded."));
    let mut bob = console.sign_in_person("bob", "oncall").await;
    assert!(!bob.get(path).await.body.contains("Your approval is recorded."), "he cast no vote");
    let wrong_notice = format!("/approvals/{}?done=deny", approval_request.id);
    assert!(!alice.get(&wrong_notice).await.body.contains("class=\"notice\""), "she did not deny");
    console.advance_clock(Duration::from_mins(2));
    assert!(!alice.get(path).await.body.contains("Your approval is recorded."));
}

#[tokio::test]
async fn the_api_lists_active_time_bound_grants() {
    let console = TestConsole::start().await;
    let token = console.issue_token("carol", &["finance"]);
    let list = async |query: &str| {
        let path = format!("/api/v1/time-bound-grants{query}");
        console.call_api(Method::GET, &path, &token, "").await
    };
    let empty = serde_json::json!({"time_bound_grants": [], "may_be_incomplete": false});
    assert_eq!(list("").await, (StatusCode::OK, empty.clone()));
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let mut once = single_vote_request();
    once.operation.name = "GetBucketPolicy".to_owned();
    once.operation.required_permissions[0].action = "s3:GetBucketPolicy".to_owned();
    once.digest = [9; 32];
    let once = console.open_approval_request_with(once).await;
    assert_eq!(alice.cast_vote(&once, "vote=approve_once").await.status, StatusCode::SEE_OTHER);
    let approval_request = console.open_approval_request_with(single_vote_request()).await;
    approve_for_fifteen_minutes(&mut alice, &approval_request).await;
    for query in ["", "?caller=corp/agent-7"] {
        let (_status, listed) = list(query).await;
        assert_eq!(listed["time_bound_grants"].as_array().unwrap().len(), 1, "{query}: {listed}");
        let grant = &listed["time_bound_grants"][0];
        assert_eq!(grant["id"], approval_request.id.to_string());
        assert!(grant["time_bound"] == true && grant["grant_until"].is_string(), "{grant}");
    }
    assert_eq!(list("?caller=corp/agent-8").await.1, empty);
    assert_eq!(list("?state=all").await.0, StatusCode::BAD_REQUEST);
    console.advance_clock(Duration::from_mins(16));
    assert_eq!(list("").await.1, empty);
}
