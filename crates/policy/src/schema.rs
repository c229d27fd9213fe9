//! The Cedar schema: the product's vocabulary, and of AWS only what a policy set names.
//!
//! A group of actions has thousands of members; validating against each would take minutes and prove nothing more. So a group
//! is represented by one stand-in member whose request parameters are those that every reader may rely on.

use crate::schema_source::{ParameterType, SchemaSource, record_schema};
use durward_core::AccessLevel;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The methods of MCP, all revisions (2024-11-05 to 2026-07-28), that a client can send.
pub(crate) const MCP_METHODS: [&str; 23] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/roots/list_changed",
];

/// Which actions a schema declares.
#[derive(Debug, Default)]
pub(crate) struct SchemaScope {
    /// Single AWS actions.
    pub aws_actions: BTreeSet<String>,
    /// Service prefixes whose group `<prefix>:*` is named.
    pub aws_services: BTreeSet<String>,
    /// MCP methods.
    pub mcp_methods: BTreeSet<String>,
    /// Single actions are members of their groups: right for a policy whose conditions test `action`. Otherwise a group has
    /// only its stand-in, so that a policy on a group is not validated against every action the set names elsewhere.
    pub has_group_membership: bool,
    /// Request members that policies on a service read: a service's stand-in has only these.
    pub request_members: BTreeSet<String>,
    /// The type of `context.arguments`.
    pub arguments_schema: Option<Value>,
}

/// The schema in Cedar's JSON format.
pub(crate) fn generate_schema(scope: &SchemaScope, vocabulary: &dyn SchemaSource) -> Value {
    let moment = || {
        BTreeMap::from([
            ("source_ip", json!({ "type": "Extension", "name": "ipaddr" })),
            ("now", json!({ "type": "Extension", "name": "datetime" })),
        ])
    };
    let own = |resource: &str| {
        json!({ "appliesTo": {
            "principalTypes": ["Caller"],
            "resourceTypes": [resource],
            "context": { "type": "Record", "attributes": moment() },
        } })
    };
    let string = json!({ "type": "String" });
    json!({
        "": {
            "entityTypes": {
                "Group": {},
                "Caller": {
                    "memberOfTypes": ["Group"],
                    "shape": { "type": "Record", "attributes": {
                        "subject": string, "issuer": string, "provider": string, "kind": string,
                        "acting_for": { "type": "Set", "element": string },
                    } },
                },
                "Connection": {},
                "DataClass": {},
            },
            "actions": { "connect": own("Connection"), "reveal": own("DataClass") },
        },
        "Aws": {
            "entityTypes": {
                "Account": { "memberOfTypes": ["Connection"] },
                "Resource": {
                    "memberOfTypes": ["Account", "Resource"],
                    "shape": { "type": "Record", "attributes": {
                        "arn": string, "service": string, "type": string, "name": string,
                        "bucket": { "type": "String", "required": false },
                    } },
                    "tags": string,
                },
            },
            "actions": aws_action_schemas(scope, vocabulary, &moment()),
        },
        "Mcp": {
            "entityTypes": {
                "Server": { "shape": { "type": "Record", "attributes": { "name": string } } },
                "Tool": {
                    "memberOfTypes": ["Server"],
                    "shape": { "type": "Record", "attributes": { "server": string, "name": string } },
                },
            },
            "actions": mcp_action_schemas(scope, &moment()),
        },
    })
}

