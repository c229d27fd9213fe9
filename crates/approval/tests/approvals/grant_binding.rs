//! A grant lets exactly one operation pass: of this caller, through this connection, once, before it expires, under the
//! current policies.

use crate::test_ledger::*;
use durward_approval::*;
use durward_core::{Caller, CallerKind, Operation, OperationTraits, RequiredPermission, Resource};
use std::time::Duration;

#[tokio::test]
async fn a_grant_is_for_the_approved_operation_only() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    assert_eq!(ledger.consume_grant(&new).await, None, "a pending request grants nothing");
    let request = ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(request.state, ApprovalState::Approved);

    let act = vec!["bob".to_owned()];
    let others = [
        ("another digest", NewApprovalRequest { digest: [2; 32], ..new.clone() }),
        ("another subject", NewApprovalRequest { caller: test_caller("other"), ..new.clone() }),
        (
            "another provider",
            NewApprovalRequest {
                caller: Caller { provider: "x".into(), ..test_caller("agent") },
                ..new.clone()
            },
        ),
        (
            "another issuer",
            NewApprovalRequest {
                caller: Caller { issuer: "https://x".into(), ..test_caller("agent") },
                ..new.clone()
            },
        ),
        (
            "on another's behalf",
            NewApprovalRequest { caller: Caller { act, ..test_caller("agent") }, ..new.clone() },
        ),
        (
            "another kind of caller",
            NewApprovalRequest {
                caller: Caller { kind: CallerKind::Human, ..test_caller("agent") },
                ..new.clone()
            },
        ),
        ("another connection", NewApprovalRequest { connection: "staging".to_owned(), ..new.clone() }),
    ];
    for (what, other) in others {
        assert_eq!(ledger.consume_grant(&other).await, None, "{what}");
    }
    // Groups may change between the request and its use.
    let regrouped =
        NewApprovalRequest { caller: Caller { groups: Vec::new(), ..test_caller("agent") }, ..new };
    let grant = ledger.consume_grant(&regrouped).await.unwrap();
    assert_eq!(
        grant,
        Grant {
            approval_request: request.id,
            overridden_policies: vec!["delete-bucket".to_owned()],
            approvers: vec!["corp/ann".to_owned()],
            time_bound: false,
            break_glass: false,
        }
    );
}

