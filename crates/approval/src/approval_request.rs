//! An ask as people see it: what is asked, who may lift it, who answered what.
//!
//! Everything here is a copy of what the store holds. Nothing here decides; see `approvals` and `grant`.

use crate::{ApprovalRequestId, Approver, RiskAssessment};
use durward_core::{Caller, ExchangeId, Operation, ResourceTags, SessionId, TimeoutAction};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, sync::Arc, time::Duration};
use time::OffsetDateTime;

/// One forbid that people can lift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequirement {
    /// Id of the forbid.
    pub policy: String,
    /// The group whose members may lift it.
    pub group: String,
    /// How many different people must approve.
    pub quorum: u32,
    /// How long a request is held for an answer. In JSON: whole seconds.
    #[serde(with = "crate::serde_formats::whole_seconds")]
    pub timeout: Duration,
    pub on_timeout: TimeoutAction,
}

/// What the line asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewApprovalRequest {
    pub caller: Caller,
    pub session: SessionId,
    pub connection: String,
    pub exchange: ExchangeId,
    /// Masked: it is shown to people and stored.
    pub operation: Operation,
    /// Of the unmasked operation, caller and connection. In JSON: hex.
    #[serde(with = "crate::serde_formats::hex_digest")]
    pub digest: [u8; 32],
    pub requirements: Vec<ApprovalRequirement>,
    /// Kept with the ask, as [`Ask::risk`].
    #[serde(skip)]
    pub risk: RiskAssessment,
    /// The tags of its resources, as far as they were looked up.
    #[serde(default)]
    pub tags: ResourceTags,
    /// What policy says, for the approver.
    pub reason: String,
    pub policy_set: String,
    pub source_address: IpAddr,
    pub user_agent: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for answers. After the deadline only if every requirement says `queue`.
    Pending,
    /// Approved and not used, or a window that is open.
    Approved,
    Denied,
    /// Nobody answered in time.
    TimedOut,
    /// The approval was used; it is never good again.
    Consumed,
    /// An approval that was not used in time or that policy made needless, a window that closed, a queued ask after a day, or
    /// one that changed policies replaced.
    Expired,
    /// What is stored of it cannot be understood. Nothing passes on it.
    Corrupt,
}

impl ApprovalState {
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Approved,
        Self::Denied,
        Self::TimedOut,
        Self::Consumed,
        Self::Expired,
        Self::Corrupt,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Consumed => "used",
            Self::Expired => "expired",
            Self::Corrupt => "damaged",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// One person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub by: Approver,
    #[serde(with = "crate::serde_formats::rfc3339")]
    pub at: OffsetDateTime,
    pub is_approval: bool,
    pub reason: Option<String>,
    /// Those of the person's groups that counted.
    pub counted_groups: Vec<String>,
    /// Set when the person approved a window: until when.
    #[serde(with = "crate::serde_formats::optional_rfc3339")]
    pub time_bound_until: Option<OffsetDateTime>,
    /// The person went past the quorum as a member of the break-glass group. To be reviewed.
    pub break_glass: bool,
}

/// One line of an ask's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalEvent {
    #[serde(with = "crate::serde_formats::rfc3339")]
    pub at: OffsetDateTime,
    /// `asked`, `approve`, `approve_window`, `deny`, `BREAK_GLASS`, `granted`, `withdrawn` (a denial after it was granted,
    /// or of another ask for the same operation), `used`, `timed_out`, `expired`, `superseded` or `damaged`.
    pub kind: String,
    pub by: Option<String>,
    pub note: Option<String>,
}

/// An ask and all that happened to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ApprovalRequest {
    pub id: ApprovalRequestId,
    pub state: ApprovalState,
    #[serde(with = "crate::serde_formats::rfc3339")]
    pub created: OffsetDateTime,
    /// Until then the request is held.
    #[serde(with = "crate::serde_formats::rfc3339")]
    pub deadline: OffsetDateTime,
    /// Set once approved: an approval not used by then expires; a window closes then.
    #[serde(with = "crate::serde_formats::optional_rfc3339")]
    pub grant_until: Option<OffsetDateTime>,
    /// Approved as a window.
    pub time_bound: bool,
    /// Lifted by break-glass.
    pub break_glass: bool,
    #[serde(serialize_with = "crate::serde_formats::serialize_shared")]
    pub details: Arc<NewApprovalRequest>,
    pub risk: RiskAssessment,
    pub votes: Vec<Vote>,
    pub history: Vec<ApprovalEvent>,
    /// How often it was asked: the first time and each repeat that joined it.
    pub attempts: u64,
    /// How often it let the operation pass: at most 1, or any number for a window.
    pub uses: u64,
}

impl ApprovalRequest {
    /// The people still needed, by group. Empty: nobody.
    pub fn missing_approvals(&self) -> Vec<(String, u32)> {
        if self.break_glass {
            return Vec::new();
        }
        let mut missing: BTreeMap<&str, u32> = BTreeMap::new();
        for requirement in &self.details.requirements {
            let approvers = self.votes.iter().filter(|vote| vote.counts_for(&requirement.group)).count();
            let approvers = u32::try_from(approvers).unwrap_or(u32::MAX);
            let needed = requirement.quorum.max(1).saturating_sub(approvers);
            let entry = missing.entry(&requirement.group).or_default();
            *entry = needed.max(*entry);
        }
        missing
            .into_iter()
            .filter(|(_group, needed)| *needed > 0)
            .map(|(group, needed)| (group.to_owned(), needed))
            .collect()
    }

    /// The digest the approval is bound to, for people to compare.
    pub fn digest_hex(&self) -> String {
        self.details.digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            // writing to a String does not fail
            let _infallible = write!(text, "{byte:02x}");
            text
        })
    }

    /// The reason of the denial, and who denied.
    pub fn last_denial(&self) -> Option<&Vote> {
        self.votes.iter().rev().find(|vote| !vote.is_approval)
    }
}

impl Vote {
    /// Whether it approves what `group` may lift.
    pub(crate) fn counts_for(&self, group: &str) -> bool {
        self.is_approval && self.counted_groups.iter().any(|mine| mine == group)
    }
}

/// Which asks to list.
#[derive(Debug, Clone)]
pub struct ApprovalRequestFilter {
    /// Empty: all.
    pub states: Vec<ApprovalState>,
    /// `Caller::id()`.
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
