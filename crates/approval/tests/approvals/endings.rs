//! Approvals that end before they are used, and asks that cannot be understood any more.

use crate::durable::tamper;
use crate::stage::*;
use durward_approval::*;
use std::time::Duration;

/// An approval of `deletion(1)` that lifts nothing while `ann` is out of the group, and a new ask beside it.
async fn two_of_one(stage: &Stage) -> (Ask, Ask) {
    let older = stage.ask(&deletion(1)).await;
    let older = stage.approve(&older, &person("ann", &[ONCALL])).await;
    stage.approvals.person_seen(&person("ann", &[])).await.unwrap();
    let newer = stage.ask(&deletion(1)).await;
    assert_ne!(older.id, newer.id);
    (older, newer)
}

#[tokio::test]
async fn a_denial_ends_an_older_approval_of_the_same_operation() {
    let stage = Stage::new().await;
    let (older, newer) = two_of_one(&stage).await;
    let other = stage.ask(&deletion(2)).await;
    stage.approve(&other, &person("bea", &[ONCALL])).await;
    stage.deny(&newer, &person("bea", &[ONCALL])).await;
    stage.approvals.person_seen(&person("ann", &[ONCALL])).await.unwrap();
    assert_eq!(stage.take(&deletion(1)).await, None, "ann is back, and it was denied");
    let older = stage.get(&older).await;
    assert_eq!((older.state, older.grant_until), (State::Denied, None));
    let last = older.history.last().unwrap();
    assert_eq!((last.kind.as_str(), last.by.as_deref()), ("withdrawn", Some("corp/bea")));
    assert_eq!(last.note.as_deref(), Some(&*format!("not today (the same was denied: ask {})", newer.id)));
    assert_eq!(older.denial().unwrap().by.id, "corp/bea");
    assert!(stage.take(&deletion(2)).await.is_some(), "another operation keeps its approval");
    let survived = stage.after_a_kill().await;
    assert_eq!(survived.get(&older).await.state, State::Denied);
}

#[tokio::test]
async fn a_refused_denial_ends_no_other_approval() {
    let stage = Stage::new().await;
    let (older, newer) = two_of_one(&stage).await;
    let refused =
        stage.approvals.answer(newer.id, &person("eve", &[]), Answer::Deny { reason: "no".into() }).await;
    assert!(matches!(refused, Err(AnswerError::NotAnApprover(_))));
    assert_eq!(stage.get(&older).await.state, State::Approved);
}

#[tokio::test]
async fn an_approval_that_policy_makes_needless_is_over() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    stage.approvals.not_needed(ask.id).await.unwrap();
    assert_eq!(stage.take(&new).await, None);
    let over = stage.get(&ask).await;
    assert_eq!((over.state, over.uses), (State::Expired, 0));
    let last = over.history.last().unwrap();
    assert_eq!(last.kind, "expired");
    assert_eq!(last.note.as_deref(), Some("policy allows it now: it passed without this approval"));
    // Again, or for what is not approved, it changes nothing.
    stage.approvals.not_needed(ask.id).await.unwrap();
    assert_eq!(stage.get(&ask).await, over);
    let waiting = stage.ask(&deletion(2)).await;
    stage.approvals.not_needed(waiting.id).await.unwrap();
    assert_eq!(stage.get(&waiting).await, waiting);
    assert!(matches!(stage.approvals.not_needed(AskId::new()).await, Err(StoreError::Missing)));
}

#[tokio::test]
async fn a_window_outlasts_a_moment_in_which_policy_allows() {
    let stage = Stage::new().await;
    let ask = stage.ask(&deletion(1)).await;
    let until = stage.hand.now() + Duration::from_hours(1);
    let window = Answer::ApproveWindow { until };
    stage.approvals.answer(ask.id, &person("ann", &[ONCALL]), window).await.unwrap();
    stage.approvals.not_needed(ask.id).await.unwrap();
    assert!(stage.take(&deletion(1)).await.unwrap().window);
}

/// Polls until `wanted` of an ask, at most 20 seconds.
async fn until(stage: &Stage, ask: &Ask, wanted: impl Fn(&Ask) -> bool) -> Ask {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1_000 {
        tick.tick().await;
        if wanted(&stage.get(ask).await) {
            break;
        }
    }
    let now = stage.get(ask).await;
    assert!(wanted(&now), "it never came to that: {now:?}");
    now
}

