//! From policy text to checked policies: parse, own checks, schema, strict validation. All problems are told at once.
//!
//! Nothing that fails any check comes out; warnings of the validator count as failures, because a policy that can never
//! apply, or whose text hides characters, is not what its author meant.

use crate::{
    approval_annotations::{self, ApprovalRule},
    attribute_usage::{self, AttributeUsage, RequestMembers},
    entities::{is_account_id, split_arn},
    load_error::{PolicyLoadError, PolicyProblem},
    policy_directory::PolicyFile,
    schema::{self, MCP_METHODS, SchemaScope},
    schema_source::SchemaSource,
};
use cedar_policy::{
    ActionConstraint, Effect, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet as CedarSet,
    ResourceConstraint, Schema, ValidationError, ValidationMode, ValidationWarning, Validator,
};
use durward_core::AccessLevel;
use miette::Diagnostic;
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    str::FromStr,
};

/// A policy that passed every check.
#[derive(Debug)]
pub(crate) struct CheckedPolicy {
    pub id: String,
    pub file: PathBuf,
    pub line: usize,
    pub policy: Policy,
    pub approval_rule: Option<ApprovalRule>,
    /// `@reason`: told to a caller whom the policy stops.
    pub reason: Option<String>,
    pub attribute_usage: AttributeUsage,
}

/// A policy as parsed, with its place in its file.
struct ParsedPolicy<'a> {
    source: &'a PolicyFile,
    policy: Policy,
    id: String,
    offset: usize,
    line: usize,
    text: String,
}

impl ParsedPolicy<'_> {
    /// A problem with the part of the policy that reads `needle`, or with its first line.
    fn problem_at(&self, needle: &str) -> PolicyProblem {
        let (offset, length) = match self.text.find(needle) {
            Some(at) if !needle.is_empty() => (self.offset + at, needle.len()),
            _ => (self.offset, self.text.lines().next().map_or(1, str::len)),
        };
        PolicyProblem::at_offset(&self.source.path, &self.source.text, offset, length)
            .with_policy_id(&self.id)
    }
}

/// Checks the policies of all files together.
pub(crate) fn load_policies(
    sources: &[PolicyFile],
    vocabulary: &dyn SchemaSource,
) -> Result<Vec<CheckedPolicy>, PolicyLoadError> {
    let mut problems = Vec::new();
    let mut checked = Vec::new();
    for policy in parse_policies(sources, &mut problems) {
        match check_policy(&policy, vocabulary) {
            Ok(reading) => checked.push((policy, reading)),
            Err(found) => problems.extend(found),
        }
    }
    validate_policies(&checked, vocabulary, &mut problems);
    if !problems.is_empty() {
        return Err(PolicyLoadError::new(problems));
    }
    Ok(checked
        .into_iter()
        .map(|(policy, (reading, approval))| into_checked_policy(policy, reading, approval))
        .collect())
}

/// As [`load`], without the validation against a schema: for the test that compares the index with Cedar itself.
#[cfg(test)]
pub(crate) fn load_unvalidated(
    sources: &[PolicyFile],
    vocabulary: &dyn SchemaSource,
) -> Result<Vec<CheckedPolicy>, PolicyLoadError> {
    let mut problems = Vec::new();
    let parsed = parse_policies(sources, &mut problems);
    let checked = parsed.into_iter().map(|policy| {
        let (reading, approval) = check_policy(&policy, vocabulary).map_err(PolicyLoadError::new)?;
        Ok(into_checked_policy(policy, reading, approval))
    });
    checked.collect()
}

fn into_checked_policy(
    parsed: ParsedPolicy<'_>,
    reading: AttributeUsage,
    approval: Option<ApprovalRule>,
) -> CheckedPolicy {
    let reason = parsed.policy.annotation("reason").map(str::trim).filter(|text| !text.is_empty());
    CheckedPolicy {
        reason: reason.map(str::to_owned),
        id: parsed.id,
        file: parsed.source.path.clone(),
        line: parsed.line,
        policy: parsed.policy,
        approval_rule: approval,
        attribute_usage: reading,
    }
}

