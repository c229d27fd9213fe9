//! The session policy of one credential, compiled from the decoded operation.
//!
//! Promises: no text of a request acts as a wildcard. No action gets the resource of another one. An operation that does not fit
//! into the size limit of STS gets a policy that names its actions only, and the scope of the result says so.
//!
//! The JSON is written by hand: STS counts characters, and every character that a serializer adds is missing for a resource.

use durward_core::timestamps::format_rfc3339_seconds;
use durward_core::{Arn, CredentialScope, Operation, Resource, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use time::OffsetDateTime;

/// Conditions beside the time. All of them must hold. With the first two, which are in each statement, AWS refuses calls that one of its
/// services makes on the caller's behalf, because these come from neither address nor endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionPolicyConditions {
    /// Addresses or CIDR ranges from which the gateway reaches AWS: `aws:SourceIp`.
    pub source_ip: Vec<String>,
    /// VPC endpoints through which the gateway reaches AWS: `aws:SourceVpce`.
    pub source_vpce: Vec<String>,
    /// The accounts whose buckets may be used: `aws:ResourceAccount`, in the statements about buckets and objects. Empty: any.
    // The ARN of a bucket has no account, and bucket names are global: policy takes a bucket for one of the connection's account, and a
    // stranger may own it. AWS knows the owner when it evaluates this key (IAM User Guide, "aws:ResourceAccount").
    pub bucket_accounts: Vec<String>,
}

/// A session policy in the form that STS accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionPolicy {
    pub json: String,
    /// [`CredentialScope::Operation`] or [`CredentialScope::Actions`].
    pub scope: CredentialScope,
}

/// Why there is no session policy for an operation. No credential may be issued for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionPolicyError {
    #[error("the operation requires no permission, so no credential can be scoped to it")]
    NoRequiredPermission,
    #[error("`{0}` is not an IAM action; correct the catalog entry of the operation")]
    InvalidAction(String),
    #[error("`{0}` is not an ARN with a plain partition, service, region and account; correct the request")]
    InvalidArn(String),
    #[error("an MCP resource is not an AWS resource; credentials are issued only for AWS operations")]
    NotAws,
    #[error("even the actions alone take more than {} characters", limits::MAX_SESSION_POLICY_CHARS)]
    TooLong,
}

/// The policy for `operation` that permits nothing after `not_after`. It names the resources if they fit.
pub(crate) fn build_session_policy(
    operation: &Operation,
    not_after: OffsetDateTime,
    conditions: &SessionPolicyConditions,
) -> Result<SessionPolicy, SessionPolicyError> {
    let statements = group_by_resources(operation)?;
    let conditions = ConditionTexts::new(not_after, conditions);
    let json = policy_json(&statements, &conditions);
    // Characters, not bytes: STS counts `Policy` in characters (STS API Reference, AssumeRole).
    if json.chars().count() <= limits::MAX_SESSION_POLICY_CHARS {
        return Ok(SessionPolicy { json, scope: CredentialScope::Operation });
    }
    build_actions_only_policy(&statements, &conditions)
}

/// The policy for the actions of `operation` on any resource, if STS cannot pack the complete one.
pub(crate) fn build_action_policy(
    operation: &Operation,
    not_after: OffsetDateTime,
    conditions: &SessionPolicyConditions,
) -> Result<SessionPolicy, SessionPolicyError> {
    build_actions_only_policy(&group_by_resources(operation)?, &ConditionTexts::new(not_after, conditions))
}

/// The kind of the resources of a statement: AWS must hold buckets to their owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ResourceKind {
    /// S3 buckets and objects, whose ARNs have no account.
    Bucket,
    Other,
}

/// Sets of resource patterns, each with the actions that need exactly this set: no action gets the resource of another one.
type PolicyStatements<'a> = BTreeMap<(ResourceKind, BTreeSet<String>), BTreeSet<&'a str>>;

