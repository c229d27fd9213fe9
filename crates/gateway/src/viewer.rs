//! What one caller may see of an answer: sensitive data is masked unless policy permits its class to be revealed.

use crate::answer::{Answer, AnswerBody, OwnedPlan};
use crate::line::{Exchange, Identity, facts};
use crate::rooms::Rooms;
use durward_core::{Reason, Refusal, Verdict};
use durward_journal::Masked as MaskedCount;
use durward_masking::{Content, Hit, MaskError, Masked, Plan, Reveal};
use durward_policy::{Ask, Question};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
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

/// The data classes that an answer shows values of, because its caller may see them. It travels in the answer's extensions; there
/// is none where nothing was revealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Revealed(pub BTreeSet<String>);

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
        let revealed = RefCell::new(BTreeSet::new());
        let reveals = |class: &str| {
            let may = self.reveals(class);
            if may {
                revealed.borrow_mut().insert(class.to_owned());
            }
            may
        };
        let headers = &mut answer.head.headers;
        let hits =
            self.rooms.masker.mask_headers(headers, plan.as_ref(), &reveals).map_err(|why| withheld(&why))?;
        counts.add(&hits);
        let masked = match &answer.body {
            AnswerBody::Whole { bytes, content } => {
                self.mask_body(bytes, *content, plan.as_ref(), &reveals, counts)?
            }
            AnswerBody::Stream(_) | AnswerBody::Events(_) => None,
        };
        if let Some(body) = masked {
            answer.replace_body(body.into());
        }
        let revealed = Revealed(revealed.into_inner());
        if revealed != Revealed::default() {
            answer.head.extensions.insert(revealed);
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
        self.mask_body(body, content, None, &|class| self.reveals(class), counts)
    }

    /// What cannot be inspected is withheld.
    fn mask_body(
        &self,
        body: &[u8],
        content: Content,
        plan: Option<&Plan<'_>>,
        reveals: Reveal<'_>,
        counts: &mut Counts,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let masked = self.rooms.masker.mask_answer(body, content, plan, reveals);
        match masked.map_err(|why| withheld(&why))? {
            Masked::Changed { body, hits } => {
                counts.add(&hits);
                Ok(Some(body))
            }
            Masked::Unchanged => Ok(None),
        }
    }

    fn reveals(&self, data_class: &str) -> bool {
        self.identity
            .as_ref()
            .is_some_and(|identity| reveals(&self.rooms, &self.exchange, identity, data_class))
    }
}

/// Whether a caller may see values of this class now, in an answer to this exchange.
pub(crate) fn reveals(rooms: &Rooms, exchange: &Exchange, identity: &Identity, data_class: &str) -> bool {
    let facts = facts(exchange, identity);
    let question = Question { caller: &identity.caller, ask: Ask::Reveal { data_class }, facts };
    rooms.policies.current().decide(&question).verdict == Verdict::Allow
}

fn withheld(why: &MaskError) -> Refusal {
    let message = "the answer could not be inspected for sensitive data, so it is withheld";
    Refusal::new(Reason::Upstream, message).detail(why)
}
