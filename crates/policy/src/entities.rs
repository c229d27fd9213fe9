//! The entities of one query: the caller, the action, the resource, and their ancestors.
//!
//! Ancestors are given as a complete flat set, so that Cedar has no hierarchy to close and only the three entities of the request
//! need to exist. A policy that reads other entities is not loaded. An entity without attributes, and without ancestors that a
//! condition names, is left out: for Cedar, an entity that does not exist is equal to itself and in nothing else.

use crate::{
    access_points::access_point_of,
    arn_parts::{ArnParts, split_arn},
    entity_literals::{EntityKind, EntityLiterals, EntityNumber, EntityTypes},
    policy_query::{PolicyQuery, RequestContext},
    query_error::QueryError,
    scope_index::ScopeTest,
};
use cedar_policy_core::ast::{Entity, EntityUID, PartialValue, Value};
use durward_core::{Caller, FrontEndKind, Operation, RequiredPermission, Resource};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

/// The name and value of an attribute.
type EntityAttribute = (&'static str, Value);

/// An entity of a query, and which of its ancestors the policy set names.
#[derive(Debug)]
pub(crate) struct EntityRef<'a> {
    kind: EntityKind,
    id: Cow<'a, str>,
    entity_number: Option<EntityNumber>,
    ancestor_numbers: Vec<EntityNumber>,
}

impl<'a> EntityRef<'a> {
    fn new<'b>(
        literals: &EntityLiterals,
        kind: EntityKind,
        id: impl Into<Cow<'a, str>>,
        ancestors: impl IntoIterator<Item = (EntityKind, &'b str)>,
    ) -> Self {
        let id = id.into();
        Self {
            entity_number: literals.find_number(kind, &id),
            ancestor_numbers: ancestors
                .into_iter()
                .filter_map(|(kind, id)| literals.find_number(kind, id))
                .collect(),
            kind,
            id,
        }
    }

    fn without_ancestors(literals: &EntityLiterals, kind: EntityKind, id: impl Into<Cow<'a, str>>) -> Self {
        Self::new(literals, kind, id, [])
    }

    pub(crate) fn for_caller(literals: &EntityLiterals, caller: &Caller) -> Self {
        let groups = caller.groups.iter().map(|group| (EntityKind::Group, group.as_str()));
        Self::new(literals, EntityKind::Caller, caller.id(), groups)
    }

    /// Every scope test that this entity passes.
    pub(crate) fn scope_tests(&self) -> Vec<ScopeTest> {
        let mut tests = Vec::with_capacity(self.ancestor_numbers.len() + 3);
        tests.push(ScopeTest::Is(self.kind));
        // Cedar's `in` is reflexive.
        tests.extend(
            self.entity_number.into_iter().flat_map(|own| [ScopeTest::Equal(own), ScopeTest::In(own)]),
        );
        tests.extend(self.ancestor_numbers.iter().copied().map(ScopeTest::In));
        tests
    }

    pub(crate) fn uid(&self, types: &EntityTypes) -> EntityUID {
        types.entity_uid(self.kind, &self.id)
    }

    /// `None`: Cedar decides the same without it.
    pub(crate) fn to_entity(
        &self,
        literals: &EntityLiterals,
        uid: &EntityUID,
        attributes: Vec<EntityAttribute>,
        tags: Option<&BTreeMap<String, String>>,
    ) -> Option<Entity> {
        let mut compared_ancestors =
            self.ancestor_numbers.iter().filter_map(|number| literals.compared_entity(*number)).peekable();
        if attributes.is_empty() && tags.is_none_or(BTreeMap::is_empty) && compared_ancestors.peek().is_none()
        {
            return None;
        }
        let ancestors: HashSet<EntityUID> = compared_ancestors.cloned().collect();
        let attributes =
            attributes.into_iter().map(|(name, value)| (name.into(), PartialValue::Value(value)));
        let tags = tags
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str().into(), PartialValue::Value(Value::from(value.as_str()))));
        Some(Entity::new_with_attr_partial_value(uid.clone(), attributes, HashSet::new(), ancestors, tags))
    }
}

/// The attributes of a caller.
pub(crate) fn caller_attributes(caller: &Caller) -> Vec<EntityAttribute> {
    vec![
        ("subject", Value::from(caller.subject.as_str())),
        ("issuer", Value::from(caller.issuer.as_str())),
        ("provider", Value::from(caller.provider.as_str())),
        ("kind", Value::from(caller.kind.as_str())),
        ("acting_for", Value::set(caller.act.iter().map(|act| Value::from(act.as_str())), None)),
    ]
}

/// A query as entities: the action with its groups, and the resource with everything that it is in.
#[derive(Debug)]
pub(crate) struct EntitySet<'a> {
    pub action: EntityRef<'a>,
    pub resource: EntityRef<'a>,
    arn_parts: ArnParts<'a>,
}

