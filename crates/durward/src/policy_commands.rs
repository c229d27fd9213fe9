//! `durward policy check`, `test`, `explain` and `schema`: a policy directory, checked before a gateway uses it.
//!
//! Exit codes: 0 valid or allowed, 1 invalid, failed, denied or approval required, 2 the request to explain is malformed.

use crate::argument_values::parse_key_value;
use crate::config::{Config, OptionalConfigArgs};
use clap::{Args, ValueEnum};
use durward_catalog::Catalog;
use durward_core::{CallerKind, Verdict, parse_strict_json};
use durward_masking::DataClass;
use durward_policy::{
    CallerInput, ConnectionCandidate, ConnectionChoice, NameKind, PolicyQueryInput, PolicySet, render_schema,
    run_policy_tests,
};
use std::{
    io::{self, Write},
    net::IpAddr,
    path::Path,
};

/// Loads a policy directory and prints every problem in it. Names that the configuration does not have are warnings here, because
/// the directory may be for another gateway; `durward config check` and `durward serve` refuse them.
pub fn check_policies(dir: &Path, config: &OptionalConfigArgs, out: &mut impl Write) -> io::Result<u8> {
    let config = match config.load() {
        Ok(config) => config,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(1);
        }
    };
    match PolicySet::load(dir, Catalog::embedded()) {
        Ok(set) => {
            let warnings = name_warnings(&set, config.as_ref());
            for warning in &warnings {
                writeln!(out, "warning: {warning}\n")?;
            }
            let found = match warnings.len() {
                0 => String::new(),
                count => format!(", {}", format_count(count, "warning", "warnings")),
            };
            writeln!(
                out,
                "{}: {}, version {}, no problem found{found}",
                dir.display(),
                format_count(set.len(), "policy", "policies"),
                set.version()
            )?;
            Ok(0)
        }
        Err(error) => {
            writeln!(
                out,
                "{error}\n\n{} found",
                format_count(error.problems().len(), "problem", "problems")
            )?;
            Ok(1)
        }
    }
}

/// What is wrong with the names in the policies; without a configuration, the names that could not be checked.
fn name_warnings(set: &PolicySet, config: Option<&Config>) -> Vec<String> {
    if let Some(config) = config {
        let problems = set.find_unknown_names(&config.names_for_policies());
        return problems.iter().map(ToString::to_string).collect();
    }
    let kinds = [
        NameKind::Connection,
        NameKind::AwsConnection,
        NameKind::McpServer,
        NameKind::DataClass,
        NameKind::IdentityProvider,
        NameKind::Issuer,
    ];
    let unchecked: Vec<String> = kinds
        .into_iter()
        .filter_map(|kind| {
            let mut names = set.named(kind);
            if kind == NameKind::DataClass {
                names.retain(|name| DataClass::BUILT_IN.iter().all(|class| class.as_str() != *name));
            }
            let names: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
            (!names.is_empty()).then(|| format!("{kind} {}", names.join(", ")))
        })
        .collect();
    if unchecked.is_empty() {
        return Vec::new();
    }
    let unchecked = unchecked.join("; ");
    vec![format!("no configuration (--config), so it was not checked that these exist: {unchecked}")]
}

/// Prints the schema of a policy directory in Cedar's schema syntax.
pub fn print_schema(dir: Option<&Path>, services: &[String], out: &mut impl Write) -> io::Result<u8> {
    let set = match dir.map(|dir| PolicySet::load(dir, Catalog::embedded())).transpose() {
        Ok(set) => set,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(1);
        }
    };
    match render_schema(set.as_ref(), services, Catalog::embedded()) {
        Ok(schema) => {
            writeln!(out, "{}", schema.trim_end())?;
            Ok(0)
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            Ok(2)
        }
    }
}

/// Runs the cases of `tests.toml` beside the policies.
pub fn test_policies(dir: &Path, out: &mut impl Write) -> io::Result<u8> {
    let outcomes = match run_policy_tests(dir, Catalog::embedded()) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(1);
        }
    };
    let mut failed = 0;
    for outcome in &outcomes {
        match &outcome.failure {
            None => writeln!(out, "ok      {}", outcome.name)?,
            Some(failure) => {
                failed += 1;
                writeln!(out, "FAILED  {} ({})", outcome.name, outcome.file.display())?;
                for line in failure.lines() {
                    writeln!(out, "          {line}")?;
                }
            }
        }
    }
    writeln!(out, "\n{}, {failed} failed", format_count(outcomes.len(), "case", "cases"))?;
    Ok(u8::from(failed > 0))
}

fn format_count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CallerKindArg {
    Human,
    Workload,
}

