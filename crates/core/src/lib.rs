//! The words of DESIGN section 1 as types, and nothing that does I/O.
//!
//! Every other room speaks in these types. Secrets and untrusted text are types of their own here,
//! so that no room can print one by accident.

mod arn;
pub mod caller;
pub mod decision;
mod duration;
pub mod env;
pub mod ids;
mod json;
pub mod limits;
pub mod operation;
pub mod refusal;
mod request_tags;
mod risk;
pub mod secret;
mod visible;

pub use arn::{Arn, arn_matches, arn_may_be};
pub use caller::{Caller, CallerKind};
pub use decision::{Decision, OnTimeout, ResourceTags, Verdict};
pub use duration::parse_duration;
pub use ids::{ExchangeId, SessionId};
pub use json::{JsonError, strict_json};
pub use operation::{AccessLevel, Demand, Door, Operation, Resource, Traits, without};
pub use refusal::{Fault, Reason, Refusal};
pub use request_tags::request_tags;
pub use risk::{Risk, RiskyTag, Surroundings, assess};
pub use secret::Secret;
pub use visible::{is_hidden, visible};
