//! Whatever people, callers and time do, in whatever order: an approval is used at most once, only with its quorum of members
//! other than the caller, and never after it ended or was denied.

use crate::stage::*;
use durward_approval::*;
use durward_core::Caller;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The people; the first is the caller's own subject, the second is the one the caller acts for.
const PEOPLE: [&str; 5] = ["agent", "boss", "ann", "bea", "cid"];

#[derive(Debug, Clone)]
enum Step {
    Ask(u8),
    /// The newest ask but so many, by whom.
    Approve(usize, usize),
    Window(usize, usize, i64),
    Deny(usize, usize),
    Take(u8),
    Pass(i64),
    Join(usize),
    Leave(usize),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..3_usize;
    let who = 0..PEOPLE.len();
    prop_oneof![
        3 => (1..4_u8).prop_map(Step::Ask),
        6 => (which.clone(), who.clone()).prop_map(|(which, who)| Step::Approve(which, who)),
        1 => (which.clone(), who.clone(), 1..30_i64).prop_map(|(which, who, minutes)| Step::Window(which, who, minutes)),
        1 => (which, who.clone()).prop_map(|(which, who)| Step::Deny(which, who)),
        6 => (1..4_u8).prop_map(Step::Take),
        2 => prop_oneof![Just(30_i64), Just(299), Just(601), Just(-400)].prop_map(Step::Pass),
        1 => who.clone().prop_map(Step::Join),
        2 => who.prop_map(Step::Leave),
        1 => Just(Step::Kill),
    ]
}

fn new(number: u8) -> NewAsk {
    NewAsk {
        caller: Caller { act: vec!["boss".to_owned()], ..caller("agent") },
        requirements: vec![requirement("p", ONCALL, 2)],
        ..deletion(number)
    }
}

/// What must be true of the world, kept beside the ledger and far simpler.
#[derive(Default)]
struct World {
    members: BTreeSet<usize>,
    /// By ask: who approved, with or without a window.
    approved: BTreeMap<AskId, BTreeSet<usize>>,
    /// Denied; never good again.
    denied: BTreeSet<AskId>,
    used: BTreeSet<AskId>,
    asked: Vec<(AskId, u8)>,
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut stage = Stage::new().await;
    let mut world = World { members: (0..PEOPLE.len()).collect(), ..World::default() };
    for step in steps {
        let person = |who: usize, world: &World| {
            person(PEOPLE[who], if world.members.contains(&who) { &[ONCALL] } else { &[] })
        };
        let picked = |which: usize, world: &World| {
            world.asked.iter().rev().nth(which).or(world.asked.last()).map(|(id, _number)| *id)
        };
        match step {
            Step::Ask(number) => {
                let Ok(ask) = stage.approvals.ask(new(number)).await else { continue };
                if !world.asked.contains(&(ask.id, number)) {
                    world.asked.push((ask.id, number));
                }
            }
            Step::Approve(which, who) | Step::Window(which, who, _) => {
                let Some(id) = picked(which, &world) else { continue };
                let answer = match step {
                    Step::Window(_, _, minutes) => {
                        Answer::ApproveWindow { until: stage.hand.now() + time::Duration::minutes(minutes) }
                    }
                    _ => Answer::ApproveOnce,
                };
                let answered = stage.approvals.answer(id, &person(who, &world), answer).await;
                prop_assert!(answered.is_err() || who > 1, "a request was approved by who made it");
                if answered.is_ok() {
                    prop_assert!(world.members.contains(&who), "approved by an outsider");
                    prop_assert!(!world.denied.contains(&id) && !world.used.contains(&id));
                    prop_assert!(
                        world.approved.entry(id).or_default().insert(who),
                        "one person counted twice"
                    );
                }
            }
            Step::Deny(which, who) => {
                let Some(id) = picked(which, &world) else { continue };
                let deny = Answer::Deny { reason: "no".to_owned() };
                let before = asks(&stage).await;
                if stage.approvals.answer(id, &person(who, &world), deny).await.is_ok() {
                    prop_assert!(world.members.contains(&who));
                    let number =
                        world.asked.iter().find(|(asked, _)| *asked == id).map(|(_, number)| *number);
                    // With it every living approval of the same operation.
                    for (other, other_number) in &world.asked {
                        let approved = before[other].state == State::Approved;
                        if *other == id || (Some(*other_number) == number && approved) {
                            world.denied.insert(*other);
                        }
                    }
                }
            }
            Step::Take(number) => {
                let open: BTreeMap<AskId, Ask> = asks(&stage).await;
                let Some(grant) = take(&stage.approvals, &new(number)).await else { continue };
                let ask = &open[&grant.ask];
                prop_assert_eq!(ask.state, State::Approved);
                prop_assert!(!world.denied.contains(&grant.ask), "used after a denial");
                prop_assert!(grant.window || world.used.insert(grant.ask), "used twice");
                prop_assert!(world.asked.contains(&(grant.ask, number)), "used for another operation");
                let people: BTreeSet<usize> =
                    world.approved[&grant.ask].intersection(&world.members).copied().collect();
                prop_assert!(people.len() >= 2, "used without its quorum: {:?}", people);
                let named: Vec<String> = people.iter().map(|who| format!("corp/{}", PEOPLE[*who])).collect();
                prop_assert_eq!(grant.approvers, named);
                prop_assert!(ask.grant_until.unwrap() > stage.hand.now(), "used after its end");
            }
            Step::Pass(seconds) => stage.hand.forward(seconds),
            Step::Join(who) => {
                world.members.insert(who);
                stage.approvals.person_seen(&person(who, &world)).await.unwrap();
            }
            Step::Leave(who) => {
                world.members.remove(&who);
                stage.approvals.person_seen(&person(who, &world)).await.unwrap();
            }
            Step::Kill => stage = stage.after_a_kill().await,
        }
        for (id, ask) in asks(&stage).await {
            prop_assert!(ask.window || ask.uses <= 1);
            prop_assert!(!world.denied.contains(&id) || ask.state == State::Denied);
            prop_assert!(!world.used.contains(&id) || ask.state == State::Used);
        }
    }
    Ok(())
}

async fn asks(stage: &Stage) -> BTreeMap<AskId, Ask> {
    let all = stage.approvals.list(Filter { limit: 1_000, ..Filter::default() }).await.unwrap();
    all.into_iter().map(|ask| (ask.id, ask)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_passes_but_by_a_living_approval_of_enough_others(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps))?;
    }
}