/// One request to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// connect, reveal, an IAM action (s3:GetObject) or an MCP method (tools/call)
    action: String,
    /// Connection, data class, ARN or *, SERVER/TOOL, or MCP server
    resource: String,
    #[command(flatten)]
    config: OptionalConfigArgs,
    /// Request parameters, or the arguments of a tool, as a JSON object
    #[arg(long, visible_alias = "arguments", value_name = "JSON", default_value = "{}")]
    parameters: String,
    /// Subject of the caller
    #[arg(long, default_value = "tester")]
    subject: String,
    /// Group of the caller; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Kind of the caller
    #[arg(long, value_enum, default_value = "workload")]
    kind: CallerKindArg,
    /// Name of the caller's identity provider in the configuration
    #[arg(long, default_value = "test")]
    provider: String,
    /// Issuer of the caller's token
    #[arg(long, value_name = "URL", default_value = "https://issuer.test")]
    issuer: String,
    /// Subject on whose behalf the caller acts; may be repeated for a chain
    #[arg(long, value_name = "SUBJECT")]
    acting_for: Vec<String>,
    /// API operation, if its name differs from the action
    #[arg(long)]
    operation: Option<String>,
    /// AWS connection that the caller uses [default: the only one of the configuration, or else of the policies]
    #[arg(long)]
    connection: Option<String>,
    /// AWS account of the request [default: that of the connection]
    #[arg(long)]
    account: Option<String>,
    /// AWS region of the request
    #[arg(long)]
    region: Option<String>,
    /// Address that the request comes from
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<IpAddr>,
    /// Evaluation time (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<String>,
    /// Tag of the resource; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_key_value)]
    tags: Vec<(String, String)>,
    /// Risk, 0 to 100 [default: the risk of the operation for a caller who has done it before]
    #[arg(long)]
    risk: Option<u8>,
}

