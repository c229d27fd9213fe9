//! The entities of one question: the caller, the action, the resource, and what they are in.
//!
//! Ancestors are given flat and whole, so that nothing has to be closed over and only the request's own three entities need to
//! exist; a policy that reads others is not loaded. An entity without attributes or ancestors that Cedar must know of is left
//! out: to Cedar, an entity that does not exist is equal to itself and in nothing.

use crate::{
    entity_literals::{EntityKind, EntityLiterals, EntityNumber, EntityTypes},
    policy_set::{PolicyQuery, RequestContext},
    scope_index::ScopeTest,
};
use cedar_policy_core::ast::{Entity, EntityUID, PartialValue, Value};
use durward_core::{Arn, Caller, FrontEndKind, Resource};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

/// An attribute's name and value.
type EntityAttribute = (&'static str, Value);

/// An entity with its place in the hierarchy, as far as the policy set names it.
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
        id: Cow<'a, str>,
        above: impl Iterator<Item = (EntityKind, &'b str)>,
    ) -> Self {
        Self {
            entity_number: literals.find_number(kind, &id),
            ancestor_numbers: above.filter_map(|(kind, id)| literals.find_number(kind, id)).collect(),
            kind,
            id,
        }
    }

    pub(crate) fn for_caller(literals: &EntityLiterals, caller: &Caller) -> Self {
        let groups = caller.groups.iter().map(|group| (EntityKind::Group, group.as_str()));
        Self::new(literals, EntityKind::Caller, Cow::Owned(caller.id()), groups)
    }

    /// Every test of a scope that this entity passes.
    pub(crate) fn scope_tests(&self) -> Vec<ScopeTest> {
        let mut keys = Vec::with_capacity(self.ancestor_numbers.len() + 3);
        keys.push(ScopeTest::Is(self.kind));
        keys.extend(
            self.entity_number.into_iter().flat_map(|own| [ScopeTest::Equal(own), ScopeTest::In(own)]),
        );
        keys.extend(self.ancestor_numbers.iter().copied().map(ScopeTest::In));
        keys
    }

    pub(crate) fn uid(&self, types: &EntityTypes) -> EntityUID {
        types.entity_uid(self.kind, &self.id)
    }

    /// None: Cedar decides the same without it.
    pub(crate) fn to_entity(
        &self,
        literals: &EntityLiterals,
        uid: &EntityUID,
        attributes: Vec<EntityAttribute>,
        tags: Option<&BTreeMap<String, String>>,
    ) -> Option<Entity> {
        let mut above =
            self.ancestor_numbers.iter().filter_map(|number| literals.compared_entity(*number)).peekable();
        if attributes.is_empty() && tags.is_none_or(BTreeMap::is_empty) && above.peek().is_none() {
            return None;
        }
        let ancestors: HashSet<EntityUID> = above.cloned().collect();
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

/// An ARN taken apart as far as policies see it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ArnParts<'a> {
    pub service: &'a str,
    /// The resource type as the ARN spells it (`table`, `log-group`); S3, SNS and SQS spell none and get the obvious one.
    pub resource_type: &'a str,
    pub resource_name: &'a str,
    /// Twelve digits, or empty.
    pub account: &'a str,
    /// The ARN of the bucket an S3 object is in, and the bucket's name.
    pub bucket: Option<(&'a str, &'a str)>,
}

pub(crate) fn split_arn(arn: &str) -> Option<ArnParts<'_>> {
    let Arn { service, region, account, resource, .. } = Arn::parse(arn)?;
    let head = arn.len() - resource.len();
    let account = if is_account_id(account) { account } else { "" };
    let parts = ArnParts { service, account, ..ArnParts::default() };
    if service == "s3" && region.is_empty() && account.is_empty() {
        return Some(match resource.find('/') {
            None => ArnParts { resource_type: "bucket", resource_name: resource, ..parts },
            Some(slash) => ArnParts {
                resource_type: "object",
                resource_name: &resource[slash + 1..],
                bucket: Some((&arn[..head + slash], &resource[..slash])),
                ..parts
            },
        });
    }
    let resource = resource.strip_prefix('/').unwrap_or(resource);
    Some(match service {
        "sns" => ArnParts { resource_type: "topic", resource_name: resource, ..parts },
        "sqs" => ArnParts { resource_type: "queue", resource_name: resource, ..parts },
        _ => match resource.find(['/', ':']) {
            None => ArnParts { resource_name: resource, ..parts },
            Some(at) => {
                ArnParts { resource_type: &resource[..at], resource_name: &resource[at + 1..], ..parts }
            }
        },
    })
}

pub(crate) fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A question in terms of entities: the action with its groups, the resource with everything it is in.
#[derive(Debug)]
pub(crate) struct EntitySet<'a> {
    pub action: EntityRef<'a>,
    pub resource: EntityRef<'a>,
    arn_parts: ArnParts<'a>,
}

