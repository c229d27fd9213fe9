//! Strict validation with Cedar's validator, against schemas of what the policies name.

use super::{ParsedPolicy, PolicyProperties, parsing::problem_from_diagnostic};
use crate::{
    attribute_usage::AttributeUsage,
    entity_literals::EntityKind,
    load_error::PolicyProblem,
    required_attributes::RequestMembers,
    schema::{SchemaScope, generate_schema},
    schema_source::SchemaSource,
};
use cedar_policy::{
    ActionConstraint, Policy, PolicyId, PolicySet as CedarPolicySet, Schema, ValidationError, ValidationMode,
    ValidationWarning, Validator,
};
use durward_core::{AccessLevel, MCP_METHODS};
use miette::Diagnostic;
use std::collections::{BTreeSet, HashMap};

const PARAMS_HELP: &str = "context.params has the request members of the actions in the scope that a policy can rely on: check the name, and name \
     actions or one service (Aws::Action::\"s3:*\"), not an access level";

/// Validates strictly. Policies with actions in their scopes share one schema of these actions. Policies on any action share one
/// schema of placeholder actions. A policy that tests `action` or reads tool arguments has its own schema, which fits no other.
pub(super) fn validate_policies(
    checked: &[(ParsedPolicy<'_>, PolicyProperties)],
    schema_source: &dyn SchemaSource,
    problems: &mut Vec<PolicyProblem>,
) {
    let mut scoped = (SchemaScope::default(), Vec::new());
    // MCP's methods are few, so a policy on any action is validated against all of them.
    let mut open = (SchemaScope { mcp_methods: all_mcp_methods(), ..SchemaScope::default() }, Vec::new());
    let mut own = Vec::new();
    for entry in checked {
        let (parsed, PolicyProperties { attribute_usage: usage, .. }) = entry;
        let is_on_any_action = parsed.policy.action_constraint() == ActionConstraint::Any;
        if usage.reads_action || usage.reads_arguments {
            let mut scope =
                SchemaScope { has_group_membership: usage.reads_action, ..SchemaScope::default() };
            if is_on_any_action {
                scope.mcp_methods = all_mcp_methods();
            }
            collect_named_actions(&mut scope, &parsed.policy, usage);
            scope.arguments_schema =
                usage.reads_arguments.then(|| usage.inferred_arguments.to_record_schema());
            own.push((scope, vec![entry]));
        } else if is_on_any_action {
            collect_named_actions(&mut open.0, &parsed.policy, usage);
            open.1.push(entry);
        } else {
            collect_named_actions(&mut scoped.0, &parsed.policy, usage);
            scoped.1.push(entry);
        }
    }
    for (scope, policies) in [scoped, open].into_iter().chain(own) {
        if !policies.is_empty() {
            validate_against_schema(&scope, &policies, schema_source, problems);
        }
    }
}

fn all_mcp_methods() -> BTreeSet<String> {
    MCP_METHODS.iter().map(|method| (*method).to_owned()).collect()
}

/// Adds the actions that a policy names, and the request members that it reads.
pub(crate) fn collect_named_actions(scope: &mut SchemaScope, policy: &Policy, usage: &AttributeUsage) {
    for literal in policy.entity_literals() {
        let id = literal.id().unescaped();
        match EntityKind::from_type_name(&literal.type_name().to_string()) {
            Some(EntityKind::AwsAction) if AccessLevel::parse(id).is_some() => {}
            Some(EntityKind::AwsAction) => match id.strip_suffix(":*") {
                Some(service) => {
                    scope.aws_services.insert(service.to_owned());
                }
                None => {
                    scope.aws_actions.insert(id.to_owned());
                }
            },
            Some(EntityKind::McpAction) => {
                scope.mcp_methods.insert(id.to_owned());
            }
            _ => {}
        }
    }
    if let RequestMembers::Named(names) = &usage.required_attributes.request_members {
        scope.request_members.extend(names.iter().map(ToString::to_string));
    }
}

fn validate_against_schema(
    scope: &SchemaScope,
    policies: &[&(ParsedPolicy<'_>, PolicyProperties)],
    schema_source: &dyn SchemaSource,
    problems: &mut Vec<PolicyProblem>,
) {
    let by_id: HashMap<&str, &(ParsedPolicy<'_>, PolicyProperties)> =
        policies.iter().map(|entry| (entry.0.id.as_str(), *entry)).collect();
    let set = CedarPolicySet::from_policies(policies.iter().map(|(parsed, _)| parsed.policy.clone()));
    let schema = Schema::from_json_value(generate_schema(scope, schema_source));
    let (set, schema) = match (set, schema) {
        (Ok(set), Ok(schema)) => (set, schema),
        (set, schema) => {
            let cause =
                set.err().map(|error| error.to_string()).or(schema.err().map(|error| error.to_string()));
            problems.extend(policies.first().map(|(parsed, _)| {
                parsed.problem_at("").with_message(format!(
                    "no schema could be made for this policy: {}",
                    cause.unwrap_or_default()
                ))
            }));
            return;
        }
    };
    let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
    let mut report = |id: &PolicyId, diagnostic: &dyn Diagnostic, message: String, help: Option<String>| {
        let Some((parsed, _)) = by_id.get(AsRef::<str>::as_ref(id)) else {
            problems.push(PolicyProblem::of_file("", message, ""));
            return;
        };
        let prefix = format!("for policy `{}`, ", parsed.id);
        let message = message.strip_prefix(&prefix).unwrap_or(&message);
        let mut problem =
            problem_from_diagnostic(parsed.file, diagnostic, message).with_policy_id(&parsed.id);
        if problem.position.is_none() {
            problem = parsed.problem_at("").with_message(message).with_help(problem.help.unwrap_or_default());
        }
        problems.push(match help {
            Some(help) => problem.with_help(help),
            None => problem,
        });
    };
    for error in result.validation_errors() {
        let reads_params = by_id
            .get(AsRef::<str>::as_ref(error.policy_id()))
            .is_some_and(|(_, properties)| properties.attribute_usage.reads_params);
        let help = match error {
            ValidationError::UnsafeAttributeAccess(_) if reads_params => Some(PARAMS_HELP.to_owned()),
            _ => None,
        };
        report(error.policy_id(), error, error.to_string(), help);
    }
    for warning in result.validation_warnings() {
        let reads_params = by_id
            .get(AsRef::<str>::as_ref(warning.policy_id()))
            .is_some_and(|(_, properties)| properties.attribute_usage.reads_params);
        let help = match warning {
            ValidationWarning::ImpossiblePolicy(_) if reads_params => Some(PARAMS_HELP.to_owned()),
            ValidationWarning::ImpossiblePolicy(_) => Some("its conditions can never hold together".to_owned()),
            ValidationWarning::InvalidActionApplication(_) => Some(
                "Aws::Action goes with Aws::Resource, Aws::Account or Connection; Mcp::Action with Mcp::Tool or Mcp::Server; \
                 Action::\"connect\" with Connection; Action::\"reveal\" with DataClass"
                    .to_owned(),
            ),
            _ => None,
        };
        report(warning.policy_id(), warning, warning.to_string(), help);
    }
}