/// Parses every file and gives each policy its id: `@id`, or `<file stem>.<n>`, counted from 1.
fn parse_policies<'a>(sources: &'a [PolicyFile], problems: &mut Vec<PolicyProblem>) -> Vec<ParsedPolicy<'a>> {
    let mut all: Vec<ParsedPolicy<'a>> = Vec::new();
    let mut ids: HashMap<String, String> = HashMap::new();
    for source in sources {
        let set = match CedarSet::from_str(&source.text) {
            Ok(set) => set,
            Err(errors) => {
                problems.extend(
                    errors.iter().map(|error| problem_from_diagnostic(source, error, &error.to_string())),
                );
                continue;
            }
        };
        for template in set.templates() {
            let text = template.to_cedar();
            let offset = source.text.find(&text).unwrap_or(0);
            problems.push(
                PolicyProblem::at_offset(&source.path, &source.text, offset, 1)
                    .with_message("is a template: it has a slot")
                    .with_help("write the principal or resource in place of ?principal or ?resource"),
            );
        }
        let mut policies: Vec<(usize, &Policy)> = set
            .policies()
            .map(|policy| (policy.id().to_string().trim_start_matches("policy").parse().unwrap_or(0), policy))
            .collect();
        policies.sort_by_key(|(number, _)| *number);
        let (mut cursor, mut line) = (0, 1);
        for (number, policy) in policies {
            let text = policy.to_cedar().unwrap_or_default();
            let offset =
                source.text.get(cursor..).and_then(|rest| rest.find(&text)).map_or(cursor, |at| cursor + at);
            let newlines = |from: usize, to: usize| {
                source.text.get(from..to).map_or(0, |part| part.matches('\n').count())
            };
            line += newlines(cursor, offset);
            let first_line = line;
            cursor = offset + text.len();
            line += newlines(offset, cursor);
            let id = policy
                .annotation("id")
                .map_or_else(|| format!("{}.{}", source.stem, number + 1), |id| id.trim().to_owned());
            let parsed = ParsedPolicy {
                source,
                policy: policy.new_id(PolicyId::new(&id)),
                id: id.clone(),
                offset,
                line: first_line,
                text,
            };
            if id.is_empty() {
                problems.push(
                    parsed
                        .problem_at("@id")
                        .with_message("@id is empty")
                        .with_help("name the policy or remove @id"),
                );
                continue;
            }
            let place = format!("{}:{first_line}", source.path.display());
            if let Some(first) = ids.get(&id) {
                problems.push(
                    parsed
                        .problem_at("@id")
                        .with_message(format!("another policy has this id, at {first}"))
                        .with_help("give each policy an @id of its own"),
                );
                continue;
            }
            ids.insert(id, place);
            all.push(parsed);
        }
    }
    all
}

/// A problem at the place a diagnostic of Cedar points to.
fn problem_from_diagnostic(source: &PolicyFile, diagnostic: &dyn Diagnostic, message: &str) -> PolicyProblem {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let mut problem = match &label {
        Some(label) => PolicyProblem::at_offset(&source.path, &source.text, label.offset(), label.len()),
        None => PolicyProblem::of_file(&source.path, "", ""),
    };
    problem = problem.with_message(match label.as_ref().and_then(|label| label.label()) {
        Some(detail) if !message.contains(detail) => format!("{message}: {detail}"),
        _ => message.to_owned(),
    });
    match diagnostic.help() {
        Some(help) => problem.with_help(help.to_string()),
        None => problem,
    }
}

type PolicyProperties = (AttributeUsage, Option<ApprovalRule>);

