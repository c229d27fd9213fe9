//! Answers and uses at the moment in which time ends.

use crate::test_ledger::*;
use durward_approval::*;
use std::sync::Arc;

/// Runs one thing on a task of its own.
fn spawn_racer<T: Send + 'static>(
    run: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vote_that_races_the_timeout_is_all_or_nothing() {
    let stage = Arc::new(TestLedger::new().await);
    let (mut in_time, mut late) = (0, 0);
    for round in 0..40 {
        let new = delete_bucket_request(1);
        let ask = stage.request_approval(&new).await;
        let approvals = stage.approvals.clone();
        let answer = spawn_racer(async move {
            approvals
                .cast_vote(ask.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
                .await
                .is_ok()
        });
        // Sometimes the clock is first, sometimes the answer.
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        stage.test_clock.advance(300);
        let approved = answer.await.unwrap();
        let now = stage.get(&ask).await;
        assert_eq!(
            now.state,
            if approved { ApprovalState::Approved } else { ApprovalState::TimedOut },
            "round {round}"
        );
        assert_eq!(stage.consume_grant(&new).await.is_some(), approved);
        assert_eq!(now.votes.len(), usize::from(approved));
        *(if approved { &mut in_time } else { &mut late }) += 1;
    }
    assert_eq!(in_time + late, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consume_that_races_the_expiry_is_recorded_as_it_happened() {
    let stage = TestLedger::new().await;
    for round in 0..40 {
        let new = delete_bucket_request(1);
        let ask = stage.request_approval(&new).await;
        stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
        let approvals = stage.approvals.clone();
        let wanted = new.clone();
        let used = spawn_racer(async move { consume_grant(&approvals, &wanted).await.is_some() });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        stage.test_clock.advance(600);
        let used = used.await.unwrap();
        assert_eq!(
            stage.get(&ask).await.state,
            if used { ApprovalState::Consumed } else { ApprovalState::Expired }
        );
        assert_eq!(stage.consume_grant(&new).await, None);
    }
}

#[tokio::test]
async fn a_clock_jump_ends_open_requests() {
    let stage = TestLedger::new().await;
    let waiting = stage.request_approval(&delete_bucket_request(1)).await;
    let approved = stage.request_approval(&delete_bucket_request(2)).await;
    stage.approve(&approved, &approver("ann", &[ONCALL_GROUP])).await;
    // A day ahead and back again: what ended in between stays ended.
    stage.test_clock.advance(86_400);
    assert_eq!(stage.consume_grant(&delete_bucket_request(2)).await, None);
    stage.test_clock.advance(-86_400);
    assert_eq!(stage.get(&waiting).await.state, ApprovalState::TimedOut);
    assert_eq!(stage.get(&approved).await.state, ApprovalState::Expired);
    assert_eq!(stage.consume_grant(&delete_bucket_request(2)).await, None);
    let answered = stage
        .approvals
        .cast_vote(waiting.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(answered, Err(VoteError::NotPending(ApprovalState::TimedOut))), "{answered:?}");
}
