//! The cache key: every input of a loan but the exchange and the time. Fields are written with their length before them,
//! so that no two different inputs give the same text; the structs are taken apart by name, so that a field added to one
//! of them does not compile until it is in the key.

use super::{ConnectionConfig, ConnectionScope, CredentialRequest, Resource};
use crate::attribution::source_identity;
use crate::session_policy::SessionPolicyConditions;
use durward_aws::sigv4::sha256_hex;
use durward_core::{Caller, RequiredPermission};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// SHA-256 of the inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CredentialCacheKey(String);

impl CredentialCacheKey {
    pub fn from_request(ask: &CredentialRequest<'_>) -> Self {
        let CredentialRequest { connection, caller, session, exchange: _, operation } = ask;
        let ConnectionConfig {
            name,
            role_arn,
            external_id,
            session_duration: duration,
            scope,
            region,
            policy_conditions: extras,
        } = connection;
        let SessionPolicyConditions { source_ip, source_vpce } = extras;
        let Caller { provider, issuer, subject, kind, groups, act } = caller;
        let mut inputs = LengthPrefixedText(String::with_capacity(1_024));
        inputs.push_text(name);
        inputs.push_text(role_arn);
        inputs.push_list(external_id.as_deref().into_iter());
        inputs.push_text(&duration.as_secs().to_string());
        inputs.push_text(match scope {
            ConnectionScope::Operation => "operation",
            ConnectionScope::Session => "session",
        });
        inputs.push_text(region);
        inputs.push_list(source_ip.iter().map(String::as_str));
        inputs.push_list(source_vpce.iter().map(String::as_str));
        inputs.push_text(provider);
        inputs.push_text(issuer);
        inputs.push_text(subject);
        inputs.push_text(kind.as_str());
        inputs.push_list(groups.iter().map(String::as_str));
        inputs.push_list(act.iter().map(String::as_str));
        // Derived from the caller today; in the key so that a change of the derivation cannot make two callers share.
        inputs.push_text(&source_identity(caller));
        inputs.push_text(&session.to_string());
        if *scope == ConnectionScope::Operation {
            let demands: BTreeSet<String> =
                operation.required_permissions.iter().map(encode_required_permission).collect();
            inputs.push_list(demands.iter().map(String::as_str));
        }
        Self(sha256_hex(inputs.0.as_bytes()))
    }
}

/// A demand as far as a session policy depends on it.
fn encode_required_permission(demand: &RequiredPermission) -> String {
    let mut text = LengthPrefixedText(String::with_capacity(96));
    text.push_text(&demand.action);
    match &demand.resource {
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
