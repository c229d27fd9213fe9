//! Approvals that end before they are used, and asks that cannot be understood any more.

use crate::durability::tamper_database;
use crate::test_ledger::*;
use durward_approval::*;
use std::time::Duration;

/// An approval of `deletion(1)` that lifts nothing while `ann` is out of the group, and a new ask beside it.
async fn grant_and_new_request(stage: &TestLedger) -> (ApprovalRequest, ApprovalRequest) {
    let older = stage.request_approval(&delete_bucket_request(1)).await;
    let older = stage.approve(&older, &approver("ann", &[ONCALL_GROUP])).await;
    stage.approvals.upsert_user(&approver("ann", &[])).await.unwrap();
    let newer = stage.request_approval(&delete_bucket_request(1)).await;
    assert_ne!(older.id, newer.id);
    (older, newer)
}

#[tokio::test]
async fn a_denial_ends_an_older_approval_of_the_same_operation() {
    let stage = TestLedger::new().await;
    let (older, newer) = grant_and_new_request(&stage).await;
    let other = stage.request_approval(&delete_bucket_request(2)).await;
    stage.approve(&other, &approver("bea", &[ONCALL_GROUP])).await;
    stage.deny(&newer, &approver("bea", &[ONCALL_GROUP])).await;
    stage.approvals.upsert_user(&approver("ann", &[ONCALL_GROUP])).await.unwrap();
    assert_eq!(stage.consume_grant(&delete_bucket_request(1)).await, None, "ann is back, and it was denied");
    let older = stage.get(&older).await;
    assert_eq!((older.state, older.grant_until), (ApprovalState::Denied, None));
    let last = older.history.last().unwrap();
    assert_eq!((last.kind.as_str(), last.by.as_deref()), ("withdrawn", Some("corp/bea")));
    assert_eq!(last.note.as_deref(), Some(&*format!("not today (the same was denied: ask {})", newer.id)));
    assert_eq!(older.last_denial().unwrap().by.id, "corp/bea");
    assert!(
        stage.consume_grant(&delete_bucket_request(2)).await.is_some(),
        "another operation keeps its approval"
    );
    let survived = stage.restart_after_kill().await;
    assert_eq!(survived.get(&older).await.state, ApprovalState::Denied);
}

#[tokio::test]
async fn a_refused_denial_ends_no_other_approval() {
    let stage = TestLedger::new().await;
    let (older, newer) = grant_and_new_request(&stage).await;
    let refused = stage
        .approvals
        .cast_vote(newer.id, &approver("eve", &[]), VoteChoice::Deny { reason: "no".into() })
        .await;
    assert!(matches!(refused, Err(VoteError::NotAnApprover(_))));
    assert_eq!(stage.get(&older).await.state, ApprovalState::Approved);
}

