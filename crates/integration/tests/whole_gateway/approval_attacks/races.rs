//! Many requests at once.

use super::{put_object, start_gateway, start_with_hold};
use durward_approval::ApprovalState;
use durward_integration::wait_until;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_wait_for_one_approval_one_is_executed() {
    let gateway = Arc::new(start_with_hold(Duration::from_mins(5)).await);
    let agent = Arc::new(gateway.sign_in_agent("agent").await);
    let mut held = Vec::new();
    for _ in 0..20 {
        let (gateway, agent) = (gateway.clone(), agent.clone());
        held.push(tokio::spawn(async move { gateway.call_aws(&agent, &put_object("report")).await }));
    }
    let approval_request = gateway.wait_for_approval_request().await;
    wait_until("all wait", || async {
        (gateway.approval_request(approval_request.id).await.attempts == 20).then_some(())
    })
    .await;
    gateway.approve(approval_request.id, "ann").await;
    let mut passed = 0;
    for request in held {
        passed += usize::from(request.await.unwrap().status() == 200);
    }
    assert_eq!((gateway.upstream_call_count(), gateway.intent_count().await), (1, 1));
    assert!(passed >= 1, "one caller gets the response");
    assert_eq!(gateway.approval_request(approval_request.id).await.uses, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn excess_approval_requests_are_refused_and_repeats_coalesce() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let mut refused = 0;
    for number in 0..25 {
        let response = gateway.call_aws(&agent, &put_object(&format!("flood-{number}"))).await;
        assert_eq!(response.status(), 403);
        refused += usize::from(response.text().contains("already has 20 pending approval requests"));
    }
    assert_eq!((refused, gateway.list_approval_requests(&[ApprovalState::Pending]).await.len()), (5, 20));
    for _ in 0..10 {
        assert!(gateway.call_aws(&agent, &put_object("flood-0")).await.is_approval_pending());
    }
    let requests = gateway.list_approval_requests(&[ApprovalState::Pending]).await;
    assert_eq!(requests.len(), 20);
    assert_eq!(requests.iter().map(|approval_request| approval_request.attempts).max(), Some(11));
    // One caller's flood is not another's.
    let other = gateway.sign_in_agent("other").await;
    assert!(gateway.call_aws(&other, &put_object("flood-0")).await.is_approval_pending());
    assert_eq!(gateway.upstream_call_count(), 0);
}