fn group_by_resources(operation: &Operation) -> Result<PolicyStatements<'_>, SessionPolicyError> {
    let mut by_action: BTreeMap<(ResourceKind, &str), BTreeSet<String>> = BTreeMap::new();
    for permission in &operation.required_permissions {
        if !is_plain_action(&permission.action) {
            return Err(SessionPolicyError::InvalidAction(permission.action.clone()));
        }
        let pattern = match &permission.resource {
            Resource::Any => "*".to_owned(),
            Resource::Arn(arn) => resource_pattern(arn)?,
            Resource::McpTool { .. } | Resource::McpServer(_) => return Err(SessionPolicyError::NotAws),
        };
        let kind = match &permission.resource {
            Resource::Arn(arn) => resource_kind(arn),
            _ => ResourceKind::Other,
        };
        let patterns = by_action.entry((kind, permission.action.as_str())).or_default();
        patterns.extend(alternate_arn_pattern(&pattern));
        patterns.insert(pattern);
    }
    if by_action.is_empty() {
        return Err(SessionPolicyError::NoRequiredPermission);
    }
    let mut statements = PolicyStatements::new();
    for ((kind, action), mut patterns) in by_action {
        // `*` covers all others, and every character counts.
        if patterns.contains("*") {
            patterns = BTreeSet::from(["*".to_owned()]);
        }
        statements.entry((kind, patterns)).or_default().insert(action);
    }
    Ok(statements)
}

fn resource_kind(arn: &str) -> ResourceKind {
    match Arn::parse(arn) {
        Some(Arn { service: "s3", account: "", .. }) => ResourceKind::Bucket,
        _ => ResourceKind::Other,
    }
}

fn build_actions_only_policy(
    statements: &PolicyStatements<'_>,
    conditions: &ConditionTexts,
) -> Result<SessionPolicy, SessionPolicyError> {
    // An action on a bucket stays held to the bucket's owner, also where it is needed on another resource: `*` covers buckets.
    let on_buckets: BTreeSet<&str> = statements
        .iter()
        .filter(|((kind, _), _)| *kind == ResourceKind::Bucket)
        .flat_map(|(_, actions)| actions.iter().copied())
        .collect();
    let all = statements.values().flatten().copied();
    // IAM takes the intersection with the policies of the role, so `*` never permits more than the role (IAM User Guide, "Session
    // policies").
    let mut any = PolicyStatements::new();
    for action in all {
        let kind = if on_buckets.contains(action) { ResourceKind::Bucket } else { ResourceKind::Other };
        any.entry((kind, BTreeSet::from(["*".to_owned()]))).or_default().insert(action);
    }
    let json = policy_json(&any, conditions);
    if json.chars().count() > limits::MAX_SESSION_POLICY_CHARS {
        return Err(SessionPolicyError::TooLong);
    }
    Ok(SessionPolicy { json, scope: CredentialScope::Actions })
}

