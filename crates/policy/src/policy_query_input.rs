//! Policy queries as people write them, for policy tests, `policy explain` and the console.
//!
//! Nothing here reads a network or a clock: whatever a query leaves out has a fixed default.

use crate::{
    arn_parts::split_arn,
    explanation::Explanation,
    policy_query::{AuthorizationRequest, PolicyQuery, RequestContext},
    policy_set::PolicySet,
    schema_source::SchemaSource,
};
use durward_core::{
    AccessLevel, Caller, CallerKind, FrontEndKind, MCP_METHODS, Operation, OperationTraits,
    RequiredPermission, Resource, ResourceTags, RiskContext, assess_risk, is_unknown_operation_action,
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::datetime};

/// The caller of a query.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallerInput {
    pub provider: String,
    pub subject: String,
    pub issuer: String,
    pub kind: CallerKind,
    pub groups: Vec<String>,
    /// The subjects on whose behalf the caller acts, nearest first.
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

impl CallerInput {
    fn to_caller(&self) -> Caller {
        let mut groups = self.groups.clone();
        groups.sort();
        groups.dedup();
        Caller {
            provider: self.provider.clone(),
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
            kind: self.kind,
            groups,
            act: self.acting_for.clone(),
        }
    }
}

/// A query as a person writes it: `policy explain`, the console, or a `[[case]]` of a test file.
#[derive(Debug, Clone)]
pub struct PolicyQueryInput {
    pub caller: CallerInput,
    /// `connect`, `reveal`, an IAM action (`s3:GetObject`) or an MCP method (`tools/call`).
    pub action: String,
    /// A connection, a data class, an ARN or `*`, `<server>/<tool>` or a server.
    pub resource: String,
    /// Request parameters, or the arguments of a tool: an object.
    pub params: Value,
    /// The API operation. By default the one that the action is named after.
    pub operation: Option<String>,
    pub connection: Option<String>,
    pub account: Option<String>,
    pub region: Option<String>,
    pub source_ip: Option<IpAddr>,
    /// RFC 3339.
    pub now: Option<String>,
    /// The tags of the resource.
    pub tags: BTreeMap<String, String>,
    /// From 0 to 100. By default the risk for a caller who has done it before, without the configuration's risky tags.
    pub risk: Option<u8>,
}

const DEFAULT_CONNECTION: &str = "demo";
const DEFAULT_ACCOUNT: &str = "123456789012";
const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_TIME: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

/// Why a query that a person wrote has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyQueryError {
    #[error("now = \"{text}\" is not an RFC 3339 time")]
    Time { text: String },
    #[error("params is not an object")]
    Params,
    #[error("resource = \"{resource}\" is not <server>/<tool>")]
    Tool { resource: String },
    #[error("resource = \"{resource}\" is neither an ARN nor \"*\"")]
    Resource { resource: String },
    #[error("unknown action {action}: use connect, reveal, an IAM action or an MCP method{}", did_you_mean(closest.as_deref()))]
    Action { action: String, closest: Option<String> },
}

fn did_you_mean(closest: Option<&str>) -> String {
    closest.map_or_else(String::new, |closest| format!("; did you mean {closest}?"))
}

impl PolicyQueryInput {
    /// Decides the query and explains the decision.
    pub fn explain(
        &self,
        set: &PolicySet,
        schema_source: &dyn SchemaSource,
    ) -> Result<Explanation, PolicyQueryError> {
        let caller = self.caller.to_caller();
        let now = match &self.now {
            None => DEFAULT_TIME,
            Some(text) => OffsetDateTime::parse(text, &Rfc3339)
                .map_err(|_error| PolicyQueryError::Time { text: text.clone() })?,
        };
        let context = RequestContext {
            connection: Some(self.connection.as_deref().unwrap_or(DEFAULT_CONNECTION)),
            source_ip: self.source_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            now,
            tags: None,
            risk: self.risk,
        };
        let query = match self.action.as_str() {
            "connect" => PolicyQuery::Connect { connection: &self.resource },
            "reveal" => PolicyQuery::Reveal { data_class: &self.resource },
            _ => {
                let operation = self.to_operation(schema_source)?;
                let tags = ResourceTags::from([(self.resource.clone(), self.tags.clone())]);
                // What a gateway knows beyond this is not known here: its configuration, and what the caller did before.
                let risk_context = RiskContext {
                    is_first_seen: false,
                    resource_tags: Some(&tags),
                    has_unnamed_resource: false,
                    risky_tags: &[],
                };
                let risk = self.risk.unwrap_or_else(|| assess_risk(&operation, risk_context).score);
                let context = RequestContext { tags: Some(&tags), risk: Some(risk), ..context };
                return Ok(set.explain_operation(&caller, &operation, context));
            }
        };
        Ok(set.explain(&AuthorizationRequest { caller: &caller, query, context }))
    }

    fn to_operation(&self, schema_source: &dyn SchemaSource) -> Result<Operation, PolicyQueryError> {
        let operation = Operation {
            front_end: FrontEndKind::Aws,
            service: String::new(),
            name: String::new(),
            required_permissions: Vec::new(),
            parameters: match &self.params {
                Value::Null => Value::Object(serde_json::Map::new()),
                Value::Object(_) => self.params.clone(),
                _ => return Err(PolicyQueryError::Params),
            },
            sensitive_pointers: Vec::new(),
            region: None,
            account: None,
            traits: OperationTraits::default(),
            uninspected_parts: Vec::new(),
            body_sha256: None,
        };
        if MCP_METHODS.contains(&self.action.as_str()) {
            self.to_mcp_operation(operation)
        } else {
            self.to_aws_operation(operation, schema_source)
        }
    }

