//! Parses policy files, and finds the position of each policy in its file.

use super::{
    ParsedPolicy,
    expression_depth::{MAX_EXPRESSION_DEPTH, find_too_deep},
};
use crate::{load_error::PolicyProblem, policy_directory::PolicyFile};
use cedar_policy::{Policy, PolicyId, PolicySet as CedarPolicySet};
use miette::Diagnostic;
use std::{collections::HashMap, str::FromStr as _};

/// Parses every file. The id of a policy is its `@id`, or `<file stem>.<n>`, counted from 1.
pub(super) fn parse_policies<'a>(
    files: &'a [PolicyFile],
    problems: &mut Vec<PolicyProblem>,
) -> Vec<ParsedPolicy<'a>> {
    let mut parsed: Vec<ParsedPolicy<'a>> = Vec::new();
    let mut positions_by_id: HashMap<String, String> = HashMap::new();
    for file in files {
        for policy in parse_file(file, problems) {
            if policy.id.is_empty() {
                problems.push(
                    policy
                        .problem_at("@id")
                        .with_message("@id is empty")
                        .with_help("name the policy or remove @id"),
                );
                continue;
            }
            if let Some(first) = positions_by_id.get(&policy.id) {
                problems.push(
                    policy
                        .problem_at("@id")
                        .with_message(format!("another policy has this id, at {first}"))
                        .with_help("give each policy an @id of its own"),
                );
                continue;
            }
            let position = format!("{}:{}", file.path.display(), policy.line);
            positions_by_id.insert(policy.id.clone(), position);
            parsed.push(policy);
        }
    }
    parsed
}

fn parse_file<'a>(file: &'a PolicyFile, problems: &mut Vec<PolicyProblem>) -> Vec<ParsedPolicy<'a>> {
    // Before Cedar's parser, whose stack it would exhaust.
    if let Some(offset) = find_too_deep(&file.text) {
        problems.push(
            PolicyProblem::at_offset(&file.path, &file.text, offset, 1)
                .with_message(format!("the expression is nested deeper than {MAX_EXPRESSION_DEPTH} levels"))
                .with_help("compare with a set (`[...].contains(x)`, `in [...]`), or write several policies"),
        );
        return Vec::new();
    }
    let set = match CedarPolicySet::from_str(&file.text) {
        Ok(set) => set,
        Err(errors) => {
            problems
                .extend(errors.iter().map(|error| problem_from_diagnostic(file, error, &error.to_string())));
            return Vec::new();
        }
    };
    // A template is no policy until something links it, and nothing here does: it would be silently without effect.
    for template in set.templates() {
        let offset = file.text.find(&template.to_cedar()).unwrap_or(0);
        problems.push(
            PolicyProblem::at_offset(&file.path, &file.text, offset, 1)
                .with_message("is a template: it has a slot")
                .with_help("write the principal or resource in place of ?principal or ?resource"),
        );
    }
    // Cedar names the policies of a file `policy<n>` in their order, and iterates over them in any order.
    let mut policies: Vec<(usize, &Policy)> = set
        .policies()
        .map(|policy| (policy.id().to_string().trim_start_matches("policy").parse().unwrap_or(0), policy))
        .collect();
    policies.sort_by_key(|(number, _)| *number);
    let count_newlines =
        |from: usize, to: usize| file.text.get(from..to).map_or(0, |part| part.matches('\n').count());
    let (mut cursor, mut line) = (0, 1);
    let mut parsed = Vec::with_capacity(policies.len());
    for (number, policy) in policies {
        let text = policy.to_cedar().unwrap_or_default();
        let offset =
            file.text.get(cursor..).and_then(|rest| rest.find(&text)).map_or(cursor, |at| cursor + at);
        line += count_newlines(cursor, offset);
        let first_line = line;
        cursor = offset + text.len();
        line += count_newlines(offset, cursor);
        let id = policy
            .annotation("id")
            .map_or_else(|| format!("{}.{}", file.stem, number + 1), |id| id.trim().to_owned());
        let policy = policy.new_id(PolicyId::new(&id));
        parsed.push(ParsedPolicy { file, policy, id, offset, line: first_line, text });
    }
    parsed
}

/// A problem at the position of a diagnostic of Cedar.
pub(super) fn problem_from_diagnostic(
    file: &PolicyFile,
    diagnostic: &dyn Diagnostic,
    message: &str,
) -> PolicyProblem {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let mut problem = match &label {
        Some(label) => PolicyProblem::at_offset(&file.path, &file.text, label.offset(), label.len()),
        None => PolicyProblem::of_file(&file.path, "", ""),
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
