//! `durward policy check`, `test` and `explain`: a policy directory, checked before a gateway uses it.
//!
//! Exit codes: 0 valid or allowed, 1 invalid, failed, denied or approval required, 2 the request to explain is malformed.

use crate::argument_values::parse_key_value;
use clap::{Args, ValueEnum};
use durward_catalog::Catalog;
use durward_core::{CallerKind, Verdict};
use durward_policy::{CallerInput, PolicyQueryInput, PolicySet, run_policy_tests};
use std::{
    io::{self, Write},
    net::IpAddr,
    path::Path,
};

/// Loads a policy directory and prints every problem in it.
pub fn check_policies(dir: &Path, out: &mut impl Write) -> io::Result<u8> {
    match PolicySet::load(dir, Catalog::embedded()) {
        Ok(set) => {
            writeln!(
                out,
                "{}: {}, version {}, no problem found",
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
    /// Request parameters, or the arguments of a tool, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
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
    /// Connection that the caller uses
    #[arg(long)]
    connection: Option<String>,
    /// AWS account of the request
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
    let parameters = match serde_json::from_str(&args.parameters) {
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
        connection: args.connection.clone(),
        account: args.account.clone(),
        region: args.region.clone(),
        source_ip: args.source_ip,
        now: args.now.clone(),
        tags: args.tags.iter().cloned().collect(),
        risk: args.risk,
    };
    match query.explain(&set, Catalog::embedded()) {
        Ok(explanation) => {
            write!(out, "{explanation}")?;
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

    /// The sample policies, copied: the umask of the checkout may let others write the originals, which the loader refuses.
    fn sample_policies() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
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
        let dir = sample_policies();
        let mut out = Vec::new();
        assert_eq!(
            check_policies(dir.path(), &mut out).expect("written"),
            0,
            "{}",
            String::from_utf8_lossy(&out)
        );
        assert_eq!(
            test_policies(dir.path(), &mut out).expect("written"),
            0,
            "{}",
            String::from_utf8_lossy(&out)
        );
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

    #[test]
    fn reports_errors_in_a_policy_directory() {
        let dir = sample_policies();
        std::fs::write(
            dir.path().join("99.cedar"),
            "permit (principal, action == Aws::Action::\"s3:GetObjekt\", resource);",
        )
        .expect("written");
        let mut out = Vec::new();
        assert_eq!(check_policies(dir.path(), &mut out).expect("written"), 1);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.contains("99.cedar:1:30") && text.contains("did you mean \"s3:GetObject\"?"), "{text}");
    }
}
