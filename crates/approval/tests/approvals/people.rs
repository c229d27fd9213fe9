//! Who may answer, who counts, and what an answer is worth later.

use crate::stage::*;
use durward_approval::*;
use durward_core::Caller;

async fn refusal(stage: &Stage, ask: &Ask, by: &Person, answer: Answer) -> AnswerError {
    let error = stage.approvals.answer(ask.id, by, answer).await.unwrap_err();
    assert_eq!(stage.get(ask).await.votes, ask.votes, "a refused answer leaves no vote");
    error
}

fn glass(reason: &str) -> Answer {
    Answer::BreakGlass { reason: reason.to_owned() }
}

#[tokio::test]
async fn nobody_approves_their_own_request_in_any_guise() {
    let stage = Stage::new().await;
    let act = vec!["boss".to_owned(), "top/chief".to_owned()];
    let new = NewAsk { caller: Caller { act, ..caller("agent") }, ..deletion(1) };
    let ask = stage.ask(&new).await;
    let groups = [ONCALL, "admins", "firefighters"];
    let guises = [
        person("agent", &groups),
        Person { id: "github/agent".to_owned(), ..person("agent", &groups) },
        Person { id: "github/AGENT".to_owned(), ..person("AGENT", &groups) },
        person("boss", &groups),
        Person { id: "github/boss".to_owned(), ..person("boss", &groups) },
        Person { id: "top/chief".to_owned(), ..person("chief", &groups) },
    ];
    for guise in guises {
        let until = stage.hand.now() + time::Duration::minutes(5);
        for answer in [Answer::ApproveOnce, Answer::ApproveWindow { until }, glass("now")] {
            let error = refusal(&stage, &ask, &guise, answer).await;
            assert!(matches!(error, AnswerError::OwnRequest(_)), "{guise:?}: {error}");
        }
    }
    assert_eq!(stage.approve(&ask, &person("ann", &groups)).await.state, State::Approved);
}

#[tokio::test]
async fn only_members_of_the_named_groups_answer() {
    let stage = Stage::new().await;
    let ask = stage.ask(&deletion(1)).await;
    for stranger in [person("eve", &[]), person("eve", &["on"]), person("eve", &["ONCALL", "firefighters"])] {
        let error = refusal(&stage, &ask, &stranger, Answer::ApproveOnce).await;
        assert_eq!(error.to_string(), "only members of oncall may answer this so");
        let deny = Answer::Deny { reason: "no".to_owned() };
        assert!(matches!(refusal(&stage, &ask, &stranger, deny).await, AnswerError::NotAnApprover(_)));
    }
    let nowhere = stage.approvals.answer(AskId::new(), &person("ann", &[ONCALL]), Answer::ApproveOnce).await;
    assert!(matches!(nowhere, Err(AnswerError::NotFound)));
}

#[tokio::test]
async fn a_quorum_is_of_different_people() {
    let stage = Stage::new().await;
    let new = with(vec![requirement("p", ONCALL, 2)]);
    let ask = stage.ask(&new).await;
    assert_eq!(ask.missing(), [(ONCALL.to_owned(), 2)]);
    let ask = stage.approve(&ask, &person("ann", &[ONCALL])).await;
    assert_eq!((ask.state, ask.missing()), (State::Pending, vec![(ONCALL.to_owned(), 1)]));
    for again in [
        person("ann", &[ONCALL]),
        person("ann", &[ONCALL, "security"]),
        Person { id: "github/Ann".to_owned(), ..person("Ann", &[ONCALL]) },
    ] {
        assert!(matches!(
            refusal(&stage, &ask, &again, Answer::ApproveOnce).await,
            AnswerError::AnsweredBefore
        ));
    }
    assert_eq!(stage.take(&new).await, None);
    let ask = stage.approve(&ask, &person("bea", &[ONCALL])).await;
    assert_eq!((ask.state, ask.missing()), (State::Approved, vec![]));
    assert_eq!(stage.take(&new).await.unwrap().approvers, ["corp/ann", "corp/bea"]);
}

#[tokio::test]
async fn each_forbid_needs_its_own_quorum_and_a_person_counts_for_each_of_their_groups() {
    let stage = Stage::new().await;
    let new = with(vec![requirement("p", ONCALL, 2), requirement("q", "security", 1)]);
    let ask = stage.ask(&new).await;
    let ask = stage.approve(&ask, &person("ann", &[ONCALL, "security"])).await;
    assert_eq!(ask.missing(), [(ONCALL.to_owned(), 1)]);
    let ask = stage.approve(&ask, &person("sam", &["security"])).await;
    assert_eq!(ask.state, State::Pending, "a second of the other group is no second of this one");
    assert_eq!(stage.take(&new).await, None);
    let ask = stage.approve(&ask, &person("bea", &[ONCALL])).await;
    assert_eq!(ask.state, State::Approved);
    assert_eq!(stage.take(&new).await.unwrap().lifted, ["p", "q"]);
}

