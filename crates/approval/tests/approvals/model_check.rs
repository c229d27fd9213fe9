//! Whatever people, callers and time do, in whatever order: an approval is used at most once, only with its quorum of members
//! other than the caller, and never after it ended or was denied.

use crate::test_ledger::*;
use durward_approval::*;
use durward_core::Caller;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The people; the first is the caller's own subject, the second is the one the caller acts for.
const APPROVERS: [&str; 5] = ["agent", "boss", "ann", "bea", "cid"];

#[derive(Debug, Clone)]
enum ModelStep {
    RequestApproval(u8),
    /// The newest ask but so many, by whom.
    Approve(usize, usize),
    ApproveTimeBound(usize, usize, i64),
    Deny(usize, usize),
    ConsumeGrant(u8),
    AdvanceClock(i64),
    JoinGroup(usize),
    LeaveGroup(usize),
    KillAndRestart,
}

fn step_strategy() -> impl Strategy<Value = ModelStep> {
    let which = 0..3_usize;
    let who = 0..APPROVERS.len();
    prop_oneof![
        3 => (1..4_u8).prop_map(ModelStep::RequestApproval),
        6 => (which.clone(), who.clone()).prop_map(|(which, who)| ModelStep::Approve(which, who)),
        1 => (which.clone(), who.clone(), 1..30_i64).prop_map(|(which, who, minutes)| ModelStep::ApproveTimeBound(which, who, minutes)),
        1 => (which, who.clone()).prop_map(|(which, who)| ModelStep::Deny(which, who)),
        6 => (1..4_u8).prop_map(ModelStep::ConsumeGrant),
        2 => prop_oneof![Just(30_i64), Just(299), Just(601), Just(-400)].prop_map(ModelStep::AdvanceClock),
        1 => who.clone().prop_map(ModelStep::JoinGroup),
        2 => who.prop_map(ModelStep::LeaveGroup),
        1 => Just(ModelStep::KillAndRestart),
    ]
}

fn two_approver_request(number: u8) -> NewApprovalRequest {
    NewApprovalRequest {
        caller: Caller { act: vec!["boss".to_owned()], ..test_caller("agent") },
        requirements: vec![approval_requirement("p", ONCALL_GROUP, 2)],
        ..delete_bucket_request(number)
    }
}

/// What must be true of the world, kept beside the ledger and far simpler.
#[derive(Default)]
struct ExpectedState {
    members: BTreeSet<usize>,
    /// By ask: who approved, with or without a window.
    approved: BTreeMap<ApprovalRequestId, BTreeSet<usize>>,
    /// Denied; never good again.
    denied: BTreeSet<ApprovalRequestId>,
    consumed: BTreeSet<ApprovalRequestId>,
    requested: Vec<(ApprovalRequestId, u8)>,
}