#[tokio::test]
async fn a_grant_is_consumed_once() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    assert!(ledger.consume_grant(&new).await.is_some());
    let used = ledger.get(&request).await;
    assert_eq!((used.state, used.uses), (ApprovalState::Consumed, 1));
    assert_eq!(ledger.consume_grant(&new).await, None);
    // Neither another vote nor another request revives it.
    let again = ledger
        .approvals
        .cast_vote(request.id, &approver("bea", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(again, Err(VoteError::NotPending(ApprovalState::Consumed))));
    let denied = ledger
        .approvals
        .cast_vote(request.id, &approver("bea", &[ONCALL_GROUP]), VoteChoice::Deny { reason: "x".into() })
        .await;
    assert!(matches!(denied, Err(VoteError::NotPending(ApprovalState::Consumed))));
    let third = ledger.request_approval(&new).await;
    assert_ne!(third.id, request.id);
    assert_eq!(third.state, ApprovalState::Pending);
    assert_eq!(ledger.consume_grant(&new).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_racing_consumers_one_gets_the_grant() {
    let ledger = TestLedger::new().await;
    let other = ledger.second_gateway().await;
    for round in 1..=10 {
        let new = delete_bucket_request(round);
        let request = ledger.request_approval(&new).await;
        ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
        let mut tasks = Vec::new();
        for task in 0..8 {
            let approvals = if task % 2 == 0 { ledger.approvals.clone() } else { other.clone() };
            let new = new.clone();
            tasks.push(tokio::spawn(async move { consume_grant(&approvals, &new).await.is_some() }));
        }
        let mut winners = 0;
        for task in tasks {
            winners += usize::from(task.await.unwrap());
        }
        assert_eq!(winners, 1, "round {round}");
    }
}

#[tokio::test]
async fn an_approval_expires() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    ledger.test_clock.advance(60);
    let request = ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    assert_eq!(request.grant_until, Some(ledger.test_clock.now() + Duration::from_mins(10)));
    ledger.test_clock.advance(600);
    assert_eq!(ledger.consume_grant(&new).await, None);
    assert_eq!(ledger.get(&request).await.state, ApprovalState::Expired);

    let next = ledger.request_approval(&new).await;
    assert_ne!(next.id, request.id);
    ledger.approve(&next, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.test_clock.advance(599);
    assert!(ledger.consume_grant(&new).await.is_some(), "a second before it expires");
}

#[tokio::test]
async fn a_grant_that_ended_after_it_was_found_is_not_consumed() {
    for end in ["consumed", "denied", "expired", "outvoted"] {
        let ledger = TestLedger::new().await;
        let new = delete_bucket_request(1);
        let request = ledger.request_approval(&new).await;
        ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
        let grant = try_find_grant(&ledger.approvals, &new).await.unwrap().unwrap();
        match end {
            "consumed" => assert!(ledger.consume_grant(&new).await.is_some()),
            "denied" => {
                assert!(ledger.deny(&request, &approver("bea", &[ONCALL_GROUP])).await.is_withdrawn());
            }
            "expired" => ledger.test_clock.advance(600),
            _ => ledger.approvals.upsert_user(&approver("ann", &[])).await.unwrap(),
        }
        let consumed = ledger.approvals.consume_grant(&grant, &grant_query(&new), new.exchange).await;
        assert!(!consumed.unwrap(), "{end}");
    }
}

#[tokio::test]
async fn requirements_are_evaluated_when_the_grant_is_consumed() {
    let ledger = TestLedger::new().await;
    let mut new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP, "security"])).await;
    let before = new.requirements.clone();
    for (what, now) in [
        ("no requirement", vec![]),
        ("another forbid too", vec![before[0].clone(), approval_requirement("no-fridays", ONCALL_GROUP, 1)]),
        ("another forbid instead", vec![approval_requirement("no-fridays", ONCALL_GROUP, 1)]),
        ("more people", vec![approval_requirement("delete-bucket", ONCALL_GROUP, 2)]),
        ("another group", vec![approval_requirement("delete-bucket", "security", 1)]),
    ] {
        new.requirements = now;
        assert_eq!(ledger.consume_grant(&new).await, None, "{what}");
    }
    assert_eq!(ledger.get(&request).await.state, ApprovalState::Approved, "and none of these consumed it");
    new.requirements = before;
    assert!(ledger.consume_grant(&new).await.is_some());
}

#[tokio::test]
async fn a_request_with_outdated_requirements_is_superseded() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let old = ledger.request_approval(&new).await;
    let stricter = request_requiring(vec![approval_requirement("delete-bucket", ONCALL_GROUP, 2)]);
    let fresh = ledger.request_approval(&stricter).await;
    assert_ne!(old.id, fresh.id);
    assert_eq!(ledger.get(&old).await.state, ApprovalState::Expired);
    let late =
        ledger.approvals.cast_vote(old.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce).await;
    assert!(matches!(late, Err(VoteError::NotPending(ApprovalState::Expired))));
    assert_eq!(
        ledger.request_approval(&new).await.id,
        fresh.id,
        "a request that requires less joins one that requires more"
    );
}

async fn approve_time_bound(ledger: &TestLedger, new: &NewApprovalRequest, minutes: u64) -> ApprovalRequest {
    let request = ledger.request_approval(new).await;
    let until = ledger.test_clock.now() + Duration::from_mins(minutes);
    let choice = VoteChoice::ApproveTimeBound { until };
    ledger.approvals.cast_vote(request.id, &approver("ann", &[ONCALL_GROUP]), choice).await.unwrap()
}

