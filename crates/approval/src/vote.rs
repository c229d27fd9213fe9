//! What a person answers, and why an answer is not accepted.

use crate::ApprovalState;
use durward_store::StoreError;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A person who answers, as an identity provider vouches for them now. Make one only from a verified login of a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approver {
    /// As `Caller::id()`: `<provider>/<subject>`.
    pub id: String,
    pub name: String,
    pub subject: String,
    pub groups: Vec<String>,
    /// When their provider vouched for the groups: of two, the newer counts, whoever comes with the older.
    #[serde(skip, default = "unix_epoch")]
    pub groups_as_of: OffsetDateTime,
}

fn unix_epoch() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoteChoice {
    /// Exactly this operation, once.
    ApproveOnce,
    /// This caller, these actions on these resources, until then.
    ApproveTimeBound { until: OffsetDateTime },
    /// Also ends an approval that is not used and a window that is open.
    Deny { reason: String },
    /// As `ApproveOnce`, past the quorum, by the break-glass group alone.
    BreakGlass { reason: String },
}

/// Why an answer was not accepted; the texts are for the person who answered.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    #[error("there is no such ask")]
    NotFound,
    #[error("this ask is {}; it can no longer be answered so", .0.as_str().replace('_', " "))]
    NotPending(ApprovalState),
    /// Names the groups that may answer.
    #[error("only {0} may answer this so")]
    NotAnApprover(String),
    /// Says what makes it their own.
    #[error("nobody approves their own request: {0}")]
    OwnRequest(String),
    #[error("you approved this already; another person must be the next")]
    AlreadyApproved,
    #[error("write a reason: the caller and the record will show it")]
    ReasonMissing,
    #[error("{field} is longer than {limit} bytes")]
    TooLong { field: &'static str, limit: usize },
    /// Says what is wrong with the time.
    #[error("{0}")]
    InvalidTimeBound(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nothing was asked. The operation stays refused.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalRequestError {
    /// `whose`: "this caller" or "everybody".
    #[error("{scope} already has {limit} pending approval requests; wait until some are answered")]
    TooManyPending { limit: usize, scope: &'static str },
    #[error("the operation is too long to show to a person: more than {limit} bytes")]
    TooLarge { limit: usize },
    /// No requirement: there is nothing that people could lift.
    #[error("no policy says who may approve this")]
    NoRequirements,
    #[error(transparent)]
    Store(#[from] StoreError),
}
