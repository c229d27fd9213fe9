//! The events of an approval request: the lines of its history.

use crate::serde_formats::word_enum;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

word_enum! {
    /// The kind of the event.
    pub enum ApprovalEventKind {
        /// The approval request was created.
        Requested = "requested",
        /// A person voted to allow the operation once.
        ApproveOnce = "approve_once",
        /// A person voted for a time-bound grant.
        ApproveTimeBound = "approve_time_bound",
        /// A person denied it.
        Deny = "deny",
        /// A member of the break-glass group bypassed the quorum.
        BreakGlass = "break_glass",
        /// The quorum was reached or bypassed: there is a grant.
        Granted = "granted",
        /// A denial ended the grant: a vote on this request, or on another one for the same operation.
        Withdrawn = "withdrawn",
        /// The grant let the operation pass.
        Consumed = "consumed",
        TimedOut = "timed_out",
        Expired = "expired",
        /// Another approval request with the requirements of changed policies replaced it.
        Superseded = "superseded",
        /// The stored row cannot be read.
        Corrupt = "corrupt",
    }
}

impl ApprovalEventKind {
    /// True if this event decides or ends the request for its approvers.
    pub(crate) fn is_end(self) -> bool {
        match self {
            Self::Granted
            | Self::Deny
            | Self::Withdrawn
            | Self::TimedOut
            | Self::Expired
            | Self::Superseded
            | Self::Corrupt => true,
            Self::Requested
            | Self::ApproveOnce
            | Self::ApproveTimeBound
            | Self::BreakGlass
            | Self::Consumed => false,
        }
    }
}

/// One line of the history of an approval request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalEvent {
    #[serde(with = "crate::serde_formats::rfc3339")]
    pub at: OffsetDateTime,
    pub kind: ApprovalEventKind,
    /// The id of the approver or caller. `None`: the gateway itself.
    pub by: Option<String>,
    pub note: Option<String>,
}
