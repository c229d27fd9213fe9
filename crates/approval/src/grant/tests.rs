//! The binding of a grant, checked without the store: each difference alone is enough to refuse.

use super::*;
use crate::lifecycle::new_approval_request;
use crate::{Approver, NewApprovalRequest};
use durward_core::timestamps::from_unix_millis;
use serde_json::json;
use std::sync::Arc;

const NOW: i64 = 1_800_000_000_000;
const GRANT_END: i64 = NOW + 600_000;

fn approved_request() -> ApprovalRequest {
    let new: NewApprovalRequest = serde_json::from_value(json!({
        "caller": {
            "provider": "corp", "issuer": "https://login.example.com", "subject": "agent", "kind": "workload",
            "groups": [], "act": [],
        },
        "session": "0193498c0b1e7d3c8f0e5d1a2b3c4d5e",
        "connection": "prod",
        "exchange": "0193498c0b1e7d3c8f0e5d1a2b3c4d5f",
        "operation": {
            "front_end": "aws", "service": "s3", "name": "DeleteBucket", "parameters": {},
            "required_permissions": [{
                "access_level": "Write", "action": "s3:DeleteBucket", "resource": {"arn": "arn:aws:s3:::logs"},
            }],
        },
        "digest": "01".repeat(32),
        "requirements": [{
            "policy": "p", "group": "oncall", "quorum": 1, "timeout": 300, "on_timeout": "reject",
        }],
        "reason": "", "policy_set": "0", "source_address": "127.0.0.1", "user_agent": null,
    }))
    .unwrap();
    let mut request = new_approval_request(new, NOW);
    request.state = ApprovalState::Approved;
    request.grant_until = Some(from_unix_millis(GRANT_END));
    request.votes.push(Vote {
        by: Approver {
            id: "corp/ann".to_owned(),
            name: "Ann".to_owned(),
            subject: "ann".to_owned(),
            groups: vec!["oncall".to_owned()],
            groups_as_of: from_unix_millis(NOW),
        },
        at: from_unix_millis(NOW),
        is_approval: true,
        reason: None,
        counted_groups: vec!["oncall".to_owned()],
        time_bound_until: None,
        break_glass: false,
    });
    request
}

/// What a test changes about the operation that is sent.
type Change = fn(&mut NewApprovalRequest);

/// The grant of `request` for the operation `sent` at the time `now`.
fn evaluate(request: &ApprovalRequest, sent: &NewApprovalRequest, now: i64) -> Option<Grant> {
    let query =
        GrantQuery::new(&sent.caller, &sent.connection, &sent.operation, &sent.digest, &sent.requirements);
    let membership = GroupMembership::from([("corp/ann".to_owned(), vec!["oncall".to_owned()])]);
    evaluate_grant(request, &query, &membership, None, now)
}

#[test]
fn a_single_use_grant_is_bound_to_digest_caller_connection_state_and_end() {
    let request = approved_request();
    let sent = NewApprovalRequest::clone(&request.details);
    assert!(evaluate(&request, &sent, GRANT_END - 1).is_some(), "the approved operation passes");
    assert_eq!(evaluate(&request, &sent, GRANT_END), None, "expired");
    let other_operations: [(&str, Change); 7] = [
        ("digest", |sent| sent.digest = [2; 32]),
        ("subject", |sent| sent.caller.subject = "other".to_owned()),
        ("provider", |sent| sent.caller.provider = "other".to_owned()),
        ("issuer", |sent| sent.caller.issuer = "https://other.example.com".to_owned()),
        ("kind", |sent| sent.caller.kind = durward_core::CallerKind::Human),
        ("actor", |sent| sent.caller.act = vec!["bob".to_owned()]),
        ("connection", |sent| sent.connection = "staging".to_owned()),
    ];
    for (difference, change) in other_operations {
        let mut other = sent.clone();
        change(&mut other);
        assert_eq!(evaluate(&request, &other, NOW), None, "{difference}");
    }
    for state in ApprovalState::ALL.into_iter().filter(|state| *state != ApprovalState::Approved) {
        let request = ApprovalRequest { state, ..request.clone() };
        assert_eq!(evaluate(&request, &sent, NOW), None, "{state:?}");
    }
    let endless = ApprovalRequest { grant_until: None, ..request };
    assert_eq!(evaluate(&endless, &sent, NOW), None, "a grant without an end");
}

#[test]
fn a_time_bound_grant_is_bound_to_caller_connection_state_and_end_too() {
    let request = ApprovalRequest { time_bound: true, ..approved_request() };
    let sent = NewApprovalRequest { digest: [2; 32], ..NewApprovalRequest::clone(&request.details) };
    assert!(evaluate(&request, &sent, NOW).is_some(), "other parameters are covered");
    assert_eq!(evaluate(&request, &sent, GRANT_END), None, "ended");
    let mut other = sent.clone();
    other.caller.subject = "other".to_owned();
    assert_eq!(evaluate(&request, &other, NOW), None, "caller");
    let other = NewApprovalRequest { connection: "staging".to_owned(), ..sent.clone() };
    assert_eq!(evaluate(&request, &other, NOW), None, "connection");
    let denied = ApprovalRequest { state: ApprovalState::Denied, ..request };
    assert_eq!(evaluate(&denied, &sent, NOW), None, "state");
}

#[test]
fn a_quorum_of_zero_still_needs_a_vote() {
    let mut request = approved_request();
    request.votes.clear();
    let mut details = NewApprovalRequest::clone(&request.details);
    for requirement in &mut details.requirements {
        requirement.quorum = 0;
    }
    request.details = Arc::new(details.clone());
    assert_eq!(evaluate(&request, &details, NOW), None);
}
