//! Asks that wait: deadlines, repeats, floods, and who hears of it.

use crate::stage::*;
use durward_approval::*;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// No test gets there.
fn far() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

/// What a waiter that is woken gets, long before `far`.
async fn woken<T>(waiting: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("nobody woke it").unwrap()
}

#[tokio::test]
async fn repeats_join_the_ask_and_count() {
    let stage = Stage::new().await;
    let first = stage.ask(&deletion(1)).await;
    let mut changes = stage.approvals.changes();
    for attempt in 2..=200 {
        let repeat = stage.ask(&deletion(1)).await;
        assert_eq!((repeat.id, repeat.attempts), (first.id, attempt));
    }
    assert!(changes.try_recv().is_err(), "a repeat is no news");
    assert_eq!(stage.approvals.list(Filter { limit: 10, ..Filter::default() }).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_asked_at_once_at_two_gateways_is_one_ask() {
    let stage = Stage::new().await;
    let other = stage.other().await;
    let mut asking = Vec::new();
    for index in 0..20 {
        let approvals = if index % 2 == 0 { stage.approvals.clone() } else { other.clone() };
        asking.push(tokio::spawn(async move { approvals.ask(deletion(1)).await.unwrap().id }));
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
    let stage = Stage::new().await;
    for number in 1..=3 {
        stage.ask(&deletion(number)).await;
    }
    let refused = stage.approvals.ask(deletion(4)).await;
    assert!(matches!(refused, Err(AskError::TooMany { limit: 3, whose: "this caller" })), "{refused:?}");
    assert_eq!(stage.ask(&deletion(1)).await.attempts, 2, "a repeat is no new ask");
    let of = |name: &str, number| NewAsk { caller: caller(name), ..deletion(number) };
    stage.ask(&of("other", 4)).await;
    let last = stage.ask(&of("third", 5)).await;
    let refused = stage.approvals.ask(of("fourth", 6)).await;
    assert!(matches!(refused, Err(AskError::TooMany { limit: 5, whose: "everybody" })), "{refused:?}");
    assert_eq!(stage.approvals.list(Filter { limit: 100, ..Filter::default() }).await.unwrap().len(), 5);
    stage.deny(&last, &person("ann", &[ONCALL])).await;
    stage.ask(&of("fourth", 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_different_asks_cannot_pass_the_cap_by_racing() {
    let stage = Stage::new().await;
    let mut asking = Vec::new();
    for number in 0..30 {
        let approvals = stage.approvals.clone();
        asking.push(tokio::spawn(async move { approvals.ask(deletion(number)).await.is_ok() }));
    }
    let mut accepted = 0;
    for asked in asking {
        accepted += usize::from(asked.await.unwrap());
    }
    assert_eq!(accepted, 3);
}

#[tokio::test]
async fn nobody_in_time_and_reject_is_a_refusal_for_good() {
    let stage = Stage::new().await;
    let mut queue = requirement("q", ONCALL, 1);
    queue.on_timeout = OnTimeout::Queue;
    queue.timeout = Duration::from_mins(1);
    // one that rejects is enough; the shortest time counts
    let new = with(vec![requirement("p", ONCALL, 1), queue]);
    let ask = stage.ask(&new).await;
    assert_eq!(ask.deadline, stage.hand.now() + Duration::from_mins(1));
    stage.hand.forward(59);
    assert_eq!(stage.get(&ask).await.state, State::Pending);
    stage.hand.forward(1);
    assert_eq!(stage.get(&ask).await.state, State::TimedOut);
    let late = stage.approvals.answer(ask.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await;
    assert!(matches!(late, Err(AnswerError::NotPending(State::TimedOut))), "{late:?}");
    assert_eq!(stage.take(&new).await, None);
    let next = stage.ask(&new).await;
    assert_ne!(next.id, ask.id);
    assert_eq!(stage.get(&ask).await.history.last().unwrap().kind, "timed_out");
}

#[tokio::test]
async fn queue_keeps_the_ask_for_a_day_and_a_later_approval_passes_once() {
    let stage = Stage::new().await;
    let mut new = deletion(1);
    new.requirements[0].on_timeout = OnTimeout::Queue;
    let ask = stage.ask(&new).await;
    stage.hand.forward(3_600);
    assert_eq!(stage.approvals.wait(ask.id, Instant::now()).await.unwrap().state, State::Pending);
    let ask = stage.approve(&ask, &person("ann", &[ONCALL])).await;
    assert_eq!(ask.grant_until, Some(stage.hand.now() + Duration::from_mins(10)));
    assert!(stage.take(&new).await.is_some());
    assert_eq!(stage.take(&new).await, None);

    let ask = stage.ask(&new).await;
    stage.hand.forward(24 * 3_600);
    let late = stage.approvals.answer(ask.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await;
    assert!(matches!(late, Err(AnswerError::NotPending(State::Expired))), "{late:?}");
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_answer() {
    let stage = Stage::new().await;
    let new = with(vec![requirement("p", ONCALL, 2)]);
    let ask = stage.ask(&new).await;
    let mut changes = stage.approvals.changes();
    let waiting = {
        let approvals = stage.approvals.clone();
        tokio::spawn(async move { approvals.wait(ask.id, far()).await.unwrap() })
    };
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    assert_eq!(changes.try_recv().unwrap(), ask.id, "told before the answer is acknowledged");
    assert!(!waiting.is_finished(), "half a quorum is no answer");
    stage.approve(&ask, &person("bea", &[ONCALL])).await;
    assert_eq!(woken(waiting).await.state, State::Approved);
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_deadline_and_by_another_gateway() {
    let stage = Stage::new().await;
    let other = stage.other().await;
    let (one, two) = (stage.ask(&deletion(1)).await, stage.ask(&deletion(2)).await);
    let wait = |id| {
        let approvals = stage.approvals.clone();
        tokio::spawn(async move { approvals.wait(id, far()).await.unwrap().state })
    };
    let (first, second) = (wait(one.id), wait(two.id));
    other.answer(one.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await.unwrap();
    assert_eq!(woken(first).await, State::Approved);
    stage.hand.forward(300);
    assert_eq!(woken(second).await, State::TimedOut);
}

#[tokio::test]
async fn waiting_ends_at_its_time_and_not_for_what_is_not_there() {
    let stage = Stage::new().await;
    let ask = stage.ask(&deletion(1)).await;
    assert_eq!(stage.approvals.wait(ask.id, Instant::now()).await.unwrap().state, State::Pending);
    assert!(matches!(stage.approvals.wait(AskId::new(), far()).await, Err(StoreError::Missing)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_wait_for_one_answer() {
    let stage = Stage::new().await;
    let ask = stage.ask(&deletion(1)).await;
    let probe = stage.approvals.wait(ask.id, far());
    assert!(size_of_val(&probe) < 2_048, "one waiter is {} bytes", size_of_val(&probe));
    drop(probe);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let approvals = Arc::clone(&stage.approvals);
        waiting.spawn(async move {
            let ask = approvals.ask(deletion(1)).await.unwrap();
            approvals.wait(ask.id, far()).await.unwrap().state
        });
    }
    while stage.get(&ask).await.attempts < 10_001 {
        tokio::task::yield_now().await;
    }
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    while let Some(state) = waiting.join_next().await {
        assert_eq!(state.unwrap(), State::Approved);
    }
}

#[tokio::test]
async fn lists_are_newest_first_and_filtered() {
    let stage = Stage::new().await;
    let one = stage.ask(&deletion(1)).await;
    let two = stage.ask(&NewAsk { caller: caller("other"), ..deletion(2) }).await;
    let three = stage.ask(&deletion(3)).await;
    stage.deny(&one, &person("ann", &[ONCALL])).await;
    let list = async |states: &[State], caller: Option<&str>, limit| {
        let filter = Filter { states: states.to_vec(), caller: caller.map(str::to_owned), limit };
        stage.approvals.list(filter).await.unwrap().iter().map(|ask| ask.id).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], None, 10).await, [three.id, two.id, one.id]);
    assert_eq!(list(&[], None, 2).await, [three.id, two.id]);
    assert_eq!(list(&[State::Pending], None, 10).await, [three.id, two.id]);
    assert_eq!(list(&[State::Denied, State::Used], None, 10).await, [one.id]);
    assert_eq!(list(&State::ALL, Some("corp/agent"), 10).await, [three.id, one.id]);
    assert_eq!(list(&[State::Pending], Some("corp/other"), 10).await, [two.id]);
    assert_eq!(list(&[], Some("' OR 1=1 --"), 10).await, []);
    let similar = stage.approvals.similar(&three, 10).await.unwrap();
    assert_eq!(similar.iter().map(|ask| ask.id).collect::<Vec<_>>(), [two.id, one.id]);
}

#[tokio::test]
async fn what_is_too_long_to_show_is_cut_and_said_to_be_cut() {
    let stage = Stage::new().await;
    let mut new = deletion(1);
    new.operation.parameters = serde_json::json!({"Code": {"ZipFile": "é".repeat(300_000)}, "Name": "f"});
    new.user_agent = Some("a".repeat(10_000));
    let ask = stage.ask(&new).await;
    assert_eq!(
        ask.what.operation.uninspected,
        ["parameters/Code/ZipFile: only the first 1024 of 600000 bytes are shown"]
    );
    assert_eq!(ask.what.operation.parameters["Name"], "f");
    assert_eq!(ask.what.user_agent.as_ref().map(String::len), Some(1_024));
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    assert!(stage.take(&new).await.is_some(), "the digest binds it whole");

    new.operation.parameters = serde_json::json!(vec!["x".repeat(1_000); 1_000]);
    assert!(matches!(stage.approvals.ask(new).await, Err(AskError::TooLarge { .. })));
    assert!(matches!(stage.approvals.ask(with(vec![])).await, Err(AskError::NothingToLift)));
}
