//! What one caller may see of an answer: sensitive data is masked unless policy permits its class to be revealed.

use crate::answer::{Answer, AnswerBody, OwnedPlan};
use crate::line::{Exchange, Identity, facts};
use crate::rooms::Rooms;
use durward_core::{Reason, Refusal, Verdict};
use durward_journal::Masked as MaskedCount;
use durward_masking::{Content, Hit, MaskError, Masked, Plan};
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

    /// These and what was counted before.
    pub fn and(mut self, before: Vec<MaskedCount>) -> Self {
        for MaskedCount { data_class, count } in before {
            *self.0.entry(data_class).or_default() += count;
        }
        self
    }

    fn add(&mut self, hits: &[Hit]) {
        for hit in hits {
            *self.0.entry(hit.data_class.as_str().to_owned()).or_default() += hit.count;
        }
    }
}

/// Who will see an answer, and in which exchange.
pub(crate) struct Viewer {
    pub rooms: Arc<Rooms>,
    pub exchange: Exchange,
    pub identity: Option<Identity>,
}

impl Viewer {
    /// Leaves of an answer's head, and of a body that was read whole, what this caller may see.
    pub fn mask_answer(&self, answer: &mut Answer, counts: &mut Counts) -> Result<(), Refusal> {
        let plan = answer.plan.as_ref().map(OwnedPlan::for_masking);
        let reveals = |class: &str| self.reveals(class);
        let headers = &mut answer.head.headers;
        let hits =
            self.rooms.masker.mask_headers(headers, plan.as_ref(), &reveals).map_err(|why| withheld(&why))?;
        counts.add(&hits);
        let masked = match &answer.body {
            AnswerBody::Whole { bytes, content } => self.mask_body(bytes, *content, plan.as_ref(), counts)?,
            AnswerBody::Stream(_) | AnswerBody::Events(_) => None,
        };
        if let Some(body) = masked {
            answer.replace_body(body.into());
        }
        Ok(())
    }

    /// A body without a model as this caller may see it; `None` when nothing had to be masked.
    pub fn mask(
        &self,
        body: &[u8],
        content: Content,
        counts: &mut Counts,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        self.mask_body(body, content, None, counts)
    }

    /// What cannot be inspected is withheld.
    fn mask_body(
        &self,
        body: &[u8],
        content: Content,
        plan: Option<&Plan<'_>>,
        counts: &mut Counts,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let reveals = |class: &str| self.reveals(class);
        let masked = self.rooms.masker.mask_answer(body, content, plan, &reveals);
        match masked.map_err(|why| withheld(&why))? {
            Masked::Changed { body, hits } => {
                counts.add(&hits);
                Ok(Some(body))
            }
            Masked::Unchanged => Ok(None),
        }
    }

    fn reveals(&self, data_class: &str) -> bool {
        self.identity.as_ref().is_some_and(|identity| {
            let facts = facts(&self.exchange, identity);
            let question = Question { caller: &identity.caller, ask: Ask::Reveal { data_class }, facts };
            self.rooms.policies.current().decide(&question).verdict == Verdict::Allow
        })
    }
}

fn withheld(why: &MaskError) -> Refusal {
    let message = "the answer could not be inspected for sensitive data, so it is withheld";
    Refusal::new(Reason::Upstream, message).detail(why)
}
