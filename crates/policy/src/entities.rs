//! The entities of one question: the caller, the action, the resource, and what they are in.
//!
//! Ancestors are given flat, so that only the request's own three entities need to exist; a policy that reads others is not
//! loaded. Uids are built, never parsed: text from a request cannot become another type.

use crate::{
    index::type_key,
    reading::Needs,
    set::{Ask, Facts},
};
use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use durward_core::{Caller, Door, Resource};
use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
};

/// The entity types of the vocabulary, parsed once.
#[derive(Debug)]
pub(crate) struct Types {
    caller: EntityTypeName,
    group: EntityTypeName,
    action: EntityTypeName,
    connection: EntityTypeName,
    data_class: EntityTypeName,
    aws_action: EntityTypeName,
    aws_account: EntityTypeName,
    aws_resource: EntityTypeName,
    mcp_action: EntityTypeName,
    mcp_server: EntityTypeName,
    mcp_tool: EntityTypeName,
}

impl Types {
    pub(crate) fn new() -> Self {
        let name =
            |text: &str| EntityTypeName::from_str(text).expect("the names of our own types are well-formed");
        Self {
            caller: name("Caller"),
            group: name("Group"),
            action: name("Action"),
            connection: name("Connection"),
            data_class: name("DataClass"),
            aws_action: name("Aws::Action"),
            aws_account: name("Aws::Account"),
            aws_resource: name("Aws::Resource"),
            mcp_action: name("Mcp::Action"),
            mcp_server: name("Mcp::Server"),
            mcp_tool: name("Mcp::Tool"),
        }
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

type Attributes = HashMap<String, RestrictedExpression>;

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn entity(uid: EntityUid, attributes: Attributes, parents: HashSet<EntityUid>) -> Result<Entity, String> {
    if attributes.is_empty() {
        return Ok(Entity::new_no_attrs(uid, parents));
    }
    Entity::new(uid, attributes, parents).map_err(|error| error.to_string())
}

/// The caller as an entity, with or without its attributes.
pub(crate) fn principal(
    types: &Types,
    caller: &Caller,
    attributes: bool,
) -> Result<(EntityUid, Entity), String> {
    let id = uid(&types.caller, &caller.id());
    let groups = caller.groups.iter().map(|group| uid(&types.group, group)).collect();
    let attributes = if attributes {
        Attributes::from([
            ("subject".to_owned(), text(&caller.subject)),
            ("issuer".to_owned(), text(&caller.issuer)),
            ("provider".to_owned(), text(&caller.provider)),
            ("kind".to_owned(), text(caller.kind.as_str())),
            ("acting_for".to_owned(), RestrictedExpression::new_set(caller.act.iter().map(|act| text(act)))),
        ])
    } else {
        Attributes::new()
    };
    Ok((id.clone(), entity(id, attributes, groups)?))
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
    let mut fields = arn.splitn(6, ':');
    if fields.next() != Some("arn") {
        return None;
    }
    let (_partition, service) = (fields.next()?, fields.next()?);
    let (region, account) = (fields.next()?, fields.next()?);
    let resource = fields.next()?;
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

/// An entity's type and id.
type Named<'a> = (&'a EntityTypeName, &'a str);

/// A question in terms of entities: the action with its groups, the resource with everything it is in.
pub(crate) struct Cast<'a> {
    action: Named<'a>,
    action_groups: Vec<String>,
    resource: Named<'a>,
    resource_type: String,
    ancestors: Vec<Named<'a>>,
    parts: ArnParts<'a>,
    ask: &'a Ask<'a>,
    /// Owned ids that `resource` would otherwise borrow: `<server>/<name>`.
    tool: Option<String>,
}

impl<'a> Cast<'a> {
    pub(crate) fn new(types: &'a Types, ask: &'a Ask<'a>, facts: &Facts<'a>) -> Self {
        let mut cast = Self {
            action: (&types.action, "connect"),
            action_groups: Vec::new(),
            resource: (&types.connection, ""),
            resource_type: String::new(),
            ancestors: Vec::new(),
            parts: ArnParts::default(),
            ask,
            tool: None,
        };
        match ask {
            Ask::Connect { connection } => cast.resource.1 = connection,
            Ask::Reveal { data_class } => {
                cast.action.1 = "reveal";
                cast.resource = (&types.data_class, data_class);
            }
            Ask::Demand { operation, demand } => {
                let service = demand.action.split(':').next().unwrap_or_default();
                if operation.door == Door::Aws {
                    cast.action_groups =
                        vec![demand.access_level.as_str().to_owned(), format!("{service}:*")];
                }
                cast.action = (
                    if operation.door == Door::Aws { &types.aws_action } else { &types.mcp_action },
                    &demand.action,
                );
                match &demand.resource {
                    Resource::Arn(arn) => {
                        cast.parts =
                            arn_parts(arn).unwrap_or(ArnParts { service, name: arn, ..ArnParts::default() });
                        cast.resource = (&types.aws_resource, arn);
                    }
                    Resource::Any => {
                        cast.parts = ArnParts { service, kind: "*", name: "*", ..ArnParts::default() };
                        cast.resource = (&types.aws_resource, "*");
                    }
                    Resource::McpTool { server, name } => {
                        cast.tool = Some(format!("{server}/{name}"));
                        cast.resource = (&types.mcp_tool, "");
                        cast.ancestors.push((&types.mcp_server, server));
                    }
                    Resource::McpServer(server) => cast.resource = (&types.mcp_server, server),
                }
                if matches!(demand.resource, Resource::Arn(_) | Resource::Any) {
                    let account = if cast.parts.account.is_empty() {
                        operation.account.as_deref()
                    } else {
                        Some(cast.parts.account)
                    };
                    cast.ancestors.extend(account.map(|account| (&types.aws_account, account)));
                    // An account is in a connection only through the account: without one, nothing is in the connection.
                    if account.is_some() {
                        cast.ancestors
                            .extend(facts.connection.map(|connection| (&types.connection, connection)));
                    }
                    cast.ancestors.extend(cast.parts.bucket.map(|(arn, _)| (&types.aws_resource, arn)));
                }
            }
        }
        cast.resource_type = type_key(&cast.resource.0.to_string());
        cast
    }

    fn resource_id(&self) -> &str {
        self.tool.as_deref().unwrap_or(self.resource.1)
    }

    /// The keys under which policies that may apply are indexed: by action, and by resource.
    pub(crate) fn keys(&self) -> (Vec<&str>, Vec<&str>) {
        let mut actions = vec![self.action.1];
        actions.extend(self.action_groups.iter().map(String::as_str));
        let mut resources = vec![self.resource_id(), &self.resource_type];
        resources.extend(self.ancestors.iter().map(|(_, id)| *id));
        (actions, resources)
    }

    pub(crate) fn uids(&self) -> (EntityUid, EntityUid) {
        (uid(self.action.0, self.action.1), uid(self.resource.0, self.resource_id()))
    }

    /// The action and the resource as entities.
    pub(crate) fn entities(&self, needs: &Needs) -> Result<[Entity; 2], String> {
        let (action, resource) = self.uids();
        let groups = self.action_groups.iter().map(|group| uid(self.action.0, group)).collect();
        let ancestors = self.ancestors.iter().map(|(kind, id)| uid(kind, id)).collect();
        let attributes = if needs.resource { self.attributes() } else { Attributes::new() };
        Ok([Entity::new_no_attrs(action, groups), entity(resource, attributes, ancestors)?])
    }

    fn attributes(&self) -> Attributes {
        let Ask::Demand { demand, .. } = self.ask else { return Attributes::new() };
        match &demand.resource {
            Resource::Arn(_) | Resource::Any => resource_attributes(self.resource.1, &self.parts),
            Resource::McpTool { server, name } => {
                Attributes::from([("server".to_owned(), text(server)), ("name".to_owned(), text(name))])
            }
            Resource::McpServer(server) => Attributes::from([("name".to_owned(), text(server))]),
        }
    }
}

fn resource_attributes(arn: &str, parts: &ArnParts<'_>) -> Attributes {
    let mut attributes = Attributes::from([
        ("arn".to_owned(), text(arn)),
        ("service".to_owned(), text(parts.service)),
        ("type".to_owned(), text(parts.kind)),
        ("name".to_owned(), text(parts.name)),
    ]);
    if let Some((_, bucket)) = parts.bucket {
        attributes.insert("bucket".to_owned(), text(bucket));
    }
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
