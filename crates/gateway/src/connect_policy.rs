//! Decides if a caller may use a connection at all: when a session is opened, with every MCP request, and again after a hold.

use durward_core::{Caller, Decision};
use durward_policy::{AuthorizationRequest, PolicyQuery, PolicyStore, RequestContext};
use std::net::IpAddr;
use time::OffsetDateTime;

/// The decision on `connect`, by the policies of this moment.
pub(crate) fn decide_connect(
    policies: &PolicyStore,
    caller: &Caller,
    connection: &str,
    source_ip: IpAddr,
    now: OffsetDateTime,
) -> Decision {
    let context = RequestContext { connection: Some(connection), source_ip, now, tags: None, risk: None };
    let query = PolicyQuery::Connect { connection };
    policies.current().decide(&AuthorizationRequest { caller, query, context })
}
