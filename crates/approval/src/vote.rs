//! A person's vote, and why a vote is not accepted.

use crate::{ApprovalState, Approver};
use durward_store::StoreError;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// An accepted vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub by: Approver,
    #[serde(with = "crate::serde_formats::rfc3339")]
    pub at: OffsetDateTime,
    pub is_approval: bool,
    pub reason: Option<String>,
    /// The groups of the voter that entitled them to this vote.
    pub counted_groups: Vec<String>,
    /// Set if the voter approved a time-bound grant: its end.
    #[serde(with = "crate::serde_formats::optional_rfc3339")]
    pub time_bound_until: Option<OffsetDateTime>,
    /// The voter bypassed the quorum as a member of the break-glass group. To be reviewed.
    pub break_glass: bool,
}

impl Vote {
    /// Returns true if the vote counts toward the quorum of `group`.
    pub fn counts_for(&self, group: &str) -> bool {
        self.is_approval && self.counted_groups.iter().any(|counted| counted == group)
    }
}

/// The choice of a person on an approval request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoteChoice {
    /// Allow exactly this operation, once.
    ApproveOnce,
    /// Allow this caller these actions on these resources, any number of times until then.
    ApproveTimeBound { until: OffsetDateTime },
    /// Deny. This also ends an unused grant and an active time-bound grant.
    Deny { reason: String },
    /// Like `ApproveOnce`, but bypasses the quorum. For the break-glass group only.
    BreakGlass { reason: String },
}

/// Why a vote was not accepted. The messages are for the voter.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    #[error("there is no such approval request")]
    NotFound,
    #[error("this approval request is {}; it no longer takes this vote", .0.as_str().replace('_', " "))]
    NotPending(ApprovalState),
    /// Names the groups that may vote.
    #[error("only {0} may vote on this")]
    NotAnApprover(String),
    /// Says what makes the request the voter's own.
    #[error("a person cannot approve their own request: {0}")]
    OwnRequest(&'static str),
    #[error("you have already approved this; a different person must approve next")]
    AlreadyApproved,
    #[error("a reason is required")]
    ReasonMissing,
    #[error("{field} is longer than {limit} bytes")]
    TooLong { field: &'static str, limit: usize },
    /// Says what is wrong with the end of the time-bound grant.
    #[error("{0}")]
    InvalidTimeBound(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}
