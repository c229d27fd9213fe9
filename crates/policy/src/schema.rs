//! The Cedar schema: Durward's own entity types, and of AWS only the actions that a policy set names.
//!
//! An action group has thousands of members. Validating against each would take minutes and prove no more, so a placeholder
//! action represents the group: its request parameters are those on which a policy on the group can rely.

use crate::{
    context_attributes::{ContextScope, context_schema},
    parameter_type::{ParameterType, merge_records, record_schema},
    schema_source::SchemaSource,
};
use durward_core::AccessLevel;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The actions that a schema declares.
#[derive(Debug, Default)]
pub(crate) struct SchemaScope {
    /// Single AWS actions.
    pub aws_actions: BTreeSet<String>,
    /// Service prefixes whose group `<prefix>:*` is named.
    pub aws_services: BTreeSet<String>,
    /// MCP methods.
    pub mcp_methods: BTreeSet<String>,
    /// Single actions are members of their groups, as a policy needs whose conditions test `action`. Otherwise a group has
    /// only its placeholder action, so that a policy on a group is not validated against actions that other policies name.
    pub has_group_membership: bool,
    /// Request members that policies on a service read. A service's placeholder action has only these.
    pub request_members: BTreeSet<String>,
    /// The type of `context.arguments`.
    pub arguments_schema: Option<Value>,
}

/// The schema in Cedar's JSON format.
pub(crate) fn generate_schema(scope: &SchemaScope, schema_source: &dyn SchemaSource) -> Value {
    let gateway_action = |resource_type: &str| {
        json!({ "appliesTo": {
            "principalTypes": ["Caller"],
            "resourceTypes": [resource_type],
            "context": { "type": "Record", "attributes": context_schema(ContextScope::Every) },
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
            "actions": { "connect": gateway_action("Connection"), "reveal": gateway_action("DataClass") },
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
            "actions": aws_action_schemas(scope, schema_source),
        },
        "Mcp": {
            "entityTypes": {
                "Server": { "shape": { "type": "Record", "attributes": { "name": string } } },
                "Tool": {
                    "memberOfTypes": ["Server"],
                    "shape": { "type": "Record", "attributes": { "server": string, "name": string } },
                },
            },
            "actions": mcp_action_schemas(scope),
        },
    })
}

fn aws_action_schemas(scope: &SchemaScope, schema_source: &dyn SchemaSource) -> Map<String, Value> {
    let mut actions = Map::new();
    let action_schema = |groups: &[&str], params: &BTreeMap<String, ParameterType>| {
        let mut context = context_schema(ContextScope::Aws);
        context.insert("params".to_owned(), record_schema(params));
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
    let no_params = BTreeMap::new();
    for level in AccessLevel::ALL {
        let level = level.as_str();
        actions.insert(level.to_owned(), json!({}));
        actions.insert(format!("(any {level} action)"), action_schema(&[level], &no_params));
    }
    for service in &scope.aws_services {
        let group = format!("{service}:*");
        let mut params = BTreeMap::new();
        for action in schema_source.service_actions(service) {
            let mut members = schema_source.request_parameters(&action);
            members.retain(|name, _| scope.request_members.contains(name));
            params = merge_records(&params, &members);
        }
        actions.insert(format!("(any action of {service})"), action_schema(&[&group], &params));
        if scope.has_group_membership {
            for level in AccessLevel::ALL {
                let level = level.as_str();
                let placeholder = format!("(any {level} action of {service})");
                actions.insert(placeholder, action_schema(&[&group, level], &params));
            }
        }
        actions.insert(group, json!({}));
    }
    for action in &scope.aws_actions {
        let mut groups = Vec::new();
        let service_group = action.split_once(':').map(|(service, _)| (service, format!("{service}:*")));
        if scope.has_group_membership {
            groups.extend(schema_source.access_level(action).map(AccessLevel::as_str));
            if let Some((service, group)) = &service_group
                && scope.aws_services.contains(*service)
            {
                groups.push(group);
            }
        }
        actions.insert(action.clone(), action_schema(&groups, &schema_source.request_parameters(action)));
    }
    actions
}

fn mcp_action_schemas(scope: &SchemaScope) -> Map<String, Value> {
    let mut actions = Map::new();
    for method in &scope.mcp_methods {
        let mut context = context_schema(ContextScope::Mcp);
        if let Some(arguments) = &scope.arguments_schema {
            context.insert("arguments".to_owned(), arguments.clone());
        }
        let is_tool_call = method == "tools/call";
        context["tool"]["required"] = Value::Bool(is_tool_call);
        let resource_types = if is_tool_call { json!(["Tool"]) } else { json!(["Server", "Tool"]) };
        actions.insert(
            method.clone(),
            json!({ "appliesTo": {
                "principalTypes": ["Caller"],
                "resourceTypes": resource_types,
                "context": { "type": "Record", "attributes": context },
            } }),
        );
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entity_literals::EntityKind, test_fixtures::TestSchemaSource};
    use cedar_policy::Schema;
    use durward_core::MCP_METHODS;

    #[test]
    fn declares_exactly_the_entity_types_of_a_query() {
        let schema = Schema::from_json_value(generate_schema(&SchemaScope::default(), &TestSchemaSource))
            .expect("a schema");
        let declared: BTreeSet<String> = schema.entity_types().map(ToString::to_string).collect();
        let is_action = |name: &str| name == "Action" || name.ends_with("::Action");
        let known = EntityKind::ALL.map(|(_, name)| name.to_owned());
        let expected: BTreeSet<String> = known.into_iter().filter(|name| !is_action(name)).collect();
        let declared: BTreeSet<String> = declared.into_iter().filter(|name| !is_action(name)).collect();
        assert_eq!(declared, expected);
    }

    #[test]
    fn the_policies_page_lists_exactly_these_entities() {
        let schema = generate_schema(&SchemaScope::default(), &TestSchemaSource);
        let mut expected = BTreeSet::new();
        for (namespace, prefix) in [("", ""), ("Aws", "Aws::"), ("Mcp", "Mcp::")] {
            for (name, declared) in schema[namespace]["entityTypes"].as_object().expect("entity types") {
                let list = |names: Vec<String>| names.join(", ");
                let parents = declared["memberOfTypes"].as_array().into_iter().flatten();
                let parents = parents.map(|parent| {
                    let parent = parent.as_str().expect("a name");
                    // A name without a namespace is one of its own namespace, if it has one.
                    let is_own = schema[namespace]["entityTypes"].get(parent).is_some();
                    format!("`{}{parent}`", if is_own { prefix } else { "" })
                });
                let attributes = declared["shape"]["attributes"].as_object();
                let attributes =
                    attributes.into_iter().flatten().map(|(attribute, _type)| format!("`{attribute}`"));
                let mut attributes: Vec<String> = attributes.collect();
                attributes.sort();
                expected.insert((format!("`{prefix}{name}`"), list(parents.collect()), list(attributes)));
            }
        }
        let page = include_str!("../../../docs/policies.md");
        let table =
            page.split("\n## ").find(|section| section.starts_with("Entities\n")).expect("the section");
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let listed: BTreeSet<_> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                (cells[1].to_owned(), cells[3].to_owned(), cells[4].to_owned())
            })
            .collect();
        assert_eq!(listed, expected);
    }

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
