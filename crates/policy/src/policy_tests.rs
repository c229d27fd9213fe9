//! Policy tests: questions with expected answers, in `tests.toml` files beside the policies.
//!
//! The same form of question serves `policy explain`. Nothing here reaches a network or a clock: what a case leaves out has a
//! fixed default.

use crate::entities::split_arn;
use crate::{
    explanation::Explanation,
    load_error::PolicyLoadError,
    policy_set::{AuthorizationRequest, PolicyQuery, PolicySet, RequestContext},
    schema::MCP_METHODS,
    schema_source::SchemaSource,
};
use durward_core::{
    AccessLevel, Caller, CallerKind, FrontEndKind, Operation, OperationTraits, RequiredPermission, Resource,
    ResourceTags, RiskContext, Verdict, assess_risk,
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::datetime};

/// Who asks, in a case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallerInput {
    pub provider: String,
    pub subject: String,
    pub issuer: String,
    pub kind: CallerKind,
    pub groups: Vec<String>,
    /// On whose behalf.
    pub acting_for: Vec<String>,
}

impl Default for CallerInput {
    fn default() -> Self {
        Self {
            provider: "test".to_owned(),
            subject: "tester".to_owned(),
            issuer: "https://issuer.test".to_owned(),
            kind: CallerKind::Workload,
            groups: Vec::new(),
            acting_for: Vec::new(),
        }
    }
}

/// A question as a person writes it.
#[derive(Debug, Clone)]
pub struct PolicyQueryInput {
    pub caller: CallerInput,
    /// `connect`, `reveal`, an IAM action (`s3:GetObject`) or an MCP method (`tools/call`).
    pub action: String,
    /// A connection, a data class, an ARN or `*`, `<server>/<tool>` or a server.
    pub resource: String,
    /// Request parameters, or the arguments of a tool: an object.
    pub params: Value,
    /// The API operation; by default the one the action is named after.
    pub operation: Option<String>,
    pub connection: Option<String>,
    pub account: Option<String>,
    pub region: Option<String>,
    pub source_ip: Option<IpAddr>,
    /// RFC 3339.
    pub now: Option<String>,
    /// The tags of the resource.
    pub tags: BTreeMap<String, String>,
    /// From 0 to 100; by default what it is for a caller who did it before.
    pub risk: Option<u8>,
}

const DEFAULT_CONNECTION: &str = "demo";
const DEFAULT_ACCOUNT: &str = "123456789012";
const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_TIME: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

impl PolicyQueryInput {
    /// Answers the question. An error says what in it cannot be understood.
    pub fn explain(&self, set: &PolicySet, vocabulary: &dyn SchemaSource) -> Result<Explanation, String> {
        let mut groups = self.caller.groups.clone();
        groups.sort();
        groups.dedup();
        let caller = Caller {
            provider: self.caller.provider.clone(),
            issuer: self.caller.issuer.clone(),
            subject: self.caller.subject.clone(),
            kind: self.caller.kind,
            groups,
            act: self.caller.acting_for.clone(),
        };
        let now = match &self.now {
            None => DEFAULT_TIME,
            Some(text) => OffsetDateTime::parse(text, &Rfc3339)
                .map_err(|error| format!("now = \"{text}\" is not an RFC 3339 time: {error}"))?,
        };
        let facts = RequestContext {
            connection: Some(self.connection.as_deref().unwrap_or(DEFAULT_CONNECTION)),
            source_ip: self.source_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            now,
            tags: None,
            risk: self.risk,
        };
        let ask = match self.action.as_str() {
            "connect" => PolicyQuery::Connect { connection: &self.resource },
            "reveal" => PolicyQuery::Reveal { data_class: &self.resource },
            _ => {
                let operation = self.build_operation(vocabulary)?;
                let tags = ResourceTags::from([(self.resource.clone(), self.tags.clone())]);
                let around = RiskContext {
                    is_first_seen: false,
                    resource_tags: Some(&tags),
                    has_unnamed_resource: false,
                    risky_tags: &[],
                };
                let risk = self.risk.unwrap_or_else(|| assess_risk(&operation, around).score);
                let facts = RequestContext { tags: Some(&tags), risk: Some(risk), ..facts };
                return Ok(set.explain_operation(&caller, &operation, facts));
            }
        };
        Ok(set.explain(&AuthorizationRequest { caller: &caller, query: ask, context: facts }))
    }

