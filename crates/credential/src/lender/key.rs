//! The cache key: every input of a loan but the exchange and the time. Fields are written with their length before them,
//! so that no two different inputs give the same text; the structs are taken apart by name, so that a field added to one
//! of them does not compile until it is in the key.

use super::{ConnectionConfig, ConnectionScope, LendRequest, Resource};
use crate::attribution::source_identity;
use crate::policy::PolicyExtras;
use durward_aws::sigv4::sha256_hex;
use durward_core::{Caller, Demand};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// SHA-256 of the inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(String);

impl Key {
    pub fn of(ask: &LendRequest<'_>) -> Self {
        let LendRequest { connection, caller, session, exchange: _, operation } = ask;
        let ConnectionConfig { name, role_arn, external_id, duration, scope, region, extras } = connection;
        let PolicyExtras { source_ip, source_vpce } = extras;
        let Caller { provider, issuer, subject, kind, groups, act } = caller;
        let mut inputs = Inputs(String::with_capacity(1_024));
        inputs.put(name);
        inputs.put(role_arn);
        inputs.list(external_id.as_deref().into_iter());
        inputs.put(&duration.as_secs().to_string());
        inputs.put(match scope {
            ConnectionScope::Operation => "operation",
            ConnectionScope::Session => "session",
        });
        inputs.put(region);
        inputs.list(source_ip.iter().map(String::as_str));
        inputs.list(source_vpce.iter().map(String::as_str));
        inputs.put(provider);
        inputs.put(issuer);
        inputs.put(subject);
        inputs.put(kind.as_str());
        inputs.list(groups.iter().map(String::as_str));
        inputs.list(act.iter().map(String::as_str));
        // Derived from the caller today; in the key so that a change of the derivation cannot make two callers share.
        inputs.put(&source_identity(caller));
        inputs.put(&session.to_string());
        if *scope == ConnectionScope::Operation {
            let demands: BTreeSet<String> = operation.demands.iter().map(demand_text).collect();
            inputs.list(demands.iter().map(String::as_str));
        }
        Self(sha256_hex(inputs.0.as_bytes()))
    }
}

/// A demand as far as a session policy depends on it.
fn demand_text(demand: &Demand) -> String {
    let mut text = Inputs(String::with_capacity(96));
    text.put(&demand.action);
    match &demand.resource {
        Resource::Any => text.put("any"),
        Resource::Arn(arn) => text.list(["arn", arn].into_iter()),
        Resource::McpTool { server, name } => text.list(["tool", server, name].into_iter()),
        Resource::McpServer(server) => text.list(["server", server].into_iter()),
    }
    text.0
}

struct Inputs(String);

impl Inputs {
    fn put(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _infallible = write!(self.0, "{}:{text}", text.len());
    }

    fn list<'a>(&mut self, items: impl Iterator<Item = &'a str>) {
        let mut list = Self(String::new());
        for item in items {
            list.put(item);
        }
        self.put(&list.0);
    }
}
