//! Who may answer, who counts, and what an answer is worth later.

use crate::test_ledger::*;
use durward_approval::*;
use durward_core::Caller;

async fn refused_vote(
    stage: &TestLedger,
    ask: &ApprovalRequest,
    by: &Approver,
    answer: VoteChoice,
) -> VoteError {
    let error = stage.approvals.cast_vote(ask.id, by, answer).await.unwrap_err();
    assert_eq!(stage.get(ask).await.votes, ask.votes, "a refused answer leaves no vote");
    error
}

fn break_glass_choice(reason: &str) -> VoteChoice {
    VoteChoice::BreakGlass { reason: reason.to_owned() }
}

#[tokio::test]
async fn nobody_approves_their_own_request_in_any_guise() {
    let stage = TestLedger::new().await;
    let act = vec!["boss".to_owned(), "top/chief".to_owned()];
    let new =
        NewApprovalRequest { caller: Caller { act, ..test_caller("agent") }, ..delete_bucket_request(1) };
    let ask = stage.request_approval(&new).await;
    let groups = [ONCALL_GROUP, "admins", "firefighters"];
    let guises = [
        approver("agent", &groups),
        Approver { id: "github/agent".to_owned(), ..approver("agent", &groups) },
        Approver { id: "github/AGENT".to_owned(), ..approver("AGENT", &groups) },
        approver("boss", &groups),
        Approver { id: "github/boss".to_owned(), ..approver("boss", &groups) },
        Approver { id: "top/chief".to_owned(), ..approver("chief", &groups) },
    ];
    for guise in guises {
        let until = stage.test_clock.now() + time::Duration::minutes(5);
        for answer in
            [VoteChoice::ApproveOnce, VoteChoice::ApproveTimeBound { until }, break_glass_choice("now")]
        {
            let error = refused_vote(&stage, &ask, &guise, answer).await;
            assert!(matches!(error, VoteError::OwnRequest(_)), "{guise:?}: {error}");
        }
    }
    assert_eq!(stage.approve(&ask, &approver("ann", &groups)).await.state, ApprovalState::Approved);
}

#[tokio::test]
async fn only_members_of_the_named_groups_may_vote() {
    let stage = TestLedger::new().await;
    let ask = stage.request_approval(&delete_bucket_request(1)).await;
    for stranger in
        [approver("eve", &[]), approver("eve", &["on"]), approver("eve", &["ONCALL", "firefighters"])]
    {
        let error = refused_vote(&stage, &ask, &stranger, VoteChoice::ApproveOnce).await;
        assert_eq!(error.to_string(), "only members of oncall may answer this so");
        let deny = VoteChoice::Deny { reason: "no".to_owned() };
        assert!(matches!(refused_vote(&stage, &ask, &stranger, deny).await, VoteError::NotAnApprover(_)));
    }
    let nowhere = stage
        .approvals
        .cast_vote(ApprovalRequestId::new(), &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(nowhere, Err(VoteError::NotFound)));
}

#[tokio::test]
async fn a_quorum_is_of_different_people() {
    let stage = TestLedger::new().await;
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 2)]);
    let ask = stage.request_approval(&new).await;
    assert_eq!(ask.missing_approvals(), [(ONCALL_GROUP.to_owned(), 2)]);
    let ask = stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(
        (ask.state, ask.missing_approvals()),
        (ApprovalState::Pending, vec![(ONCALL_GROUP.to_owned(), 1)])
    );
    for again in [
        approver("ann", &[ONCALL_GROUP]),
        approver("ann", &[ONCALL_GROUP, "security"]),
        Approver { id: "github/Ann".to_owned(), ..approver("Ann", &[ONCALL_GROUP]) },
    ] {
        assert!(matches!(
            refused_vote(&stage, &ask, &again, VoteChoice::ApproveOnce).await,
            VoteError::AlreadyApproved
        ));
    }
    assert_eq!(stage.consume_grant(&new).await, None);
    let ask = stage.approve(&ask, &approver("bea", &[ONCALL_GROUP])).await;
    assert_eq!((ask.state, ask.missing_approvals()), (ApprovalState::Approved, vec![]));
    assert_eq!(stage.consume_grant(&new).await.unwrap().approvers, ["corp/ann", "corp/bea"]);
}

#[tokio::test]
async fn each_forbid_needs_its_own_quorum_and_a_person_counts_for_each_of_their_groups() {
    let stage = TestLedger::new().await;
    let new = request_requiring(vec![
        approval_requirement("p", ONCALL_GROUP, 2),
        approval_requirement("q", "security", 1),
    ]);
    let ask = stage.request_approval(&new).await;
    let ask = stage.approve(&ask, &approver("ann", &[ONCALL_GROUP, "security"])).await;
    assert_eq!(ask.missing_approvals(), [(ONCALL_GROUP.to_owned(), 1)]);
    let ask = stage.approve(&ask, &approver("sam", &["security"])).await;
    assert_eq!(ask.state, ApprovalState::Pending, "a second of the other group is no second of this one");
    assert_eq!(stage.consume_grant(&new).await, None);
    let ask = stage.approve(&ask, &approver("bea", &[ONCALL_GROUP])).await;
    assert_eq!(ask.state, ApprovalState::Approved);
    assert_eq!(stage.consume_grant(&new).await.unwrap().overridden_policies, ["p", "q"]);
}

