//! An approval lets exactly one thing pass: this operation, of this caller, here, once, soon, under the policies of now.

use crate::stage::*;
use durward_approval::*;
use durward_core::{Caller, CallerKind, Demand, Operation, Resource, Traits};
use std::time::Duration;

#[tokio::test]
async fn an_approval_is_for_what_was_approved_and_nothing_else() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    assert_eq!(stage.take(&new).await, None, "asked is not approved");
    let ask = stage.approve(&ask, &person("ann", &[ONCALL])).await;
    assert_eq!(ask.state, State::Approved);

    let act = vec!["bob".to_owned()];
    let others = [
        ("another digest", NewAsk { digest: [2; 32], ..new.clone() }),
        ("another subject", NewAsk { caller: caller("other"), ..new.clone() }),
        (
            "another provider",
            NewAsk { caller: Caller { provider: "x".into(), ..caller("agent") }, ..new.clone() },
        ),
        (
            "another issuer",
            NewAsk { caller: Caller { issuer: "https://x".into(), ..caller("agent") }, ..new.clone() },
        ),
        ("on another's behalf", NewAsk { caller: Caller { act, ..caller("agent") }, ..new.clone() }),
        (
            "another kind of caller",
            NewAsk { caller: Caller { kind: CallerKind::Human, ..caller("agent") }, ..new.clone() },
        ),
        ("another connection", NewAsk { connection: "staging".to_owned(), ..new.clone() }),
    ];
    for (what, other) in others {
        assert_eq!(stage.take(&other).await, None, "{what}");
    }
    // groups may change between the ask and its use
    let regrouped = NewAsk { caller: Caller { groups: Vec::new(), ..caller("agent") }, ..new };
    let grant = stage.take(&regrouped).await.unwrap();
    assert_eq!(
        grant,
        Granted {
            ask: ask.id,
            lifted: vec!["delete-bucket".to_owned()],
            approvers: vec!["corp/ann".to_owned()],
            window: false,
            break_glass: false,
        }
    );
}

#[tokio::test]
async fn an_approval_is_used_once() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    assert!(stage.take(&new).await.is_some());
    let used = stage.get(&ask).await;
    assert_eq!((used.state, used.uses), (State::Used, 1));
    assert_eq!(stage.take(&new).await, None);
    // neither another answer nor asking again revives it
    let again = stage.approvals.answer(ask.id, &person("bea", &[ONCALL]), Answer::ApproveOnce).await;
    assert!(matches!(again, Err(AnswerError::NotPending(State::Used))));
    let denied =
        stage.approvals.answer(ask.id, &person("bea", &[ONCALL]), Answer::Deny { reason: "x".into() }).await;
    assert!(matches!(denied, Err(AnswerError::NotPending(State::Used))));
    let third = stage.ask(&new).await;
    assert_ne!(third.id, ask.id);
    assert_eq!(third.state, State::Pending);
    assert_eq!(stage.take(&new).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_race_for_an_approval_one_gets_it() {
    let stage = Stage::new().await;
    let other = stage.other().await;
    for round in 1..=10 {
        let new = deletion(round);
        let ask = stage.ask(&new).await;
        stage.approve(&ask, &person("ann", &[ONCALL])).await;
        let mut racers = Vec::new();
        for racer in 0..8 {
            let approvals = if racer % 2 == 0 { stage.approvals.clone() } else { other.clone() };
            let new = new.clone();
            racers.push(tokio::spawn(async move { take(&approvals, &new).await.is_some() }));
        }
        let mut winners = 0;
        for racer in racers {
            winners += usize::from(racer.await.unwrap());
        }
        assert_eq!(winners, 1, "round {round}");
    }
}

#[tokio::test]
async fn an_approval_expires() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    stage.hand.forward(60);
    let ask = stage.approve(&ask, &person("ann", &[ONCALL])).await;
    assert_eq!(ask.grant_until, Some(stage.hand.now() + Duration::from_mins(10)));
    stage.hand.forward(600);
    assert_eq!(stage.take(&new).await, None);
    assert_eq!(stage.get(&ask).await.state, State::Expired);

    let next = stage.ask(&new).await;
    assert_ne!(next.id, ask.id);
    stage.approve(&next, &person("ann", &[ONCALL])).await;
    stage.hand.forward(599);
    assert!(stage.take(&new).await.is_some(), "a second before");
}

