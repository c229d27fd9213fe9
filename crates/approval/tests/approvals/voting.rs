//! Who may vote, whose votes count, and what a vote is worth later.

use crate::test_ledger::*;
use durward_approval::*;
use durward_core::Caller;

async fn refused_vote(
    ledger: &TestLedger,
    request: &ApprovalRequest,
    by: &Approver,
    choice: VoteChoice,
) -> VoteError {
    let error = ledger.approvals.cast_vote(request.id, by, choice).await.unwrap_err();
    assert_eq!(ledger.get(request).await.votes, request.votes, "a refused vote is not stored");
    error
}

fn break_glass_choice(reason: &str) -> VoteChoice {
    VoteChoice::BreakGlass { reason: reason.to_owned() }
}

#[tokio::test]
async fn an_approver_cannot_approve_their_own_request_under_any_identity() {
    let ledger = TestLedger::new().await;
    let act = vec!["boss".to_owned(), "top/chief".to_owned()];
    let new =
        NewApprovalRequest { caller: Caller { act, ..test_caller("agent") }, ..delete_bucket_request(1) };
    let request = ledger.request_approval(&new).await;
    let groups = [ONCALL_GROUP, "admins", "firefighters"];
    let identities = [
        approver("agent", &groups),
        Approver { id: "github/agent".to_owned(), ..approver("agent", &groups) },
        Approver { id: "github/AGENT".to_owned(), ..approver("AGENT", &groups) },
        approver("boss", &groups),
        Approver { id: "github/boss".to_owned(), ..approver("boss", &groups) },
        Approver { id: "top/chief".to_owned(), ..approver("chief", &groups) },
    ];
    for identity in identities {
        let until = ledger.test_clock.now() + time::Duration::minutes(5);
        for choice in
            [VoteChoice::ApproveOnce, VoteChoice::ApproveTimeBound { until }, break_glass_choice("now")]
        {
            let error = refused_vote(&ledger, &request, &identity, choice).await;
            assert!(matches!(error, VoteError::OwnRequest(_)), "{identity:?}: {error}");
        }
    }
    assert_eq!(ledger.approve(&request, &approver("ann", &groups)).await.state, ApprovalState::Approved);
}

#[tokio::test]
async fn only_members_of_the_named_groups_may_vote() {
    let ledger = TestLedger::new().await;
    let request = ledger.request_approval(&delete_bucket_request(1)).await;
    for outsider in
        [approver("eve", &[]), approver("eve", &["on"]), approver("eve", &["ONCALL", "firefighters"])]
    {
        let error = refused_vote(&ledger, &request, &outsider, VoteChoice::ApproveOnce).await;
        assert_eq!(error.to_string(), "only members of oncall may vote on this");
        let deny = VoteChoice::Deny { reason: "no".to_owned() };
        assert!(matches!(
            refused_vote(&ledger, &request, &outsider, deny).await,
            VoteError::NotAnApprover(_)
        ));
    }
    let unknown = ledger
        .approvals
        .cast_vote(ApprovalRequestId::new(), &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(unknown, Err(VoteError::NotFound)));
}

#[tokio::test]
async fn a_quorum_is_of_different_people() {
    let ledger = TestLedger::new().await;
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 2)]);
    let request = ledger.request_approval(&new).await;
    assert_eq!(request.missing_approvals(), [(ONCALL_GROUP.to_owned(), 2)]);
    let request = ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(
        (request.state, request.missing_approvals()),
        (ApprovalState::Pending, vec![(ONCALL_GROUP.to_owned(), 1)])
    );
    for again in [
        approver("ann", &[ONCALL_GROUP]),
        approver("ann", &[ONCALL_GROUP, "security"]),
        Approver { id: "github/Ann".to_owned(), ..approver("Ann", &[ONCALL_GROUP]) },
    ] {
        assert!(matches!(
            refused_vote(&ledger, &request, &again, VoteChoice::ApproveOnce).await,
            VoteError::AlreadyApproved
        ));
    }
    assert_eq!(ledger.consume_grant(&new).await, None);
    let request = ledger.approve(&request, &approver("bea", &[ONCALL_GROUP])).await;
    assert_eq!((request.state, request.missing_approvals()), (ApprovalState::Approved, vec![]));
    assert_eq!(ledger.consume_grant(&new).await.unwrap().approvers, ["corp/ann", "corp/bea"]);
}