/// Evaluates one request and explains the decision: which policies could apply, and how each evaluated.
pub fn explain_decision(dir: &Path, args: &ExplainArgs, out: &mut impl Write) -> io::Result<u8> {
    // As the gateway reads them, so that a number is the number that it is there.
    let parameters = match parse_strict_json(args.parameters.as_bytes()) {
        Ok(parameters) => parameters,
        Err(error) => {
            writeln!(out, "--parameters is not JSON: {error}")?;
            return Ok(2);
        }
    };
    let set = match PolicySet::load(dir, Catalog::embedded()) {
        Ok(set) => set,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(1);
        }
    };
    let config = match args.config.load() {
        Ok(config) => config,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(1);
        }
    };
    let configured = config.as_ref().map(|config| {
        let connections = config.aws.connection.iter();
        connections.map(|one| ConnectionCandidate::with_role(&one.name, &one.role_arn)).collect()
    });
    let choice =
        ConnectionChoice::new(&set, configured, &args.action, &args.resource, args.connection.as_deref());
    let query = PolicyQueryInput {
        caller: CallerInput {
            provider: args.provider.clone(),
            subject: args.subject.clone(),
            issuer: args.issuer.clone(),
            kind: match args.kind {
                CallerKindArg::Human => CallerKind::Human,
                CallerKindArg::Workload => CallerKind::Workload,
            },
            groups: args.groups.clone(),
            acting_for: args.acting_for.clone(),
        },
        action: args.action.clone(),
        resource: args.resource.clone(),
        params: parameters,
        operation: args.operation.clone(),
        connection: choice.chosen_name(),
        account: args.account.clone().or_else(|| choice.chosen_account()),
        region: args.region.clone(),
        source_ip: args.source_ip,
        now: args.now.clone(),
        tags: args.tags.iter().cloned().collect(),
        risk: args.risk,
    };
    match query.explain(&set, Catalog::embedded()) {
        Ok(explanation) => {
            let verdict = explanation.decision.verdict;
            let near_misses =
                choice.near_misses(&query, args.account.as_deref(), verdict, &set, Catalog::embedded());
            write!(out, "{choice}{explanation}{near_misses}")?;
            Ok(u8::from(explanation.decision.verdict != Verdict::Allow))
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            Ok(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct ExplainCommandLine {
        #[command(flatten)]
        args: ExplainArgs,
    }

    fn sample_policies() -> tempfile::TempDir {
        copy_policies("policies")
    }

    /// A policy directory of the repository, copied: the umask of the checkout may let others write the originals, which the loader
    /// refuses.
    fn copy_policies(samples: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(samples);
        for entry in std::fs::read_dir(samples).expect("the samples are there") {
            let path = entry.expect("readable").path();
            let text = std::fs::read(&path).expect("readable");
            std::fs::write(dir.path().join(path.file_name().expect("a file")), text).expect("written");
        }
        dir
    }

    fn explain_output(dir: &Path, line: &[&str]) -> (u8, String) {
        let mut out = Vec::new();
        let args = ExplainCommandLine::parse_from([&["explain"], line].concat()).args;
        let code = explain_decision(dir, &args, &mut out).expect("writing to memory");
        (code, String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn the_sample_policies_load_and_pass_their_cases() {
        for samples in ["policies", "examples/laptop-policies"] {
            let dir = copy_policies(samples);
            let mut out = Vec::new();
            assert_eq!(
                check_policies(dir.path(), &OptionalConfigArgs::default(), &mut out).expect("written"),
                0,
                "{samples}: {}",
                String::from_utf8_lossy(&out)
            );
            assert_eq!(
                test_policies(dir.path(), &mut out).expect("written"),
                0,
                "{samples}: {}",
                String::from_utf8_lossy(&out)
            );
        }
    }

    #[test]
    fn explains_a_decision_and_reports_it_as_exit_code() {
        let dir = sample_policies();
        let (code, text) =
            explain_output(dir.path(), &["s3:GetObject", "arn:aws:s3:::b/k", "--group", "agents"]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("permit agents-read"), "{text}");
        let (code, text) =
            explain_output(dir.path(), &["s3:DeleteBucket", "arn:aws:s3:::b", "--group", "sre"]);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("policy `no-data-loss`"), "{text}");
        assert_eq!(explain_output(dir.path(), &["s3:GetObject", "b"]).0, 2);
        assert_eq!(explain_output(dir.path(), &["s3:GetObject", "*", "--parameters", "{"]).0, 2);
    }

    /// A directory with these policies in `policies`, and a configuration with these connections and the server `files`.
    fn configured_dir(
        policies: &str,
        connections: &[(&str, &str)],
    ) -> (tempfile::TempDir, OptionalConfigArgs) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let policy_dir = dir.path().join("policies");
        std::fs::create_dir(&policy_dir).expect("created");
        std::fs::write(policy_dir.join("p.cedar"), policies).expect("written");
        let mut text = "data_dir = \"data\"\n[policy]\ndir = \"policies\"\n[[identity.oidc]]\nname = \"corp\"\n\
                        issuer = \"https://login.example.com\"\naudience = [\"durward\"]\n[[mcp.server]]\nname = \"files\"\n\
                        url = \"http://127.0.0.1:9/mcp\"\n"
            .to_owned();
        for (name, account) in connections {
            let connection = format!(
                "[[aws.connection]]\nname = \"{name}\"\nrole_arn = \"arn:aws:iam::{account}:role/r\"\n"
            );
            text.push_str(&connection);
        }
        let file = dir.path().join("durward.toml");
        std::fs::write(&file, text).expect("written");
        (dir, OptionalConfigArgs { config: Some(file) })
    }

    const APPROVED_IN_PROD: &str = "@id(\"all\") permit (principal, action, resource);
        @id(\"ask\") @approval(\"oncall\") forbid (principal, action == Aws::Action::\"s3:DeleteObject\", resource in Connection::\"prod\");
        @id(\"never\") forbid (principal, action == Aws::Action::\"s3:DeleteObject\", resource) when { context.connection == \"audit\" };";

    fn explain_with(config: &OptionalConfigArgs, dir: &Path, line: &[&str]) -> (u8, String) {
        let file = config.config.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        explain_output(&dir.join("policies"), &[line, &["--config", &file]].concat())
    }

    #[test]
    fn explains_with_the_only_connection() {
        let request = ["s3:DeleteObject", "arn:aws:s3:::b/k"];
        let (dir, config) = configured_dir(APPROVED_IN_PROD, &[("prod", "123456789012")]);
        let (code, text) = explain_with(&config, dir.path(), &request);
        assert!(
            code == 1
                && text
                    .starts_with("connection: prod (the only one of the configuration)\nrequire_approval: "),
            "{text}"
        );
        // Without a configuration, those that the policies name count.
        let only = APPROVED_IN_PROD.replace("context.connection == \"audit\"", "context.region == \"x\"");
        let (dir, _config) = configured_dir(&only, &[]);
        let (code, text) = explain_output(&dir.path().join("policies"), &request);
        assert!(
            code == 1
                && text.starts_with("connection: prod (the only one of the policies)\nrequire_approval: "),
            "{text}"
        );
    }

    #[test]
    fn explains_with_one_of_several_connections_and_names_the_near_misses() {
        let request = ["s3:DeleteObject", "arn:aws:s3:::b/k"];
        let accounts = [("audit", "111111111111"), ("prod", "222222222222"), ("test", "333333333333")];
        let (dir, config) = configured_dir(APPROVED_IN_PROD, &accounts);
        let (code, text) = explain_with(&config, dir.path(), &request);
        assert_eq!(code, 1, "{text}");
        for expected in [
            "connection: audit (the first of the configuration; name another to see its decision); others: prod, test\ndeny: ",
            "\n  would require approval with connection `prod`\n  would permit with connection `test`\n",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        let in_account = ["dynamodb:DeleteItem", "arn:aws:dynamodb:eu-west-1:333333333333:table/t"];
        let (code, text) = explain_with(&config, dir.path(), &in_account);
        assert!(
            code == 0
                && text.starts_with("connection: test (the only one with a role in the resource's account)"),
            "{text}"
        );
        let (_code, text) =
            explain_with(&config, dir.path(), &[&request[..], &["--connection", "prd"]].concat());
        assert!(
            text.starts_with(
                "connection: prd (there is none of this name in the configuration); others: audit, "
            ),
            "{text}"
        );
        // Requests that go through no AWS connection are as before.
        let (_code, text) = explain_with(&config, dir.path(), &["connect", "prod"]);
        assert!(text.starts_with("allow: connect on prod"), "{text}");
    }

    #[test]
    fn explains_a_tool_call_with_its_arguments() {
        let policies = "permit (principal, action, resource);
            forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"files/pay\")
            when { context.arguments has amount && context.arguments.amount > 100 };";
        let (dir, config) = configured_dir(policies, &[]);
        let explain = |arguments| {
            explain_with(&config, dir.path(), &["tools/call", "files/pay", "--arguments", arguments])
        };
        assert_eq!(explain(r#"{"amount": 50.0}"#).0, 0);
        let (code, text) = explain(r#"{"amount": 5e2}"#);
        assert!(code == 1 && text.contains("is forbidden by policy `p.2`"), "{text}");
        let (code, text) = explain(r#"{"amount": 0.5}"#);
        assert!(
            code == 1 && text.contains("`context.arguments.amount` is not a whole number of 64 bits"),
            "{text}"
        );
        assert_eq!(explain(r#"{"amount": 1, "amount": 2}"#).0, 2);
    }

    #[test]
    fn warns_of_names_that_the_configuration_does_not_have() {
        let policies = "permit (principal == Caller::\"crop/a\", action == Action::\"connect\", resource == Connection::\"prodd\");
            forbid (principal, action == Mcp::Action::\"tools/call\", resource in Mcp::Server::\"files\");";
        let (dir, config) = configured_dir(policies, &[("prod", "123456789012")]);
        let check = |config: &OptionalConfigArgs| {
            let mut out = Vec::new();
            let code = check_policies(&dir.path().join("policies"), config, &mut out).expect("written");
            (code, String::from_utf8_lossy(&out).into_owned())
        };
        let (code, text) = check(&config);
        assert_eq!(code, 0, "{text}");
        for expected in [
            "warning: ",
            "p.cedar:1:81: policy `p.1`: there is no connection or MCP server \"prodd\"",
            "help: did you mean \"prod\"?",
            "there is no identity provider \"crop\"",
            "2 policies, version ",
            "no problem found, 2 warnings",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        let (code, text) = check(&OptionalConfigArgs::default());
        assert_eq!(code, 0, "{text}");
        let expected = "warning: no configuration (--config), so it was not checked that these exist: connection or MCP server \
                        \"prodd\"; MCP server \"files\"; identity provider \"crop\"\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn prints_the_schema_of_the_sample_policies() {
        let dir = sample_policies();
        let print = |dir: Option<&Path>, services: &[&str]| {
            let mut out = Vec::new();
            let services: Vec<String> = services.iter().map(|service| (*service).to_owned()).collect();
            let code = print_schema(dir, &services, &mut out).expect("written");
            (code, String::from_utf8_lossy(&out).into_owned())
        };
        let (code, text) = print(Some(dir.path()), &["sqs"]);
        assert_eq!(code, 0, "{text}");
        for expected in [
            "namespace Aws",
            "entity Resource in",
            "\"s3:DeleteBucket\"",
            "\"sqs:SendMessage\"",
            "\"tools/call\"",
            "path: __cedar::String",
        ] {
            assert!(text.contains(expected), "{expected} in\n{}", &text[..2_000]);
        }
        assert_eq!(print(None, &["sqz"]).0, 2);
        assert_eq!(print(None, &[]).0, 0);
    }

    #[test]
    fn reports_errors_in_a_policy_directory() {
        let dir = sample_policies();
        std::fs::write(
            dir.path().join("99.cedar"),
            "permit (principal, action == Aws::Action::\"s3:GetObjekt\", resource);",
        )
        .expect("written");
        let mut out = Vec::new();
        assert_eq!(check_policies(dir.path(), &OptionalConfigArgs::default(), &mut out).expect("written"), 1);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.contains("99.cedar:1:30") && text.contains("did you mean \"s3:GetObject\"?"), "{text}");
    }
}
