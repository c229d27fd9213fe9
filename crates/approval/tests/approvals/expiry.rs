//! Grants that end before they are used, and approval requests whose rows cannot be read.

use crate::durability::tamper_database;
use crate::test_ledger::*;
use durward_approval::*;
use std::time::Duration;

/// An approved `delete_bucket_request(1)` whose grant covers nothing while `ann` is out of the group, and a new request for the
/// same operation.
async fn grant_and_new_request(ledger: &TestLedger) -> (ApprovalRequest, ApprovalRequest) {
    let older = ledger.request_approval(&delete_bucket_request(1)).await;
    let older = ledger.approve(&older, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.approvals.upsert_user(&approver("ann", &[])).await.unwrap();
    let newer = ledger.request_approval(&delete_bucket_request(1)).await;
    assert_ne!(older.id, newer.id);
    (older, newer)
}

#[tokio::test]
async fn a_denial_ends_an_older_approval_of_the_same_operation() {
    let ledger = TestLedger::new().await;
    let (older, newer) = grant_and_new_request(&ledger).await;
    let other = ledger.request_approval(&delete_bucket_request(2)).await;
    ledger.approve(&other, &approver("bea", &[ONCALL_GROUP])).await;
    ledger.deny(&newer, &approver("bea", &[ONCALL_GROUP])).await;
    ledger.approvals.upsert_user(&approver("ann", &[ONCALL_GROUP])).await.unwrap();
    assert_eq!(
        ledger.consume_grant(&delete_bucket_request(1)).await,
        None,
        "ann is back in the group, but the operation was denied"
    );
    let older = ledger.get(&older).await;
    assert_eq!((older.state, older.grant_until), (ApprovalState::Denied, None));
    let last = older.history.last().unwrap();
    assert_eq!((last.kind, last.by.as_deref()), (ApprovalEventKind::Withdrawn, Some("corp/bea")));
    assert_eq!(
        last.note.as_deref(),
        Some(&*format!("not today (the same operation was denied: approval request {})", newer.id))
    );
    assert_eq!(older.last_denial().unwrap().by.id, "corp/bea");
    assert!(
        ledger.consume_grant(&delete_bucket_request(2)).await.is_some(),
        "another operation keeps its approval"
    );
    let survived = ledger.restart_after_kill().await;
    assert_eq!(survived.get(&older).await.state, ApprovalState::Denied);
}

#[tokio::test]
async fn a_refused_denial_ends_no_other_approval() {
    let ledger = TestLedger::new().await;
    let (older, newer) = grant_and_new_request(&ledger).await;
    let refused = ledger
        .approvals
        .cast_vote(newer.id, &approver("eve", &[]), VoteChoice::Deny { reason: "no".into() })
        .await;
    assert!(matches!(refused, Err(VoteError::NotAnApprover(_))));
    assert_eq!(ledger.get(&older).await.state, ApprovalState::Approved);
}

#[tokio::test]
async fn an_unneeded_grant_is_cancelled() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.approvals.cancel_unneeded_grant(request.id).await.unwrap();
    assert_eq!(ledger.consume_grant(&new).await, None);
    let over = ledger.get(&request).await;
    assert_eq!((over.state, over.uses), (ApprovalState::Expired, 0));
    let last = over.history.last().unwrap();
    assert_eq!(last.kind, ApprovalEventKind::Expired);
    assert_eq!(last.note.as_deref(), Some("policy now allows it without approval"));
    // A second time, or for a request that is not approved, it changes nothing.
    ledger.approvals.cancel_unneeded_grant(request.id).await.unwrap();
    assert_eq!(ledger.get(&request).await, over);
    let waiter = ledger.request_approval(&delete_bucket_request(2)).await;
    ledger.approvals.cancel_unneeded_grant(waiter.id).await.unwrap();
    assert_eq!(ledger.get(&waiter).await, waiter);
    assert!(matches!(
        ledger.approvals.cancel_unneeded_grant(ApprovalRequestId::new()).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test]
async fn a_time_bound_grant_outlasts_a_policy_that_allows() {
    let ledger = TestLedger::new().await;
    let request = ledger.request_approval(&delete_bucket_request(1)).await;
    let until = ledger.test_clock.now() + Duration::from_hours(1);
    let choice = VoteChoice::ApproveTimeBound { until };
    ledger.approvals.cast_vote(request.id, &approver("ann", &[ONCALL_GROUP]), choice).await.unwrap();
    ledger.approvals.cancel_unneeded_grant(request.id).await.unwrap();
    assert!(ledger.consume_grant(&delete_bucket_request(1)).await.unwrap().time_bound);
}

#[tokio::test]
async fn one_corrupt_request_stops_no_other() {
    let ledger = TestLedger::new().await;
    let corrupt = ledger.request_approval(&delete_bucket_request(1)).await;
    let good = ledger.request_approval(&delete_bucket_request(2)).await;
    let torn = testing::choose_by_engine(
        "UPDATE approval_request SET votes = '[' WHERE json_extract(details, '$.digest') LIKE '0101%'",
        "UPDATE approval_request SET votes = '[' WHERE details::json ->> 'digest' LIKE '0101%'",
    );
    tamper_database(&ledger, torn).await;
    let waiter = {
        let approvals = ledger.approvals.clone();
        let far = tokio::time::Instant::now() + Duration::from_hours(1);
        tokio::spawn(async move { wait_for_end(&approvals, good.id, far).await })
    };
    let mut changes = ledger.approvals.subscribe_changes();
    ledger.test_clock.advance(301);
    // The expiry sweep ends both, and the waiter of the good one is woken.
    let woken = tokio::time::timeout(Duration::from_secs(20), waiter).await.unwrap().unwrap().unwrap();
    assert_eq!(woken.state, ApprovalState::TimedOut);
    let woken = async { [changes.recv().await.unwrap(), changes.recv().await.unwrap()] };
    let woken = tokio::time::timeout(Duration::from_secs(20), woken).await.unwrap();
    assert!(woken.contains(&good.id) && woken.contains(&corrupt.id), "{woken:?}");

    let shown = ledger.get(&corrupt).await;
    assert_eq!(shown.state, ApprovalState::Corrupt);
    assert_eq!((shown.details.caller.id(), shown.missing_approvals()), ("corp/agent".to_owned(), vec![]));
    for states in [vec![], vec![ApprovalState::Corrupt]] {
        let listed = ledger
            .approvals
            .list(ApprovalRequestFilter { states, ..ApprovalRequestFilter::default() })
            .await
            .unwrap();
        assert!(
            listed.iter().any(|request| request.id == corrupt.id && request.state == ApprovalState::Corrupt)
        );
    }
    let next = ledger.request_approval(&delete_bucket_request(3)).await;
    ledger.approve(&next, &approver("ann", &[ONCALL_GROUP])).await;
    assert!(ledger.consume_grant(&delete_bucket_request(3)).await.is_some());
    assert_eq!(ledger.approvals.similar_requests(&next, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_corrupt_request_takes_no_votes_and_is_replaced() {
    let ledger = TestLedger::new().await;
    let corrupt = ledger.request_approval(&delete_bucket_request(1)).await;
    tamper_database(&ledger, "UPDATE approval_request SET details = '{}'").await;
    for choice in [VoteChoice::ApproveOnce, VoteChoice::Deny { reason: "no".to_owned() }] {
        let refused = ledger.approvals.cast_vote(corrupt.id, &approver("ann", &[ONCALL_GROUP]), choice).await;
        assert!(matches!(refused, Err(VoteError::NotPending(ApprovalState::Corrupt))), "{refused:?}");
    }
    let pending =
        ApprovalRequestFilter { states: vec![ApprovalState::Pending], ..ApprovalRequestFilter::default() };
    let listed = ledger.approvals.list(pending).await.unwrap();
    assert_eq!(
        listed.iter().map(|request| request.state).collect::<Vec<_>>(),
        [ApprovalState::Corrupt],
        "people see it"
    );
    let replacement = ledger.request_approval(&delete_bucket_request(1)).await;
    assert_ne!(replacement.id, corrupt.id);
    assert_eq!(ledger.get(&corrupt).await.state, ApprovalState::Corrupt);
    ledger.approve(&replacement, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(
        ledger.consume_grant(&delete_bucket_request(1)).await.unwrap().approval_request,
        replacement.id
    );
}

#[tokio::test]
async fn a_corrupt_grant_lets_nothing_pass_and_hides_no_other() {
    let ledger = TestLedger::new().await;
    let time_bound = ledger.request_approval(&delete_bucket_request(1)).await;
    let choice = VoteChoice::ApproveTimeBound { until: ledger.test_clock.now() + Duration::from_hours(1) };
    ledger.approvals.cast_vote(time_bound.id, &approver("ann", &[ONCALL_GROUP]), choice).await.unwrap();
    let once = ledger.request_approval(&delete_bucket_request(2)).await;
    ledger.approve(&once, &approver("ann", &[ONCALL_GROUP])).await;
    tamper_database(&ledger, "UPDATE approval_request SET votes = 'x' WHERE is_time_bound = 1").await;
    assert_eq!(ledger.consume_grant(&delete_bucket_request(1)).await, None);
    assert_eq!(ledger.consume_grant(&delete_bucket_request(2)).await.unwrap().approval_request, once.id);
    ledger.test_clock.advance(3_600);
    // The sweep writes the state into the row: only then a list by state finds it.
    let corrupt =
        ApprovalRequestFilter { states: vec![ApprovalState::Corrupt], ..ApprovalRequestFilter::default() };
    poll_until(async || {
        let listed = ledger.approvals.list(corrupt.clone()).await.unwrap();
        listed.iter().any(|request| request.id == time_bound.id)
    })
    .await;
    tamper_database(&ledger, "UPDATE approval_request SET id = 'no id' WHERE is_time_bound = 1").await;
    assert_eq!(
        ledger.approvals.list(ApprovalRequestFilter::default()).await.unwrap().len(),
        1,
        "the others are listed"
    );
}