#[tokio::test]
async fn a_time_bound_grant_covers_its_actions_and_resources_until_it_ends() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = approve_time_bound(&ledger, &new, 60).await;
    assert_eq!((request.state, request.time_bound), (ApprovalState::Approved, true));

    let with = |change: fn(&mut Operation)| {
        let mut other = NewApprovalRequest { digest: [9; 32], ..new.clone() };
        change(&mut other.operation);
        other
    };
    let many = with(|operation| operation.parameters = serde_json::json!({"other": "parameters"}));
    for _ in 0..3 {
        let grant = ledger.consume_grant(&many).await.unwrap();
        assert!(grant.time_bound);
    }
    assert_eq!(ledger.get(&request).await.uses, 3);
    let outside: [(&str, NewApprovalRequest); 11] = [
        ("another action", with(|it| it.required_permissions[0].action = "s3:PutBucketPolicy".to_owned())),
        (
            "another resource",
            with(|it| it.required_permissions[0].resource = Resource::Arn("arn:aws:s3:::other".to_owned())),
        ),
        ("any resource", with(|it| it.required_permissions[0].resource = Resource::Any)),
        (
            "one more permission",
            with(|it| {
                let more = RequiredPermission {
                    action: "kms:Decrypt".to_owned(),
                    ..it.required_permissions[0].clone()
                };
                it.required_permissions.push(more);
            }),
        ),
        ("no permission", with(|it| it.required_permissions.clear())),
        ("another region", with(|it| it.region = Some("us-east-1".to_owned()))),
        ("another account", with(|it| it.account = Some("210987654321".to_owned()))),
        ("an uninspected part", with(|it| it.uninspected_parts = vec!["body".to_owned()])),
        ("worse", with(|it| it.traits = OperationTraits { escalates: true, ..it.traits })),
        ("another caller", NewApprovalRequest { caller: test_caller("other"), ..new.clone() }),
        ("another connection", NewApprovalRequest { connection: "staging".to_owned(), ..new.clone() }),
    ];
    for (what, other) in &outside {
        assert_eq!(ledger.consume_grant(other).await, None, "{what}");
    }
    let uncovered = NewApprovalRequest {
        requirements: vec![approval_requirement("other", ONCALL_GROUP, 1)],
        ..new.clone()
    };
    assert_eq!(ledger.consume_grant(&uncovered).await, None, "another forbid");

    ledger.test_clock.advance(3_600);
    assert_eq!(ledger.consume_grant(&new).await, None, "after its time");
    assert_eq!(ledger.get(&request).await.state, ApprovalState::Expired);
}

#[tokio::test]
async fn without_named_resources_a_time_bound_grant_requires_the_same_parameters() {
    let pattern = Resource::Arn("arn:aws:ec2:eu-west-1:123456789012:instance/*".to_owned());
    for (action, resource) in [
        ("kms:ReEncryptFrom", Resource::Any),
        ("ec2:StopInstances", pattern),
        ("sqs:*unknown*", Resource::Any),
    ] {
        let ledger = TestLedger::new().await;
        let mut new = delete_bucket_request(1);
        new.operation.required_permissions[0].action = action.to_owned();
        new.operation.required_permissions[0].resource = resource;
        new.operation.parameters = serde_json::json!({"CiphertextBlob": "harmless"});
        approve_time_bound(&ledger, &new, 60).await;
        let with = |change: fn(&mut Operation)| {
            let mut other = NewApprovalRequest { digest: [9; 32], ..new.clone() };
            change(&mut other.operation);
            other
        };
        let other = with(|it| it.parameters = serde_json::json!({"CiphertextBlob": "of another key"}));
        assert_eq!(ledger.consume_grant(&other).await, None, "{action}: other parameters");
        let other = with(|it| it.name = "DestroyEverything".to_owned());
        assert_eq!(ledger.consume_grant(&other).await, None, "{action}: another operation");
        assert!(ledger.consume_grant(&with(|_same| {})).await.is_some(), "{action}: the same");
        // The stored operation is masked; the same unmasked operation is recognised by its digest.
        let mut unmasked = new.clone();
        unmasked.operation.parameters = serde_json::json!({"CiphertextBlob": "unmasked"});
        assert!(ledger.consume_grant(&unmasked).await.is_some(), "{action}: the same, unmasked");
    }
}

