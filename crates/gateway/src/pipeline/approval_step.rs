//! The parts of the approve step: the ledger of approval requests, the policies that require approvals, and the requests on hold.

use super::hold::RequestHolder;
use super::idempotency_cache::IdempotencyCache;
use crate::approval_links::ApprovalLinks;
use crate::response_masker::ResponseMasker;
use durward_approval::{ApprovalRequirement, Approvals};
use durward_core::{Decision, Refusal, RefusalReason};
use durward_identity::Revocations;
use durward_journal::Journal;
use durward_policy::PolicyStore;
use std::sync::Arc;
use std::time::Duration;

/// The parts that the approve step is built from.
pub struct ApprovalStepOptions {
    pub approvals: Arc<Approvals>,
    pub policies: Arc<PolicyStore>,
    pub journal: Arc<Journal>,
    pub revocations: Revocations,
    pub response_masker: Arc<ResponseMasker>,
    pub links: ApprovalLinks,
    /// The time for which a caller is held open; also the time that approvers have where policy names none.
    pub hold_timeout: Duration,
}

/// Holds requests until people have decided, and consumes the grants that they give.
pub struct ApprovalStep {
    pub(super) approvals: Arc<Approvals>,
    pub(super) policies: Arc<PolicyStore>,
    pub(super) journal: Arc<Journal>,
    pub(super) response_masker: Arc<ResponseMasker>,
    pub(super) executions: IdempotencyCache,
    pub(super) holder: RequestHolder,
    pub(super) links: ApprovalLinks,
}

impl ApprovalStep {
    pub fn new(options: ApprovalStepOptions) -> Self {
        let ApprovalStepOptions {
            approvals,
            policies,
            journal,
            revocations,
            response_masker,
            links,
            hold_timeout,
        } = options;
        Self {
            approvals,
            policies,
            journal,
            response_masker,
            executions: IdempotencyCache::default(),
            holder: RequestHolder::new(revocations, hold_timeout),
            links,
        }
    }

    /// Memory that is free for held requests, in KiB.
    pub fn available_held_kib(&self) -> usize {
        self.holder.available_kib()
    }

    /// The approvals that override each forbid that requires one.
    pub(super) fn requirements(&self, decision: &Decision) -> Result<Vec<ApprovalRequirement>, Refusal> {
        let policies = self.policies.current();
        // A reload came between the decision and here: what it requires now is not what was decided on.
        let changed = || {
            Refusal::new(
                RefusalReason::PolicyChanged,
                "the policies changed while this was decided; send it again",
            )
        };
        if decision.policy_set != policies.version() {
            return Err(changed());
        }
        let requirement = |policy: &String| {
            let rule = policies.approval_rule(policy).ok_or_else(changed)?;
            Ok(ApprovalRequirement {
                policy: policy.clone(),
                group: rule.group.clone(),
                quorum: rule.quorum,
                timeout: rule.timeout.unwrap_or(self.holder.hold_timeout()),
                on_timeout: rule.on_timeout,
            })
        };
        decision.policies.iter().map(requirement).collect()
    }
}

pub(super) fn approvals_unavailable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalReason::Internal, "approvals cannot be read or written, so this was not sent")
        .with_detail(error)
}
