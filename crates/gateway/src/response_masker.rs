//! What one caller may see of an answer: sensitive data is masked unless policy permits its class to be revealed.

use crate::gateway_services::GatewayServices;
use crate::pipeline::{Exchange, Identity, request_context};
use crate::upstream_response::{OwnedMaskingPlan, UpstreamBody, UpstreamResponse};
use durward_core::{Refusal, RefusalReason, Verdict};
use durward_journal::MaskedCount;
use durward_masking::{BodyFormat, DataClassCount, MaskError, MaskedBody, MaskingPlan, RevealPredicate};
use durward_policy::{AuthorizationRequest, PolicyQuery};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many values of each data class were masked.
#[derive(Debug, Default)]
pub(crate) struct MaskedCounts(BTreeMap<String, u64>);

impl MaskedCounts {
    pub fn into_list(self) -> Vec<MaskedCount> {
        self.0.into_iter().map(|(data_class, count)| MaskedCount { data_class, count }).collect()
    }

    /// These and what was counted before.
    pub fn merge(mut self, before: Vec<MaskedCount>) -> Self {
        for MaskedCount { data_class, count } in before {
            *self.0.entry(data_class).or_default() += count;
        }
        self
    }

    fn add(&mut self, hits: &[DataClassCount]) {
        for hit in hits {
            *self.0.entry(hit.data_class.as_str().to_owned()).or_default() += hit.count;
        }
    }
}

/// The data classes that an answer shows values of, because its caller may see them. It travels in the answer's extensions; there
/// is none where nothing was revealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RevealedClasses(pub BTreeSet<String>);

/// Who will see an answer, and in which exchange.
pub(crate) struct ResponseMasker {
    pub services: Arc<GatewayServices>,
    pub exchange: Exchange,
    pub identity: Option<Identity>,
}

impl ResponseMasker {
    /// Leaves of an answer's head, and of a body that was read whole, what this caller may see.
    pub fn mask_response(
        &self,
        answer: &mut UpstreamResponse,
        counts: &mut MaskedCounts,
    ) -> Result<(), Refusal> {
        let plan = answer.masking_plan.as_ref().map(OwnedMaskingPlan::as_masking_plan);
        let revealed = RefCell::new(BTreeSet::new());
        let reveals = |class: &str| {
            let may = self.may_reveal(class);
            if may {
                revealed.borrow_mut().insert(class.to_owned());
            }
            may
        };
        let headers = &mut answer.head.headers;
        let hits = self
            .services
            .masker
            .mask_headers(headers, plan.as_ref(), &reveals)
            .map_err(|why| withheld_refusal(&why))?;
        counts.add(&hits);
        let masked = match &answer.body {
            UpstreamBody::Buffered { bytes, content } => {
                self.mask_body(bytes, *content, plan.as_ref(), &reveals, counts)?
            }
            UpstreamBody::Stream(_) | UpstreamBody::Events(_) => None,
        };
        if let Some(body) = masked {
            answer.replace_body(body.into());
        }
        let revealed = RevealedClasses(revealed.into_inner());
        if revealed != RevealedClasses::default() {
            answer.head.extensions.insert(revealed);
        }
        Ok(())
    }

    /// A body without a model as this caller may see it; `None` when nothing had to be masked.
    pub fn mask_without_plan(
        &self,
        body: &[u8],
        content: BodyFormat,
        counts: &mut MaskedCounts,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        self.mask_body(body, content, None, &|class| self.may_reveal(class), counts)
    }

    /// What cannot be inspected is withheld.
    fn mask_body(
        &self,
        body: &[u8],
        content: BodyFormat,
        plan: Option<&MaskingPlan<'_>>,
        reveals: RevealPredicate<'_>,
        counts: &mut MaskedCounts,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let masked = self.services.masker.mask_body(body, content, plan, reveals);
        match masked.map_err(|why| withheld_refusal(&why))? {
            MaskedBody::Changed { body, counts: hits } => {
                counts.add(&hits);
                Ok(Some(body))
            }
            MaskedBody::Unchanged => Ok(None),
        }
    }

    fn may_reveal(&self, data_class: &str) -> bool {
        self.identity
            .as_ref()
            .is_some_and(|identity| caller_may_reveal(&self.services, &self.exchange, identity, data_class))
    }
}

/// Whether a caller may see values of this class now, in an answer to this exchange.
pub(crate) fn caller_may_reveal(
    rooms: &GatewayServices,
    exchange: &Exchange,
    identity: &Identity,
    data_class: &str,
) -> bool {
    let facts = request_context(exchange, identity);
    let question = AuthorizationRequest {
        caller: &identity.caller,
        query: PolicyQuery::Reveal { data_class },
        context: facts,
    };
    rooms.policies.current().decide(&question).verdict == Verdict::Allow
}

fn withheld_refusal(why: &MaskError) -> Refusal {
    let message = "the answer could not be inspected for sensitive data, so it is withheld";
    Refusal::new(RefusalReason::Upstream, message).with_detail(why)
}