#[tokio::test]
async fn an_older_session_does_not_restore_a_lost_membership() {
    let stage = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let ask = stage.request_approval(&new).await;
    let now = stage.test_clock.now();
    let earlier = Approver { groups_as_of: now, ..approver("ann", &[ONCALL_GROUP]) };
    let later = Approver { groups_as_of: now + time::Duration::minutes(1), ..approver("ann", &["other"]) };
    stage.approvals.upsert_user(&earlier).await.unwrap();
    stage.approvals.upsert_user(&later).await.unwrap();
    let refused = stage.approvals.cast_vote(ask.id, &earlier, VoteChoice::ApproveOnce).await;
    assert!(matches!(refused, Err(VoteError::NotAnApprover(_))), "{refused:?}");
    stage.approvals.upsert_user(&earlier).await.unwrap();
    assert_eq!(stage.consume_grant(&new).await, None);
}

#[tokio::test]
async fn a_vote_does_not_count_after_its_approver_left_the_group() {
    let stage = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let ask = stage.request_approval(&new).await;
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    stage.approvals.upsert_user(&approver("ann", &["other"])).await.unwrap();
    assert_eq!(stage.consume_grant(&new).await, None);
    let next = stage.request_approval(&new).await;
    assert_eq!(
        next.state,
        ApprovalState::Pending,
        "an approval that lifts nothing does not answer a new ask"
    );
    stage.approvals.upsert_user(&approver("ann", &[ONCALL_GROUP, "other"])).await.unwrap();
    assert_eq!(
        stage.consume_grant(&new).await.unwrap().approval_request,
        ask.id,
        "back in the group, back in force"
    );

    let until = stage.test_clock.now() + time::Duration::hours(1);
    stage
        .approvals
        .cast_vote(next.id, &approver("bea", &[ONCALL_GROUP]), VoteChoice::ApproveTimeBound { until })
        .await
        .unwrap();
    assert!(stage.consume_grant(&new).await.is_some());
    stage.approvals.upsert_user(&approver("bea", &[])).await.unwrap();
    assert_eq!(stage.consume_grant(&new).await, None, "a window closes with the membership");
}

#[tokio::test]
async fn a_denial_wins_and_carries_its_reason() {
    let stage = TestLedger::new().await;
    let new = request_requiring(vec![
        approval_requirement("p", ONCALL_GROUP, 2),
        approval_requirement("q", "security", 1),
    ]);
    let ask = stage.request_approval(&new).await;
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    let ask = stage.deny(&ask, &approver("sam", &["security"])).await;
    assert_eq!(ask.state, ApprovalState::Denied);
    let denial = ask.last_denial().unwrap();
    assert_eq!((denial.by.id.as_str(), denial.reason.as_deref()), ("corp/sam", Some("not today")));
    assert!(matches!(
        refused_vote(&stage, &ask, &approver("bea", &[ONCALL_GROUP]), VoteChoice::ApproveOnce).await,
        VoteError::NotPending(ApprovalState::Denied)
    ));
    assert_eq!(stage.consume_grant(&new).await, None);
    let waited = stage.approvals.wait_for_end(ask.id, tokio::time::Instant::now()).await.unwrap();
    assert_eq!(waited.last_denial(), ask.last_denial());
}