#[tokio::test]
async fn each_forbid_needs_its_own_quorum_and_a_vote_counts_for_every_group_of_the_voter() {
    let ledger = TestLedger::new().await;
    let new = request_requiring(vec![
        approval_requirement("p", ONCALL_GROUP, 2),
        approval_requirement("q", "security", 1),
    ]);
    let request = ledger.request_approval(&new).await;
    let request = ledger.approve(&request, &approver("ann", &[ONCALL_GROUP, "security"])).await;
    assert_eq!(request.missing_approvals(), [(ONCALL_GROUP.to_owned(), 1)]);
    let request = ledger.approve(&request, &approver("sam", &["security"])).await;
    assert_eq!(
        request.state,
        ApprovalState::Pending,
        "a second vote of the other group does not count for this one"
    );
    assert_eq!(ledger.consume_grant(&new).await, None);
    let request = ledger.approve(&request, &approver("bea", &[ONCALL_GROUP])).await;
    assert_eq!(request.state, ApprovalState::Approved);
    assert_eq!(ledger.consume_grant(&new).await.unwrap().overridden_policies, ["p", "q"]);
}

#[tokio::test]
async fn an_older_session_does_not_restore_a_lost_membership() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    let now = ledger.test_clock.now();
    let earlier = Approver { groups_as_of: now, ..approver("ann", &[ONCALL_GROUP]) };
    let later = Approver { groups_as_of: now + time::Duration::minutes(1), ..approver("ann", &["other"]) };
    ledger.approvals.upsert_user(&earlier).await.unwrap();
    ledger.approvals.upsert_user(&later).await.unwrap();
    let refused = ledger.approvals.cast_vote(request.id, &earlier, VoteChoice::ApproveOnce).await;
    assert!(matches!(refused, Err(VoteError::NotAnApprover(_))), "{refused:?}");
    ledger.approvals.upsert_user(&earlier).await.unwrap();
    assert_eq!(ledger.consume_grant(&new).await, None);
}

#[tokio::test]
async fn a_vote_does_not_count_after_its_approver_left_the_group() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.approvals.upsert_user(&approver("ann", &["other"])).await.unwrap();
    assert_eq!(ledger.consume_grant(&new).await, None);
    let next = ledger.request_approval(&new).await;
    assert_eq!(next.state, ApprovalState::Pending, "a grant that covers nothing does not end a new request");
    ledger.approvals.upsert_user(&approver("ann", &[ONCALL_GROUP, "other"])).await.unwrap();
    assert_eq!(
        ledger.consume_grant(&new).await.unwrap().approval_request,
        request.id,
        "back in the group, the vote counts again"
    );

    let until = ledger.test_clock.now() + time::Duration::hours(1);
    ledger
        .approvals
        .cast_vote(next.id, &approver("bea", &[ONCALL_GROUP]), VoteChoice::ApproveTimeBound { until })
        .await
        .unwrap();
    assert!(ledger.consume_grant(&new).await.is_some());
    ledger.approvals.upsert_user(&approver("bea", &[])).await.unwrap();
    assert_eq!(ledger.consume_grant(&new).await, None, "a time-bound grant ends with the membership");
}

#[tokio::test]
async fn a_denial_wins_and_carries_its_reason() {
    let ledger = TestLedger::new().await;
    let new = request_requiring(vec![
        approval_requirement("p", ONCALL_GROUP, 2),
        approval_requirement("q", "security", 1),
    ]);
    let request = ledger.request_approval(&new).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    let request = ledger.deny(&request, &approver("sam", &["security"])).await;
    assert_eq!(request.state, ApprovalState::Denied);
    let denial = request.last_denial().unwrap();
    assert_eq!((denial.by.id.as_str(), denial.reason.as_deref()), ("corp/sam", Some("not today")));
    assert!(matches!(
        refused_vote(&ledger, &request, &approver("bea", &[ONCALL_GROUP]), VoteChoice::ApproveOnce).await,
        VoteError::NotPending(ApprovalState::Denied)
    ));
    assert_eq!(ledger.consume_grant(&new).await, None);
    let waited = wait_for_end(&ledger.approvals, request.id, tokio::time::Instant::now()).await.unwrap();
    assert_eq!(waited.last_denial(), request.last_denial());
}

