//! Many at once.

use super::stage::{Stage, put, until};
use durward_approval::State;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_wait_for_one_approval_one_is_executed() {
    let stage = Arc::new(Stage::holding(Duration::from_mins(5)).await);
    let agent = Arc::new(stage.agent("agent").await);
    let mut held = Vec::new();
    for _ in 0..20 {
        let (stage, agent) = (stage.clone(), agent.clone());
        held.push(tokio::spawn(async move { stage.send(&agent, &put("report")).await }));
    }
    let ask = stage.asked().await;
    until("all wait", || async { (stage.get(ask.id).await.attempts == 20).then_some(()) }).await;
    stage.approve(ask.id, "ann").await;
    let mut passed = 0;
    for request in held {
        passed += usize::from(request.await.unwrap().status == 200);
    }
    assert_eq!((stage.seen(), stage.intents().await), (1, 1));
    assert!(passed >= 1, "who asked hears of it");
    assert_eq!(stage.get(ask.id).await.uses, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_asks_is_refused_and_repeats_join() {
    let stage = Stage::set().await;
    let agent = stage.agent("agent").await;
    let mut refused = 0;
    for number in 0..25 {
        let answer = stage.send(&agent, &put(&format!("flood-{number}"))).await;
        assert_eq!(answer.status, 403);
        refused += usize::from(answer.text.contains("already has 20 asks waiting for people"));
    }
    assert_eq!((refused, stage.list(&[State::Pending]).await.len()), (5, 20));
    for _ in 0..10 {
        assert!(stage.send(&agent, &put("flood-0")).await.is_pending());
    }
    let asks = stage.list(&[State::Pending]).await;
    assert_eq!(asks.len(), 20);
    assert_eq!(asks.iter().map(|ask| ask.attempts).max(), Some(11));
    // One caller's flood is not another's.
    let other = stage.agent("other").await;
    assert!(stage.send(&other, &put("flood-0")).await.is_pending());
    assert_eq!(stage.seen(), 0);
}