#[tokio::test]
async fn what_policies_require_is_judged_when_the_approval_is_used() {
    let stage = Stage::new().await;
    let mut new = deletion(1);
    let ask = stage.ask(&new).await;
    stage.approve(&ask, &person("ann", &[ONCALL, "security"])).await;
    let before = new.requirements.clone();
    for (what, now) in [
        ("nothing is asked", vec![]),
        ("another forbid too", vec![before[0].clone(), requirement("no-fridays", ONCALL, 1)]),
        ("another forbid instead", vec![requirement("no-fridays", ONCALL, 1)]),
        ("more people", vec![requirement("delete-bucket", ONCALL, 2)]),
        ("another group", vec![requirement("delete-bucket", "security", 1)]),
    ] {
        new.requirements = now;
        assert_eq!(stage.take(&new).await, None, "{what}");
    }
    assert_eq!(stage.get(&ask).await.state, State::Approved, "and none of these used it");
    new.requirements = before;
    assert!(stage.take(&new).await.is_some());
}

#[tokio::test]
async fn an_ask_that_no_longer_asks_for_enough_is_replaced() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let old = stage.ask(&new).await;
    let stricter = with(vec![requirement("delete-bucket", ONCALL, 2)]);
    let fresh = stage.ask(&stricter).await;
    assert_ne!(old.id, fresh.id);
    assert_eq!(stage.get(&old).await.state, State::Expired);
    let late = stage.approvals.answer(old.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await;
    assert!(matches!(late, Err(AnswerError::NotPending(State::Expired))));
    assert_eq!(stage.ask(&new).await.id, fresh.id, "asking for less joins what asks for more");
}

async fn window(stage: &Stage, new: &NewAsk, minutes: u64) -> Ask {
    let ask = stage.ask(new).await;
    let until = stage.hand.now() + Duration::from_mins(minutes);
    let answer = Answer::ApproveWindow { until };
    stage.approvals.answer(ask.id, &person("ann", &[ONCALL]), answer).await.unwrap()
}

#[tokio::test]
async fn a_window_is_for_these_actions_on_these_resources_until_then() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = window(&stage, &new, 60).await;
    assert_eq!((ask.state, ask.window), (State::Approved, true));

    let with = |change: fn(&mut Operation)| {
        let mut other = NewAsk { digest: [9; 32], ..new.clone() };
        change(&mut other.operation);
        other
    };
    let many = with(|operation| operation.parameters = serde_json::json!({"other": "parameters"}));
    for _ in 0..3 {
        let grant = stage.take(&many).await.unwrap();
        assert!(grant.window);
    }
    assert_eq!(stage.get(&ask).await.uses, 3);
    let outside: [(&str, NewAsk); 11] = [
        ("another action", with(|it| it.demands[0].action = "s3:PutBucketPolicy".to_owned())),
        (
            "another resource",
            with(|it| it.demands[0].resource = Resource::Arn("arn:aws:s3:::other".to_owned())),
        ),
        ("any resource", with(|it| it.demands[0].resource = Resource::Any)),
        (
            "one more demand",
            with(|it| {
                let more = Demand { action: "kms:Decrypt".to_owned(), ..it.demands[0].clone() };
                it.demands.push(more);
            }),
        ),
        ("no demand", with(|it| it.demands.clear())),
        ("another region", with(|it| it.region = Some("us-east-1".to_owned()))),
        ("another account", with(|it| it.account = Some("210987654321".to_owned()))),
        ("an uninspected part", with(|it| it.uninspected = vec!["body".to_owned()])),
        ("worse", with(|it| it.traits = Traits { escalates: true, ..it.traits })),
        ("another caller", NewAsk { caller: caller("other"), ..new.clone() }),
        ("another connection", NewAsk { connection: "staging".to_owned(), ..new.clone() }),
    ];
    for (what, other) in &outside {
        assert_eq!(stage.take(other).await, None, "{what}");
    }
    let unlifted = NewAsk { requirements: vec![requirement("other", ONCALL, 1)], ..new.clone() };
    assert_eq!(stage.take(&unlifted).await, None, "another forbid");

    stage.hand.forward(3_600);
    assert_eq!(stage.take(&new).await, None, "after its time");
    assert_eq!(stage.get(&ask).await.state, State::Expired);
}

