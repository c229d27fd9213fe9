//! authorize: policy decides. Default deny.
//!
//! Policies may read the tags of resources and the risk of the request. These are looked up first; if that fails, the request is
//! refused. The proof binds the decision to the operation and to the bytes that will be sent.

use super::claim_grant::ClaimedGrant;
use super::decode::Decoded;
use super::execution::{ExecutedElsewhere, Execution};
use super::stopped::Stopped;
use crate::exchange::{Exchange, Identity, policy_context};
use crate::front_end::FrontEndRequest;
use crate::operation_digest::operation_digest;
use crate::resource_tags::{TagFreshness, TagInvalidation, TagReader};
use crate::risk_assessor::RiskAssessor;
use durward_approval::Grant;
use durward_core::{Decision, Operation, Refusal, RefusalReason, ResourceTags, RiskAssessment, Verdict};
use durward_policy::{AttributeReads, PolicyStore, RequestContext};
use std::sync::Arc;

/// An operation that policy permits, bound to its digest and to the bytes that were decided.
pub struct Authorized<R> {
    decoded: Decoded<R>,
    decision: Decision,
    digest: [u8; 32],
    fingerprint: [u8; 32],
    /// The grant that overrides what forbids it.
    claimed_grant: Option<ClaimedGrant>,
    /// Present where the grant is for one execution: other attempts wait for it.
    execution: Option<Execution>,
}

/// An operation that policy permits if people override what forbids it.
pub struct ApprovalRequired<R> {
    decoded: Decoded<R>,
    decision: Decision,
    digest: [u8; 32],
    fingerprint: [u8; 32],
}

/// The decision of policy on an operation that it does not deny.
pub enum Authorization<R> {
    Authorized(Box<Authorized<R>>),
    ApprovalRequired(Box<ApprovalRequired<R>>),
}

/// Decides operations.
pub struct Authorizer {
    policies: Arc<PolicyStore>,
    tag_reader: TagReader,
    risk_assessor: RiskAssessor,
}

impl Authorizer {
    pub fn new(policies: Arc<PolicyStore>, tag_reader: TagReader, risk_assessor: RiskAssessor) -> Self {
        Self { policies, tag_reader, risk_assessor }
    }

    pub(super) async fn authorize<R: FrontEndRequest>(
        &self,
        exchange: &Exchange,
        decoded: Decoded<R>,
    ) -> Result<Authorization<R>, Box<Stopped<R::RefusalContext>>> {
        let digest = operation_digest(decoded.operation());
        let fingerprint = decoded.request().fingerprint();
        self.decide(exchange, decoded, digest, fingerprint, TagFreshness::Recent).await
    }

    /// Decides again, with the policies, tags and memberships of now: the request was held, or a grant is about to be consumed.
    pub(super) async fn authorize_again<R: FrontEndRequest>(
        &self,
        exchange: &Exchange,
        required: ApprovalRequired<R>,
    ) -> Result<Authorization<R>, Box<Stopped<R::RefusalContext>>> {
        let ApprovalRequired { decoded, digest, fingerprint, .. } = required;
        self.decide(exchange, decoded, digest, fingerprint, TagFreshness::Current).await
    }

    async fn decide<R: FrontEndRequest>(
        &self,
        exchange: &Exchange,
        decoded: Decoded<R>,
        digest: [u8; 32],
        fingerprint: [u8; 32],
        freshness: TagFreshness,
    ) -> Result<Authorization<R>, Box<Stopped<R::RefusalContext>>> {
        let evaluated = self.evaluate(exchange, decoded.identity(), decoded.operation(), freshness).await;
        let decision = evaluated.map_err(|refusal| decoded.stop(refusal, None))?;
        Ok(match decision.verdict {
            Verdict::Allow => Authorization::Authorized(Box::new(Authorized {
                decoded,
                decision,
                digest,
                fingerprint,
                claimed_grant: None,
                execution: None,
            })),
            Verdict::RequireApproval => Authorization::ApprovalRequired(Box::new(ApprovalRequired {
                decoded,
                decision,
                digest,
                fingerprint,
            })),
            Verdict::Deny => {
                let refusal = Refusal::new(RefusalReason::AccessDenied, decision.reason.clone());
                return Err(decoded.stop(refusal, Some(&decision)));
            }
        })
    }

    /// The decision of policy at this moment.
    async fn evaluate(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        operation: &Operation,
        freshness: TagFreshness,
    ) -> Result<Decision, Refusal> {
        let policies = self.policies.current();
        let context = policy_context(exchange, identity);
        let reads = policies.attribute_reads(&identity.caller, operation, context);
        // Where no policy that applies reads tags or risk, a decision costs no call to AWS.
        if reads == AttributeReads::default() {
            return Ok(policies.decide_operation(&identity.caller, operation, context));
        }
        self.tag_reader.refuse_unnamed_resources(&reads.unnamed_resource_actions)?;
        let mut arns = reads.tag_lookup_arns;
        if reads.reads_risk && self.risk_assessor.reads_tags() {
            arns.extend(operation.resource_arns());
            arns.sort_unstable();
            arns.dedup();
        }
        // Boxed, for it is large and rare: every request would reserve memory for it.
        let tags =
            Box::pin(self.tag_reader.read_tags(exchange, identity, operation, &arns, freshness)).await?;
        let risk = if reads.reads_risk {
            Some(self.risk_assessor.assess(&identity.caller, operation, &tags).await?.score)
        } else {
            None
        };
        let context = RequestContext { tags: Some(&tags), risk, ..context };
        Ok(policies.decide_operation(&identity.caller, operation, context))
    }

