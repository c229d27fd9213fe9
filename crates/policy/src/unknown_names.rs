//! The names in a policy set that a configuration does not have, each with its position and the nearest name.

use crate::{
    configured_names::{ConfiguredNames, NameKind, NameReference},
    load_error::PolicyProblem,
    policy_set::PolicySet,
};
use durward_catalog::edit_distance;
use std::collections::BTreeSet;

impl PolicySet {
    /// A problem for each name in the policies that the configuration does not have.
    pub fn find_unknown_names(&self, names: &ConfiguredNames) -> Vec<PolicyProblem> {
        let references = self.name_references();
        let problems = references.filter_map(|NameReference { kind, name, position }| {
            let known = names.of_kind(*kind);
            if known.contains(&name.as_str()) {
                return None;
            }
            let help = match (closest_name(name, &known), known.as_slice()) {
                (Some(closest), _) => format!("did you mean \"{closest}\"?"),
                (None, []) => format!("the configuration has no {kind}"),
                (None, known) => format!("the configuration has {}", quote_names(known)),
            };
            Some(position.clone().with_message(format!("there is no {kind} \"{name}\"")).with_help(help))
        });
        problems.collect()
    }

    /// The names of this kind that the policies have.
    pub fn named(&self, kind: NameKind) -> BTreeSet<&str> {
        self.name_references()
            .filter(|reference| reference.kind == kind)
            .map(|reference| reference.name.as_str())
            .collect()
    }
}

fn quote_names(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// The known name that was most likely meant.
fn closest_name<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let folded = name.to_lowercase();
    let near = known.iter().filter_map(|known| {
        let distance = edit_distance(&folded, &known.to_lowercase());
        // Half of the letters of a short name, because two that are swapped count as two; four of any name.
        let limit = name.len().max(known.len()).div_ceil(2).min(4);
        (distance <= limit).then_some((distance, *known))
    });
    near.min().map(|(_distance, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy_directory::PolicyFile, test_fixtures::TestSchemaSource};
    use std::path::PathBuf;

    fn names() -> ConfiguredNames {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ConfiguredNames {
            aws_connections: set(&["production", "demo"]),
            mcp_servers: set(&["files", "github"]),
            data_classes: set(&["email", "aws-sensitive"]),
            identity_providers: set(&["corp"]),
            issuers: set(&["https://login.example.com"]),
        }
    }

    fn unknown_names(policies: &str) -> Vec<(usize, String, String)> {
        let file =
            PolicyFile { path: PathBuf::from("p.cedar"), stem: "p".to_owned(), text: policies.to_owned() };
        let set =
            PolicySet::from_files(&[file], &TestSchemaSource).unwrap_or_else(|error| unreachable!("{error}"));
        let problems = set.find_unknown_names(&names()).into_iter();
        problems
            .map(|problem| {
                let (line, _column) = problem.position.expect("a position");
                (line, problem.message, problem.help.unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn a_name_that_the_configuration_does_not_have_is_reported_with_the_near_one() {
        for (policy, message, help) in [
            (
                "permit (principal, action == Action::\"connect\", resource == Connection::\"prodution\");",
                "there is no connection or MCP server \"prodution\"",
                "did you mean \"production\"?",
            ),
            (
                "forbid (principal, action, resource in Connection::\"Production\");",
                "there is no connection or MCP server \"Production\"",
                "did you mean \"production\"?",
            ),
            (
                "permit (principal, action == Action::\"reveal\", resource == DataClass::\"e-mail\");",
                "there is no data class \"e-mail\"",
                "did you mean \"email\"?",
            ),
            (
                "forbid (principal, action == Mcp::Action::\"tools/call\", resource in Mcp::Server::\"file\");",
                "there is no MCP server \"file\"",
                "did you mean \"files\"?",
            ),
            (
                "forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"gitlab/merge\");",
                "there is no MCP server \"gitlab\"",
                "did you mean \"github\"?",
            ),
            (
                "forbid (principal == Caller::\"crop/eve\", action, resource);",
                "there is no identity provider \"crop\"",
                "did you mean \"corp\"?",
            ),
            (
                "forbid (principal, action == Aws::Action::\"s3:GetObject\", resource) when { context.connection == \"files\" };",
                "there is no AWS connection \"files\"",
                "the configuration has \"demo\", \"production\"",
            ),
            (
                "forbid (principal, action == Mcp::Action::\"tools/call\", resource) unless { [\"files\", \"githup\"].contains(context.server) };",
                "there is no MCP server \"githup\"",
                "did you mean \"github\"?",
            ),
            (
                "forbid (principal, action == Mcp::Action::\"tools/call\", resource) when { resource.server != \"fils\" };",
                "there is no MCP server \"fils\"",
                "did you mean \"files\"?",
            ),
            (
                "forbid (principal, action, resource) when { !(\"corpo\" == principal.provider) };",
                "there is no identity provider \"corpo\"",
                "did you mean \"corp\"?",
            ),
            (
                "forbid (principal, action, resource) when { principal.issuer == \"https://login.example.org\" };",
                "there is no issuer of an identity provider \"https://login.example.org\"",
                "did you mean \"https://login.example.com\"?",
            ),
        ] {
            let text = format!("permit (principal, action, resource);\n{policy}\n");
            assert_eq!(unknown_names(&text), [(2, message.to_owned(), help.to_owned())], "{policy}");
        }
    }

    #[test]
    fn names_that_the_configuration_has_are_fine() {
        let text = "permit (principal == Caller::\"corp/any/thing\", action, resource);
            permit (principal, action == Action::\"connect\", resource == Connection::\"files\");
            permit (principal, action == Action::\"connect\", resource == Connection::\"demo\");
            permit (principal, action == Action::\"reveal\", resource == DataClass::\"aws-sensitive\");
            permit (principal in Group::\"whatever\", action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"files/a/b\")
            when { context.server == \"files\" && principal.subject == \"github\" && context.tool != \"demo\" };";
        assert_eq!(unknown_names(text), []);
    }
}
