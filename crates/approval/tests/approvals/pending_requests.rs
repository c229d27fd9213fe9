//! Pending approval requests: deadlines, repeats, floods, and who is woken.

use crate::test_ledger::*;
use durward_approval::*;
use durward_core::Caller;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Later than any test runs.
fn distant_deadline() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

/// The result of a waiter, which must be woken long before its deadline.
async fn await_wakeup<T>(waiter: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), waiter).await.expect("the waiter was not woken").unwrap()
}

#[tokio::test]
async fn repeats_join_the_request_and_count() {
    let ledger = TestLedger::new().await;
    let first = ledger.request_approval(&delete_bucket_request(1)).await;
    let mut changes = ledger.approvals.subscribe_changes();
    for attempt in 2..=200 {
        let repeat = ledger.request_approval(&delete_bucket_request(1)).await;
        assert_eq!((repeat.id, repeat.attempts), (first.id, attempt));
    }
    assert!(changes.try_recv().is_err(), "a repeat is not announced");
    assert_eq!(
        ledger
            .approvals
            .list(ApprovalRequestFilter { limit: 10, ..ApprovalRequestFilter::default() })
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_request_at_two_gateways_is_one_approval_request() {
    let ledger = TestLedger::new().await;
    let other = ledger.second_gateway().await;
    let mut requesting = Vec::new();
    for index in 0..20 {
        let approvals = if index % 2 == 0 { ledger.approvals.clone() } else { other.clone() };
        requesting.push(tokio::spawn(async move {
            approvals.request_approval(delete_bucket_request(1)).await.unwrap().id
        }));
    }
    let mut ids = Vec::new();
    for requested in requesting {
        ids.push(requested.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_caller_its_provider_and_all_callers_have_a_cap() {
    let ledger = TestLedger::new().await;
    for number in 1..=3 {
        ledger.request_approval(&delete_bucket_request(number)).await;
    }
    let refused = ledger.approvals.request_approval(delete_bucket_request(4)).await;
    assert!(
        matches!(
            refused,
            Err(ApprovalRequestError::TooManyPending { limit: 3, scope: PendingLimitScope::Caller })
        ),
        "{refused:?}"
    );
    assert_eq!(
        ledger.request_approval(&delete_bucket_request(1)).await.attempts,
        2,
        "a repeat is not a new request"
    );
    let of = |name: &str, number| NewApprovalRequest {
        caller: test_caller(name),
        ..delete_bucket_request(number)
    };
    let at = |provider: &str, name: &str, number| NewApprovalRequest {
        caller: Caller { provider: provider.to_owned(), ..test_caller(name) },
        ..delete_bucket_request(number)
    };
    let fourth = ledger.request_approval(&of("other", 4)).await;
    let refused = ledger.approvals.request_approval(of("third", 5)).await;
    assert!(
        matches!(
            refused,
            Err(ApprovalRequestError::TooManyPending { limit: 4, scope: PendingLimitScope::Provider })
        ),
        "{refused:?}"
    );
    // A provider whose name begins like another's has its own part.
    let last = ledger.request_approval(&at("corp2", "third", 5)).await;
    ledger.deny(&fourth, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.request_approval(&of("other", 7)).await;
    let refused = ledger.approvals.request_approval(at("corp2", "fourth", 6)).await;
    assert!(
        matches!(
            refused,
            Err(ApprovalRequestError::TooManyPending { limit: 5, scope: PendingLimitScope::Gateway })
        ),
        "{refused:?}"
    );
    assert_eq!(
        ledger
            .approvals
            .list(ApprovalRequestFilter { limit: 100, ..ApprovalRequestFilter::default() })
            .await
            .unwrap()
            .len(),
        6
    );
    ledger.deny(&last, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.request_approval(&at("corp2", "fourth", 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_requests_cannot_exceed_the_limit() {
    let ledger = TestLedger::new().await;
    let mut requesting = Vec::new();
    for number in 0..30 {
        let approvals = ledger.approvals.clone();
        requesting.push(tokio::spawn(async move {
            approvals.request_approval(delete_bucket_request(number)).await.is_ok()
        }));
    }
    let mut accepted = 0;
    for requested in requesting {
        accepted += usize::from(requested.await.unwrap());
    }
    assert_eq!(accepted, 3);
}

#[tokio::test]
async fn a_timeout_with_reject_is_final() {
    let ledger = TestLedger::new().await;
    let mut queue = approval_requirement("q", ONCALL_GROUP, 1);
    queue.on_timeout = TimeoutAction::Queue;
    queue.timeout = Duration::from_mins(1);
    // One requirement with `reject` is enough, and the shortest timeout counts.
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 1), queue]);
    let request = ledger.request_approval(&new).await;
    assert_eq!(request.deadline, ledger.test_clock.now() + Duration::from_mins(1));
    ledger.test_clock.advance(59);
    assert_eq!(ledger.get(&request).await.state, ApprovalState::Pending);
    ledger.test_clock.advance(1);
    assert_eq!(ledger.get(&request).await.state, ApprovalState::TimedOut);
    let late = ledger
        .approvals
        .cast_vote(request.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(late, Err(VoteError::NotPending(ApprovalState::TimedOut))), "{late:?}");
    assert_eq!(ledger.consume_grant(&new).await, None);
    let next = ledger.request_approval(&new).await;
    assert_ne!(next.id, request.id);
    assert_eq!(ledger.get(&request).await.history.last().unwrap().kind, ApprovalEventKind::TimedOut);
}

#[tokio::test]
async fn a_queued_request_stays_for_a_day_and_a_late_approval_passes_once() {
    let ledger = TestLedger::new().await;
    let mut new = delete_bucket_request(1);
    new.requirements[0].on_timeout = TimeoutAction::Queue;
    let request = ledger.request_approval(&new).await;
    ledger.test_clock.advance(3_600);
    assert_eq!(
        wait_for_end(&ledger.approvals, request.id, Instant::now()).await.unwrap().state,
        ApprovalState::Pending
    );
    let request = ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(request.grant_until, Some(ledger.test_clock.now() + Duration::from_mins(10)));
    assert!(ledger.consume_grant(&new).await.is_some());
    assert_eq!(ledger.consume_grant(&new).await, None);

    let request = ledger.request_approval(&new).await;
    ledger.test_clock.advance(24 * 3_600);
    let late = ledger
        .approvals
        .cast_vote(request.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(late, Err(VoteError::NotPending(ApprovalState::Expired))), "{late:?}");
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_vote() {
    let ledger = TestLedger::new().await;
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 2)]);
    let request = ledger.request_approval(&new).await;
    let mut changes = ledger.approvals.subscribe_changes();
    let waiter = {
        let approvals = ledger.approvals.clone();
        tokio::spawn(async move { wait_for_end(&approvals, request.id, distant_deadline()).await.unwrap() })
    };
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(changes.try_recv().unwrap(), request.id, "announced before the vote is acknowledged");
    assert!(!waiter.is_finished(), "half a quorum wakes nobody");
    ledger.approve(&request, &approver("bea", &[ONCALL_GROUP])).await;
    assert_eq!(await_wakeup(waiter).await.state, ApprovalState::Approved);
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_deadline_and_by_another_gateway() {
    let ledger = TestLedger::new().await;
    let other = ledger.second_gateway().await;
    let (one, two) = (
        ledger.request_approval(&delete_bucket_request(1)).await,
        ledger.request_approval(&delete_bucket_request(2)).await,
    );
    let wait = |id| {
        let approvals = ledger.approvals.clone();
        tokio::spawn(async move { wait_for_end(&approvals, id, distant_deadline()).await.unwrap().state })
    };
    let (first, second) = (wait(one.id), wait(two.id));
    other.cast_vote(one.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce).await.unwrap();
    assert_eq!(await_wakeup(first).await, ApprovalState::Approved);
    ledger.test_clock.advance(300);
    assert_eq!(await_wakeup(second).await, ApprovalState::TimedOut);
}

#[tokio::test]
async fn waiting_ends_at_its_deadline_and_fails_for_an_unknown_id() {
    let ledger = TestLedger::new().await;
    let request = ledger.request_approval(&delete_bucket_request(1)).await;
    assert_eq!(
        wait_for_end(&ledger.approvals, request.id, Instant::now()).await.unwrap().state,
        ApprovalState::Pending
    );
    assert!(matches!(
        wait_for_end(&ledger.approvals, ApprovalRequestId::new(), distant_deadline()).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_waiters_for_one_decision() {
    let ledger = TestLedger::new().await;
    let request = ledger.request_approval(&delete_bucket_request(1)).await;
    let probe = wait_for_end(&ledger.approvals, request.id, distant_deadline());
    assert!(size_of_val(&probe) < 2_048, "one waiter is {} bytes", size_of_val(&probe));
    drop(probe);
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let approvals = Arc::clone(&ledger.approvals);
        waiters.spawn(async move {
            let request = approvals.request_approval(delete_bucket_request(1)).await.unwrap();
            wait_for_end(&approvals, request.id, distant_deadline()).await.unwrap().state
        });
    }
    poll_until(async || ledger.get(&request).await.attempts >= 10_001).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    while let Some(state) = waiters.join_next().await {
        assert_eq!(state.unwrap(), ApprovalState::Approved);
    }
}

#[tokio::test]
async fn lists_are_newest_first_and_filtered() {
    let ledger = TestLedger::new().await;
    let one = ledger.request_approval(&delete_bucket_request(1)).await;
    let two = ledger
        .request_approval(&NewApprovalRequest { caller: test_caller("other"), ..delete_bucket_request(2) })
        .await;
    let three = ledger.request_approval(&delete_bucket_request(3)).await;
    ledger.deny(&one, &approver("ann", &[ONCALL_GROUP])).await;
    let list = async |states: &[ApprovalState], caller: Option<&str>, limit| {
        let filter =
            ApprovalRequestFilter { states: states.to_vec(), caller: caller.map(str::to_owned), limit };
        ledger.approvals.list(filter).await.unwrap().iter().map(|request| request.id).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], None, 10).await, [three.id, two.id, one.id]);
    assert_eq!(list(&[], None, 2).await, [three.id, two.id]);
    assert_eq!(list(&[ApprovalState::Pending], None, 10).await, [three.id, two.id]);
    assert_eq!(list(&[ApprovalState::Denied, ApprovalState::Consumed], None, 10).await, [one.id]);
    assert_eq!(list(&ApprovalState::ALL, Some("corp/agent"), 10).await, [three.id, one.id]);
    assert_eq!(list(&[ApprovalState::Pending], Some("corp/other"), 10).await, [two.id]);
    assert_eq!(list(&[], Some("' OR 1=1 --"), 10).await, []);
    let similar = ledger.approvals.similar_requests(&three, 10).await.unwrap();
    assert_eq!(similar.iter().map(|request| request.id).collect::<Vec<_>>(), [two.id, one.id]);
}

#[tokio::test]
async fn oversized_parameters_are_cut_and_marked() {
    let ledger = TestLedger::new().await;
    let mut new = delete_bucket_request(1);
    new.operation.parameters = serde_json::json!({"Code": {"ZipFile": "é".repeat(300_000)}, "Name": "f"});
    new.user_agent = Some("a".repeat(10_000));
    let request = ledger.request_approval(&new).await;
    assert_eq!(
        request.details.operation.uninspected_parts,
        ["parameters/Code/ZipFile: only the first 1024 of 600000 bytes are shown"]
    );
    assert_eq!(request.details.operation.parameters["Name"], "f");
    assert_eq!(request.details.user_agent.as_ref().map(String::len), Some(1_024));
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    assert!(ledger.consume_grant(&new).await.is_some(), "the digest covers the whole operation");

    new.operation.parameters = serde_json::json!(vec!["x".repeat(1_000); 1_000]);
    assert!(matches!(
        ledger.approvals.request_approval(new).await,
        Err(ApprovalRequestError::TooLarge { .. })
    ));
    assert!(matches!(
        ledger.approvals.request_approval(request_requiring(vec![])).await,
        Err(ApprovalRequestError::NoRequirements)
    ));
}
