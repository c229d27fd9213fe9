//! The questions that policy decides, and the facts about a request that its decision may depend on.
//!
//! Plain data: nothing here evaluates a policy.

use crate::access_points::access_point_in_use;
use durward_core::{Caller, Operation, RequiredPermission, Resource, ResourceTags};
use std::net::IpAddr;
use time::OffsetDateTime;

/// Facts about a request that are neither in the caller nor in the operation.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The configured connection, for AWS.
    pub connection: Option<&'a str>,
    pub source_ip: IpAddr,
    pub now: OffsetDateTime,
    /// The tags of the resources that [`PolicySet::attribute_reads`](crate::PolicySet::attribute_reads) lists. A policy that
    /// reads the tags of a resource that is not in the map cannot be evaluated.
    pub tags: Option<&'a ResourceTags>,
    /// From 0 to 100. A policy that reads the risk cannot be evaluated without it.
    pub risk: Option<u8>,
}

/// The facts that must be looked up before an operation can be decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributeReads<'a> {
    /// The ARNs of the resources whose tags an applicable policy reads.
    pub tag_lookup_arns: Vec<&'a str>,
    /// The actions for which an applicable policy reads tags although the request names no resource. Either the action has
    /// no resource, or the tags of its resource cannot be known.
    pub unnamed_resource_actions: Vec<&'a str>,
    /// An applicable policy reads `context.risk`.
    pub reads_risk: bool,
}

/// A question that policy decides.
#[derive(Debug, Clone, Copy)]
pub enum PolicyQuery<'a> {
    /// May the caller use the connection?
    Connect { connection: &'a str },
    /// May the caller see data of this class unmasked?
    Reveal { data_class: &'a str },
    /// Does the caller have this permission, which the operation requires?
    Permission { operation: &'a Operation, permission: &'a RequiredPermission },
}

impl PolicyQuery<'_> {
    /// Returns true if this is about an operation that the catalog does not know.
    pub(crate) fn is_unknown_operation(&self) -> bool {
        matches!(self, Self::Permission { permission, .. } if permission.is_unknown_operation())
    }

    /// The access point or alias through which a permission reaches a bucket that the gateway does not know.
    pub(crate) fn access_point(&self) -> Option<&str> {
        match self {
            Self::Permission {
                permission: RequiredPermission { action, resource: Resource::Arn(arn), .. },
                ..
            } => access_point_in_use(action, arn),
            _ => None,
        }
    }

    /// The query for people: `s3:DeleteBucket on arn:aws:s3:::b`.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Connect { connection } => format!("connect on {connection}"),
            Self::Reveal { data_class } => format!("reveal on {data_class}"),
            Self::Permission { permission, .. } => {
                format!("{} on {}", permission.action, permission.resource.to_text())
            }
        }
    }
}

/// A query with the caller and the context that decide it.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    pub caller: &'a Caller,
    pub query: PolicyQuery<'a>,
    pub context: RequestContext<'a>,
}
