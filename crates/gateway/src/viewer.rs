//! What one caller may see of an answer: sensitive data is masked unless policy permits its class to be revealed.

use crate::answer::OwnedPlan;
use crate::line::{Exchange, Identity, facts};
use crate::rooms::Rooms;
use durward_core::{Reason, Refusal, Verdict};
use durward_journal::Masked as MaskedCount;
use durward_masking::{Content, Masked};
use durward_policy::{Ask, Question};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many values of each data class were masked.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    pub fn into_list(self) -> Vec<MaskedCount> {
        self.0.into_iter().map(|(data_class, count)| MaskedCount { data_class, count }).collect()
    }
}

/// Who will see an answer, and in which exchange.
pub(crate) struct Viewer {
    pub rooms: Arc<Rooms>,
    pub exchange: Exchange,
    pub identity: Option<Identity>,
}

impl Viewer {
    /// The body as this caller may see it; `None` when nothing had to be masked. What cannot be inspected is withheld.
    pub fn mask(
        &self,
        body: &[u8],
        content: Content,
        plan: Option<&OwnedPlan>,
        counts: &mut Counts,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let reveals = |class: &str| {
            self.identity.as_ref().is_some_and(|identity| {
                let facts = facts(&self.exchange, identity);
                let question =
                    Question { caller: &identity.caller, ask: Ask::Reveal { data_class: class }, facts };
                self.rooms.policies.current().decide(&question).verdict == Verdict::Allow
            })
        };
        let plan = plan.map(OwnedPlan::for_masking);
        let masked =
            self.rooms.masker.mask_answer(body, content, plan.as_ref(), &reveals).map_err(|error| {
                Refusal::new(
                    Reason::Upstream,
                    "the answer could not be inspected for sensitive data, so it is withheld",
                )
                .detail(error)
            })?;
        let Masked::Changed { body, hits } = masked else { return Ok(None) };
        for hit in &hits {
            *counts.0.entry(hit.data_class.as_str().to_owned()).or_default() += hit.count;
        }
        Ok(Some(body))
    }
}