async fn run_steps(steps: Vec<ModelStep>) -> Result<(), TestCaseError> {
    let mut stage = TestLedger::new().await;
    let mut world = ExpectedState { members: (0..APPROVERS.len()).collect(), ..ExpectedState::default() };
    for step in steps {
        let person = |who: usize, world: &ExpectedState| {
            approver(APPROVERS[who], if world.members.contains(&who) { &[ONCALL_GROUP] } else { &[] })
        };
        let picked = |which: usize, world: &ExpectedState| {
            world.requested.iter().rev().nth(which).or(world.requested.last()).map(|(id, _number)| *id)
        };
        match step {
            ModelStep::RequestApproval(number) => {
                let Ok(ask) = stage.approvals.request_approval(two_approver_request(number)).await else {
                    continue;
                };
                if !world.requested.contains(&(ask.id, number)) {
                    world.requested.push((ask.id, number));
                }
            }
            ModelStep::Approve(which, who) | ModelStep::ApproveTimeBound(which, who, _) => {
                let Some(id) = picked(which, &world) else { continue };
                let answer = match step {
                    ModelStep::ApproveTimeBound(_, _, minutes) => VoteChoice::ApproveTimeBound {
                        until: stage.test_clock.now() + time::Duration::minutes(minutes),
                    },
                    _ => VoteChoice::ApproveOnce,
                };
                let answered = stage.approvals.cast_vote(id, &person(who, &world), answer).await;
                prop_assert!(answered.is_err() || who > 1, "a request was approved by who made it");
                if answered.is_ok() {
                    prop_assert!(world.members.contains(&who), "approved by an outsider");
                    prop_assert!(!world.denied.contains(&id) && !world.consumed.contains(&id));
                    prop_assert!(
                        world.approved.entry(id).or_default().insert(who),
                        "one person counted twice"
                    );
                }
            }
            ModelStep::Deny(which, who) => {
                let Some(id) = picked(which, &world) else { continue };
                let deny = VoteChoice::Deny { reason: "no".to_owned() };
                let before = all_requests(&stage).await;
                if stage.approvals.cast_vote(id, &person(who, &world), deny).await.is_ok() {
                    prop_assert!(world.members.contains(&who));
                    let number =
                        world.requested.iter().find(|(asked, _)| *asked == id).map(|(_, number)| *number);
                    // With it every living approval of the same operation.
                    for (other, other_number) in &world.requested {
                        let approved = before[other].state == ApprovalState::Approved;
                        if *other == id || (Some(*other_number) == number && approved) {
                            world.denied.insert(*other);
                        }
                    }
                }
            }
            ModelStep::ConsumeGrant(number) => {
                let open: BTreeMap<ApprovalRequestId, ApprovalRequest> = all_requests(&stage).await;
                let Some(grant) = consume_grant(&stage.approvals, &two_approver_request(number)).await else {
                    continue;
                };
                let ask = &open[&grant.approval_request];
                prop_assert_eq!(ask.state, ApprovalState::Approved);
                prop_assert!(!world.denied.contains(&grant.approval_request), "used after a denial");
                prop_assert!(grant.time_bound || world.consumed.insert(grant.approval_request), "used twice");
                prop_assert!(
                    world.requested.contains(&(grant.approval_request, number)),
                    "used for another operation"
                );
                let people: BTreeSet<usize> =
                    world.approved[&grant.approval_request].intersection(&world.members).copied().collect();
                prop_assert!(people.len() >= 2, "used without its quorum: {:?}", people);
                let named: Vec<String> =
                    people.iter().map(|who| format!("corp/{}", APPROVERS[*who])).collect();
                prop_assert_eq!(grant.approvers, named);
                prop_assert!(ask.grant_until.unwrap() > stage.test_clock.now(), "used after its end");
            }
            ModelStep::AdvanceClock(seconds) => stage.test_clock.advance(seconds),
            ModelStep::JoinGroup(who) => {
                world.members.insert(who);
                stage.approvals.upsert_user(&person(who, &world)).await.unwrap();
            }
            ModelStep::LeaveGroup(who) => {
                world.members.remove(&who);
                stage.approvals.upsert_user(&person(who, &world)).await.unwrap();
            }
            ModelStep::KillAndRestart => stage = stage.restart_after_kill().await,
        }
        for (id, ask) in all_requests(&stage).await {
            prop_assert!(ask.time_bound || ask.uses <= 1);
            prop_assert!(!world.denied.contains(&id) || ask.state == ApprovalState::Denied);
            prop_assert!(!world.consumed.contains(&id) || ask.state == ApprovalState::Consumed);
        }
    }
    Ok(())
}

async fn all_requests(stage: &TestLedger) -> BTreeMap<ApprovalRequestId, ApprovalRequest> {
    let all = stage
        .approvals
        .list(ApprovalRequestFilter { limit: 1_000, ..ApprovalRequestFilter::default() })
        .await
        .unwrap();
    all.into_iter().map(|ask| (ask.id, ask)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn only_an_unexpired_grant_with_its_quorum_passes(steps in proptest::collection::vec(step_strategy(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_steps(steps))?;
    }
}
