//! Our own checks of a policy: its annotations, the entities that it names, and what the schema cannot express well.

use super::{ParsedPolicy, PolicyProperties};
use crate::{
    approval_annotations::{KNOWN_ANNOTATIONS, parse_approval_rule},
    arn_parts::split_arn,
    attribute_usage::collect_attribute_usage,
    configured_names::{NameReference, compared_names, entity_name},
    entity_literals::EntityKind,
    load_error::PolicyProblem,
    schema_source::SchemaSource,
};
use cedar_policy::{ActionConstraint, Effect, EntityTypeName, EntityUid, Policy, ResourceConstraint};
use durward_core::{AccessLevel, MCP_METHODS, UNKNOWN_OPERATION_ACTION, is_account_id};
use std::collections::BTreeSet;

pub(super) fn check_policy(
    parsed: &ParsedPolicy<'_>,
    schema_source: &dyn SchemaSource,
) -> Result<PolicyProperties, Vec<PolicyProblem>> {
    let mut problems = Vec::new();
    for (name, _) in parsed.policy.annotations() {
        // To Cedar, annotations mean nothing, so it accepts any: a misspelt `@quorum` would silently be a quorum of one.
        if !KNOWN_ANNOTATIONS.contains(&name) {
            problems.push(
                parsed
                    .problem_at(&format!("@{name}"))
                    .with_message(format!("the annotation @{name} is not known"))
                    .with_help(format!("known are @{}", KNOWN_ANNOTATIONS.join(", @"))),
            );
        }
    }
    let is_forbid = parsed.policy.effect() == Effect::Forbid;
    let approval_rule = match parse_approval_rule(|name| parsed.policy.annotation(name), is_forbid) {
        Ok(rule) => rule,
        Err(error) => {
            problems.push(
                parsed
                    .problem_at(&format!("@{}", error.annotation()))
                    .with_message(error.to_string())
                    .with_help(error.help()),
            );
            None
        }
    };
    if approval_rule.is_some() && applies_to_gateway_actions_only(&parsed.policy) {
        problems.push(
            parsed
                .problem_at("@approval")
                .with_message(
                    "approval applies to operations only; `connect` and `reveal` are not operations",
                )
                .with_help(
                    "remove @approval, and exempt callers with `unless`; or forbid the operations themselves: \
                     action in Aws::Action::\"Write\"",
                ),
        );
    }
    check_entities(parsed, schema_source, &mut problems);
    let (attribute_usage, name_references) = match parsed.policy.to_json() {
        Ok(json) => (collect_attribute_usage(&json), find_name_references(parsed, &json)),
        Err(error) => {
            problems.push(parsed.problem_at("").with_message(format!("cannot be read: {error}")));
            return Err(problems);
        }
    };
    if attribute_usage.reads_other_entities {
        problems.push(
            parsed
                .problem_at("")
                .with_message(
                    "reads attributes or groups of something other than principal, action, resource or context",
                )
                .with_help(
                    "of an entity that is not part of the request only the id is known: compare with it, or test \
                     `in` it",
                ),
        );
    }
    for conflict in &attribute_usage.type_conflicts {
        problems.push(
            parsed
                .problem_at("context.arguments")
                .with_message(conflict)
                .with_help("an argument has one type in a policy: write two policies"),
        );
    }
    if problems.is_empty() {
        Ok(PolicyProperties { attribute_usage, approval_rule, name_references })
    } else {
        Err(problems)
    }
}

/// The names of the configuration in a policy, each with its first position.
fn find_name_references(parsed: &ParsedPolicy<'_>, json: &serde_json::Value) -> Vec<NameReference> {
    let mut found: Vec<NameReference> = Vec::new();
    for literal in parsed.policy.entity_literals() {
        let Some((kind, name)) = entity_name(&literal) else { continue };
        if !found.iter().any(|known| known.kind == kind && known.name == name) {
            let position = parsed.problem_at(&literal_needle(parsed, &literal));
            found.push(NameReference { kind, name, position });
        }
    }
    for (kind, name) in compared_names(json) {
        if !found.iter().any(|known| known.kind == kind && known.name == name) {
            let position = parsed.problem_at(&format!("\"{name}\""));
            found.push(NameReference { kind, name, position });
        }
    }
    found
}

/// The text of an entity in a policy. It may have spaces or escapes that the parsed literal has not.
fn literal_needle(parsed: &ParsedPolicy<'_>, literal: &EntityUid) -> String {
    let id = literal.id().unescaped();
    let whole = format!("{}::\"{id}\"", literal.type_name());
    if parsed.text.contains(&whole) { whole } else { format!("\"{id}\"") }
}