/// `service:Name`, without the wildcards that IAM accepts in an action.
fn is_plain_action(text: &str) -> bool {
    text.split_once(':').is_some_and(|(service, name)| {
        !service.is_empty()
            && !name.is_empty()
            && service.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// An IAM pattern that matches exactly `arn`. Three wildcards that the decoder itself writes stay wildcards: `-??????` of a secret
/// (Secrets Manager appends six random characters), `:*` of a log group (part of its ARN) and `instance/*`.
fn resource_pattern(arn: &str) -> Result<String, SessionPolicyError> {
    let refuse = || SessionPolicyError::InvalidArn(arn.to_owned());
    let mut parts = arn.splitn(6, ':');
    let (Some("arn"), Some(partition), Some(service), Some(region), Some(account), Some(resource)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse());
    };
    // IAM replaces policy variables only in the last part (IAM User Guide, "Policy variables"), so a wildcard before it could
    // not be escaped.
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if partition.is_empty() || service.is_empty() || resource.is_empty() {
        return Err(refuse());
    }
    if ![partition, service, region, account].into_iter().all(is_plain) {
        return Err(refuse());
    }
    let (literal, wildcard_suffix) = split_wildcard_suffix(service, resource);
    let mut pattern = String::with_capacity(arn.len() + 8);
    // Writing to a String cannot fail.
    let _infallible = write!(pattern, "arn:{partition}:{service}:{region}:{account}:");
    // `${*}`, `${?}` and `${$}` are the characters themselves (IAM User Guide, "Policy variables").
    for character in literal.chars() {
        match character {
            '*' => pattern.push_str("${*}"),
            '?' => pattern.push_str("${?}"),
            '$' => pattern.push_str("${$}"),
            other => pattern.push(other),
        }
    }
    pattern.push_str(wildcard_suffix);
    Ok(pattern)
}

/// The other ARN under which AWS may authorize the same resource. A secret that does not exist yet has no random suffix, and some
/// CloudWatch Logs calls are authorized on the ARN of the group, without `:*` or a stream.
fn alternate_arn_pattern(pattern: &str) -> Option<String> {
    let mut parts = pattern.splitn(6, ':').skip(2);
    let service = parts.next()?;
    let resource: Vec<&str> = parts.nth(2)?.split(':').collect();
    // The fields of the ARN, never its text: the key of an S3 object may hold `:logs:` and `:log-stream:`.
    match (service, resource.as_slice()) {
        ("secretsmanager", ["secret", _name]) => pattern.strip_suffix("-??????").map(str::to_owned),
        ("logs", ["log-group", _group, "*"]) => pattern.strip_suffix(":*").map(str::to_owned),
        ("logs", ["log-group", _group, "log-stream", stream]) => {
            pattern.strip_suffix(stream)?.strip_suffix(":log-stream:").map(str::to_owned)
        }
        _ => None,
    }
}

fn split_wildcard_suffix<'a>(service: &str, resource: &'a str) -> (&'a str, &'a str) {
    let suffix = match service {
        // The instance that RunInstances will create. No instance can be named `*`.
        "ec2" if resource == "instance/*" => return resource.split_at("instance/".len()),
        "secretsmanager" if resource.starts_with("secret:") => "-??????",
        "logs" if resource.starts_with("log-group:") => ":*",
        _ => return (resource, ""),
    };
    let Some(literal) = resource.strip_suffix(suffix) else { return (resource, "") };
    // Only after a name: `log-group:*` names no group, and `log-group:a:log-stream:*` names a stream `*`.
    match literal.split_once(':') {
        Some((_, name)) if !name.is_empty() && (service != "logs" || !name.contains(':')) => {
            resource.split_at(literal.len())
        }
        _ => (resource, ""),
    }
}

/// The condition blocks of the statements.
struct ConditionTexts {
    on_buckets: String,
    on_others: String,
}

impl ConditionTexts {
    fn new(not_after: OffsetDateTime, conditions: &SessionPolicyConditions) -> Self {
        let all = [
            ("IpAddress", "aws:SourceIp", &conditions.source_ip),
            ("StringEquals", "aws:SourceVpce", &conditions.source_vpce),
        ];
        // `IfExists`: the key is in the context of every request on a bucket that exists, and CreateBucket is on one that does not.
        let owner = ("StringEqualsIfExists", "aws:ResourceAccount", &conditions.bucket_accounts);
        Self {
            on_buckets: condition_json(not_after, all.into_iter().chain([owner])),
            on_others: condition_json(not_after, all.into_iter()),
        }
    }

    fn of_kind(&self, kind: ResourceKind) -> &str {
        match kind {
            ResourceKind::Bucket => &self.on_buckets,
            ResourceKind::Other => &self.on_others,
        }
    }
}

fn condition_json<'a>(
    not_after: OffsetDateTime,
    operators: impl Iterator<Item = (&'a str, &'a str, &'a Vec<String>)>,
) -> String {
    let mut json =
        format!(r#"{{"DateLessThan":{{"aws:CurrentTime":"{}"}}"#, format_rfc3339_seconds(not_after));
    // In one condition block all operators must match, and of one key any value (IAM User Guide, "Conditions with multiple
    // context keys or values").
    for (operator, key, values) in operators {
        if !values.is_empty() {
            let _infallible = write!(json, r#","{operator}":{{"{key}":"#);
            write_json_list(values.iter().map(String::as_str), &mut json);
            json.push('}');
        }
    }
    json.push('}');
    json
}

fn policy_json(statements: &PolicyStatements<'_>, conditions: &ConditionTexts) -> String {
    // Policy variables exist only in this version of the policy language.
    let mut json = String::from(r#"{"Version":"2012-10-17","Statement":["#);
    for (index, ((kind, patterns), actions)) in statements.iter().enumerate() {
        json.push_str(if index == 0 { "" } else { "," });
        json.push_str(r#"{"Effect":"Allow","Action":"#);
        write_json_list(actions.iter().copied(), &mut json);
        json.push_str(r#","Resource":"#);
        write_json_list(patterns.iter().map(String::as_str), &mut json);
        json.push_str(r#","Condition":"#);
        json.push_str(conditions.of_kind(*kind));
        json.push('}');
    }
    json.push_str("]}");
    json
}

fn write_json_list<'a>(items: impl Iterator<Item = &'a str>, json: &mut String) {
    json.push('[');
    for (index, item) in items.enumerate() {
        json.push_str(if index == 0 { "" } else { "," });
        write_json_string(item, json);
    }
    json.push(']');
}

/// A JSON string in the characters that STS accepts (STS API Reference, AssumeRole, `Policy`: U+0020 to U+00FF); all others are
/// written as `\u` escapes.
fn write_json_string(text: &str, json: &mut String) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            ' '..='~' | '\u{a0}'..='\u{ff}' => json.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _infallible = write!(json, "\\u{unit:04x}");
                }
            }
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests;