    fn to_mcp_operation(&self, empty: Operation) -> Result<Operation, PolicyQueryError> {
        let (server, tool) = match self.resource.split_once('/') {
            Some((server, tool)) => (server.to_owned(), Some(tool.to_owned())),
            None if self.action == "tools/call" => {
                return Err(PolicyQueryError::Tool { resource: self.resource.clone() });
            }
            None => (self.resource.clone(), None),
        };
        Ok(Operation {
            front_end: FrontEndKind::Mcp,
            service: server.clone(),
            name: match &tool {
                Some(tool) => format!("{} {tool}", self.action),
                None => self.action.clone(),
            },
            required_permissions: vec![RequiredPermission {
                action: self.action.clone(),
                resource: match tool {
                    Some(name) => Resource::McpTool { server, name },
                    None => Resource::McpServer(server),
                },
                access_level: AccessLevel::Write,
            }],
            ..empty
        })
    }

    fn to_aws_operation(
        &self,
        empty: Operation,
        schema_source: &dyn SchemaSource,
    ) -> Result<Operation, PolicyQueryError> {
        let action = self.action.as_str();
        let unknown_action = || PolicyQueryError::Action {
            action: action.to_owned(),
            closest: schema_source.closest_action(action),
        };
        let (service, action_name) = action.split_once(':').ok_or_else(unknown_action)?;
        let access_level = match schema_source.access_level(action) {
            Some(level) => level,
            // The decoder gives an operation that the catalog does not know the strictest level.
            None if is_unknown_operation_action(action)
                && !schema_source.service_actions(service).is_empty() =>
            {
                AccessLevel::PermissionsManagement
            }
            None => return Err(unknown_action()),
        };
        let resource = if self.resource == "*" {
            Resource::Any
        } else if split_arn(&self.resource).is_some() {
            Resource::Arn(self.resource.clone())
        } else {
            return Err(PolicyQueryError::Resource { resource: self.resource.clone() });
        };
        let (name, traits) = schema_source
            .representative_operation(action)
            .unwrap_or((action_name.to_owned(), OperationTraits::default()));
        Ok(Operation {
            service: service.to_owned(),
            name: self.operation.clone().unwrap_or(name),
            traits,
            region: Some(self.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned())),
            account: Some(self.account.clone().unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned())),
            required_permissions: vec![RequiredPermission {
                action: action.to_owned(),
                resource,
                access_level,
            }],
            ..empty
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy_directory::PolicyFile, test_fixtures::TestSchemaSource};
    use serde_json::json;
    use std::path::PathBuf;

    fn query_input(action: &str, resource: &str) -> PolicyQueryInput {
        PolicyQueryInput {
            caller: CallerInput::default(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            params: Value::Null,
            operation: None,
            connection: None,
            account: None,
            region: None,
            source_ip: None,
            now: None,
            tags: BTreeMap::new(),
            risk: None,
        }
    }

    fn explain(input: &PolicyQueryInput, policies: &str) -> Result<String, PolicyQueryError> {
        let file =
            PolicyFile { path: PathBuf::from("p.cedar"), stem: "p".to_owned(), text: policies.to_owned() };
        let set = PolicySet::from_files(&[file], &TestSchemaSource).expect("the test's policies load");
        input.explain(&set, &TestSchemaSource).map(|explanation| explanation.to_string())
    }

    #[test]
    fn refuses_queries_without_a_meaning() {
        let with = |change: fn(&mut PolicyQueryInput)| {
            let mut input = query_input("s3:GetObject", "*");
            change(&mut input);
            input
        };
        for (input, message) in [
            (query_input("s3:GetObject", "b/k"), "resource = \"b/k\" is neither an ARN nor \"*\""),
            (query_input("tools/call", "files"), "resource = \"files\" is not <server>/<tool>"),
            (
                query_input("s3:GetObjekt", "*"),
                "unknown action s3:GetObjekt: use connect, reveal, an IAM action or an MCP method; did you mean s3:GetObject?",
            ),
            (
                query_input("nope:*unknown*", "*"),
                "unknown action nope:*unknown*: use connect, reveal, an IAM action or an MCP method",
            ),
            (with(|input| input.params = json!([])), "params is not an object"),
            (with(|input| input.now = Some("noon".to_owned())), "now = \"noon\" is not an RFC 3339 time"),
        ] {
            let error = explain(&input, "permit (principal, action, resource);").expect_err("no meaning");
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn explains_what_requires_an_approval_and_for_which_resource() {
        let policies = "@id(\"all\") permit (principal, action, resource);
@id(\"key\") @approval(\"oncall\") @quorum(\"2\") @reason(\"customer data\")
forbid (principal, action == Aws::Action::\"kms:Decrypt\", resource == Aws::Resource::\"arn:aws:kms:us-east-1:123456789012:key/1\");";
        let text = explain(&query_input("kms:Decrypt", "*"), policies);
        assert_eq!(
            text.as_deref(),
            Ok("require_approval: kms:Decrypt on * by test/tester\n  \
                kms:Decrypt on * requires approval under policy `key`: customer data (it names a resource that the request may \
                affect: the request does not name its own exactly)\n  \
                permit all  holds  (p.cedar:1)\n  \
                forbid key  holds for arn:aws:kms:us-east-1:123456789012:key/1, which the request may affect; 2 of oncall may approve \
                it  (p.cedar:2)\n  \
                2 of 2 policies can apply\n")
        );
    }

    #[test]
    fn an_unknown_operation_has_the_strictest_access_level() {
        let policies = "permit (principal, action == Aws::Action::\"dynamodb:*unknown*\", resource)
            when { context.access_level == \"Permissions management\" };";
        let text = explain(&query_input("dynamodb:*unknown*", "*"), policies).expect("it has a meaning");
        assert!(text.starts_with("allow: "), "{text}");
    }
}