#[tokio::test]
async fn a_session_from_before_somebody_left_the_group_does_not_bring_them_back() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    let now = stage.hand.now();
    let earlier = Person { as_of: now, ..person("ann", &[ONCALL]) };
    let later = Person { as_of: now + time::Duration::minutes(1), ..person("ann", &["other"]) };
    stage.approvals.person_seen(&earlier).await.unwrap();
    stage.approvals.person_seen(&later).await.unwrap();
    let refused = stage.approvals.answer(ask.id, &earlier, Answer::ApproveOnce).await;
    assert!(matches!(refused, Err(AnswerError::NotAnApprover(_))), "{refused:?}");
    stage.approvals.person_seen(&earlier).await.unwrap();
    assert_eq!(stage.take(&new).await, None);
}

#[tokio::test]
async fn whoever_left_the_group_before_the_use_does_not_count() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    stage.approvals.person_seen(&person("ann", &["other"])).await.unwrap();
    assert_eq!(stage.take(&new).await, None);
    let next = stage.ask(&new).await;
    assert_eq!(next.state, State::Pending, "an approval that lifts nothing does not answer a new ask");
    stage.approvals.person_seen(&person("ann", &[ONCALL, "other"])).await.unwrap();
    assert_eq!(stage.take(&new).await.unwrap().ask, ask.id, "back in the group, back in force");

    let until = stage.hand.now() + time::Duration::hours(1);
    stage
        .approvals
        .answer(next.id, &person("bea", &[ONCALL]), Answer::ApproveWindow { until })
        .await
        .unwrap();
    assert!(stage.take(&new).await.is_some());
    stage.approvals.person_seen(&person("bea", &[])).await.unwrap();
    assert_eq!(stage.take(&new).await, None, "a window closes with the membership");
}

#[tokio::test]
async fn a_denial_wins_and_carries_its_reason() {
    let stage = Stage::new().await;
    let new = with(vec![requirement("p", ONCALL, 2), requirement("q", "security", 1)]);
    let ask = stage.ask(&new).await;
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    let ask = stage.deny(&ask, &person("sam", &["security"])).await;
    assert_eq!(ask.state, State::Denied);
    let denial = ask.denial().unwrap();
    assert_eq!((denial.by.id.as_str(), denial.reason.as_deref()), ("corp/sam", Some("not today")));
    assert!(matches!(
        refusal(&stage, &ask, &person("bea", &[ONCALL]), Answer::ApproveOnce).await,
        AnswerError::NotPending(State::Denied)
    ));
    assert_eq!(stage.take(&new).await, None);
    let waited = stage.approvals.wait(ask.id, tokio::time::Instant::now()).await.unwrap();
    assert_eq!(waited.denial(), ask.denial());
}

