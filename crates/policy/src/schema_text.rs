//! The schema in Cedar's schema syntax, for editors.

use crate::{
    inferred_argument::InferredArgument,
    policy_loader,
    policy_set::PolicySet,
    schema::{SchemaScope, generate_schema},
    schema_source::SchemaSource,
};
use cedar_policy::SchemaFragment;
use durward_core::MCP_METHODS;
use std::collections::BTreeSet;

/// Why there is no schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaTextError {
    #[error(
        "there is no IAM service prefix \"{prefix}\": write it as in an action, \"s3\" of \"s3:GetObject\""
    )]
    UnknownService { prefix: String },
    /// Cedar's reason.
    #[error("the schema cannot be written: {0}")]
    Cedar(String),
}

/// The schema against which the policies could be written: Durward's entity types, every MCP method, and every action of each AWS
/// service that the policies name or that is in `services`. The arguments of tools are those that the policies read.
pub fn render_schema(
    set: Option<&PolicySet>,
    services: &[String],
    schema_source: &dyn SchemaSource,
) -> Result<String, SchemaTextError> {
    let mut scope = SchemaScope {
        mcp_methods: MCP_METHODS.iter().map(|method| (*method).to_owned()).collect(),
        // An editor has one schema for all policies, those that test `action` included.
        has_group_membership: true,
        ..SchemaScope::default()
    };
    let mut arguments = InferredArgument::default();
    let mut named_actions = BTreeSet::new();
    for checked in set.into_iter().flat_map(PolicySet::checked_policies) {
        let usage = &checked.attribute_usage;
        policy_loader::collect_named_actions(&mut scope, &checked.policy, usage);
        arguments.merge(&usage.inferred_arguments);
        named_actions.append(&mut scope.aws_actions);
    }
    for prefix in services {
        if schema_source.service_actions(prefix).is_empty() {
            return Err(SchemaTextError::UnknownService { prefix: prefix.clone() });
        }
        scope.aws_services.insert(prefix.clone());
    }
    let named_services = named_actions.iter().filter_map(|action| action.split_once(':'));
    scope.aws_services.extend(named_services.map(|(prefix, _name)| prefix.to_owned()));
    scope.aws_actions = named_actions;
    for prefix in &scope.aws_services {
        scope.aws_actions.extend(schema_source.service_actions(prefix));
    }
    scope.arguments_schema = Some(arguments.to_record_schema());
    // Cedar's errors hold values that are not `Send`, and only their text is of use.
    let fragment = SchemaFragment::from_json_value(generate_schema(&scope, schema_source))
        .map_err(|error| SchemaTextError::Cedar(error.to_string()))?;
    fragment.to_cedarschema().map_err(|error| SchemaTextError::Cedar(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy_directory::PolicyFile, test_fixtures::TestSchemaSource};
    use cedar_policy::{PolicySet as CedarPolicySet, Schema, ValidationMode, Validator};
    use std::{path::PathBuf, str::FromStr as _};

    const POLICIES: &str = r#"
        permit (principal in Group::"g", action == Action::"connect", resource == Connection::"demo");
        permit (principal, action in [Aws::Action::"Read", Aws::Action::"s3:*"], resource in Aws::Account::"123456789012");
        forbid (principal, action == Aws::Action::"s3:PutObject", resource)
        when { context.params has Bucket && context.params.Bucket == "b" && !(action in Aws::Action::"Read") };
        forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/read")
        unless { context.arguments.path like "/srv/*" };
        forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"bank/pay")
        when { context.arguments has amount && context.arguments.amount > 100 };
        permit (principal, action == Action::"reveal", resource == DataClass::"email");
    "#;

    fn test_set() -> PolicySet {
        let file =
            PolicyFile { path: PathBuf::from("p.cedar"), stem: "p".to_owned(), text: POLICIES.to_owned() };
        PolicySet::from_files(&[file], &TestSchemaSource).unwrap_or_else(|error| unreachable!("{error}"))
    }

    #[test]
    fn an_editor_with_this_schema_accepts_the_policies_that_load() {
        let text =
            render_schema(Some(&test_set()), &["dynamodb".to_owned()], &TestSchemaSource).expect("a schema");
        let (schema, _warnings) = Schema::from_cedarschema_str(&text).expect("Cedar reads it");
        let policies = CedarPolicySet::from_str(POLICIES).expect("the policies parse");
        let result = Validator::new(schema).validate(&policies, ValidationMode::Strict);
        assert!(result.validation_passed_without_warnings(), "{result}\n{text}");
        for expected in
            ["\"dynamodb:GetItem\"", "\"s3:GetObject\"", "\"tools/list\"", "entity Caller in [Group]"]
        {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn a_service_that_does_not_exist_is_an_error() {
        let error = render_schema(None, &["s4".to_owned()], &TestSchemaSource).expect_err("no such service");
        assert!(error.to_string().contains("\"s4\""), "{error}");
    }
}
