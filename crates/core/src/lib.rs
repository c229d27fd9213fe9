//! The words of DESIGN section 1 as types, and nothing that does I/O.
//!
//! Every other room speaks in these types. Secrets and untrusted text are types of their own here,
//! so that no room can print one by accident.

mod arn;
pub mod caller;
mod credential_scope;
pub mod decision;
mod duration;
pub mod env_vars;
mod hex;
pub mod http_client;
pub mod ids;
mod invisible_characters;
pub mod limits;
mod lock;
pub mod operation;
mod origin;
pub mod refusal;
mod request_tags;
mod risk;
pub mod secret;
mod strict_json;
pub mod timestamps;

pub use arn::{Arn, arn_matches, arn_may_match, is_account_id};
pub use caller::{Caller, CallerKind};
pub use credential_scope::CredentialScope;
pub use decision::{Decision, ResourceTags, TimeoutAction, Verdict};
pub use duration::parse_duration;
pub use hex::encode_hex;
pub use http_client::{HttpClient, HttpClientError, HttpFuture, HttpLimits};
pub use ids::{ExchangeId, SessionId};
pub use invisible_characters::{escape_invisible, is_invisible};
pub use lock::lock_ignoring_poison;
pub use operation::{
    AccessLevel, FrontEndKind, Operation, OperationTraits, RequiredPermission, Resource,
    UNKNOWN_OPERATION_ACTION, is_unknown_operation_action, remove_json_pointers,
};
pub use origin::{Origin, OriginError, is_loopback_host};
pub use refusal::{Refusal, RefusalReason};
pub use request_tags::collect_request_tags;
pub use risk::{RiskAssessment, RiskContext, RiskyTag, assess_risk};
pub use secret::Secret;
pub use strict_json::{StrictJsonError, parse_strict_json};
