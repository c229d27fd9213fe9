//! Cuts a response to the part that a caller may see: sensitive data is masked unless policy permits its class to be revealed.

use crate::exchange::{Exchange, Identity, policy_context};
use crate::upstream_response::{OwnedMaskingPlan, RevealedClasses, UpstreamBody, UpstreamResponse};
use durward_core::{Operation, Refusal, RefusalReason, Verdict};
use durward_journal::MaskedCount;
use durward_masking::{
    BodyFormat, DataClassCount, MaskError, MaskedBody, Masker, MaskingPlan, RevealPredicate,
};
use durward_policy::{AuthorizationRequest, PolicyQuery, PolicyStore};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of masked values of each data class.
#[derive(Debug, Default)]
pub(crate) struct MaskedCounts(BTreeMap<String, u64>);

impl MaskedCounts {
    pub fn into_list(self) -> Vec<MaskedCount> {
        self.0.into_iter().map(|(data_class, count)| MaskedCount { data_class, count }).collect()
    }

    /// Adds what was counted before.
    pub fn add_list(mut self, before: Vec<MaskedCount>) -> Self {
        for MaskedCount { data_class, count } in before {
            *self.0.entry(data_class).or_default() += count;
        }
        self
    }

    fn add(&mut self, counts: &[DataClassCount]) {
        for count in counts {
            *self.0.entry(count.data_class.as_str().to_owned()).or_default() += count.count;
        }
    }
}

/// Masks responses for one caller at a time.
pub struct ResponseMasker {
    masker: Masker,
    policies: Arc<PolicyStore>,
}

impl ResponseMasker {
    pub fn new(masker: Masker, policies: Arc<PolicyStore>) -> Self {
        Self { masker, policies }
    }

    /// The operation as it may be shown and recorded; `None` where nothing had to be masked.
    pub(crate) fn mask_parameters(&self, operation: &Operation) -> Option<Operation> {
        let mut parameters = operation.parameters.clone();
        // Nothing is revealed: approvers and auditors read this.
        let counts = self.masker.mask_value(&mut parameters, &operation.sensitive_pointers, &|_class| false);
        (!counts.is_empty()).then(|| Operation { parameters, ..operation.clone() })
    }

    /// Masks a response's head, and a body that was read whole, for this caller.
    pub(crate) fn mask_response(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        response: &mut UpstreamResponse,
        counts: &mut MaskedCounts,
    ) -> Result<(), Refusal> {
        let plan = response.masking_plan.as_ref().map(OwnedMaskingPlan::as_masking_plan);
        // Kept with the response: another attempt of the call gets it only if it may see these classes, too.
        let revealed = RefCell::new(BTreeSet::new());
        let may_reveal = |class: &str| {
            let may = self.may_reveal(exchange, identity, class);
            if may {
                revealed.borrow_mut().insert(class.to_owned());
            }
            may
        };
        let headers = &mut response.head.headers;
        let masked =
            self.masker.mask_headers(headers, plan.as_ref(), &may_reveal).map_err(|why| withheld(&why))?;
        counts.add(&masked);
        let body = match &response.body {
            UpstreamBody::Buffered { bytes, content } => {
                self.mask_body(bytes, *content, plan.as_ref(), &may_reveal, counts)?
            }
            UpstreamBody::Stream(_) | UpstreamBody::Events(_) => None,
        };
        if let Some(body) = body {
            response.replace_body(body.into());
        }
        let revealed = RevealedClasses(revealed.into_inner());
        if revealed != RevealedClasses::default() {
            response.head.extensions.insert(revealed);
        }
        Ok(())
    }

    /// A JSON text as this caller may see it; `None` when nothing had to be masked.
    pub(crate) fn mask_event(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        plan: Option<&OwnedMaskingPlan>,
        text: &[u8],
        counts: &mut MaskedCounts,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let may_reveal = |class: &str| self.may_reveal(exchange, identity, class);
        let plan = plan.map(OwnedMaskingPlan::as_masking_plan);
        self.mask_body(text, BodyFormat::Json, plan.as_ref(), &may_reveal, counts)
    }

    /// Masks a body. One that cannot be inspected is withheld.
    fn mask_body(
        &self,
        body: &[u8],
        format: BodyFormat,
        plan: Option<&MaskingPlan<'_>>,
        may_reveal: RevealPredicate<'_>,
        counts: &mut MaskedCounts,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let masked = self.masker.mask_body(body, format, plan, may_reveal);
        match masked.map_err(|why| withheld(&why))? {
            MaskedBody::Changed { body, counts: found } => {
                counts.add(&found);
                Ok(Some(body))
            }
            MaskedBody::Unchanged => Ok(None),
        }
    }

    /// Returns true if a caller may see values of this class now, in a response to this exchange.
    pub(crate) fn may_reveal(&self, exchange: &Exchange, identity: &Identity, data_class: &str) -> bool {
        let request = AuthorizationRequest {
            caller: &identity.caller,
            query: PolicyQuery::Reveal { data_class },
            context: policy_context(exchange, identity),
        };
        self.policies.current().decide(&request).verdict == Verdict::Allow
    }
}

fn withheld(why: &MaskError) -> Refusal {
    let message = "the response could not be inspected for sensitive data, so it is withheld";
    Refusal::new(RefusalReason::Upstream, message).with_detail(why)
}