#[tokio::test]
async fn a_denial_applies_to_repeats_for_a_minute() {
    let ledger = TestLedger::new().await;
    let request = ledger.request_approval(&delete_bucket_request(1)).await;
    ledger.deny(&request, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.test_clock.advance(59);
    let repeat = ledger.request_approval(&delete_bucket_request(1)).await;
    assert_eq!((repeat.id, repeat.state, repeat.attempts), (request.id, ApprovalState::Denied, 2));
    ledger.test_clock.advance(1);
    assert_eq!(ledger.request_approval(&delete_bucket_request(1)).await.state, ApprovalState::Pending);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_votes_all_count_and_none_twice() {
    let ledger = TestLedger::new().await;
    let other = ledger.second_gateway().await;
    for round in 0..10 {
        let new = NewApprovalRequest {
            requirements: vec![approval_requirement("p", ONCALL_GROUP, 2)],
            ..delete_bucket_request(round)
        };
        let request = ledger.request_approval(&new).await;
        let mut tasks = Vec::new();
        // Each of two people votes twice, once at each gateway.
        for name in ["ann", "bea", "ann", "bea"] {
            let approvals = if tasks.len() < 2 { ledger.approvals.clone() } else { other.clone() };
            tasks.push(tokio::spawn(async move {
                approvals
                    .cast_vote(request.id, &approver(name, &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
                    .await
                    .is_ok()
            }));
        }
        let mut accepted = 0;
        for task in tasks {
            accepted += usize::from(task.await.unwrap());
        }
        let request = ledger.get(&request).await;
        assert_eq!((accepted, request.votes.len(), request.state), (2, 2, ApprovalState::Approved));
        assert!(ledger.consume_grant(&new).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_denial_that_races_an_approval_wins_unless_it_was_consumed() {
    let ledger = TestLedger::new().await;
    for round in 0..10 {
        let new = delete_bucket_request(round);
        let request = ledger.request_approval(&new).await;
        let (one, two) = (ledger.approvals.clone(), ledger.approvals.clone());
        let approve = tokio::spawn(async move {
            one.cast_vote(request.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
                .await
                .is_ok()
        });
        let deny = tokio::spawn(async move {
            two.cast_vote(
                request.id,
                &approver("bea", &[ONCALL_GROUP]),
                VoteChoice::Deny { reason: "no".into() },
            )
            .await
            .is_ok()
        });
        approve.await.unwrap();
        assert!(deny.await.unwrap());
        assert_eq!(ledger.get(&request).await.state, ApprovalState::Denied);
        assert_eq!(ledger.consume_grant(&new).await, None);
    }
}

#[tokio::test]
async fn break_glass_is_for_its_group_alone_and_is_marked_loudly() {
    let ledger = TestLedger::new().await;
    let new = request_requiring(vec![
        approval_requirement("p", ONCALL_GROUP, 2),
        approval_requirement("q", "security", 3),
    ]);
    let request = ledger.request_approval(&new).await;
    let outsider = approver("ann", &[ONCALL_GROUP, "security"]);
    let error = refused_vote(&ledger, &request, &outsider, break_glass_choice("fire")).await;
    assert_eq!(error.to_string(), "only members of firefighters may vote on this");
    let fay = approver("fay", &["firefighters"]);
    assert!(matches!(
        refused_vote(&ledger, &request, &fay, break_glass_choice(" \n")).await,
        VoteError::ReasonMissing
    ));
    assert!(matches!(
        refused_vote(&ledger, &request, &fay, VoteChoice::ApproveOnce).await,
        VoteError::NotAnApprover(_)
    ));

    let request =
        ledger.approvals.cast_vote(request.id, &fay, break_glass_choice("the house burns")).await.unwrap();
    assert_eq!(
        (request.state, request.break_glass, request.time_bound),
        (ApprovalState::Approved, true, false)
    );
    assert_eq!(request.missing_approvals(), []);
    let event = request.history.iter().find(|event| event.kind == ApprovalEventKind::BreakGlass).unwrap();
    assert_eq!((event.by.as_deref(), event.note.as_deref()), (Some("corp/fay"), Some("the house burns")));

    ledger.approvals.upsert_user(&approver("fay", &[])).await.unwrap();
    assert_eq!(ledger.consume_grant(&new).await, None, "no longer in the group");
    ledger.approvals.upsert_user(&fay).await.unwrap();
    let grant = ledger.consume_grant(&new).await.unwrap();
    assert!(grant.break_glass);
    assert_eq!(grant.approvers, ["corp/fay"]);
    assert_eq!(ledger.consume_grant(&new).await, None, "once");
    assert!(ledger.get(&request).await.break_glass);
}

#[tokio::test]
async fn without_a_break_glass_group_break_glass_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let store = testing::open_test_store(&database_path(directory.path())).await.unwrap();
    let approvals = Approvals::open(store, ApprovalLimits::default(), clock.as_clock()).await.unwrap();
    let request = approvals.request_approval(delete_bucket_request(1)).await.unwrap();
    let refused = approvals
        .cast_vote(request.id, &approver("ann", &[ONCALL_GROUP, ""]), break_glass_choice("fire"))
        .await;
    assert!(matches!(refused, Err(VoteError::NotAnApprover(_))));
}

#[tokio::test]
async fn approver_text_is_kept_verbatim_and_bounded() {
    let ledger = TestLedger::new().await;
    let request = ledger.request_approval(&delete_bucket_request(1)).await;
    let ann = approver("ann", &[ONCALL_GROUP]);
    let long = "x".repeat(4_097);
    let too_long = refused_vote(&ledger, &request, &ann, VoteChoice::Deny { reason: long.clone() }).await;
    assert!(matches!(too_long, VoteError::TooLong { field: "the reason", .. }));
    let named = Approver { name: long.clone(), ..ann.clone() };
    assert!(matches!(
        refused_vote(&ledger, &request, &named, VoteChoice::ApproveOnce).await,
        VoteError::TooLong { field: "a name", .. }
    ));
    let in_many = Approver { groups: vec![long; 100], ..ann.clone() };
    let refused = ledger.approvals.upsert_user(&in_many).await;
    assert!(
        matches!(refused, Err(UpsertUserError::TooLong { field: "the list of groups", .. })),
        "{refused:?}"
    );

    let hostile = "'); DROP TABLE approval_request; -- <script>\u{202e}\u{0}$1 %s";
    let request = ledger
        .approvals
        .cast_vote(request.id, &ann, VoteChoice::Deny { reason: hostile.to_owned() })
        .await
        .unwrap();
    assert_eq!(request.last_denial().unwrap().reason.as_deref(), Some(hostile));
    assert_eq!(ledger.get(&request).await, request);
}

#[tokio::test]
async fn a_comment_on_an_approval_is_kept_in_the_vote_and_in_the_history() {
    let ledger = TestLedger::new().await;
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 3)]);
    let request = ledger.request_approval(&new).await;
    let until = ledger.test_clock.now() + time::Duration::hours(1);
    for (name, choice, comment) in [
        ("ann", VoteChoice::ApproveOnce, Some("looks right")),
        ("bea", VoteChoice::ApproveTimeBound { until }, Some("for tonight")),
    ] {
        let by = approver(name, &[ONCALL_GROUP]);
        let comment = comment.map(str::to_owned);
        ledger.approvals.cast_vote_with_comment(request.id, &by, choice, comment).await.unwrap();
    }
    let cat = approver("cat", &[ONCALL_GROUP]);
    let too_long = Some("x".repeat(4_097));
    let refused =
        ledger.approvals.cast_vote_with_comment(request.id, &cat, VoteChoice::ApproveOnce, too_long).await;
    assert!(matches!(refused, Err(VoteError::TooLong { .. })), "{refused:?}");
    let blank = Some(" ".to_owned());
    let now = ledger.approvals.cast_vote_with_comment(request.id, &cat, VoteChoice::ApproveOnce, blank).await;
    let now = now.unwrap();
    let reasons: Vec<_> = now.votes.iter().map(|vote| vote.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("looks right"), Some("for tonight"), None]);
    let notes: Vec<_> = now.history.iter().map(|event| event.note.as_deref().unwrap_or_default()).collect();
    assert_eq!((notes[1], notes[3]), ("looks right", ""));
    assert!(notes[2].starts_with("until 20") && notes[2].ends_with("; for tonight"), "{notes:?}");
}
