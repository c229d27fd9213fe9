//! An approval request as people see it: the operation, the policies to override, the votes and the history.
//!
//! Every value here is a copy of a stored row. Nothing here changes or uses an approval: see `voting` and `grant`.

use crate::{
    ApprovalEvent, ApprovalEventKind, ApprovalRequestId, ApprovalState, NewApprovalRequest, RiskAssessment,
    Vote,
};
use durward_core::encode_hex;
use durward_core::timestamps::from_unix_millis;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use time::OffsetDateTime;

/// An approval request with everything that happened to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ApprovalRequest {
    pub id: ApprovalRequestId,
    pub state: ApprovalState,
    #[serde(with = "crate::serde_formats::rfc3339")]
    pub created: OffsetDateTime,
    /// Until then the caller's request may be held.
    #[serde(with = "crate::serde_formats::rfc3339")]
    pub deadline: OffsetDateTime,
    /// Set once approved: when the grant ends.
    #[serde(with = "crate::serde_formats::optional_rfc3339")]
    pub grant_until: Option<OffsetDateTime>,
    /// The grant lets any number of operations pass until it ends.
    pub time_bound: bool,
    /// The quorum was bypassed.
    pub break_glass: bool,
    #[serde(serialize_with = "crate::serde_formats::serialize_shared")]
    pub details: Arc<NewApprovalRequest>,
    pub risk: RiskAssessment,
    pub votes: Vec<Vote>,
    pub history: Vec<ApprovalEvent>,
    /// The number of times that the operation was requested: the first time, and each repeat that joined this request.
    pub attempts: u64,
    /// The count of operations that passed: at most 1, or any number with a time-bound grant.
    pub uses: u64,
}

/// The way in which an approval request was decided or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalOutcome {
    /// Approved for one use, which is open or done.
    ApprovedOnce,
    /// Approved for any number of uses until then. `None`: the row does not say.
    ApprovedUntil(Option<OffsetDateTime>),
    /// The quorum was bypassed, whatever happened afterwards.
    BrokeGlass,
    Denied,
    TimedOut,
    /// Approved, and the grant ended: it was not used in time, or its time was over.
    GrantExpired,
    /// Replaced by a request with the requirements of changed policies.
    Superseded,
    /// Queued, and not decided within a day.
    QueueExpired,
    Corrupt,
}

impl ApprovalRequest {
    /// The count of approvals that are still needed, by group. Empty: none.
    pub fn missing_approvals(&self) -> Vec<(String, u32)> {
        if self.break_glass {
            return Vec::new();
        }
        let mut missing: BTreeMap<&str, u32> = BTreeMap::new();
        for requirement in &self.details.requirements {
            let approvals = self.votes.iter().filter(|vote| vote.counts_for(&requirement.group)).count();
            let approvals = u32::try_from(approvals).unwrap_or(u32::MAX);
            // A quorum of 0 in a tampered row must not approve by itself.
            let needed = requirement.quorum.max(1).saturating_sub(approvals);
            let entry = missing.entry(&requirement.group).or_default();
            *entry = needed.max(*entry);
        }
        missing
            .into_iter()
            .filter(|(_group, needed)| *needed > 0)
            .map(|(group, needed)| (group.to_owned(), needed))
            .collect()
    }

    /// The digest that the approval is bound to, for people to compare.
    pub fn digest_hex(&self) -> String {
        encode_hex(&self.details.digest)
    }

    /// The latest vote that denied.
    pub fn last_denial(&self) -> Option<&Vote> {
        self.votes.iter().rev().find(|vote| !vote.is_approval)
    }

    /// Returns true if a denial ended the grant before it was used or, if it is time-bound, before its end.
    pub fn is_withdrawn(&self) -> bool {
        let is_withdrawal = |event: &ApprovalEvent| event.kind == ApprovalEventKind::Withdrawn;
        self.state == ApprovalState::Denied && self.history.iter().any(is_withdrawal)
    }

    /// When it was decided or ended, as far as its history says; the latest event otherwise.
    pub fn ended_at(&self) -> OffsetDateTime {
        let end = self.history.iter().rev().find(|event| event.kind.is_end());
        end.or(self.history.last()).map_or(self.created, |event| event.at)
    }

    /// The way in which it was decided or ended. `None`: it is pending.
    pub fn outcome(&self) -> Option<ApprovalOutcome> {
        if self.break_glass {
            return Some(ApprovalOutcome::BrokeGlass);
        }
        let has_event = |kind| self.history.iter().any(|event| event.kind == kind);
        Some(match self.state {
            ApprovalState::Pending => return None,
            ApprovalState::Approved | ApprovalState::Consumed if self.time_bound => {
                ApprovalOutcome::ApprovedUntil(self.grant_until)
            }
            ApprovalState::Approved | ApprovalState::Consumed => ApprovalOutcome::ApprovedOnce,
            ApprovalState::Denied => ApprovalOutcome::Denied,
            ApprovalState::TimedOut => ApprovalOutcome::TimedOut,
            ApprovalState::Expired if has_event(ApprovalEventKind::Granted) => ApprovalOutcome::GrantExpired,
            ApprovalState::Expired if has_event(ApprovalEventKind::Superseded) => ApprovalOutcome::Superseded,
            ApprovalState::Expired => ApprovalOutcome::QueueExpired,
            ApprovalState::Corrupt => ApprovalOutcome::Corrupt,
        })
    }

    /// Adds a line to the history. `at` is in milliseconds since the Unix epoch.
    pub(crate) fn push_event(
        &mut self,
        kind: ApprovalEventKind,
        by: Option<&str>,
        note: Option<String>,
        at: i64,
    ) {
        let by = by.map(str::to_owned);
        self.history.push(ApprovalEvent { at: from_unix_millis(at), kind, by, note });
    }
}

/// A filter for a list of approval requests.
#[derive(Debug, Clone)]
pub struct ApprovalRequestFilter {
    /// Empty: every state.
    pub states: Vec<ApprovalState>,
    /// A `Caller::id()`. `None`: every caller.
    pub caller: Option<String>,
    /// At most this many, and never more than 1,000.
    pub limit: usize,
}

impl Default for ApprovalRequestFilter {
    /// The newest hundred.
    fn default() -> Self {
        Self { states: Vec::new(), caller: None, limit: 100 }
    }
}