/// Our own checks: annotations, names, and what the schema cannot say well.
fn check_policy(
    parsed: &ParsedPolicy<'_>,
    vocabulary: &dyn SchemaSource,
) -> Result<PolicyProperties, Vec<PolicyProblem>> {
    let mut problems = Vec::new();
    for (name, _) in parsed.policy.annotations() {
        if !approval_annotations::KNOWN_ANNOTATIONS.contains(&name) {
            problems.push(
                parsed
                    .problem_at(&format!("@{name}"))
                    .with_message(format!("the annotation @{name} is not known"))
                    .with_help(format!("known are @{}", approval_annotations::KNOWN_ANNOTATIONS.join(", @"))),
            );
        }
    }
    let is_forbid = parsed.policy.effect() == Effect::Forbid;
    let approval =
        approval_annotations::parse_approval_rule(|name| parsed.policy.annotation(name), is_forbid)
            .unwrap_or_else(|(name, message, help)| {
                problems.push(parsed.problem_at(&format!("@{name}")).with_message(message).with_help(help));
                None
            });
    if approval.is_some() && is_about_gateway_actions_only(&parsed.policy) {
        problems.push(
            parsed
                .problem_at("@approval")
                .with_message("approval applies to operations only; `connect` and `reveal` are not operations")
                .with_help("remove @approval, and say who may with `unless`; or forbid the operations themselves: action in Aws::Action::\"Write\""),
        );
    }
    let mut named = BTreeSet::new();
    for literal in parsed.policy.entity_literals() {
        let (kind, id) = (literal.type_name().to_string(), literal.id().unescaped().to_owned());
        if let Some((message, help)) = check_entity_name(&kind, &id, vocabulary)
            && named.insert((kind.clone(), id.clone()))
        {
            let mut problem = parsed.problem_at(&format!("{kind}::\"{id}\""));
            if !parsed.text.contains(&format!("{kind}::\"{id}\"")) {
                problem = parsed.problem_at(&format!("\"{id}\""));
            }
            problems.push(problem.with_message(message).with_help(help));
        }
    }
    let reading = match parsed.policy.to_json() {
        Ok(json) => attribute_usage::collect_attribute_usage(&json),
        Err(error) => {
            problems.push(parsed.problem_at("").with_message(format!("cannot be read: {error}")));
            return Err(problems);
        }
    };
    if reading.reads_other_entities {
        problems.push(
            parsed
                .problem_at("")
                .with_message("reads attributes or groups of something else than principal, action, resource or context")
                .with_help("of an entity that is not part of the request only its id is known: compare with it, or test `in` it"),
        );
    }
    for conflict in &reading.type_conflicts {
        problems.push(
            parsed
                .problem_at("context.arguments")
                .with_message(conflict)
                .with_help("an argument has one type in a policy: write two policies"),
        );
    }
    if problems.is_empty() { Ok((reading, approval)) } else { Err(problems) }
}

/// Whether a policy is about nothing but `Action::"connect"` or `Action::"reveal"`, about which nobody is asked.
fn is_about_gateway_actions_only(policy: &Policy) -> bool {
    let is_own = |action: &EntityUid| action.type_name().to_string() == "Action";
    let by_action = match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => is_own(&action),
        ActionConstraint::In(actions) => !actions.is_empty() && actions.iter().all(is_own),
    };
    let is_own = |kind: &EntityTypeName| matches!(kind.to_string().as_str(), "Connection" | "DataClass");
    let by_resource = match policy.resource_constraint() {
        ResourceConstraint::Eq(resource) => is_own(resource.type_name()),
        ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => is_own(&kind),
        // Operations are in a connection.
        ResourceConstraint::In(resource) => resource.type_name().to_string() == "DataClass",
        ResourceConstraint::Any => false,
    };
    by_action || by_resource
}