#[tokio::test]
async fn a_denial_answers_repeats_for_a_minute() {
    let stage = Stage::new().await;
    let ask = stage.ask(&deletion(1)).await;
    stage.deny(&ask, &person("ann", &[ONCALL])).await;
    stage.hand.forward(59);
    let repeat = stage.ask(&deletion(1)).await;
    assert_eq!((repeat.id, repeat.state, repeat.attempts), (ask.id, State::Denied, 2));
    stage.hand.forward(1);
    assert_eq!(stage.ask(&deletion(1)).await.state, State::Pending);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn approvers_that_race_are_all_heard_and_none_twice() {
    let stage = Stage::new().await;
    let other = stage.other().await;
    for round in 0..10 {
        let new = NewAsk { requirements: vec![requirement("p", ONCALL, 2)], ..deletion(round) };
        let ask = stage.ask(&new).await;
        let mut racers = Vec::new();
        // each of two people answers twice, at both gateways
        for name in ["ann", "bea", "ann", "bea"] {
            let approvals = if racers.len() < 2 { stage.approvals.clone() } else { other.clone() };
            racers.push(tokio::spawn(async move {
                approvals.answer(ask.id, &person(name, &[ONCALL]), Answer::ApproveOnce).await.is_ok()
            }));
        }
        let mut accepted = 0;
        for racer in racers {
            accepted += usize::from(racer.await.unwrap());
        }
        let ask = stage.get(&ask).await;
        assert_eq!((accepted, ask.votes.len(), ask.state), (2, 2, State::Approved));
        assert!(stage.take(&new).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_denial_that_races_an_approval_wins_unless_it_was_used() {
    let stage = Stage::new().await;
    for round in 0..10 {
        let new = deletion(round);
        let ask = stage.ask(&new).await;
        let (one, two) = (stage.approvals.clone(), stage.approvals.clone());
        let approve = tokio::spawn(async move {
            one.answer(ask.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await.is_ok()
        });
        let deny = tokio::spawn(async move {
            two.answer(ask.id, &person("bea", &[ONCALL]), Answer::Deny { reason: "no".into() }).await.is_ok()
        });
        approve.await.unwrap();
        assert!(deny.await.unwrap());
        assert_eq!(stage.get(&ask).await.state, State::Denied);
        assert_eq!(stage.take(&new).await, None);
    }
}

#[tokio::test]
async fn break_glass_is_for_its_group_alone_and_is_marked_loudly() {
    let stage = Stage::new().await;
    let new = with(vec![requirement("p", ONCALL, 2), requirement("q", "security", 3)]);
    let ask = stage.ask(&new).await;
    let outsider = person("ann", &[ONCALL, "security"]);
    let error = refusal(&stage, &ask, &outsider, glass("fire")).await;
    assert_eq!(error.to_string(), "only members of firefighters may answer this so");
    let fay = person("fay", &["firefighters"]);
    assert!(matches!(refusal(&stage, &ask, &fay, glass(" \n")).await, AnswerError::ReasonMissing));
    assert!(matches!(refusal(&stage, &ask, &fay, Answer::ApproveOnce).await, AnswerError::NotAnApprover(_)));

    let ask = stage.approvals.answer(ask.id, &fay, glass("the house burns")).await.unwrap();
    assert_eq!((ask.state, ask.break_glass, ask.window), (State::Approved, true, false));
    assert_eq!(ask.missing(), []);
    let event = ask.history.iter().find(|event| event.kind == "BREAK_GLASS").unwrap();
    assert_eq!((event.by.as_deref(), event.note.as_deref()), (Some("corp/fay"), Some("the house burns")));

    stage.approvals.person_seen(&person("fay", &[])).await.unwrap();
    assert_eq!(stage.take(&new).await, None, "no longer in the group");
    stage.approvals.person_seen(&fay).await.unwrap();
    let grant = stage.take(&new).await.unwrap();
    assert!(grant.break_glass);
    assert_eq!(grant.approvers, ["corp/fay"]);
    assert_eq!(stage.take(&new).await, None, "once");
    assert!(stage.get(&ask).await.break_glass);
}

#[tokio::test]
async fn without_a_break_glass_group_nobody_breaks_glass() {
    let directory = tempfile::tempdir().unwrap();
    let hand = Hand::new();
    let store = testing::open(&file(directory.path())).await.unwrap();
    let approvals = Approvals::open(store, Limits::default(), hand.clock()).await.unwrap();
    let ask = approvals.ask(deletion(1)).await.unwrap();
    let refused = approvals.answer(ask.id, &person("ann", &[ONCALL, ""]), glass("fire")).await;
    assert!(matches!(refused, Err(AnswerError::NotAnApprover(_))));
}

#[tokio::test]
async fn text_of_people_is_kept_as_given_and_bounded() {
    let stage = Stage::new().await;
    let ask = stage.ask(&deletion(1)).await;
    let ann = person("ann", &[ONCALL]);
    let long = "x".repeat(4_097);
    let too_long = refusal(&stage, &ask, &ann, Answer::Deny { reason: long.clone() }).await;
    assert!(matches!(too_long, AnswerError::TooLong { what: "the reason", .. }));
    let named = Person { name: long.clone(), ..ann.clone() };
    assert!(matches!(
        refusal(&stage, &ask, &named, Answer::ApproveOnce).await,
        AnswerError::TooLong { what: "a name", .. }
    ));
    let in_many = Person { groups: vec![long; 100], ..ann.clone() };
    assert!(stage.approvals.person_seen(&in_many).await.is_err());

    let odd = "'); DROP TABLE ask; -- <script>\u{202e}\u{0}$1 %s";
    let ask = stage.approvals.answer(ask.id, &ann, Answer::Deny { reason: odd.to_owned() }).await.unwrap();
    assert_eq!(ask.denial().unwrap().reason.as_deref(), Some(odd));
    assert_eq!(stage.get(&ask).await, ask);
}
