//! Policy tests: queries with their expected decisions, in `tests.toml` files beside the policies.

use crate::{
    explanation::verdict_word,
    load_error::PolicyLoadError,
    policy_query_input::{CallerInput, PolicyQueryInput},
    policy_set::PolicySet,
    schema_source::SchemaSource,
};
use durward_core::Verdict;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// One `[[case]]` of a test file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTestCase {
    name: String,
    #[serde(default)]
    caller: CallerInput,
    action: String,
    #[serde(default = "any_resource")]
    resource: String,
    #[serde(default)]
    params: Value,
    operation: Option<String>,
    connection: Option<String>,
    account: Option<String>,
    region: Option<String>,
    source_ip: Option<IpAddr>,
    now: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    risk: Option<u8>,
    expect: Verdict,
    /// The determining policies, in any order.
    policies: Option<Vec<String>>,
}

fn any_resource() -> String {
    "*".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTestFile {
    #[serde(default)]
    case: Vec<PolicyTestCase>,
}

/// The result of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyTestResult {
    pub file: PathBuf,
    pub name: String,
    /// Why the case failed. `None`: it passed.
    pub failure: Option<String>,
}

/// Why the cases were not run.
#[derive(Debug, thiserror::Error)]
pub enum PolicyTestError {
    #[error(transparent)]
    Load(#[from] PolicyLoadError),
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Invalid { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{} has no tests.toml and no *.tests.toml with a [[case]]", dir.display())]
    NoTests { dir: PathBuf },
}

/// Runs every case of `tests.toml` and `*.tests.toml` beside the policies.
pub fn run_policy_tests(
    dir: &Path,
    schema_source: &dyn SchemaSource,
) -> Result<Vec<PolicyTestResult>, PolicyTestError> {
    let set = PolicySet::load(dir, schema_source)?;
    let mut results = Vec::new();
    for path in list_test_files(dir)? {
        let text = fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
        let file: PolicyTestFile = toml::from_str(&text)
            .map_err(|source| PolicyTestError::Invalid { path: path.clone(), source: Box::new(source) })?;
        results.extend(file.case.into_iter().map(|case| run_test_case(&path, case, &set, schema_source)));
    }
    if results.is_empty() {
        return Err(PolicyTestError::NoTests { dir: dir.to_owned() });
    }
    Ok(results)
}

fn unreadable(path: &Path, source: io::Error) -> PolicyTestError {
    PolicyTestError::Unreadable { path: path.to_owned(), source }
}

fn list_test_files(dir: &Path) -> Result<Vec<PathBuf>, PolicyTestError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| unreadable(dir, source))? {
        let path = entry.map_err(|source| unreadable(dir, source))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "tests.toml" || name.ends_with(".tests.toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn run_test_case(
    file: &Path,
    case: PolicyTestCase,
    set: &PolicySet,
    schema_source: &dyn SchemaSource,
) -> PolicyTestResult {
    let query = PolicyQueryInput {
        caller: case.caller,
        action: case.action,
        resource: case.resource,
        params: case.params,
        operation: case.operation,
        connection: case.connection,
        account: case.account,
        region: case.region,
        source_ip: case.source_ip,
        now: case.now,
        tags: case.tags,
        risk: case.risk,
    };
    let failure = match query.explain(set, schema_source) {
        Err(error) => Some(error.to_string()),
        Ok(explanation) if explanation.decision.verdict != case.expect => {
            Some(format!("expected {}, got\n{explanation}", verdict_word(case.expect)))
        }
        Ok(explanation) => {
            let sorted = |policies: &[String]| {
                let mut policies = policies.to_vec();
                policies.sort();
                policies
            };
            case.policies
                .filter(|expected| sorted(expected) != sorted(&explanation.decision.policies))
                .map(|expected| format!("expected it of {}, got\n{explanation}", expected.join(", ")))
        }
    };
    PolicyTestResult { file: file.to_owned(), name: case.name, failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_fixtures::TestSchemaSource;

    fn write_policy_directory(tests: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let policy = "@id(\"reads\") permit (principal in Group::\"agents\", action in Aws::Action::\"Read\", resource);\n\
            @id(\"tools\") permit (principal, action == Mcp::Action::\"tools/call\", resource in Mcp::Server::\"files\")\n\
            when { context.arguments.path like \"/srv/*\" };\n";
        fs::write(dir.path().join("a.cedar"), policy).expect("written");
        fs::write(dir.path().join("tests.toml"), tests).expect("written");
        dir
    }

    #[test]
    fn passes_and_fails_as_expected() {
        let dir = write_policy_directory(
            r#"
            [[case]]
            name = "agents read"
            caller = { subject = "a", groups = ["agents"] }
            action = "s3:GetObject"
            resource = "arn:aws:s3:::b/k"
            expect = "allow"
            policies = ["reads"]

            [[case]]
            name = "wrong verdict"
            action = "s3:GetObject"
            expect = "allow"

            [[case]]
            name = "wrong policy"
            caller = { subject = "a", groups = ["agents"] }
            action = "s3:GetObject"
            expect = "allow"
            policies = ["other"]

            [[case]]
            name = "misspelt"
            action = "s3:GetObjekt"
            expect = "deny"

            [[case]]
            name = "tool"
            action = "tools/call"
            resource = "files/read"
            params = { path = "/srv/x" }
            expect = "allow"
        "#,
        );
        let results = run_policy_tests(dir.path(), &TestSchemaSource).expect("runs");
        let passed: Vec<bool> = results.iter().map(|result| result.failure.is_none()).collect();
        assert_eq!(passed, [true, false, false, false, true], "{results:#?}");
    }

    #[test]
    fn refuses_unknown_keys_and_empty_suites() {
        let unknown_key = write_policy_directory(
            "[[case]]\nname = \"x\"\naction = \"connect\"\nexpect = \"deny\"\nregoin = \"x\"\n",
        );
        assert!(matches!(
            run_policy_tests(unknown_key.path(), &TestSchemaSource),
            Err(PolicyTestError::Invalid { .. })
        ));
        assert!(matches!(
            run_policy_tests(write_policy_directory("").path(), &TestSchemaSource),
            Err(PolicyTestError::NoTests { .. })
        ));
    }
}
