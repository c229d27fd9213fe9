//! Answers and uses at the moment in which time ends.

use crate::stage::*;
use durward_approval::*;
use std::sync::Arc;

/// Runs one thing on a task of its own.
fn racer<T: Send + 'static>(run: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_that_races_the_time_out_is_whole_or_nothing() {
    let stage = Arc::new(Stage::new().await);
    let (mut in_time, mut late) = (0, 0);
    for round in 0..40 {
        let new = deletion(1);
        let ask = stage.ask(&new).await;
        let approvals = stage.approvals.clone();
        let answer = racer(async move {
            approvals.answer(ask.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await.is_ok()
        });
        // Sometimes the clock is first, sometimes the answer.
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        stage.hand.forward(300);
        let approved = answer.await.unwrap();
        let now = stage.get(&ask).await;
        assert_eq!(now.state, if approved { State::Approved } else { State::TimedOut }, "round {round}");
        assert_eq!(stage.take(&new).await.is_some(), approved);
        assert_eq!(now.votes.len(), usize::from(approved));
        *(if approved { &mut in_time } else { &mut late }) += 1;
    }
    assert_eq!(in_time + late, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_use_that_races_the_end_of_its_approval_is_recorded_as_what_it_was() {
    let stage = Stage::new().await;
    for round in 0..40 {
        let new = deletion(1);
        let ask = stage.ask(&new).await;
        stage.approve(&ask, &person("ann", &[ONCALL])).await;
        let approvals = stage.approvals.clone();
        let wanted = new.clone();
        let used = racer(async move { take(&approvals, &wanted).await.is_some() });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        stage.hand.forward(600);
        let used = used.await.unwrap();
        assert_eq!(stage.get(&ask).await.state, if used { State::Used } else { State::Expired });
        assert_eq!(stage.take(&new).await, None);
    }
}

#[tokio::test]
async fn a_clock_that_leaps_ends_what_was_open() {
    let stage = Stage::new().await;
    let waiting = stage.ask(&deletion(1)).await;
    let approved = stage.ask(&deletion(2)).await;
    stage.approve(&approved, &person("ann", &[ONCALL])).await;
    // A day ahead and back again: what ended in between stays ended.
    stage.hand.forward(86_400);
    assert_eq!(stage.take(&deletion(2)).await, None);
    stage.hand.forward(-86_400);
    assert_eq!(stage.get(&waiting).await.state, State::TimedOut);
    assert_eq!(stage.get(&approved).await.state, State::Expired);
    assert_eq!(stage.take(&deletion(2)).await, None);
    let answered = stage.approvals.answer(waiting.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await;
    assert!(matches!(answered, Err(AnswerError::NotPending(State::TimedOut))), "{answered:?}");
}