#[tokio::test]
async fn one_damaged_ask_stops_no_other() {
    let stage = Stage::new().await;
    let damaged = stage.ask(&deletion(1)).await;
    let good = stage.ask(&deletion(2)).await;
    let torn = testing::either(
        "UPDATE ask SET votes = '[' WHERE json_extract(what, '$.digest') LIKE '0101%'",
        "UPDATE ask SET votes = '[' WHERE what::json ->> 'digest' LIKE '0101%'",
    );
    tamper(&stage, torn).await;
    let waiting = {
        let approvals = stage.approvals.clone();
        let far = tokio::time::Instant::now() + Duration::from_hours(1);
        tokio::spawn(async move { approvals.wait(good.id, far).await })
    };
    let mut changes = stage.approvals.changes();
    stage.hand.forward(301);
    // The keeper settles both; a waiter of the good one hears of it.
    let told = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(told.state, State::TimedOut);
    let told = async { [changes.recv().await.unwrap(), changes.recv().await.unwrap()] };
    let told = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    assert!(told.contains(&good.id) && told.contains(&damaged.id), "{told:?}");

    let shown = stage.get(&damaged).await;
    assert_eq!(shown.state, State::Damaged);
    assert_eq!((shown.what.caller.id(), shown.missing()), ("corp/agent".to_owned(), vec![]));
    for states in [vec![], vec![State::Damaged]] {
        let listed = stage.approvals.list(Filter { states, ..Filter::default() }).await.unwrap();
        assert!(listed.iter().any(|ask| ask.id == damaged.id && ask.state == State::Damaged));
    }
    let next = stage.ask(&deletion(3)).await;
    stage.approve(&next, &person("ann", &[ONCALL])).await;
    assert!(stage.take(&deletion(3)).await.is_some());
    assert_eq!(stage.approvals.similar(&next, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_damaged_ask_is_answered_by_nobody_and_asked_anew() {
    let stage = Stage::new().await;
    let damaged = stage.ask(&deletion(1)).await;
    tamper(&stage, "UPDATE ask SET what = '{}'").await;
    for answer in [Answer::ApproveOnce, Answer::Deny { reason: "no".to_owned() }] {
        let refused = stage.approvals.answer(damaged.id, &person("ann", &[ONCALL]), answer).await;
        assert!(matches!(refused, Err(AnswerError::NotPending(State::Damaged))), "{refused:?}");
    }
    let pending = Filter { states: vec![State::Pending], ..Filter::default() };
    let listed = stage.approvals.list(pending).await.unwrap();
    assert_eq!(listed.iter().map(|ask| ask.state).collect::<Vec<_>>(), [State::Damaged], "people see it");
    let anew = stage.ask(&deletion(1)).await;
    assert_ne!(anew.id, damaged.id);
    assert_eq!(stage.get(&damaged).await.state, State::Damaged);
    stage.approve(&anew, &person("ann", &[ONCALL])).await;
    assert_eq!(stage.take(&deletion(1)).await.unwrap().ask, anew.id);
}

#[tokio::test]
async fn a_damaged_approval_or_window_lets_nothing_pass_and_hides_no_other() {
    let stage = Stage::new().await;
    let window = stage.ask(&deletion(1)).await;
    let answer = Answer::ApproveWindow { until: stage.hand.now() + Duration::from_hours(1) };
    stage.approvals.answer(window.id, &person("ann", &[ONCALL]), answer).await.unwrap();
    let once = stage.ask(&deletion(2)).await;
    stage.approve(&once, &person("ann", &[ONCALL])).await;
    tamper(&stage, "UPDATE ask SET votes = 'x' WHERE is_window = 1").await;
    assert_eq!(stage.take(&deletion(1)).await, None);
    assert_eq!(stage.take(&deletion(2)).await.unwrap().ask, once.id);
    stage.hand.forward(3_600);
    let over = until(&stage, &window, |ask| ask.grant_until.is_none()).await;
    assert_eq!(over.state, State::Damaged);
    tamper(&stage, "UPDATE ask SET id = 'no id' WHERE is_window = 1").await;
    assert_eq!(stage.approvals.list(Filter::default()).await.unwrap().len(), 1, "the others are listed");
}
