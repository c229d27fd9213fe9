//! Any sequence of votes, requests, uses and clock changes, against a simple model: a single-use grant is consumed at most once,
//! only with a quorum of members other than the caller, and never after it expired or was denied.

use crate::test_ledger::*;
use durward_approval::*;
use durward_core::Caller;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The first has the caller's own subject; the caller acts for the second.
const APPROVER_NAMES: [&str; 5] = ["agent", "boss", "ann", "bea", "cid"];

#[derive(Debug, Clone)]
enum ModelStep {
    RequestApproval(u8),
    /// Which request, counted from the newest, and which approver.
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
    let who = 0..APPROVER_NAMES.len();
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

/// What must hold, kept beside the ledger and far simpler.
#[derive(Default)]
struct ExpectedState {
    members: BTreeSet<usize>,
    /// By request: who approved, once or for a time.
    approved: BTreeMap<ApprovalRequestId, BTreeSet<usize>>,
    /// Denied by a vote.
    denied: BTreeSet<ApprovalRequestId>,
    /// Had a quorum when another request for the same operation was denied: withdrawn, or expired before.
    withdrawn: BTreeSet<ApprovalRequestId>,
    consumed: BTreeSet<ApprovalRequestId>,
    requested: Vec<(ApprovalRequestId, u8)>,
}

impl ExpectedState {
    /// A denial also ends every grant for the same operation that was not consumed.
    fn deny(&mut self, id: ApprovalRequestId) {
        self.denied.insert(id);
        let number_of =
            |wanted| self.requested.iter().find(|(id, _)| *id == wanted).map(|(_, number)| *number);
        let number = number_of(id);
        for (other, other_number) in &self.requested {
            let had_quorum = self.approved.get(other).is_some_and(|approvers| approvers.len() >= 2);
            if Some(*other_number) == number
                && had_quorum
                && !self.denied.contains(other)
                && !self.consumed.contains(other)
            {
                self.withdrawn.insert(*other);
            }
        }
    }

    fn is_barred(&self, id: ApprovalRequestId) -> bool {
        self.denied.contains(&id) || self.withdrawn.contains(&id)
    }
}

async fn run_steps(steps: Vec<ModelStep>) -> Result<(), TestCaseError> {
    let mut ledger = TestLedger::new().await;
    let mut expected =
        ExpectedState { members: (0..APPROVER_NAMES.len()).collect(), ..ExpectedState::default() };
    for step in steps {
        let person = |who: usize, expected: &ExpectedState| {
            approver(APPROVER_NAMES[who], if expected.members.contains(&who) { &[ONCALL_GROUP] } else { &[] })
        };
        let picked = |which: usize, expected: &ExpectedState| {
            expected.requested.iter().rev().nth(which).or(expected.requested.last()).map(|(id, _number)| *id)
        };
        match step {
            ModelStep::RequestApproval(number) => {
                let Ok(request) = ledger.approvals.request_approval(two_approver_request(number)).await
                else {
                    continue;
                };
                if !expected.requested.contains(&(request.id, number)) {
                    expected.requested.push((request.id, number));
                }
            }
            ModelStep::Approve(which, who) | ModelStep::ApproveTimeBound(which, who, _) => {
                let Some(id) = picked(which, &expected) else { continue };
                let choice = match step {
                    ModelStep::ApproveTimeBound(_, _, minutes) => VoteChoice::ApproveTimeBound {
                        until: ledger.test_clock.now() + time::Duration::minutes(minutes),
                    },
                    _ => VoteChoice::ApproveOnce,
                };
                let voted = ledger.approvals.cast_vote(id, &person(who, &expected), choice).await;
                prop_assert!(voted.is_err() || who > 1, "the caller approved its own request");
                if voted.is_ok() {
                    prop_assert!(expected.members.contains(&who), "a person outside of the group approved");
                    prop_assert!(!expected.is_barred(id) && !expected.consumed.contains(&id));
                    prop_assert!(
                        expected.approved.entry(id).or_default().insert(who),
                        "one person counted twice"
                    );
                }
            }
            ModelStep::Deny(which, who) => {
                let Some(id) = picked(which, &expected) else { continue };
                let deny = VoteChoice::Deny { reason: "no".to_owned() };
                if ledger.approvals.cast_vote(id, &person(who, &expected), deny).await.is_ok() {
                    prop_assert!(expected.members.contains(&who));
                    expected.deny(id);
                }
            }
            ModelStep::ConsumeGrant(number) => {
                let open: BTreeMap<ApprovalRequestId, ApprovalRequest> = all_requests(&ledger).await;
                let Some(grant) = consume_grant(&ledger.approvals, &two_approver_request(number)).await
                else {
                    continue;
                };
                let request = &open[&grant.approval_request];
                prop_assert_eq!(request.state, ApprovalState::Approved);
                prop_assert!(!expected.is_barred(grant.approval_request), "consumed after a denial");
                prop_assert!(
                    grant.time_bound || expected.consumed.insert(grant.approval_request),
                    "consumed twice"
                );
                prop_assert!(
                    expected.requested.contains(&(grant.approval_request, number)),
                    "consumed for another operation"
                );
                let people: BTreeSet<usize> = expected.approved[&grant.approval_request]
                    .intersection(&expected.members)
                    .copied()
                    .collect();
                prop_assert!(people.len() >= 2, "consumed without its quorum: {:?}", people);
                let named: Vec<String> =
                    people.iter().map(|who| format!("corp/{}", APPROVER_NAMES[*who])).collect();
                prop_assert_eq!(grant.approvers, named);
                prop_assert!(
                    request.grant_until.unwrap() > ledger.test_clock.now(),
                    "consumed after it expired"
                );
            }
            ModelStep::AdvanceClock(seconds) => ledger.test_clock.advance(seconds),
            ModelStep::JoinGroup(who) => {
                expected.members.insert(who);
                ledger.approvals.upsert_user(&person(who, &expected)).await.unwrap();
            }
            ModelStep::LeaveGroup(who) => {
                expected.members.remove(&who);
                ledger.approvals.upsert_user(&person(who, &expected)).await.unwrap();
            }
            ModelStep::KillAndRestart => ledger = ledger.restart_after_kill().await,
        }
        for (id, request) in all_requests(&ledger).await {
            prop_assert!(request.time_bound || request.uses <= 1);
            prop_assert!(!expected.denied.contains(&id) || request.state == ApprovalState::Denied);
            prop_assert!(
                !expected.withdrawn.contains(&id)
                    || [ApprovalState::Denied, ApprovalState::Expired].contains(&request.state)
            );
            prop_assert!(!expected.consumed.contains(&id) || request.state == ApprovalState::Consumed);
        }
    }
    Ok(())
}

async fn all_requests(ledger: &TestLedger) -> BTreeMap<ApprovalRequestId, ApprovalRequest> {
    let all = ledger
        .approvals
        .list(ApprovalRequestFilter { limit: 1_000, ..ApprovalRequestFilter::default() })
        .await
        .unwrap();
    all.into_iter().map(|request| (request.id, request)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn only_an_unexpired_grant_with_its_quorum_passes(steps in proptest::collection::vec(step_strategy(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_steps(steps))?;
    }
}
