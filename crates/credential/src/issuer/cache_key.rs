//! The cache key: every input of a credential request but the exchange and the time. A key that lacks an input
//! would give the credential of one request to another.
//!
//! Promises: no two different inputs give the same key, because each field is written with its length before it. A field that is
//! added to one of the structs does not compile until it is in the key, because the structs are destructured by name.

use super::{ConnectionConfig, ConnectionScope, CredentialRequest};
use crate::attribution::source_identity;
use crate::session_policy::SessionPolicyConditions;
use durward_aws::sigv4::sha256_hex;
use durward_core::{Caller, RequiredPermission, Resource};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// SHA-256 of the inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CredentialCacheKey(String);

impl CredentialCacheKey {
    pub fn from_request(request: &CredentialRequest<'_>) -> Self {
        let CredentialRequest { connection, caller, session, exchange: _, operation } = request;
        let ConnectionConfig {
            name,
            role_arn,
            external_id,
            session_duration,
            scope,
            region,
            policy_conditions: SessionPolicyConditions { source_ip, source_vpce, bucket_accounts },
        } = connection;
        let Caller { provider, issuer, subject, kind, groups, act } = caller;
        let mut inputs = LengthPrefixedText(String::with_capacity(1_024));
        inputs.push_text(name);
        inputs.push_text(role_arn);
        inputs.push_list(external_id.as_deref().into_iter());
        inputs.push_text(&session_duration.as_secs().to_string());
        inputs.push_text(match scope {
            ConnectionScope::Operation => "operation",
            ConnectionScope::Session => "session",
        });
        inputs.push_text(region);
        inputs.push_list(source_ip.iter().map(String::as_str));
        inputs.push_list(source_vpce.iter().map(String::as_str));
        inputs.push_list(bucket_accounts.iter().map(String::as_str));
        inputs.push_text(provider);
        inputs.push_text(issuer);
        inputs.push_text(subject);
        inputs.push_text(kind.as_str());
        inputs.push_list(groups.iter().map(String::as_str));
        inputs.push_list(act.iter().map(String::as_str));
        // Derived from the caller today. It is in the key so that a change of the derivation cannot make two callers share one.
        inputs.push_text(&source_identity(caller));
        inputs.push_text(&session.to_string());
        if *scope == ConnectionScope::Operation {
            // A set: the session policy does not depend on their order.
            let permissions: BTreeSet<String> =
                operation.required_permissions.iter().map(encode_required_permission).collect();
            inputs.push_list(permissions.iter().map(String::as_str));
        }
        Self(sha256_hex(inputs.0.as_bytes()))
    }
}

/// The parts of a required permission that a session policy depends on.
fn encode_required_permission(permission: &RequiredPermission) -> String {
    let mut text = LengthPrefixedText(String::with_capacity(96));
    text.push_text(&permission.action);
    match &permission.resource {
        Resource::Any => text.push_text("any"),
        Resource::Arn(arn) => text.push_list(["arn", arn].into_iter()),
        Resource::McpTool { server, name } => text.push_list(["tool", server, name].into_iter()),
        Resource::McpServer(server) => text.push_list(["server", server].into_iter()),
    }
    text.0
}

struct LengthPrefixedText(String);

impl LengthPrefixedText {
    fn push_text(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _infallible = write!(self.0, "{}:{text}", text.len());
    }

    fn push_list<'a>(&mut self, items: impl Iterator<Item = &'a str>) {
        let mut list = Self(String::new());
        for item in items {
            list.push_text(item);
        }
        self.push_text(&list.0);
    }
}