#[tokio::test]
async fn a_time_bound_grant_has_a_maximum_and_ends_in_the_future() {
    let ledger = TestLedger::new().await;
    // A quorum of two, so that only the vote itself is judged.
    let request =
        ledger.request_approval(&request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 2)])).await;
    let ann = approver("ann", &[ONCALL_GROUP]);
    for minutes in [0, -5, 8 * 60 + 1] {
        let until = ledger.test_clock.now() + time::Duration::minutes(minutes);
        let refused =
            ledger.approvals.cast_vote(request.id, &ann, VoteChoice::ApproveTimeBound { until }).await;
        assert!(matches!(refused, Err(VoteError::InvalidTimeBound(_))), "{minutes}");
    }
    assert!(ledger.get(&request).await.votes.is_empty());
}

#[tokio::test]
async fn a_time_bound_grant_needs_every_vote_and_ends_with_the_earliest() {
    let ledger = TestLedger::new().await;
    let (ann, bea) = (approver("ann", &[ONCALL_GROUP]), approver("bea", &[ONCALL_GROUP]));
    let two = |number| NewApprovalRequest {
        requirements: vec![approval_requirement("p", ONCALL_GROUP, 2)],
        ..delete_bucket_request(number)
    };
    let until = |minutes| VoteChoice::ApproveTimeBound {
        until: ledger.test_clock.now() + time::Duration::minutes(minutes),
    };

    let request = ledger.request_approval(&two(1)).await;
    ledger.approvals.cast_vote(request.id, &ann, until(60)).await.unwrap();
    let request = ledger.approvals.cast_vote(request.id, &bea, until(30)).await.unwrap();
    assert_eq!(request.grant_until, Some(ledger.test_clock.now() + time::Duration::minutes(30)));
    assert!(request.time_bound);

    let request = ledger.request_approval(&two(2)).await;
    ledger.approvals.cast_vote(request.id, &ann, until(60)).await.unwrap();
    let request = ledger.approve(&request, &bea).await;
    assert!(!request.time_bound, "one of them chose once");
    assert!(ledger.consume_grant(&two(2)).await.is_some_and(|grant| !grant.time_bound));
    assert_eq!(ledger.consume_grant(&two(2)).await, None);
}

#[tokio::test]
async fn a_denial_ends_a_time_bound_grant_and_an_unconsumed_grant() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let open = approve_time_bound(&ledger, &new, 60).await;
    assert!(ledger.consume_grant(&new).await.is_some());
    let over = ledger.deny(&open, &approver("bea", &[ONCALL_GROUP])).await;
    assert_eq!(over.state, ApprovalState::Denied);
    assert_eq!(ledger.consume_grant(&new).await, None);

    let request = ledger.request_approval(&delete_bucket_request(2)).await;
    let ann = approver("ann", &[ONCALL_GROUP]);
    let request = ledger.approve(&request, &ann).await;
    ledger.deny(&request, &ann).await;
    assert_eq!(
        ledger.consume_grant(&delete_bucket_request(2)).await,
        None,
        "an approver may deny after approving"
    );
}

#[tokio::test]
async fn an_approval_between_consume_and_request_is_found() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    assert_eq!(ledger.consume_grant(&new).await, None);
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    let again = ledger.request_approval(&new).await;
    assert_eq!((again.id, again.state), (request.id, ApprovalState::Approved));
    assert!(ledger.consume_grant(&new).await.is_some());
}