    fn build_operation(&self, vocabulary: &dyn SchemaSource) -> Result<Operation, String> {
        let params = match &self.params {
            Value::Null => Value::Object(serde_json::Map::new()),
            Value::Object(_) => self.params.clone(),
            _ => return Err("params is not an object".to_owned()),
        };
        let mut operation = Operation {
            front_end: FrontEndKind::Aws,
            service: String::new(),
            name: String::new(),
            required_permissions: Vec::new(),
            parameters: params,
            sensitive_pointers: Vec::new(),
            region: None,
            account: None,
            traits: OperationTraits::default(),
            uninspected_parts: Vec::new(),
            body_sha256: None,
        };
        if MCP_METHODS.contains(&self.action.as_str()) {
            let (server, tool) = match self.resource.split_once('/') {
                Some((server, tool)) => (server.to_owned(), Some(tool.to_owned())),
                None if self.action == "tools/call" => {
                    return Err(format!("resource = \"{}\" is not <server>/<tool>", self.resource));
                }
                None => (self.resource.clone(), None),
            };
            operation.front_end = FrontEndKind::Mcp;
            operation.service.clone_from(&server);
            operation.name = match &tool {
                Some(tool) => format!("{} {tool}", self.action),
                None => self.action.clone(),
            };
            operation.required_permissions.push(RequiredPermission {
                action: self.action.clone(),
                resource: match tool {
                    Some(name) => Resource::McpTool { server, name },
                    None => Resource::McpServer(server),
                },
                access_level: AccessLevel::Write,
            });
            return Ok(operation);
        }
        let level = match (vocabulary.access_level(&self.action), self.action.split_once(':')) {
            (Some(level), _) => level,
            // As the decoder takes it: for the worst.
            (None, Some((service, "*unknown*"))) if !vocabulary.service_actions(service).is_empty() => {
                AccessLevel::PermissionsManagement
            }
            _ => {
                let near =
                    vocabulary.closest_action(&self.action).map(|near| format!("; did you mean {near}?"));
                return Err(format!(
                    "action = \"{}\" is none of connect, reveal, an IAM action or an MCP method{}",
                    self.action,
                    near.unwrap_or_default()
                ));
            }
        };
        let (service, action) = self.action.split_once(':').unwrap_or_default();
        let resource = if self.resource == "*" {
            Resource::Any
        } else if split_arn(&self.resource).is_some() {
            Resource::Arn(self.resource.clone())
        } else {
            return Err(format!("resource = \"{}\" is neither an ARN nor \"*\"", self.resource));
        };
        let (name, traits) = vocabulary
            .representative_operation(&self.action)
            .unwrap_or((action.to_owned(), OperationTraits::default()));
        service.clone_into(&mut operation.service);
        operation.name = self.operation.clone().unwrap_or(name);
        operation.traits = traits;
        operation.region = Some(self.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned()));
        operation.account = Some(self.account.clone().unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()));
        operation.required_permissions.push(RequiredPermission {
            action: self.action.clone(),
            resource,
            access_level: level,
        });
        Ok(operation)
    }
}

/// One `[[case]]`.
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

/// How one case came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyTestResult {
    pub file: PathBuf,
    pub name: String,
    /// Why it failed; none: it passed.
    pub failure: Option<String>,
}

/// Why no case was run.
#[derive(Debug, thiserror::Error)]
pub enum PolicyTestError {
    #[error(transparent)]
    Load(#[from] PolicyLoadError),
    #[error("{}: {message}", file.display())]
    File { file: PathBuf, message: String },
    #[error("{} holds no tests.toml and no *.tests.toml with a [[case]]", dir.display())]
    NoTests { dir: PathBuf },
}

/// Runs every case of `tests.toml` and `*.tests.toml` beside the policies.
pub fn run_policy_tests(
    dir: &Path,
    vocabulary: &dyn SchemaSource,
) -> Result<Vec<PolicyTestResult>, PolicyTestError> {
    let set = PolicySet::load(dir, vocabulary)?;
    let broken = |file: &Path, message: String| PolicyTestError::File { file: file.to_owned(), message };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| broken(dir, error.to_string()))? {
        let path = entry.map_err(|error| broken(dir, error.to_string()))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "tests.toml" || name.ends_with(".tests.toml") {
            files.push(path);
        }
    }
    files.sort();
    let mut outcomes = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| broken(&file, error.to_string()))?;
        let cases: PolicyTestFile =
            toml::from_str(&text).map_err(|error| broken(&file, error.to_string()))?;
        outcomes.extend(cases.case.into_iter().map(|case| run_test_case(&file, case, &set, vocabulary)));
    }
    if outcomes.is_empty() {
        return Err(PolicyTestError::NoTests { dir: dir.to_owned() });
    }
    Ok(outcomes)
}

fn run_test_case(
    file: &Path,
    case: PolicyTestCase,
    set: &PolicySet,
    vocabulary: &dyn SchemaSource,
) -> PolicyTestResult {
    let asked = PolicyQueryInput {
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
    let failure = match asked.explain(set, vocabulary) {
        Err(error) => Some(error),
        Ok(explanation) => {
            let decision = &explanation.decision;
            let sorted = |policies: &[String]| {
                let mut policies = policies.to_vec();
                policies.sort();
                policies
            };
            let wrong_policies =
                case.policies.as_ref().filter(|expected| sorted(expected) != sorted(&decision.policies));
            if decision.verdict == case.expect {
                wrong_policies
                    .map(|expected| format!("expected it of {}, got\n{explanation}", expected.join(", ")))
            } else {
                Some(format!("expected {:?}, got\n{explanation}", case.expect))
            }
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
        let outcomes = run_policy_tests(dir.path(), &TestSchemaSource).expect("runs");
        let passed: Vec<bool> = outcomes.iter().map(|outcome| outcome.failure.is_none()).collect();
        assert_eq!(passed, [true, false, false, false, true], "{outcomes:#?}");
    }

    #[test]
    fn refuses_unknown_keys_and_empty_suites() {
        let wrong = write_policy_directory(
            "[[case]]\nname = \"x\"\naction = \"connect\"\nexpect = \"deny\"\nregoin = \"x\"\n",
        );
        assert!(matches!(
            run_policy_tests(wrong.path(), &TestSchemaSource),
            Err(PolicyTestError::File { .. })
        ));
        assert!(matches!(
            run_policy_tests(write_policy_directory("").path(), &TestSchemaSource),
            Err(PolicyTestError::NoTests { .. })
        ));
    }
}
