//! Assesses the risk of an operation for its caller: core's rules, applied to the facts that this gateway has about both.

use crate::resource_tags::has_unnamed_resource;
use durward_approval::FirstSeen;
use durward_catalog::Catalog;
use durward_core::{
    Caller, Operation, Refusal, RefusalReason, ResourceTags, RiskAssessment, RiskContext, RiskyTag,
    assess_risk,
};

/// Assesses risk.
pub struct RiskAssessor {
    catalog: &'static Catalog,
    first_seen: FirstSeen,
    risky_tags: Vec<RiskyTag>,
}

impl RiskAssessor {
    /// `risky_tags` make what is done to a resource riskier.
    pub fn new(catalog: &'static Catalog, first_seen: FirstSeen, risky_tags: Vec<RiskyTag>) -> Self {
        Self { catalog, first_seen, risky_tags }
    }

    /// Returns true if any tag changes a risk.
    pub(crate) fn reads_tags(&self) -> bool {
        !self.risky_tags.is_empty()
    }

    pub(crate) async fn assess(
        &self,
        caller: &Caller,
        operation: &Operation,
        tags: &ResourceTags,
    ) -> Result<RiskAssessment, Refusal> {
        let is_first_seen = self.first_seen.is_new(caller, operation).await.map_err(|error| {
            Refusal::new(RefusalReason::Internal, "the risk cannot be computed, so this was not sent")
                .with_detail(error)
        })?;
        Ok(assess_risk(
            operation,
            RiskContext {
                is_first_seen,
                resource_tags: Some(tags),
                has_unnamed_resource: has_unnamed_resource(self.catalog, operation),
                risky_tags: &self.risky_tags,
            },
        ))
    }

    /// Notes that the caller has done this: it is not new the next time.
    pub(crate) fn record_operation(&self, caller: &Caller, operation: &Operation) {
        self.first_seen.record_operation(caller, operation);
    }
}
