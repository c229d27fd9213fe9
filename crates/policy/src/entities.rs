//! The entities of one question: the caller, the action, the resource, and what they are in.
//!
//! Ancestors are given flat and whole, so that nothing has to be closed over and only the request's own three entities need to
//! exist; a policy that reads others is not loaded. An entity without attributes or ancestors that Cedar must know of is left
//! out: to Cedar, an entity that does not exist is equal to itself and in nothing.

use crate::{
    index::Key,
    literals::{Kind, Literals, Number, Types},
    set::{Ask, Facts},
};
use cedar_policy_core::ast::{Entity, EntityUID, PartialValue, Value};
use durward_core::{Arn, Caller, Door, Resource};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

/// An attribute's name and value.
type Attribute = (&'static str, Value);

/// An entity with its place in the hierarchy, as far as the policy set names it.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    kind: Kind,
    id: Cow<'a, str>,
    own: Option<Number>,
    above: Vec<Number>,
}

impl<'a> Player<'a> {
    fn new<'b>(
        literals: &Literals,
        kind: Kind,
        id: Cow<'a, str>,
        above: impl Iterator<Item = (Kind, &'b str)>,
    ) -> Self {
        Self {
            own: literals.find(kind, &id),
            above: above.filter_map(|(kind, id)| literals.find(kind, id)).collect(),
            kind,
            id,
        }
    }

    pub(crate) fn caller(literals: &Literals, caller: &Caller) -> Self {
        let groups = caller.groups.iter().map(|group| (Kind::Group, group.as_str()));
        Self::new(literals, Kind::Caller, Cow::Owned(caller.id()), groups)
    }

    /// Every test of a scope that this entity passes.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::with_capacity(self.above.len() + 3);
        keys.push(Key::Is(self.kind));
        keys.extend(self.own.into_iter().flat_map(|own| [Key::Equal(own), Key::In(own)]));
        keys.extend(self.above.iter().copied().map(Key::In));
        keys
    }

    pub(crate) fn uid(&self, types: &Types) -> EntityUID {
        types.uid(self.kind, &self.id)
    }

    /// None: Cedar decides the same without it.
    pub(crate) fn entity(
        &self,
        literals: &Literals,
        uid: &EntityUID,
        attributes: Vec<Attribute>,
        tags: Option<&BTreeMap<String, String>>,
    ) -> Option<Entity> {
        let mut above = self.above.iter().filter_map(|number| literals.compared(*number)).peekable();
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
pub(crate) fn caller_attributes(caller: &Caller) -> Vec<Attribute> {
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
    pub kind: &'a str,
    pub name: &'a str,
    /// Twelve digits, or empty.
    pub account: &'a str,
    /// The ARN of the bucket an S3 object is in, and the bucket's name.
    pub bucket: Option<(&'a str, &'a str)>,
}

pub(crate) fn arn_parts(arn: &str) -> Option<ArnParts<'_>> {
    let Arn { service, region, account, resource, .. } = Arn::parse(arn)?;
    let head = arn.len() - resource.len();
    let account = if is_account(account) { account } else { "" };
    let parts = ArnParts { service, account, ..ArnParts::default() };
    if service == "s3" && region.is_empty() && account.is_empty() {
        return Some(match resource.find('/') {
            None => ArnParts { kind: "bucket", name: resource, ..parts },
            Some(slash) => ArnParts {
                kind: "object",
                name: &resource[slash + 1..],
                bucket: Some((&arn[..head + slash], &resource[..slash])),
                ..parts
            },
        });
    }
    let resource = resource.strip_prefix('/').unwrap_or(resource);
    Some(match service {
        "sns" => ArnParts { kind: "topic", name: resource, ..parts },
        "sqs" => ArnParts { kind: "queue", name: resource, ..parts },
        _ => match resource.find(['/', ':']) {
            None => ArnParts { name: resource, ..parts },
            Some(at) => ArnParts { kind: &resource[..at], name: &resource[at + 1..], ..parts },
        },
    })
}

pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A question in terms of entities: the action with its groups, the resource with everything it is in.
#[derive(Debug)]
pub(crate) struct Cast<'a> {
    pub action: Player<'a>,
    pub resource: Player<'a>,
    parts: ArnParts<'a>,
}