/// Returns true if a policy can apply to nothing but `connect` and `reveal`, which no approval can override.
fn applies_to_gateway_actions_only(policy: &Policy) -> bool {
    let kind_of = |name: &EntityTypeName| EntityKind::from_type_name(&name.to_string());
    let is_gateway_action = |action: &EntityUid| kind_of(action.type_name()) == Some(EntityKind::Action);
    let by_action = match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => is_gateway_action(&action),
        ActionConstraint::In(actions) => !actions.is_empty() && actions.iter().all(is_gateway_action),
    };
    let is_gateway_resource =
        |name: &EntityTypeName| matches!(kind_of(name), Some(EntityKind::Connection | EntityKind::DataClass));
    let by_resource = match policy.resource_constraint() {
        ResourceConstraint::Eq(resource) => is_gateway_resource(resource.type_name()),
        ResourceConstraint::Is(name) | ResourceConstraint::IsIn(name, _) => is_gateway_resource(&name),
        // The resources of AWS operations are in a connection, so `in Connection::"x"` can apply to operations.
        ResourceConstraint::In(resource) => kind_of(resource.type_name()) == Some(EntityKind::DataClass),
        ResourceConstraint::Any => false,
    };
    by_action || by_resource
}

fn check_entities(
    parsed: &ParsedPolicy<'_>,
    schema_source: &dyn SchemaSource,
    problems: &mut Vec<PolicyProblem>,
) {
    let mut reported = BTreeSet::new();
    for literal in parsed.policy.entity_literals() {
        let (type_name, id) = (literal.type_name().to_string(), literal.id().unescaped().to_owned());
        // A type that the schema does not have is reported by the validator, with the position.
        let Some(kind) = EntityKind::from_type_name(&type_name) else { continue };
        let needle = literal_needle(parsed, &literal);
        let literal = format!("{type_name}::\"{id}\"");
        if let Some(NameProblem { message, help }) = check_entity_name(kind, &literal, &id, schema_source)
            && reported.insert(literal.clone())
        {
            problems.push(parsed.problem_at(&needle).with_message(message).with_help(help));
        }
    }
}

/// Why a policy cannot name an entity.
struct NameProblem {
    message: String,
    help: String,
}

fn check_entity_name(
    kind: EntityKind,
    literal: &str,
    id: &str,
    schema_source: &dyn SchemaSource,
) -> Option<NameProblem> {
    let problem = |message: String, help: &str| Some(NameProblem { message, help: help.to_owned() });
    let unknown = |help: String| Some(NameProblem { message: format!("there is no {literal}"), help });
    match kind {
        EntityKind::AwsAction => {
            if AccessLevel::parse(id).is_some() || schema_source.access_level(id).is_some() {
                return None;
            }
            let levels = "a group is \"Read\", \"List\", \"Write\", \"Tagging\", \"Permissions management\" or \"<service>:*\"";
            let Some((service, name)) = id.split_once(':') else {
                return unknown(format!("an action is written as in IAM, \"s3:GetObject\"; {levels}"));
            };
            if matches!(name, "*" | UNKNOWN_OPERATION_ACTION)
                && !schema_source.service_actions(service).is_empty()
            {
                return None;
            }
            // IAM expands `s3:Get*`; Cedar compares entities, so such an entity would match no action.
            if name.contains(['*', '?']) && name != "*" {
                return unknown(format!(
                    "wildcards inside a name are not expanded: list the actions; {levels}"
                ));
            }
            match schema_source.closest_action(id) {
                Some(nearest) => unknown(format!("did you mean \"{nearest}\"?")),
                None => {
                    unknown(format!("check the spelling in the Service Authorization Reference; {levels}"))
                }
            }
        }
        EntityKind::Action if !matches!(id, "connect" | "reveal") => unknown(if id.contains(':') {
            format!("AWS actions are Aws::Action::\"{id}\"")
        } else if MCP_METHODS.contains(&id) {
            format!("MCP methods are Mcp::Action::\"{id}\"")
        } else {
            "there are Action::\"connect\" and Action::\"reveal\"; AWS actions are Aws::Action, MCP methods Mcp::Action"
                .to_owned()
        }),
        EntityKind::McpAction if !MCP_METHODS.contains(&id) => {
            unknown(format!("the methods are {}", MCP_METHODS.join(", ")))
        }
        EntityKind::AwsResource if id != "*" && split_arn(id).is_none() => {
            problem(format!("\"{id}\" is not an ARN"), "write the whole ARN, or \"*\"")
        }
        // A forbid on such an ARN would load, match no resource, and protect nothing.
        EntityKind::AwsResource if id != "*" && id.contains(['*', '?']) => problem(
            format!("\"{id}\" has a wildcard, which Cedar takes literally"),
            "for the objects of a bucket write `resource in Aws::Resource::\"arn:aws:s3:::bucket\"`, else \
             `when { resource.arn like \"...*\" }`",
        ),
        EntityKind::AwsAccount if !is_account_id(id) => {
            problem(format!("\"{id}\" is not an account"), "write its twelve digits")
        }
        // The id of every caller has both, so such a policy would never apply.
        EntityKind::Caller
            if id
                .split_once('/')
                .is_none_or(|(provider, subject)| provider.is_empty() || subject.is_empty()) =>
        {
            problem(
                format!("\"{id}\" names no identity provider"),
                "write \"<provider>/<subject>\", with the provider's name in the configuration",
            )
        }
        EntityKind::McpTool if !id.contains('/') => {
            problem(format!("\"{id}\" names no server"), "write \"<server>/<tool>\"")
        }
        _ => None,
    }
}