#[tokio::test]
async fn a_denial_applies_to_repeats_for_a_minute() {
    let stage = TestLedger::new().await;
    let ask = stage.request_approval(&delete_bucket_request(1)).await;
    stage.deny(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    stage.test_clock.advance(59);
    let repeat = stage.request_approval(&delete_bucket_request(1)).await;
    assert_eq!((repeat.id, repeat.state, repeat.attempts), (ask.id, ApprovalState::Denied, 2));
    stage.test_clock.advance(1);
    assert_eq!(stage.request_approval(&delete_bucket_request(1)).await.state, ApprovalState::Pending);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_votes_all_count_and_none_twice() {
    let stage = TestLedger::new().await;
    let other = stage.second_gateway().await;
    for round in 0..10 {
        let new = NewApprovalRequest {
            requirements: vec![approval_requirement("p", ONCALL_GROUP, 2)],
            ..delete_bucket_request(round)
        };
        let ask = stage.request_approval(&new).await;
        let mut racers = Vec::new();
        // each of two people answers twice, at both gateways
        for name in ["ann", "bea", "ann", "bea"] {
            let approvals = if racers.len() < 2 { stage.approvals.clone() } else { other.clone() };
            racers.push(tokio::spawn(async move {
                approvals
                    .cast_vote(ask.id, &approver(name, &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
                    .await
                    .is_ok()
            }));
        }
        let mut accepted = 0;
        for racer in racers {
            accepted += usize::from(racer.await.unwrap());
        }
        let ask = stage.get(&ask).await;
        assert_eq!((accepted, ask.votes.len(), ask.state), (2, 2, ApprovalState::Approved));
        assert!(stage.consume_grant(&new).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_denial_that_races_an_approval_wins_unless_it_was_consumed() {
    let stage = TestLedger::new().await;
    for round in 0..10 {
        let new = delete_bucket_request(round);
        let ask = stage.request_approval(&new).await;
        let (one, two) = (stage.approvals.clone(), stage.approvals.clone());
        let approve = tokio::spawn(async move {
            one.cast_vote(ask.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce).await.is_ok()
        });
        let deny = tokio::spawn(async move {
            two.cast_vote(ask.id, &approver("bea", &[ONCALL_GROUP]), VoteChoice::Deny { reason: "no".into() })
                .await
                .is_ok()
        });
        approve.await.unwrap();
        assert!(deny.await.unwrap());
        assert_eq!(stage.get(&ask).await.state, ApprovalState::Denied);
        assert_eq!(stage.consume_grant(&new).await, None);
    }
}

#[tokio::test]
async fn break_glass_is_for_its_group_alone_and_is_marked_loudly() {
    let stage = TestLedger::new().await;
    let new = request_requiring(vec![
        approval_requirement("p", ONCALL_GROUP, 2),
        approval_requirement("q", "security", 3),
    ]);
    let ask = stage.request_approval(&new).await;
    let outsider = approver("ann", &[ONCALL_GROUP, "security"]);
    let error = refused_vote(&stage, &ask, &outsider, break_glass_choice("fire")).await;
    assert_eq!(error.to_string(), "only members of firefighters may answer this so");
    let fay = approver("fay", &["firefighters"]);
    assert!(matches!(
        refused_vote(&stage, &ask, &fay, break_glass_choice(" \n")).await,
        VoteError::ReasonMissing
    ));
    assert!(matches!(
        refused_vote(&stage, &ask, &fay, VoteChoice::ApproveOnce).await,
        VoteError::NotAnApprover(_)
    ));

    let ask = stage.approvals.cast_vote(ask.id, &fay, break_glass_choice("the house burns")).await.unwrap();
    assert_eq!((ask.state, ask.break_glass, ask.time_bound), (ApprovalState::Approved, true, false));
    assert_eq!(ask.missing_approvals(), []);
    let event = ask.history.iter().find(|event| event.kind == "BREAK_GLASS").unwrap();
    assert_eq!((event.by.as_deref(), event.note.as_deref()), (Some("corp/fay"), Some("the house burns")));

    stage.approvals.upsert_user(&approver("fay", &[])).await.unwrap();
    assert_eq!(stage.consume_grant(&new).await, None, "no longer in the group");
    stage.approvals.upsert_user(&fay).await.unwrap();
    let grant = stage.consume_grant(&new).await.unwrap();
    assert!(grant.break_glass);
    assert_eq!(grant.approvers, ["corp/fay"]);
    assert_eq!(stage.consume_grant(&new).await, None, "once");
    assert!(stage.get(&ask).await.break_glass);
}

#[tokio::test]
async fn without_a_break_glass_group_nobody_breaks_glass() {
    let directory = tempfile::tempdir().unwrap();
    let hand = TestClock::new();
    let store = testing::open_test_store(&database_path(directory.path())).await.unwrap();
    let approvals = Approvals::open(store, ApprovalLimits::default(), hand.as_clock()).await.unwrap();
    let ask = approvals.request_approval(delete_bucket_request(1)).await.unwrap();
    let refused =
        approvals.cast_vote(ask.id, &approver("ann", &[ONCALL_GROUP, ""]), break_glass_choice("fire")).await;
    assert!(matches!(refused, Err(VoteError::NotAnApprover(_))));
}

#[tokio::test]
async fn approver_text_is_kept_verbatim_and_bounded() {
    let stage = TestLedger::new().await;
    let ask = stage.request_approval(&delete_bucket_request(1)).await;
    let ann = approver("ann", &[ONCALL_GROUP]);
    let long = "x".repeat(4_097);
    let too_long = refused_vote(&stage, &ask, &ann, VoteChoice::Deny { reason: long.clone() }).await;
    assert!(matches!(too_long, VoteError::TooLong { field: "the reason", .. }));
    let named = Approver { name: long.clone(), ..ann.clone() };
    assert!(matches!(
        refused_vote(&stage, &ask, &named, VoteChoice::ApproveOnce).await,
        VoteError::TooLong { field: "a name", .. }
    ));
    let in_many = Approver { groups: vec![long; 100], ..ann.clone() };
    assert!(stage.approvals.upsert_user(&in_many).await.is_err());

    let odd = "'); DROP TABLE ask; -- <script>\u{202e}\u{0}$1 %s";
    let ask =
        stage.approvals.cast_vote(ask.id, &ann, VoteChoice::Deny { reason: odd.to_owned() }).await.unwrap();
    assert_eq!(ask.last_denial().unwrap().reason.as_deref(), Some(odd));
    assert_eq!(stage.get(&ask).await, ask);
}