#[tokio::test]
async fn an_unneeded_grant_is_cancelled() {
    let stage = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let ask = stage.request_approval(&new).await;
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    stage.approvals.cancel_unneeded_grant(ask.id).await.unwrap();
    assert_eq!(stage.consume_grant(&new).await, None);
    let over = stage.get(&ask).await;
    assert_eq!((over.state, over.uses), (ApprovalState::Expired, 0));
    let last = over.history.last().unwrap();
    assert_eq!(last.kind, "expired");
    assert_eq!(last.note.as_deref(), Some("policy allows it now: it passed without this approval"));
    // Again, or for what is not approved, it changes nothing.
    stage.approvals.cancel_unneeded_grant(ask.id).await.unwrap();
    assert_eq!(stage.get(&ask).await, over);
    let waiting = stage.request_approval(&delete_bucket_request(2)).await;
    stage.approvals.cancel_unneeded_grant(waiting.id).await.unwrap();
    assert_eq!(stage.get(&waiting).await, waiting);
    assert!(matches!(
        stage.approvals.cancel_unneeded_grant(ApprovalRequestId::new()).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test]
async fn a_time_bound_grant_outlasts_a_policy_that_allows() {
    let stage = TestLedger::new().await;
    let ask = stage.request_approval(&delete_bucket_request(1)).await;
    let until = stage.test_clock.now() + Duration::from_hours(1);
    let window = VoteChoice::ApproveTimeBound { until };
    stage.approvals.cast_vote(ask.id, &approver("ann", &[ONCALL_GROUP]), window).await.unwrap();
    stage.approvals.cancel_unneeded_grant(ask.id).await.unwrap();
    assert!(stage.consume_grant(&delete_bucket_request(1)).await.unwrap().time_bound);
}

/// Polls until `wanted` of an ask, at most 20 seconds.
async fn poll_until(
    stage: &TestLedger,
    ask: &ApprovalRequest,
    wanted: impl Fn(&ApprovalRequest) -> bool,
) -> ApprovalRequest {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1_000 {
        tick.tick().await;
        if wanted(&stage.get(ask).await) {
            break;
        }
    }
    let now = stage.get(ask).await;
    assert!(wanted(&now), "it never came to that: {now:?}");
    now
}

#[tokio::test]
async fn one_corrupt_request_stops_no_other() {
    let stage = TestLedger::new().await;
    let damaged = stage.request_approval(&delete_bucket_request(1)).await;
    let good = stage.request_approval(&delete_bucket_request(2)).await;
    let torn = testing::choose_by_engine(
        "UPDATE ask SET votes = '[' WHERE json_extract(what, '$.digest') LIKE '0101%'",
        "UPDATE ask SET votes = '[' WHERE what::json ->> 'digest' LIKE '0101%'",
    );
    tamper_database(&stage, torn).await;
    let waiting = {
        let approvals = stage.approvals.clone();
        let far = tokio::time::Instant::now() + Duration::from_hours(1);
        tokio::spawn(async move { approvals.wait_for_end(good.id, far).await })
    };
    let mut changes = stage.approvals.subscribe_changes();
    stage.test_clock.advance(301);
    // The keeper settles both; a waiter of the good one hears of it.
    let told = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(told.state, ApprovalState::TimedOut);
    let told = async { [changes.recv().await.unwrap(), changes.recv().await.unwrap()] };
    let told = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    assert!(told.contains(&good.id) && told.contains(&damaged.id), "{told:?}");

    let shown = stage.get(&damaged).await;
    assert_eq!(shown.state, ApprovalState::Corrupt);
    assert_eq!((shown.details.caller.id(), shown.missing_approvals()), ("corp/agent".to_owned(), vec![]));
    for states in [vec![], vec![ApprovalState::Corrupt]] {
        let listed = stage
            .approvals
            .list(ApprovalRequestFilter { states, ..ApprovalRequestFilter::default() })
            .await
            .unwrap();
        assert!(listed.iter().any(|ask| ask.id == damaged.id && ask.state == ApprovalState::Corrupt));
    }
    let next = stage.request_approval(&delete_bucket_request(3)).await;
    stage.approve(&next, &approver("ann", &[ONCALL_GROUP])).await;
    assert!(stage.consume_grant(&delete_bucket_request(3)).await.is_some());
    assert_eq!(stage.approvals.similar_requests(&next, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_corrupt_request_takes_no_votes_and_is_replaced() {
    let stage = TestLedger::new().await;
    let damaged = stage.request_approval(&delete_bucket_request(1)).await;
    tamper_database(&stage, "UPDATE ask SET what = '{}'").await;
    for answer in [VoteChoice::ApproveOnce, VoteChoice::Deny { reason: "no".to_owned() }] {
        let refused = stage.approvals.cast_vote(damaged.id, &approver("ann", &[ONCALL_GROUP]), answer).await;
        assert!(matches!(refused, Err(VoteError::NotPending(ApprovalState::Corrupt))), "{refused:?}");
    }
    let pending =
        ApprovalRequestFilter { states: vec![ApprovalState::Pending], ..ApprovalRequestFilter::default() };
    let listed = stage.approvals.list(pending).await.unwrap();
    assert_eq!(
        listed.iter().map(|ask| ask.state).collect::<Vec<_>>(),
        [ApprovalState::Corrupt],
        "people see it"
    );
    let anew = stage.request_approval(&delete_bucket_request(1)).await;
    assert_ne!(anew.id, damaged.id);
    assert_eq!(stage.get(&damaged).await.state, ApprovalState::Corrupt);
    stage.approve(&anew, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(stage.consume_grant(&delete_bucket_request(1)).await.unwrap().approval_request, anew.id);
}

#[tokio::test]
async fn a_corrupt_grant_lets_nothing_pass_and_hides_no_other() {
    let stage = TestLedger::new().await;
    let window = stage.request_approval(&delete_bucket_request(1)).await;
    let answer = VoteChoice::ApproveTimeBound { until: stage.test_clock.now() + Duration::from_hours(1) };
    stage.approvals.cast_vote(window.id, &approver("ann", &[ONCALL_GROUP]), answer).await.unwrap();
    let once = stage.request_approval(&delete_bucket_request(2)).await;
    stage.approve(&once, &approver("ann", &[ONCALL_GROUP])).await;
    tamper_database(&stage, "UPDATE ask SET votes = 'x' WHERE is_window = 1").await;
    assert_eq!(stage.consume_grant(&delete_bucket_request(1)).await, None);
    assert_eq!(stage.consume_grant(&delete_bucket_request(2)).await.unwrap().approval_request, once.id);
    stage.test_clock.advance(3_600);
    let over = poll_until(&stage, &window, |ask| ask.grant_until.is_none()).await;
    assert_eq!(over.state, ApprovalState::Corrupt);
    tamper_database(&stage, "UPDATE ask SET id = 'no id' WHERE is_window = 1").await;
    assert_eq!(
        stage.approvals.list(ApprovalRequestFilter::default()).await.unwrap().len(),
        1,
        "the others are listed"
    );
}
