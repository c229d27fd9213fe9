//! A person's yes, bound to the exact operation.
//!
//! Asks, answers, quorum, single-use approvals, windows and break-glass. Everything is durable before it is told to
//! anybody, an approval is used at most once, and whatever fails here leaves the operation refused.

mod approval_request;
mod approval_request_id;
mod approval_request_row;
mod approvals;
mod clock;
mod corruption;
mod expiry_sweep;
mod first_seen;
mod grant;
mod ledger;
mod outbox;
mod serde_formats;
mod size_limits;
mod subscriptions;
mod vote;
mod voting;

pub use approval_request::{
    ApprovalEvent, ApprovalRequest, ApprovalRequestFilter, ApprovalRequirement, ApprovalState,
    NewApprovalRequest, Vote,
};
pub use approval_request_id::ApprovalRequestId;
pub use approvals::{ApprovalLimits, Approvals};
pub use clock::{Clock, system_clock};
pub use durward_core::{RiskAssessment, TimeoutAction};
pub use durward_store::{PostgresServer, Store, StoreError};
pub use first_seen::FirstSeen;
pub use grant::Grant;
pub use outbox::{PendingEvents, PendingEventsPage};
pub use subscriptions::EndWaiter;
pub use vote::{ApprovalRequestError, Approver, VoteChoice, VoteError};