/// What is wrong with naming this entity, and what to write: (message, help).
fn check_entity_name(kind: &str, id: &str, vocabulary: &dyn SchemaSource) -> Option<(String, String)> {
    let unknown = |help: String| Some((format!("there is no {kind}::\"{id}\""), help));
    match kind {
        "Aws::Action" => {
            if AccessLevel::parse(id).is_some() || vocabulary.access_level(id).is_some() {
                return None;
            }
            let levels = "a group is \"Read\", \"List\", \"Write\", \"Tagging\", \"Permissions management\" or \"<service>:*\"";
            let Some((service, name)) = id.split_once(':') else {
                return unknown(format!("an action is written as in IAM, \"s3:GetObject\"; {levels}"));
            };
            if matches!(name, "*" | "*unknown*") && !vocabulary.service_actions(service).is_empty() {
                return None;
            }
            if name.contains(['*', '?']) && name != "*" {
                return unknown(format!(
                    "wildcards inside a name are not expanded: list the actions; {levels}"
                ));
            }
            match vocabulary.closest_action(id) {
                Some(nearest) => unknown(format!("did you mean \"{nearest}\"?")),
                None => {
                    unknown(format!("check the spelling in the Service Authorization Reference; {levels}"))
                }
            }
        }
        "Action" if !matches!(id, "connect" | "reveal") => unknown(if id.contains(':') {
            format!("AWS actions are Aws::Action::\"{id}\"")
        } else if MCP_METHODS.contains(&id) {
            format!("MCP methods are Mcp::Action::\"{id}\"")
        } else {
            "there are Action::\"connect\" and Action::\"reveal\"; AWS actions are Aws::Action, MCP methods Mcp::Action"
                .to_owned()
        }),
        "Mcp::Action" if !MCP_METHODS.contains(&id) => {
            unknown(format!("the methods are {}", MCP_METHODS.join(", ")))
        }
        "Aws::Resource" if id != "*" && split_arn(id).is_none() => {
            Some((format!("\"{id}\" is not an ARN"), "write the whole ARN, or \"*\"".to_owned()))
        }
        "Aws::Resource" if id != "*" && id.contains(['*', '?']) => Some((
            format!("\"{id}\" has a wildcard, which Cedar takes literally"),
            "for the objects of a bucket write `resource in Aws::Resource::\"arn:aws:s3:::bucket\"`, else \
             `when { resource.arn like \"...*\" }`"
                .to_owned(),
        )),
        "Aws::Account" if !is_account_id(id) => {
            Some((format!("\"{id}\" is not an account"), "write its twelve digits".to_owned()))
        }
        "Mcp::Tool" if !id.contains('/') => {
            Some((format!("\"{id}\" names no server"), "write \"<server>/<tool>\"".to_owned()))
        }
        _ => None,
    }
}

