//! Open windows: everybody sees them, whoever may answer closes them, and what is closed lets nothing pass.

use super::test_console::{TestBrowser, TestConsole, TestResponse, new_approval_request};
use durward_approval::{ApprovalEventKind, ApprovalRequest, ApprovalState, NewApprovalRequest};
use http::{Method, StatusCode};
use std::time::Duration;

/// An ask that one person can answer.
fn single_vote_request() -> NewApprovalRequest {
    let mut new = new_approval_request();
    new.requirements[0].quorum = 1;
    new
}

async fn consumes_grant(stage: &TestConsole, ask: &ApprovalRequest) -> bool {
    let what = &ask.details;
    let taken = stage.approvals.consume_grant(
        &what.caller,
        &what.connection,
        &what.operation,
        &what.digest,
        &what.requirements,
    );
    taken.await.unwrap().is_some()
}

async fn approve_for_fifteen_minutes(alice: &mut TestBrowser<'_>, ask: &ApprovalRequest) -> TestResponse {
    let answer = alice.cast_vote(ask, "vote=approve_time_bound&minutes=15").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    answer
}

/// The section of the queue.
async fn grants_section(browser: &mut TestBrowser<'_>) -> String {
    let page = browser.get("/").await.body;
    let (_before, rest) = page.split_once("<section id=\"time-bound-grants\"").unwrap();
    rest.split_once("</section>").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_approvals_page_lists_active_time_bound_grants() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    assert!(grants_section(&mut alice).await.contains("None. A time-bound grant is"));
    let ask = stage.open_approval_request_with(single_vote_request()).await;
    approve_for_fifteen_minutes(&mut alice, &ask).await;
    assert!(consumes_grant(&stage, &ask).await && consumes_grant(&stage, &ask).await);
    let mut once = single_vote_request();
    once.digest = [9; 32];
    let once = stage.open_approval_request_with(once).await;
    // The window covers it, so that it is not asked about.
    assert_eq!(once.id, ask.id);
    let mut carol = stage.sign_in_person("carol", "finance").await;
    let seen = grants_section(&mut carol).await;
    for wanted in [
        "Active time-bound grants <span class=\"count\">1</span>",
        "corp/agent-7 for boss",
        "through prod (123456789012, eu-west-1)",
        "s3:DeleteBucket",
        "arn:aws:s3:::payroll",
        ">2 times<",
        ">corp/alice<",
        &format!("href=\"/approvals/{}\"", ask.id),
    ] {
        assert!(seen.contains(wanted), "{wanted}: {seen}");
    }
    assert!(!seen.contains("#voting"), "carol closes nothing: {seen}");
    assert!(grants_section(&mut alice).await.contains(&format!("href=\"/approvals/{}#voting\"", ask.id)));
    let page = carol.get("/").await.body;
    assert_eq!(page.matches(&format!("href=\"/approvals/{}\"", ask.id)).count(), 1, "in one list: {page}");
    stage.advance_clock(Duration::from_mins(16));
    assert!(grants_section(&mut carol).await.contains("None. A time-bound grant is"));
    assert!(!consumes_grant(&stage, &ask).await);
}

#[tokio::test]
async fn a_single_use_approval_is_no_time_bound_grant() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let ask = stage.open_approval_request_with(single_vote_request()).await;
    assert_eq!(alice.cast_vote(&ask, "vote=approve_once").await.status, StatusCode::SEE_OTHER);
    assert!(grants_section(&mut alice).await.contains("None. A time-bound grant is"));
    assert!(alice.get(&format!("/approvals/{}", ask.id)).await.body.contains("Withdraw the approval"));
}

#[tokio::test]
async fn an_approver_revokes_a_time_bound_grant_and_nothing_more_passes() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let ask = stage.open_approval_request_with(single_vote_request()).await;
    let opened = approve_for_fifteen_minutes(&mut alice, &ask).await;
    assert!(alice.get(opened.location()).await.body.contains("Your approval is recorded."));
    assert!(consumes_grant(&stage, &ask).await);
    let mut carol = stage.sign_in_person("carol", "finance").await;
    let page = carol.get(&format!("/approvals/{}", ask.id)).await.body;
    assert!(page.contains("grant active") && !page.contains("Revoke the grant"), "{page}");
    let refused = carol.cast_vote(&ask, "vote=deny&reason=no").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    let mut bob = stage.sign_in_person("bob", "oncall").await;
    let page = bob.get(&format!("/approvals/{}", ask.id)).await.body;
    assert!(page.contains("Revoke the grant") && page.contains("To revoke this grant"), "{page}");
    let path = format!("/approvals/{}/votes", ask.id);
    let forged = bob.send(Method::POST, &path, "csrf=forged&vote=deny&reason=no").await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    assert!(consumes_grant(&stage, &ask).await, "it is open still");
    let closed = bob.cast_vote(&ask, "vote=deny&reason=it+went+too+far").await;
    assert_eq!(closed.status, StatusCode::SEE_OTHER, "{}", closed.body);
    assert!(!consumes_grant(&stage, &ask).await);
    let now = stage.approvals.get(ask.id).await.unwrap().unwrap();
    assert_eq!(
        (now.state, now.history.last().unwrap().kind),
        (ApprovalState::Denied, ApprovalEventKind::Withdrawn)
    );
    let page = bob.get(closed.location()).await.body;
    for wanted in [
        "The grant is revoked.",
        "The time-bound grant was revoked early by <strong>corp/bob</strong>: <q>it went too far</q>. It was used 2 times",
        "<strong>time-bound grant created</strong>",
        "<strong>time-bound grant revoked</strong> by corp/bob",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert_eq!(page.matches("approved for a time").count(), 1, "each answer once: {page}");
    let alices = alice.get(opened.location()).await.body;
    assert!(!alices.contains("Your approval is recorded."), "it holds no more: {alices}");
    assert!(grants_section(&mut alice).await.contains("None. A time-bound grant is"));
}

#[tokio::test]
async fn a_notice_is_shown_for_a_minute_and_to_nobody_else() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let answered = alice.cast_vote(&ask, "vote=approve_once").await;
    let path = answered.location();
    assert!(alice.get(path).await.body.contains("Your approval is recorded."));
    let mut bob = stage.sign_in_person("bob", "oncall").await;
    assert!(!bob.get(path).await.body.contains("Your approval is recorded."), "he gave none");
    let lie = format!("/approvals/{}?done=deny", ask.id);
    assert!(!alice.get(&lie).await.body.contains("class=\"notice\""), "she did not deny");
    stage.advance_clock(Duration::from_mins(2));
    assert!(!alice.get(path).await.body.contains("Your approval is recorded."));
}