impl<'a> EntitySet<'a> {
    pub(crate) fn new(
        literals: &EntityLiterals,
        query: &PolicyQuery<'a>,
        context: &RequestContext<'_>,
    ) -> Result<Self, QueryError> {
        let gateway_action = |action: &'static str, kind: EntityKind, id: &'a str| Self {
            action: EntityRef::without_ancestors(literals, EntityKind::Action, action),
            resource: EntityRef::without_ancestors(literals, kind, id),
            arn_parts: ArnParts::default(),
        };
        match *query {
            PolicyQuery::Connect { connection } => {
                Ok(gateway_action("connect", EntityKind::Connection, connection))
            }
            PolicyQuery::Reveal { data_class } => {
                Ok(gateway_action("reveal", EntityKind::DataClass, data_class))
            }
            PolicyQuery::Permission { operation, permission } => {
                let action = action_entity(literals, operation, permission)?;
                Ok(match &permission.resource {
                    Resource::Arn(_) | Resource::Any => {
                        let (resource, arn_parts) =
                            aws_resource_entity(literals, operation, permission, context);
                        Self { action, resource, arn_parts }
                    }
                    Resource::McpTool { server, name } => {
                        let id = format!("{server}/{name}");
                        let parent = (EntityKind::McpServer, server.as_str());
                        let resource = EntityRef::new(literals, EntityKind::McpTool, id, [parent]);
                        Self { action, resource, arn_parts: ArnParts::default() }
                    }
                    Resource::McpServer(server) => {
                        let resource =
                            EntityRef::without_ancestors(literals, EntityKind::McpServer, server.as_str());
                        Self { action, resource, arn_parts: ArnParts::default() }
                    }
                })
            }
        }
    }

    /// The attributes of the resource.
    pub(crate) fn resource_attributes(&self, query: &PolicyQuery<'_>) -> Vec<EntityAttribute> {
        let PolicyQuery::Permission { permission, .. } = query else { return Vec::new() };
        match &permission.resource {
            Resource::Arn(_) | Resource::Any => aws_resource_attributes(&self.resource.id, &self.arn_parts),
            Resource::McpTool { server, name } => {
                vec![("server", Value::from(server.as_str())), ("name", Value::from(name.as_str()))]
            }
            Resource::McpServer(server) => vec![("name", Value::from(server.as_str()))],
        }
    }
}

fn action_entity<'a>(
    literals: &EntityLiterals,
    operation: &Operation,
    permission: &'a RequiredPermission,
) -> Result<EntityRef<'a>, QueryError> {
    let action = permission.action.as_str();
    if operation.front_end == FrontEndKind::Mcp {
        return Ok(EntityRef::without_ancestors(literals, EntityKind::McpAction, action));
    }
    let service_group = [service_prefix(action), ":*"].concat();
    let groups = [permission.access_level.as_str(), &service_group];
    // Cedar rejects a hierarchy with a cycle; the catalog has no such action, but an operation may carry any text.
    if groups.contains(&action) {
        return Err(QueryError::ActionInItself { action: action.to_owned() });
    }
    let groups = groups.into_iter().map(|group| (EntityKind::AwsAction, group));
    Ok(EntityRef::new(literals, EntityKind::AwsAction, action, groups))
}

fn aws_resource_entity<'a>(
    literals: &EntityLiterals,
    operation: &Operation,
    permission: &'a RequiredPermission,
    context: &RequestContext<'_>,
) -> (EntityRef<'a>, ArnParts<'a>) {
    let service = service_prefix(&permission.action);
    let (arn, parts) = match &permission.resource {
        Resource::Arn(arn) => {
            let unsplit = || ArnParts { service, resource_name: arn, ..ArnParts::default() };
            (arn.as_str(), split_arn(arn).unwrap_or_else(unsplit))
        }
        _ => ("*", ArnParts { service, resource_type: "*", resource_name: "*", ..ArnParts::default() }),
    };
    let account = if parts.account.is_empty() { operation.account.as_deref() } else { Some(parts.account) };
    // A resource is in a connection only through its account. Without an account it is in no connection.
    let connection = context.connection.filter(|_| account.is_some());
    let ancestors = [
        account.map(|account| (EntityKind::AwsAccount, account)),
        connection.map(|connection| (EntityKind::Connection, connection)),
        parts.bucket.map(|(bucket_arn, _)| (EntityKind::AwsResource, bucket_arn)),
        // An object behind an access point is in it. That of an alias is in the alias already, which looks like a bucket.
        access_point_of(arn)
            .filter(|access_point| *access_point != arn && parts.bucket.is_none())
            .map(|access_point| (EntityKind::AwsResource, access_point)),
    ];
    (EntityRef::new(literals, EntityKind::AwsResource, arn, ancestors.into_iter().flatten()), parts)
}

fn service_prefix(action: &str) -> &str {
    action.split(':').next().unwrap_or_default()
}

fn aws_resource_attributes(arn: &str, parts: &ArnParts<'_>) -> Vec<EntityAttribute> {
    let mut attributes = vec![
        ("arn", Value::from(arn)),
        ("service", Value::from(parts.service)),
        ("type", Value::from(parts.resource_type)),
        ("name", Value::from(parts.resource_name)),
    ];
    attributes.extend(parts.bucket.map(|(_, bucket)| ("bucket", Value::from(bucket))));
    attributes
}
