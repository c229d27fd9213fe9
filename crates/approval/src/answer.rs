//! What a person answers, and why an answer is not accepted.

use crate::State;
use durward_store::StoreError;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A person who answers, as an identity provider vouches for them now. Make one only from a verified login of a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// As `Caller::id()`: `<provider>/<subject>`.
    pub id: String,
    pub name: String,
    pub subject: String,
    pub groups: Vec<String>,
    /// When their provider vouched for the groups: of two, the newer counts, whoever comes with the older.
    #[serde(skip, default = "long_ago")]
    pub as_of: OffsetDateTime,
}

fn long_ago() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Exactly this operation, once.
    ApproveOnce,
    /// This caller, these actions on these resources, until then.
    ApproveWindow { until: OffsetDateTime },
    /// Also ends an approval that is not used and a window that is open.
    Deny { reason: String },
    /// As `ApproveOnce`, past the quorum, by the break-glass group alone.
    BreakGlass { reason: String },
}

/// Why an answer was not accepted; the texts are for the person who answered.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("there is no such ask")]
    NotFound,
    #[error("this ask is {}; it can no longer be answered so", .0.as_str().replace('_', " "))]
    NotPending(State),
    /// Names the groups that may answer.
    #[error("only {0} may answer this so")]
    NotAnApprover(String),
    /// Says what makes it their own.
    #[error("nobody approves their own request: {0}")]
    OwnRequest(String),
    #[error("you approved this already; another person must be the next")]
    AnsweredBefore,
    #[error("write a reason: the caller and the record will show it")]
    ReasonMissing,
    #[error("{what} is longer than {limit} bytes")]
    TooLong { what: &'static str, limit: usize },
    /// Says what is wrong with the time.
    #[error("{0}")]
    Window(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nothing was asked. The operation stays refused.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// `whose`: "this caller" or "everybody".
    #[error("{whose} already has {limit} asks waiting for people; wait until some are answered")]
    TooMany { limit: usize, whose: &'static str },
    #[error("the operation is too long to show to a person: more than {limit} bytes")]
    TooLarge { limit: usize },
    /// No requirement: there is nothing that people could lift.
    #[error("no policy says who may approve this")]
    NothingToLift,
    #[error(transparent)]
    Store(#[from] StoreError),
}