    /// The risk and the tags that approvers are shown: the tags that policy read or, where some make an operation riskier, all.
    pub(super) async fn assess_for_approvers<R>(
        &self,
        exchange: &Exchange,
        required: &ApprovalRequired<R>,
    ) -> Result<(RiskAssessment, ResourceTags), Refusal> {
        let (identity, operation) = (required.decoded.identity(), required.decoded.operation());
        let tags = if self.risk_assessor.reads_tags() {
            let arns = operation.resource_arns();
            self.tag_reader.read_tags(exchange, identity, operation, &arns, TagFreshness::Recent).await?
        } else {
            required.decision.tags.clone()
        };
        let risk = self.risk_assessor.assess(&identity.caller, operation, &tags).await?;
        Ok((risk, tags))
    }

    /// Forgets the cached tags that an operation may change, now and when the guard is dropped.
    pub(super) fn tag_invalidation(&self, operation: &Operation) -> Option<TagInvalidation<'_>> {
        self.tag_reader.begin_invalidation(operation)
    }

    /// Notes that the caller does this operation: it is not new the next time.
    pub(super) fn record_operation(&self, identity: &Identity, operation: &Operation) {
        self.risk_assessor.record_operation(&identity.caller, operation);
    }
}

impl<R> Authorized<R> {
    pub(crate) fn operation(&self) -> &Operation {
        self.decoded.operation()
    }

    pub(super) fn decoded(&self) -> &Decoded<R> {
        &self.decoded
    }

    pub(super) fn decision(&self) -> &Decision {
        &self.decision
    }

    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    pub(super) fn grant(&self) -> Option<&Grant> {
        self.claimed_grant.as_ref().map(|claimed| &claimed.grant)
    }

    /// The same, with the execution that other attempts wait for.
    pub(super) fn with_execution(mut self, execution: Execution) -> Self {
        self.execution = Some(execution);
        self
    }

    pub(super) fn take_execution(&mut self) -> Option<Execution> {
        self.execution.take()
    }

    /// Another attempt was executed in its place.
    pub(super) fn into_attempt(self) -> ExecutedElsewhere<R> {
        ExecutedElsewhere { decoded: self.decoded, decision: self.decision, digest: self.digest }
    }

    /// The decided request, with the digests that must hold when it is sent, and the grant that must be consumed before.
    pub(super) fn into_bound(self) -> (BoundRequest<R>, Option<ClaimedGrant>) {
        let Self { decoded, digest, fingerprint, claimed_grant, .. } = self;
        (BoundRequest { decoded, digest, fingerprint }, claimed_grant)
    }
}

/// A decided request with the digests taken at the decision.
pub(super) struct BoundRequest<R> {
    decoded: Decoded<R>,
    digest: [u8; 32],
    fingerprint: [u8; 32],
}

impl<R: FrontEndRequest> BoundRequest<R> {
    pub fn decoded(&self) -> &Decoded<R> {
        &self.decoded
    }

    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Gives the request out for sending; refuses if anything differs from what was decided (docs/design.md, promise 3).
    pub fn into_unchanged(self) -> Result<Decoded<R>, Refusal> {
        let Self { decoded, digest, fingerprint } = self;
        if operation_digest(decoded.operation()) != digest || decoded.request().fingerprint() != fingerprint {
            return Err(Refusal::new(
                RefusalReason::Internal,
                "the request to be sent is not the request that was decided",
            ));
        }
        Ok(decoded)
    }
}

impl<R> ApprovalRequired<R> {
    pub(super) fn decoded(&self) -> &Decoded<R> {
        &self.decoded
    }

    pub(super) fn request_mut(&mut self) -> &mut R {
        self.decoded.request_mut()
    }

    pub(super) fn decision(&self) -> &Decision {
        &self.decision
    }

    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Another attempt was executed in its place.
    pub(super) fn into_attempt(self) -> ExecutedElsewhere<R> {
        ExecutedElsewhere { decoded: self.decoded, decision: self.decision, digest: self.digest }
    }

    /// The proof of an operation whose forbids a grant overrides. The ledger gives a grant for the digest, caller and connection of
    /// this request only.
    pub(super) fn into_authorized(self, claimed: ClaimedGrant) -> Authorized<R> {
        let Self { decoded, mut decision, digest, fingerprint } = self;
        decision.verdict = Verdict::Allow;
        decision.reason = format!(
            "approved by {} [approval request {}]",
            claimed.grant.approvers.join(", "),
            claimed.grant.approval_request
        );
        Authorized { decoded, decision, digest, fingerprint, claimed_grant: Some(claimed), execution: None }
    }
}

impl<R: FrontEndRequest> ApprovalRequired<R> {
    /// Stops a request that requires approval.
    pub(super) fn stop(&self, refusal: Refusal) -> Box<Stopped<R::RefusalContext>> {
        self.decoded.stop(refusal, Some(&self.decision))
    }
}
