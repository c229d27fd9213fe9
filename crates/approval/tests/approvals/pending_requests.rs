//! Asks that wait: deadlines, repeats, floods, and who hears of it.

use crate::test_ledger::*;
use durward_approval::*;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// No test gets there.
fn distant_deadline() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

/// What a waiter that is woken gets, long before `far`.
async fn await_wakeup<T>(waiting: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("nobody woke it").unwrap()
}

#[tokio::test]
async fn repeats_join_the_request_and_count() {
    let stage = TestLedger::new().await;
    let first = stage.request_approval(&delete_bucket_request(1)).await;
    let mut changes = stage.approvals.subscribe_changes();
    for attempt in 2..=200 {
        let repeat = stage.request_approval(&delete_bucket_request(1)).await;
        assert_eq!((repeat.id, repeat.attempts), (first.id, attempt));
    }
    assert!(changes.try_recv().is_err(), "a repeat is no news");
    assert_eq!(
        stage
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
    let stage = TestLedger::new().await;
    let other = stage.second_gateway().await;
    let mut asking = Vec::new();
    for index in 0..20 {
        let approvals = if index % 2 == 0 { stage.approvals.clone() } else { other.clone() };
        asking.push(tokio::spawn(async move {
            approvals.request_approval(delete_bucket_request(1)).await.unwrap().id
        }));
    }
    let mut ids = Vec::new();
    for asked in asking {
        ids.push(asked.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_caller_and_all_callers_have_a_cap() {
    let stage = TestLedger::new().await;
    for number in 1..=3 {
        stage.request_approval(&delete_bucket_request(number)).await;
    }
    let refused = stage.approvals.request_approval(delete_bucket_request(4)).await;
    assert!(
        matches!(refused, Err(ApprovalRequestError::TooManyPending { limit: 3, scope: "this caller" })),
        "{refused:?}"
    );
    assert_eq!(stage.request_approval(&delete_bucket_request(1)).await.attempts, 2, "a repeat is no new ask");
    let of = |name: &str, number| NewApprovalRequest {
        caller: test_caller(name),
        ..delete_bucket_request(number)
    };
    stage.request_approval(&of("other", 4)).await;
    let last = stage.request_approval(&of("third", 5)).await;
    let refused = stage.approvals.request_approval(of("fourth", 6)).await;
    assert!(
        matches!(refused, Err(ApprovalRequestError::TooManyPending { limit: 5, scope: "everybody" })),
        "{refused:?}"
    );
    assert_eq!(
        stage
            .approvals
            .list(ApprovalRequestFilter { limit: 100, ..ApprovalRequestFilter::default() })
            .await
            .unwrap()
            .len(),
        5
    );
    stage.deny(&last, &approver("ann", &[ONCALL_GROUP])).await;
    stage.request_approval(&of("fourth", 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_requests_cannot_exceed_the_limit() {
    let stage = TestLedger::new().await;
    let mut asking = Vec::new();
    for number in 0..30 {
        let approvals = stage.approvals.clone();
        asking.push(tokio::spawn(async move {
            approvals.request_approval(delete_bucket_request(number)).await.is_ok()
        }));
    }
    let mut accepted = 0;
    for asked in asking {
        accepted += usize::from(asked.await.unwrap());
    }
    assert_eq!(accepted, 3);
}

#[tokio::test]
async fn a_timeout_with_reject_is_final() {
    let stage = TestLedger::new().await;
    let mut queue = approval_requirement("q", ONCALL_GROUP, 1);
    queue.on_timeout = TimeoutAction::Queue;
    queue.timeout = Duration::from_mins(1);
    // one that rejects is enough; the shortest time counts
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 1), queue]);
    let ask = stage.request_approval(&new).await;
    assert_eq!(ask.deadline, stage.test_clock.now() + Duration::from_mins(1));
    stage.test_clock.advance(59);
    assert_eq!(stage.get(&ask).await.state, ApprovalState::Pending);
    stage.test_clock.advance(1);
    assert_eq!(stage.get(&ask).await.state, ApprovalState::TimedOut);
    let late =
        stage.approvals.cast_vote(ask.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce).await;
    assert!(matches!(late, Err(VoteError::NotPending(ApprovalState::TimedOut))), "{late:?}");
    assert_eq!(stage.consume_grant(&new).await, None);
    let next = stage.request_approval(&new).await;
    assert_ne!(next.id, ask.id);
    assert_eq!(stage.get(&ask).await.history.last().unwrap().kind, "timed_out");
}

#[tokio::test]
async fn a_queued_request_stays_for_a_day_and_a_late_approval_passes_once() {
    let stage = TestLedger::new().await;
    let mut new = delete_bucket_request(1);
    new.requirements[0].on_timeout = TimeoutAction::Queue;
    let ask = stage.request_approval(&new).await;
    stage.test_clock.advance(3_600);
    assert_eq!(
        stage.approvals.wait_for_end(ask.id, Instant::now()).await.unwrap().state,
        ApprovalState::Pending
    );
    let ask = stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(ask.grant_until, Some(stage.test_clock.now() + Duration::from_mins(10)));
    assert!(stage.consume_grant(&new).await.is_some());
    assert_eq!(stage.consume_grant(&new).await, None);

    let ask = stage.request_approval(&new).await;
    stage.test_clock.advance(24 * 3_600);
    let late =
        stage.approvals.cast_vote(ask.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce).await;
    assert!(matches!(late, Err(VoteError::NotPending(ApprovalState::Expired))), "{late:?}");
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_vote() {
    let stage = TestLedger::new().await;
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 2)]);
    let ask = stage.request_approval(&new).await;
    let mut changes = stage.approvals.subscribe_changes();
    let waiting = {
        let approvals = stage.approvals.clone();
        tokio::spawn(async move { approvals.wait_for_end(ask.id, distant_deadline()).await.unwrap() })
    };
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(changes.try_recv().unwrap(), ask.id, "told before the answer is acknowledged");
    assert!(!waiting.is_finished(), "half a quorum is no answer");
    stage.approve(&ask, &approver("bea", &[ONCALL_GROUP])).await;
    assert_eq!(await_wakeup(waiting).await.state, ApprovalState::Approved);
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_deadline_and_by_another_gateway() {
    let stage = TestLedger::new().await;
    let other = stage.second_gateway().await;
    let (one, two) = (
        stage.request_approval(&delete_bucket_request(1)).await,
        stage.request_approval(&delete_bucket_request(2)).await,
    );
    let wait = |id| {
        let approvals = stage.approvals.clone();
        tokio::spawn(async move { approvals.wait_for_end(id, distant_deadline()).await.unwrap().state })
    };
    let (first, second) = (wait(one.id), wait(two.id));
    other.cast_vote(one.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce).await.unwrap();
    assert_eq!(await_wakeup(first).await, ApprovalState::Approved);
    stage.test_clock.advance(300);
    assert_eq!(await_wakeup(second).await, ApprovalState::TimedOut);
}

#[tokio::test]
async fn waiting_ends_at_its_deadline_and_fails_for_an_unknown_id() {
    let stage = TestLedger::new().await;
    let ask = stage.request_approval(&delete_bucket_request(1)).await;
    assert_eq!(
        stage.approvals.wait_for_end(ask.id, Instant::now()).await.unwrap().state,
        ApprovalState::Pending
    );
    assert!(matches!(
        stage.approvals.wait_for_end(ApprovalRequestId::new(), distant_deadline()).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_waiters_for_one_decision() {
    let stage = TestLedger::new().await;
    let ask = stage.request_approval(&delete_bucket_request(1)).await;
    let probe = stage.approvals.wait_for_end(ask.id, distant_deadline());
    assert!(size_of_val(&probe) < 2_048, "one waiter is {} bytes", size_of_val(&probe));
    drop(probe);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let approvals = Arc::clone(&stage.approvals);
        waiting.spawn(async move {
            let ask = approvals.request_approval(delete_bucket_request(1)).await.unwrap();
            approvals.wait_for_end(ask.id, distant_deadline()).await.unwrap().state
        });
    }
    while stage.get(&ask).await.attempts < 10_001 {
        tokio::task::yield_now().await;
    }
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    while let Some(state) = waiting.join_next().await {
        assert_eq!(state.unwrap(), ApprovalState::Approved);
    }
}

#[tokio::test]
async fn lists_are_newest_first_and_filtered() {
    let stage = TestLedger::new().await;
    let one = stage.request_approval(&delete_bucket_request(1)).await;
    let two = stage
        .request_approval(&NewApprovalRequest { caller: test_caller("other"), ..delete_bucket_request(2) })
        .await;
    let three = stage.request_approval(&delete_bucket_request(3)).await;
    stage.deny(&one, &approver("ann", &[ONCALL_GROUP])).await;
    let list = async |states: &[ApprovalState], caller: Option<&str>, limit| {
        let filter =
            ApprovalRequestFilter { states: states.to_vec(), caller: caller.map(str::to_owned), limit };
        stage.approvals.list(filter).await.unwrap().iter().map(|ask| ask.id).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], None, 10).await, [three.id, two.id, one.id]);
    assert_eq!(list(&[], None, 2).await, [three.id, two.id]);
    assert_eq!(list(&[ApprovalState::Pending], None, 10).await, [three.id, two.id]);
    assert_eq!(list(&[ApprovalState::Denied, ApprovalState::Consumed], None, 10).await, [one.id]);
    assert_eq!(list(&ApprovalState::ALL, Some("corp/agent"), 10).await, [three.id, one.id]);
    assert_eq!(list(&[ApprovalState::Pending], Some("corp/other"), 10).await, [two.id]);
    assert_eq!(list(&[], Some("' OR 1=1 --"), 10).await, []);
    let similar = stage.approvals.similar_requests(&three, 10).await.unwrap();
    assert_eq!(similar.iter().map(|ask| ask.id).collect::<Vec<_>>(), [two.id, one.id]);
}

#[tokio::test]
async fn oversized_parameters_are_cut_and_marked() {
    let stage = TestLedger::new().await;
    let mut new = delete_bucket_request(1);
    new.operation.parameters = serde_json::json!({"Code": {"ZipFile": "é".repeat(300_000)}, "Name": "f"});
    new.user_agent = Some("a".repeat(10_000));
    let ask = stage.request_approval(&new).await;
    assert_eq!(
        ask.details.operation.uninspected_parts,
        ["parameters/Code/ZipFile: only the first 1024 of 600000 bytes are shown"]
    );
    assert_eq!(ask.details.operation.parameters["Name"], "f");
    assert_eq!(ask.details.user_agent.as_ref().map(String::len), Some(1_024));
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    assert!(stage.consume_grant(&new).await.is_some(), "the digest binds it whole");

    new.operation.parameters = serde_json::json!(vec!["x".repeat(1_000); 1_000]);
    assert!(matches!(
        stage.approvals.request_approval(new).await,
        Err(ApprovalRequestError::TooLarge { .. })
    ));
    assert!(matches!(
        stage.approvals.request_approval(request_requiring(vec![])).await,
        Err(ApprovalRequestError::NoRequirements)
    ));
}