/// Validates strictly: policies with an action in their scope against one schema of all those actions, policies on any
/// action against the stand-ins, and a policy with needs of its own (it tests `action`, or types arguments) against its own.
fn validate_policies(
    checked: &[(ParsedPolicy<'_>, PolicyProperties)],
    vocabulary: &dyn SchemaSource,
    problems: &mut Vec<PolicyProblem>,
) {
    let mut scoped = (SchemaScope::default(), Vec::new());
    let mut open = (SchemaScope { mcp_methods: all_mcp_methods(), ..SchemaScope::default() }, Vec::new());
    let mut own = Vec::new();
    for entry in checked {
        let (parsed, (reading, _)) = entry;
        let any_action = parsed.policy.action_constraint() == ActionConstraint::Any;
        if reading.reads_action || reading.reads_arguments {
            let mut scope =
                SchemaScope { has_group_membership: reading.reads_action, ..SchemaScope::default() };
            if any_action {
                scope.mcp_methods = all_mcp_methods();
            }
            collect_named_actions(&mut scope, parsed, reading);
            scope.arguments_schema =
                reading.reads_arguments.then(|| reading.inferred_arguments.to_record_schema());
            own.push((scope, vec![entry]));
        } else if any_action {
            collect_named_actions(&mut open.0, parsed, reading);
            open.1.push(entry);
        } else {
            collect_named_actions(&mut scoped.0, parsed, reading);
            scoped.1.push(entry);
        }
    }
    for (scope, policies) in [scoped, open].into_iter().chain(own) {
        if !policies.is_empty() {
            validate_against_schema(&scope, &policies, vocabulary, problems);
        }
    }
}

fn all_mcp_methods() -> BTreeSet<String> {
    MCP_METHODS.iter().map(|method| (*method).to_owned()).collect()
}

fn collect_named_actions(scope: &mut SchemaScope, parsed: &ParsedPolicy<'_>, reading: &AttributeUsage) {
    for literal in parsed.policy.entity_literals() {
        let id = literal.id().unescaped();
        match literal.type_name().to_string().as_str() {
            "Aws::Action" if AccessLevel::parse(id).is_some() => {}
            "Aws::Action" => match id.strip_suffix(":*") {
                Some(service) => {
                    scope.aws_services.insert(service.to_owned());
                }
                None => {
                    scope.aws_actions.insert(id.to_owned());
                }
            },
            "Mcp::Action" => {
                scope.mcp_methods.insert(id.to_owned());
            }
            _ => {}
        }
    }
    if let RequestMembers::Named(names) = &reading.required_attributes.request_members {
        scope.request_members.extend(names.iter().map(ToString::to_string));
    }
}

fn validate_against_schema(
    scope: &SchemaScope,
    policies: &[&(ParsedPolicy<'_>, PolicyProperties)],
    vocabulary: &dyn SchemaSource,
    problems: &mut Vec<PolicyProblem>,
) {
    let by_id: HashMap<&str, &(ParsedPolicy<'_>, PolicyProperties)> =
        policies.iter().map(|entry| (entry.0.id.as_str(), *entry)).collect();
    let set = CedarSet::from_policies(policies.iter().map(|(parsed, _)| parsed.policy.clone()));
    let schema = Schema::from_json_value(schema::generate_schema(scope, vocabulary));
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
    let mut tell = |id: &PolicyId, diagnostic: &dyn Diagnostic, message: String, help: Option<String>| {
        let Some((parsed, _)) = by_id.get(AsRef::<str>::as_ref(id)) else {
            problems.push(PolicyProblem::of_file("", message, ""));
            return;
        };
        let prefix = format!("for policy `{}`, ", parsed.id);
        let message = message.strip_prefix(&prefix).unwrap_or(&message);
        let mut problem =
            problem_from_diagnostic(parsed.source, diagnostic, message).with_policy_id(&parsed.id);
        if problem.position.is_none() {
            problem = parsed.problem_at("").with_message(message).with_help(problem.help.unwrap_or_default());
        }
        problems.push(match help {
            Some(help) => problem.with_help(help),
            None => problem,
        });
    };
    for error in result.validation_errors() {
        let params = by_id
            .get(AsRef::<str>::as_ref(error.policy_id()))
            .is_some_and(|(_, (reading, _))| reading.reads_params);
        let help = match error {
            ValidationError::UnsafeAttributeAccess(_) if params => Some(PARAMS_HELP.to_owned()),
            _ => None,
        };
        tell(error.policy_id(), error, error.to_string(), help);
    }
    for warning in result.validation_warnings() {
        let params = by_id
            .get(AsRef::<str>::as_ref(warning.policy_id()))
            .is_some_and(|(_, (reading, _))| reading.reads_params);
        let help = match warning {
            ValidationWarning::ImpossiblePolicy(_) if params => Some(PARAMS_HELP.to_owned()),
            ValidationWarning::ImpossiblePolicy(_) => Some("its conditions can never hold together".to_owned()),
            ValidationWarning::InvalidActionApplication(_) => Some(
                "Aws::Action goes with Aws::Resource, Aws::Account or Connection; Mcp::Action with Mcp::Tool or Mcp::Server; \
                 Action::\"connect\" with Connection; Action::\"reveal\" with DataClass"
                    .to_owned(),
            ),
            _ => None,
        };
        tell(warning.policy_id(), warning, warning.to_string(), help);
    }
}

const PARAMS_HELP: &str = "context.params has the request members of the actions in the scope that a policy can rely on: check the \
     name, and name actions or one service (Aws::Action::\"s3:*\"), not an access level";