impl<'a> EntitySet<'a> {
    /// An error: the hierarchy would not be one.
    pub(crate) fn new(
        literals: &EntityLiterals,
        ask: &PolicyQuery<'a>,
        facts: &RequestContext<'_>,
    ) -> Result<Self, String> {
        let own = |action: &'static str, kind: EntityKind, id: &'a str| Self {
            action: EntityRef::new(literals, EntityKind::Action, Cow::Borrowed(action), std::iter::empty()),
            resource: EntityRef::new(literals, kind, Cow::Borrowed(id), std::iter::empty()),
            arn_parts: ArnParts::default(),
        };
        let (operation, demand) = match *ask {
            PolicyQuery::Connect { connection } => {
                return Ok(own("connect", EntityKind::Connection, connection));
            }
            PolicyQuery::Reveal { data_class } => {
                return Ok(own("reveal", EntityKind::DataClass, data_class));
            }
            PolicyQuery::Permission { operation, permission: demand } => (operation, demand),
        };
        let id = Cow::Borrowed(demand.action.as_str());
        let service = demand.action.split(':').next().unwrap_or_default();
        let action = if operation.front_end == FrontEndKind::Aws {
            let mut all_of_service = String::with_capacity(service.len() + 2);
            all_of_service.push_str(service);
            all_of_service.push_str(":*");
            let groups = [demand.access_level.as_str(), &all_of_service];
            if groups.contains(&demand.action.as_str()) {
                return Err(format!("the action {} would be in itself", demand.action));
            }
            let groups = groups.into_iter().map(|group| (EntityKind::AwsAction, group));
            EntityRef::new(literals, EntityKind::AwsAction, id, groups)
        } else {
            EntityRef::new(literals, EntityKind::McpAction, id, std::iter::empty())
        };
        let (arn, parts) = match &demand.resource {
            Resource::Arn(arn) => {
                let parts =
                    split_arn(arn).unwrap_or(ArnParts { service, resource_name: arn, ..ArnParts::default() });
                (arn.as_str(), parts)
            }
            Resource::Any => {
                ("*", ArnParts { service, resource_type: "*", resource_name: "*", ..ArnParts::default() })
            }
            Resource::McpTool { server, name } => {
                let id = Cow::Owned(format!("{server}/{name}"));
                let above = std::iter::once((EntityKind::McpServer, server.as_str()));
                let resource = EntityRef::new(literals, EntityKind::McpTool, id, above);
                return Ok(Self { action, resource, arn_parts: ArnParts::default() });
            }
            Resource::McpServer(server) => {
                let id = Cow::Borrowed(server.as_str());
                let resource = EntityRef::new(literals, EntityKind::McpServer, id, std::iter::empty());
                return Ok(Self { action, resource, arn_parts: ArnParts::default() });
            }
        };
        let account =
            if parts.account.is_empty() { operation.account.as_deref() } else { Some(parts.account) };
        // An account is in a connection only through the account: without one, nothing is in the connection.
        let connection = facts.connection.filter(|_| account.is_some());
        let above = [
            account.map(|account| (EntityKind::AwsAccount, account)),
            connection.map(|connection| (EntityKind::Connection, connection)),
            parts.bucket.map(|(bucket, _)| (EntityKind::AwsResource, bucket)),
        ];
        let id = Cow::Borrowed(arn);
        let resource = EntityRef::new(literals, EntityKind::AwsResource, id, above.into_iter().flatten());
        Ok(Self { action, resource, arn_parts: parts })
    }

    /// The attributes of the resource.
    pub(crate) fn resource_attributes(&self, ask: &PolicyQuery<'_>) -> Vec<EntityAttribute> {
        let PolicyQuery::Permission { permission: demand, .. } = ask else { return Vec::new() };
        match &demand.resource {
            Resource::Arn(_) | Resource::Any => aws_resource_attributes(&self.resource.id, &self.arn_parts),
            Resource::McpTool { server, name } => {
                vec![("server", Value::from(server.as_str())), ("name", Value::from(name.as_str()))]
            }
            Resource::McpServer(server) => vec![("name", Value::from(server.as_str()))],
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_arns_into_parts() {
        for (arn, service, kind, name, account, bucket) in [
            ("arn:aws:s3:::b", "s3", "bucket", "b", "", None),
            ("arn:aws:s3:::b/a/c:d", "s3", "object", "a/c:d", "", Some(("arn:aws:s3:::b", "b"))),
            (
                "arn:aws:s3:eu-west-1:123456789012:accesspoint/p",
                "s3",
                "accesspoint",
                "p",
                "123456789012",
                None,
            ),
            (
                "arn:aws:dynamodb:r:123456789012:table/T/index/i",
                "dynamodb",
                "table",
                "T/index/i",
                "123456789012",
                None,
            ),
            ("arn:aws:lambda:r:123456789012:function:f:1", "lambda", "function", "f:1", "123456789012", None),
            ("arn:aws:sns:r:123456789012:t", "sns", "topic", "t", "123456789012", None),
            ("arn:aws:sqs:r:123456789012:q", "sqs", "queue", "q", "123456789012", None),
            ("arn:aws:apigateway:r::/restapis/x", "apigateway", "restapis", "x", "", None),
            ("arn:aws:iam::aws:policy/P", "iam", "policy", "P", "", None),
            ("arn:aws:ec2:r:123456789012:instance/*", "ec2", "instance", "*", "123456789012", None),
        ] {
            assert_eq!(
                split_arn(arn),
                Some(ArnParts { service, resource_type: kind, resource_name: name, account, bucket }),
                "{arn}"
            );
        }
        assert_eq!(split_arn("arn:aws:s3"), None);
        assert_eq!(split_arn("b/k"), None);
    }
}
