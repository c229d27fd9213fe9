//! From policy text to checked policies: parsing, our own checks, strict validation against a schema.
//!
//! Promise: every problem is reported at once, and no policy comes out if any policy has a problem. A warning of Cedar's validator
//! counts as a problem, because a policy that can never apply, or whose text hides characters, is not what its author meant.

mod checks;
mod expression_depth;
mod parsing;
mod validation;

use crate::{
    approval_annotations::ApprovalRule,
    attribute_usage::AttributeUsage,
    configured_names::NameReference,
    load_error::{PolicyLoadError, PolicyProblem},
    policy_directory::PolicyFile,
    schema_source::SchemaSource,
};
use cedar_policy::Policy;
use std::path::PathBuf;

/// A policy that passed every check.
#[derive(Debug)]
pub(crate) struct CheckedPolicy {
    pub id: String,
    pub file: PathBuf,
    pub line: usize,
    pub policy: Policy,
    pub approval_rule: Option<ApprovalRule>,
    /// `@reason`: a caller who is refused reads it.
    pub reason: Option<String>,
    pub attribute_usage: AttributeUsage,
    /// The names of the configuration that it has, each once.
    pub name_references: Vec<NameReference>,
}

/// A parsed policy with its position in its file.
struct ParsedPolicy<'a> {
    file: &'a PolicyFile,
    policy: Policy,
    id: String,
    offset: usize,
    line: usize,
    text: String,
}

impl ParsedPolicy<'_> {
    /// A problem at the first occurrence of `needle` in the policy, or else at its first line.
    fn problem_at(&self, needle: &str) -> PolicyProblem {
        let (offset, length) = match self.text.find(needle) {
            Some(at) if !needle.is_empty() => (self.offset + at, needle.len()),
            _ => (self.offset, self.text.lines().next().map_or(1, str::len)),
        };
        PolicyProblem::at_offset(&self.file.path, &self.file.text, offset, length).with_policy_id(&self.id)
    }

    fn into_checked_policy(self, properties: PolicyProperties) -> CheckedPolicy {
        let reason = self.policy.annotation("reason").map(str::trim).filter(|text| !text.is_empty());
        CheckedPolicy {
            reason: reason.map(str::to_owned),
            id: self.id,
            file: self.file.path.clone(),
            line: self.line,
            policy: self.policy,
            approval_rule: properties.approval_rule,
            attribute_usage: properties.attribute_usage,
            name_references: properties.name_references,
        }
    }
}

/// The properties of a policy that our own checks determine.
struct PolicyProperties {
    attribute_usage: AttributeUsage,
    approval_rule: Option<ApprovalRule>,
    name_references: Vec<NameReference>,
}

pub(crate) use validation::collect_named_actions;

/// Runs the loading of policies on a thread whose stack holds the deepest expression that is loaded.
pub(crate) fn with_loader_stack<T: Send>(
    load: impl FnOnce() -> Result<T, PolicyLoadError> + Send,
) -> Result<T, PolicyLoadError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("policy-loader".to_owned())
            .stack_size(expression_depth::LOADER_STACK_BYTES)
            .spawn_scoped(scope, load);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => {
                Err(PolicyProblem::of_file("", format!("no thread to load policies on: {error}"), "").into())
            }
        }
    })
}

/// Checks the policies of all files together.
pub(crate) fn load_policies(
    files: &[PolicyFile],
    schema_source: &dyn SchemaSource,
) -> Result<Vec<CheckedPolicy>, PolicyLoadError> {
    let mut problems = Vec::new();
    let mut checked = Vec::new();
    for policy in parsing::parse_policies(files, &mut problems) {
        match checks::check_policy(&policy, schema_source) {
            Ok(properties) => checked.push((policy, properties)),
            Err(found) => problems.extend(found),
        }
    }
    validation::validate_policies(&checked, schema_source, &mut problems);
    if !problems.is_empty() {
        return Err(PolicyLoadError::new(problems));
    }
    Ok(checked.into_iter().map(|(policy, properties)| policy.into_checked_policy(properties)).collect())
}

/// As [`load_policies`] without the validation against a schema, for the test that compares the index with Cedar itself.
#[cfg(test)]
pub(crate) fn load_unvalidated(
    files: &[PolicyFile],
    schema_source: &dyn SchemaSource,
) -> Result<Vec<CheckedPolicy>, PolicyLoadError> {
    let mut problems = Vec::new();
    let parsed = parsing::parse_policies(files, &mut problems);
    let checked = parsed.into_iter().map(|policy| {
        let properties = checks::check_policy(&policy, schema_source).map_err(PolicyLoadError::new)?;
        Ok(policy.into_checked_policy(properties))
    });
    checked.collect()
}
