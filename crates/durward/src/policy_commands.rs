//! `durward policy check`, `test` and `explain`: what a person does with a policy directory before it is in force.
//!
//! Exit codes: 0 good or allowed, 1 refused or failed, 2 the question cannot be understood.

use clap::{Args, ValueEnum};
use durward_catalog::Catalog;
use durward_core::{CallerKind, Verdict};
use durward_policy::{CallerInput, PolicyQueryInput, PolicySet, run_policy_tests};
use std::{
    io::{self, Write},
    net::IpAddr,
    path::Path,
};

/// Loads a policy directory and tells everything that is wrong with it.
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

/// Runs the cases beside the policies.
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

fn parse_key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// One question to policy, as options.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// connect, reveal, an IAM action (s3:GetObject) or an MCP method (tools/call)
    action: String,
    /// A connection, a data class, an ARN or *, <server>/<tool> or a server
    resource: String,
    /// Request parameters, or the arguments of a tool, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    params: String,
    /// Subject of the caller
    #[arg(long, default_value = "tester")]
    subject: String,
    /// A group of the caller; repeat for more
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    #[arg(long, value_enum, default_value = "workload")]
    kind: CallerKindArg,
    /// The identity provider that vouches for the caller, by its name in the configuration
    #[arg(long, default_value = "test")]
    provider: String,
    /// The token's issuer
    #[arg(long, default_value = "https://issuer.test")]
    issuer: String,
    /// On whose behalf; repeat for a chain
    #[arg(long, value_name = "SUBJECT")]
    acting_for: Vec<String>,
    /// The API operation, where it is not named as the action
    #[arg(long)]
    operation: Option<String>,
    #[arg(long)]
    connection: Option<String>,
    #[arg(long)]
    account: Option<String>,
    #[arg(long)]
    region: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<IpAddr>,
    /// The time of the question (RFC 3339)
    #[arg(long, value_name = "TIME")]
    now: Option<String>,
    /// A tag of the resource, as KEY=VALUE; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_key_value)]
    tags: Vec<(String, String)>,
    /// The risk, 0 to 100 [default: of the operation for a caller who did it before]
    #[arg(long)]
    risk: Option<u8>,
}

/// Answers one question and says which policies could apply and how each came out. 0: allowed; 1: denied, or an approval is needed.
pub fn explain_decision(dir: &Path, args: &ExplainArgs, out: &mut impl Write) -> io::Result<u8> {
    let params = match serde_json::from_str(&args.params) {
        Ok(params) => params,
        Err(error) => {
            writeln!(out, "--params is not JSON: {error}")?;
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
    let asked = PolicyQueryInput {
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
        params,
        operation: args.operation.clone(),
        connection: args.connection.clone(),
        account: args.account.clone(),
        region: args.region.clone(),
        source_ip: args.source_ip,
        now: args.now.clone(),
        tags: args.tags.iter().cloned().collect(),
        risk: args.risk,
    };
    match asked.explain(&set, Catalog::embedded()) {
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

    /// The sample policies, in a directory that nobody else may write whatever the umask of the checkout.
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
        assert_eq!(explain_output(dir.path(), &["s3:GetObject", "*", "--params", "{"]).0, 2);
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
