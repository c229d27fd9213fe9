//! Many at once.

use super::test_gateway::{ApprovalTestGateway, put_object, wait_until};
use durward_approval::ApprovalState;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_wait_for_one_approval_one_is_executed() {
    let stage = Arc::new(ApprovalTestGateway::start_with_hold(Duration::from_mins(5)).await);
    let agent = Arc::new(stage.sign_in_agent("agent").await);
    let mut held = Vec::new();
    for _ in 0..20 {
        let (stage, agent) = (stage.clone(), agent.clone());
        held.push(tokio::spawn(async move { stage.send_request(&agent, &put_object("report")).await }));
    }
    let ask = stage.wait_for_request().await;
    wait_until("all wait", || async { (stage.get_request(ask.id).await.attempts == 20).then_some(()) }).await;
    stage.approve_request(ask.id, "ann").await;
    let mut passed = 0;
    for request in held {
        passed += usize::from(request.await.unwrap().status == 200);
    }
    assert_eq!((stage.upstream_call_count(), stage.intent_count().await), (1, 1));
    assert!(passed >= 1, "who asked hears of it");
    assert_eq!(stage.get_request(ask.id).await.uses, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn excess_approval_requests_are_refused_and_repeats_coalesce() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let mut refused = 0;
    for number in 0..25 {
        let answer = stage.send_request(&agent, &put_object(&format!("flood-{number}"))).await;
        assert_eq!(answer.status, 403);
        refused += usize::from(answer.text.contains("already has 20 pending approval requests"));
    }
    assert_eq!((refused, stage.list_requests(&[ApprovalState::Pending]).await.len()), (5, 20));
    for _ in 0..10 {
        assert!(stage.send_request(&agent, &put_object("flood-0")).await.is_pending());
    }
    let asks = stage.list_requests(&[ApprovalState::Pending]).await;
    assert_eq!(asks.len(), 20);
    assert_eq!(asks.iter().map(|ask| ask.attempts).max(), Some(11));
    // One caller's flood is not another's.
    let other = stage.sign_in_agent("other").await;
    assert!(stage.send_request(&other, &put_object("flood-0")).await.is_pending());
    assert_eq!(stage.upstream_call_count(), 0);
}