impl<'a> Cast<'a> {
    /// An error: the hierarchy would not be one.
    pub(crate) fn new(literals: &Literals, ask: &Ask<'a>, facts: &Facts<'_>) -> Result<Self, String> {
        let own = |action: &'static str, kind: Kind, id: &'a str| Self {
            action: Player::new(literals, Kind::Action, Cow::Borrowed(action), std::iter::empty()),
            resource: Player::new(literals, kind, Cow::Borrowed(id), std::iter::empty()),
            parts: ArnParts::default(),
        };
        let (operation, demand) = match *ask {
            Ask::Connect { connection } => return Ok(own("connect", Kind::Connection, connection)),
            Ask::Reveal { data_class } => return Ok(own("reveal", Kind::DataClass, data_class)),
            Ask::Demand { operation, demand } => (operation, demand),
        };
        let id = Cow::Borrowed(demand.action.as_str());
        let service = demand.action.split(':').next().unwrap_or_default();
        let action = if operation.door == Door::Aws {
            let mut all_of_service = String::with_capacity(service.len() + 2);
            all_of_service.push_str(service);
            all_of_service.push_str(":*");
            let groups = [demand.access_level.as_str(), &all_of_service];
            if groups.contains(&demand.action.as_str()) {
                return Err(format!("the action {} would be in itself", demand.action));
            }
            let groups = groups.into_iter().map(|group| (Kind::AwsAction, group));
            Player::new(literals, Kind::AwsAction, id, groups)
        } else {
            Player::new(literals, Kind::McpAction, id, std::iter::empty())
        };
        let (arn, parts) = match &demand.resource {
            Resource::Arn(arn) => {
                let parts = arn_parts(arn).unwrap_or(ArnParts { service, name: arn, ..ArnParts::default() });
                (arn.as_str(), parts)
            }
            Resource::Any => ("*", ArnParts { service, kind: "*", name: "*", ..ArnParts::default() }),
            Resource::McpTool { server, name } => {
                let id = Cow::Owned(format!("{server}/{name}"));
                let above = std::iter::once((Kind::McpServer, server.as_str()));
                let resource = Player::new(literals, Kind::McpTool, id, above);
                return Ok(Self { action, resource, parts: ArnParts::default() });
            }
            Resource::McpServer(server) => {
                let id = Cow::Borrowed(server.as_str());
                let resource = Player::new(literals, Kind::McpServer, id, std::iter::empty());
                return Ok(Self { action, resource, parts: ArnParts::default() });
            }
        };
        let account =
            if parts.account.is_empty() { operation.account.as_deref() } else { Some(parts.account) };
        // An account is in a connection only through the account: without one, nothing is in the connection.
        let connection = facts.connection.filter(|_| account.is_some());
        let above = [
            account.map(|account| (Kind::AwsAccount, account)),
            connection.map(|connection| (Kind::Connection, connection)),
            parts.bucket.map(|(bucket, _)| (Kind::AwsResource, bucket)),
        ];
        let id = Cow::Borrowed(arn);
        let resource = Player::new(literals, Kind::AwsResource, id, above.into_iter().flatten());
        Ok(Self { action, resource, parts })
    }

    /// The attributes of the resource.
    pub(crate) fn attributes(&self, ask: &Ask<'_>) -> Vec<Attribute> {
        let Ask::Demand { demand, .. } = ask else { return Vec::new() };
        match &demand.resource {
            Resource::Arn(_) | Resource::Any => resource_attributes(&self.resource.id, &self.parts),
            Resource::McpTool { server, name } => {
                vec![("server", Value::from(server.as_str())), ("name", Value::from(name.as_str()))]
            }
            Resource::McpServer(server) => vec![("name", Value::from(server.as_str()))],
        }
    }
}

fn resource_attributes(arn: &str, parts: &ArnParts<'_>) -> Vec<Attribute> {
    let mut attributes = vec![
        ("arn", Value::from(arn)),
        ("service", Value::from(parts.service)),
        ("type", Value::from(parts.kind)),
        ("name", Value::from(parts.name)),
    ];
    attributes.extend(parts.bucket.map(|(_, bucket)| ("bucket", Value::from(bucket))));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_arns_apart() {
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
            assert_eq!(arn_parts(arn), Some(ArnParts { service, kind, name, account, bucket }), "{arn}");
        }
        assert_eq!(arn_parts("arn:aws:s3"), None);
        assert_eq!(arn_parts("b/k"), None);
    }
}
