//! Approval requests, votes and grants: how people allow one exact operation that policy forbids.
//!
//! The crate holds the approval requests of a gateway with their votes and history, and decides what a vote changes and
//! when a grant lets an operation pass. It reads and writes `durward-store`; it never talks to a caller or to AWS.
//!
//! Promises:
//! - A single-use grant lets exactly one operation pass once: the same digest, caller and connection, before it expires,
//!   also with several gateways on one store ([`Approvals::consume_grant`]).
//! - States, votes and history are on disk before any subscriber, waiter or voter learns of them. Two counters are not:
//!   repeated attempts, and uses of a time-bound grant, are written up to half a second later and may be lost by a crash.
//! - Every failure leaves the operation refused.
//!
//! Begin with [`Approvals`], then `ledger` (the transactions), `voting` (what a vote does) and `grant` (what a grant covers).

mod approval_event;
mod approval_limits;
mod approval_request;
mod approval_request_id;
mod approval_request_row;
mod approval_state;
mod approvals;
mod approver;
mod binding;
mod clock;
mod corruption;
mod end_waiter;
mod expiry_sweep;
mod first_seen;
mod grant;
mod ledger;
mod lifecycle;
mod new_approval_request;
mod outbox;
mod serde_formats;
mod size_limits;
mod subscriptions;
mod vote;
mod voting;

pub use approval_event::{ApprovalEvent, ApprovalEventKind};
pub use approval_limits::ApprovalLimits;
pub use approval_request::{ApprovalOutcome, ApprovalRequest, ApprovalRequestFilter};
pub use approval_request_id::ApprovalRequestId;
pub use approval_state::ApprovalState;
pub use approvals::Approvals;
pub use approver::{Approver, UpsertUserError};
pub use durward_core::timestamps::{Clock, system_clock};
pub use durward_core::{RiskAssessment, TimeoutAction};
pub use durward_store::{PostgresServer, Store, StoreError};
pub use end_waiter::EndWaiter;
pub use first_seen::FirstSeen;
pub use grant::{Grant, GrantQuery};
pub use new_approval_request::{
    ApprovalRequestError, ApprovalRequirement, NewApprovalRequest, PendingLimitScope,
};
pub use outbox::{PendingEvents, PendingEventsPage};
pub use vote::{Vote, VoteChoice, VoteError};