#[tokio::test]
async fn where_not_all_is_named_a_window_is_for_the_same_parameters() {
    let pattern = Resource::Arn("arn:aws:ec2:eu-west-1:123456789012:instance/*".to_owned());
    for (action, resource) in [
        ("kms:ReEncryptFrom", Resource::Any),
        ("ec2:StopInstances", pattern),
        ("sqs:*unknown*", Resource::Any),
    ] {
        let stage = Stage::new().await;
        let mut new = deletion(1);
        new.operation.demands[0].action = action.to_owned();
        new.operation.demands[0].resource = resource;
        new.operation.parameters = serde_json::json!({"CiphertextBlob": "harmless"});
        window(&stage, &new, 60).await;
        let with = |change: fn(&mut Operation)| {
            let mut other = NewAsk { digest: [9; 32], ..new.clone() };
            change(&mut other.operation);
            other
        };
        let other = with(|it| it.parameters = serde_json::json!({"CiphertextBlob": "of another key"}));
        assert_eq!(stage.take(&other).await, None, "{action}: other parameters");
        let other = with(|it| it.name = "DestroyEverything".to_owned());
        assert_eq!(stage.take(&other).await, None, "{action}: another operation");
        assert!(stage.take(&with(|_same| {})).await.is_some(), "{action}: the same");
        // What is masked in an ask is compared by its digest.
        let mut unmasked = new.clone();
        unmasked.operation.parameters = serde_json::json!({"CiphertextBlob": "unmasked"});
        assert!(stage.take(&unmasked).await.is_some(), "{action}: the same, unmasked");
    }
}

#[tokio::test]
async fn a_window_has_a_longest_length_and_no_past() {
    let stage = Stage::new().await;
    // of two, so that the first answer alone is judged
    let ask = stage.ask(&with(vec![requirement("p", ONCALL, 2)])).await;
    let ann = person("ann", &[ONCALL]);
    for minutes in [0, -5, 8 * 60 + 1] {
        let until = stage.hand.now() + time::Duration::minutes(minutes);
        let refused = stage.approvals.answer(ask.id, &ann, Answer::ApproveWindow { until }).await;
        assert!(matches!(refused, Err(AnswerError::Window(_))), "{minutes}");
    }
    assert!(stage.get(&ask).await.votes.is_empty());
}

#[tokio::test]
async fn a_window_needs_everybody_to_say_window_and_ends_with_the_earliest() {
    let stage = Stage::new().await;
    let (ann, bea) = (person("ann", &[ONCALL]), person("bea", &[ONCALL]));
    let two = |number| NewAsk { requirements: vec![requirement("p", ONCALL, 2)], ..deletion(number) };
    let until =
        |minutes| Answer::ApproveWindow { until: stage.hand.now() + time::Duration::minutes(minutes) };

    let ask = stage.ask(&two(1)).await;
    stage.approvals.answer(ask.id, &ann, until(60)).await.unwrap();
    let ask = stage.approvals.answer(ask.id, &bea, until(30)).await.unwrap();
    assert_eq!(ask.grant_until, Some(stage.hand.now() + time::Duration::minutes(30)));
    assert!(ask.window);

    let ask = stage.ask(&two(2)).await;
    stage.approvals.answer(ask.id, &ann, until(60)).await.unwrap();
    let ask = stage.approve(&ask, &bea).await;
    assert!(!ask.window, "one of them said once");
    assert!(stage.take(&two(2)).await.is_some_and(|grant| !grant.window));
    assert_eq!(stage.take(&two(2)).await, None);
}

#[tokio::test]
async fn a_denial_ends_an_open_window_and_an_unused_approval() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let open = window(&stage, &new, 60).await;
    assert!(stage.take(&new).await.is_some());
    let over = stage.deny(&open, &person("bea", &[ONCALL])).await;
    assert_eq!(over.state, State::Denied);
    assert_eq!(stage.take(&new).await, None);

    let ask = stage.ask(&deletion(2)).await;
    let ann = person("ann", &[ONCALL]);
    let ask = stage.approve(&ask, &ann).await;
    stage.deny(&ask, &ann).await;
    assert_eq!(stage.take(&deletion(2)).await, None, "whoever approved may think again");
}

#[tokio::test]
async fn an_approval_that_comes_between_a_take_and_an_ask_is_found() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    assert_eq!(stage.take(&new).await, None);
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    let again = stage.ask(&new).await;
    assert_eq!((again.id, again.state), (ask.id, State::Approved));
    assert!(stage.take(&new).await.is_some());
}
