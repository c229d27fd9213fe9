//! Votes and uses at the moment at which time ends.

use crate::test_ledger::*;
use durward_approval::*;

/// Runs a future on a task of its own.
fn spawn_task<T: Send + 'static>(
    run: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(run)
}

/// Lets a task run before the clock moves, after it, or at the same time. The first two orders are certain; the third is the
/// race itself.
async fn advance_against<T>(
    clock: &TestClock,
    seconds: i64,
    round: usize,
    task: impl FnOnce() -> tokio::task::JoinHandle<T>,
) -> T {
    match round % 3 {
        0 => {
            let done = task().await.unwrap();
            clock.advance(seconds);
            done
        }
        1 => {
            clock.advance(seconds);
            task().await.unwrap()
        }
        _ => {
            let running = task();
            tokio::task::yield_now().await;
            clock.advance(seconds);
            running.await.unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vote_that_races_the_timeout_is_all_or_nothing() {
    let ledger = TestLedger::new().await;
    for round in 0..40 {
        let new = delete_bucket_request(1);
        let request = ledger.request_approval(&new).await;
        let approvals = ledger.approvals.clone();
        let vote = || {
            spawn_task(async move {
                let ann = approver("ann", &[ONCALL_GROUP]);
                approvals.cast_vote(request.id, &ann, VoteChoice::ApproveOnce).await.is_ok()
            })
        };
        let approved = advance_against(&ledger.test_clock, 300, round, vote).await;
        match round % 3 {
            0 => assert!(approved, "round {round}: the vote was first"),
            1 => assert!(!approved, "round {round}: the timeout was first"),
            _ => {}
        }
        let now = ledger.get(&request).await;
        assert_eq!(
            now.state,
            if approved { ApprovalState::Approved } else { ApprovalState::TimedOut },
            "round {round}"
        );
        assert_eq!(ledger.consume_grant(&new).await.is_some(), approved);
        assert_eq!(now.votes.len(), usize::from(approved));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consume_that_races_the_expiry_is_recorded_as_it_happened() {
    let ledger = TestLedger::new().await;
    for round in 0..40 {
        let new = delete_bucket_request(1);
        let request = ledger.request_approval(&new).await;
        ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
        let approvals = ledger.approvals.clone();
        let sent = new.clone();
        let consume = || spawn_task(async move { consume_grant(&approvals, &sent).await.is_some() });
        let consumed = advance_against(&ledger.test_clock, 600, round, consume).await;
        match round % 3 {
            0 => assert!(consumed, "round {round}: the consumer was first"),
            1 => assert!(!consumed, "round {round}: the expiry was first"),
            _ => {}
        }
        assert_eq!(
            ledger.get(&request).await.state,
            if consumed { ApprovalState::Consumed } else { ApprovalState::Expired }
        );
        assert_eq!(ledger.consume_grant(&new).await, None);
    }
}

#[tokio::test]
async fn a_clock_jump_ends_open_requests() {
    let ledger = TestLedger::new().await;
    let pending = ledger.request_approval(&delete_bucket_request(1)).await;
    let approved = ledger.request_approval(&delete_bucket_request(2)).await;
    ledger.approve(&approved, &approver("ann", &[ONCALL_GROUP])).await;
    // A day ahead and back again: what expired in between stays expired.
    ledger.test_clock.advance(86_400);
    assert_eq!(ledger.consume_grant(&delete_bucket_request(2)).await, None);
    ledger.test_clock.advance(-86_400);
    assert_eq!(ledger.get(&pending).await.state, ApprovalState::TimedOut);
    assert_eq!(ledger.get(&approved).await.state, ApprovalState::Expired);
    assert_eq!(ledger.consume_grant(&delete_bucket_request(2)).await, None);
    let voted = ledger
        .approvals
        .cast_vote(pending.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(voted, Err(VoteError::NotPending(ApprovalState::TimedOut))), "{voted:?}");
}
