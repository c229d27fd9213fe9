//! A person's yes, bound to the exact operation.
//!
//! Asks, answers, quorum, single-use approvals, windows and break-glass. Everything is durable before it is told to
//! anybody, an approval is used at most once, and whatever fails here leaves the operation refused.

mod answer;
mod answering;
mod approvals;
mod ask;
mod bounds;
mod damage;
mod grant;
mod id;
mod keeper;
mod ledger;
mod moment;
mod notation;
mod novelty;
mod recording;
mod row;
mod waiting;

pub use answer::{Answer, AnswerError, AskError, Person};
pub use approvals::{Approvals, Limits};
pub use ask::{Ask, Event, Filter, NewAsk, Requirement, State, Vote};
pub use durward_core::{OnTimeout, Risk};
pub use durward_store::{Server, Store, StoreError};
pub use grant::Granted;
pub use id::AskId;
pub use moment::{Clock, system_clock};
pub use novelty::Novelty;
pub use recording::{Unrecorded, Unrecordeds};
pub use waiting::Waiter;