fn aws_action_schemas(
    scope: &SchemaScope,
    vocabulary: &dyn SchemaSource,
    moment: &BTreeMap<&str, Value>,
) -> Map<String, Value> {
    let mut actions = Map::new();
    let applied = |groups: &[&str], params: &BTreeMap<String, ParameterType>| {
        let mut context = moment.clone();
        for name in ["operation", "region", "account", "connection", "access_level"] {
            context.insert(name, json!({ "type": "String" }));
        }
        for name in ["irreversible", "escalates", "indirect", "returns_credentials"] {
            context.insert(name, json!({ "type": "Boolean" }));
        }
        context.insert("risk", json!({ "type": "Long" }));
        context.insert("request_tags", json!({ "type": "Set", "element": { "type": "String" } }));
        context.insert("params", record_schema(params));
        let groups: Vec<Value> = groups.iter().map(|id| json!({ "id": id })).collect();
        json!({
            "memberOf": groups,
            "appliesTo": {
                "principalTypes": ["Caller"],
                "resourceTypes": ["Resource"],
                "context": { "type": "Record", "attributes": context },
            },
        })
    };
    let nothing = BTreeMap::new();
    for level in AccessLevel::ALL {
        let level = level.as_str();
        actions.insert(level.to_owned(), json!({}));
        actions.insert(format!("(any {level} action)"), applied(&[level], &nothing));
    }
    for service in &scope.aws_services {
        let group = format!("{service}:*");
        let mut params = BTreeMap::new();
        for action in vocabulary.service_actions(service) {
            let mut members = vocabulary.request_parameters(&action);
            members.retain(|name, _| scope.request_members.contains(name));
            params = crate::schema_source::merge_records(&params, &members);
        }
        actions.insert(format!("(any action of {service})"), applied(&[&group], &params));
        if scope.has_group_membership {
            for level in AccessLevel::ALL {
                let level = level.as_str();
                actions
                    .insert(format!("(any {level} action of {service})"), applied(&[&group, level], &params));
            }
        }
        actions.insert(group, json!({}));
    }
    for action in &scope.aws_actions {
        let mut groups = Vec::new();
        let group = action.split_once(':').map(|(service, _)| (service, format!("{service}:*")));
        if scope.has_group_membership {
            groups.extend(vocabulary.access_level(action).map(AccessLevel::as_str));
            if let Some((service, group)) = &group
                && scope.aws_services.contains(*service)
            {
                groups.push(group);
            }
        }
        actions.insert(action.clone(), applied(&groups, &vocabulary.request_parameters(action)));
    }
    actions
}

fn mcp_action_schemas(scope: &SchemaScope, moment: &BTreeMap<&str, Value>) -> Map<String, Value> {
    let arguments =
        scope.arguments_schema.clone().unwrap_or_else(|| json!({ "type": "Record", "attributes": {} }));
    let mut actions = Map::new();
    for method in &scope.mcp_methods {
        let mut context = moment.clone();
        context.insert("server", json!({ "type": "String" }));
        context.insert("risk", json!({ "type": "Long" }));
        let mut arguments = arguments.clone();
        if let Value::Object(fields) = &mut arguments {
            fields.insert("required".to_owned(), Value::Bool(true));
        }
        context.insert("arguments", arguments);
        let on_tool = method == "tools/call";
        context.insert("tool", json!({ "type": "String", "required": on_tool }));
        let resources = if on_tool { json!(["Tool"]) } else { json!(["Server", "Tool"]) };
        actions.insert(
            method.clone(),
            json!({ "appliesTo": {
                "principalTypes": ["Caller"],
                "resourceTypes": resources,
                "context": { "type": "Record", "attributes": context },
            } }),
        );
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_fixtures::TestSchemaSource;
    use cedar_policy::Schema;

    #[test]
    fn is_a_schema_cedar_accepts() {
        for membership in [false, true] {
            let scope = SchemaScope {
                aws_actions: BTreeSet::from(["s3:GetObject".to_owned(), "dynamodb:*unknown*".to_owned()]),
                aws_services: BTreeSet::from(["s3".to_owned()]),
                mcp_methods: MCP_METHODS.iter().map(|method| (*method).to_owned()).collect(),
                has_group_membership: membership,
                request_members: BTreeSet::from(["Bucket".to_owned()]),
                arguments_schema: None,
            };
            let schema = Schema::from_json_value(generate_schema(&scope, &TestSchemaSource));
            assert!(schema.is_ok(), "{:?}", schema.err());
        }
    }
}
