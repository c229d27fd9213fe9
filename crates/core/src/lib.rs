//! The terms of the product as types, and the small rules that several crates share. Nothing here does I/O.
//!
//! Begin with [`Caller`], [`Operation`] and [`Decision`]: the principal, the decoded request, and the outcome of policy. A
//! [`Refusal`] is the only way to text that a caller may read, and a [`Secret`] has no way to a log. Limits are in [`limits`],
//! environment variables in [`env_vars`]. The outbound [`HttpClient`] is a trait here, so that the crates that call it do not
//! depend on the crate that connects.

mod arn;
mod broad_grants;
pub mod caller;
mod credential_scope;
pub mod decision;
mod document_text;
mod duration;
pub mod env_vars;
mod hex;
pub mod http_client;
pub mod ids;
mod invisible_characters;
mod json_pointers;
pub mod limits;
mod lock;
mod mcp_methods;
pub mod operation;
mod origin;
pub mod refusal;
mod request_tags;
mod risk;
pub mod secret;
mod strict_json;
pub mod timestamps;
mod whole_number;

pub use arn::{Arn, arn_matches, arn_may_match, is_account_id};
pub use broad_grants::{BroadGrant, BroadGrantKind, find_broad_grants};
pub use caller::{Caller, CallerKind};
pub use credential_scope::CredentialScope;
pub use decision::{Decision, ResourceTags, TimeoutAction, Verdict};
pub use document_text::DocumentText;
pub use duration::parse_duration;
pub use hex::encode_hex;
pub use http_client::{HttpClient, HttpClientError, HttpFuture, HttpLimits};
pub use ids::{ExchangeId, SessionId};
pub use invisible_characters::{escape_invisible, is_invisible};
pub use json_pointers::remove_json_pointers;
pub use lock::lock_ignoring_poison;
pub use mcp_methods::MCP_METHODS;
pub use operation::{
    AccessLevel, FrontEndKind, Operation, OperationTraits, RequiredPermission, Resource,
    UNKNOWN_OPERATION_ACTION, is_unknown_operation_action,
};
pub use origin::{Origin, OriginError, is_loopback_host, redact_user_info};
pub use refusal::{Refusal, RefusalReason};
pub use request_tags::collect_request_tags;
pub use risk::{RiskAssessment, RiskContext, RiskyTag, assess_risk};
pub use secret::Secret;
pub use strict_json::{StrictJsonError, parse_strict_json};
pub use whole_number::{parse_whole_number, whole_number_of_float};
