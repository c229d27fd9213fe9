//! The session policy: what one credential may do, compiled from the decoded operation. The text of a request never acts
//! as a wildcard here; where the operation cannot be said in STS's limit, the policy says its actions and nothing else.

use durward_core::{CredentialScope, Operation, Resource, limits};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use time::OffsetDateTime;

/// Conditions the operator adds to each statement. Several kinds must all hold. Calls that an AWS service makes on the
/// caller's behalf come from neither address nor endpoint and are refused by them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionPolicyConditions {
    /// Addresses or CIDR ranges from which the gateway reaches AWS: `aws:SourceIp`.
    #[serde(default)]
    pub source_ip: Vec<String>,
    /// VPC endpoints by which the gateway reaches AWS: `aws:SourceVpce`.
    #[serde(default)]
    pub source_vpce: Vec<String>,
}

/// A session policy as STS takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPolicy {
    pub json: String,
    /// [`Scope::Operation`] or [`Scope::Actions`].
    pub scope: CredentialScope,
}

/// The operation cannot be cut to; nothing may be lent for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionPolicyError {
    #[error("the operation demands nothing, so no credential can be cut to it")]
    NoRequiredPermission,
    #[error("`{0}` is no IAM action; correct the catalog entry of the operation")]
    InvalidAction(String),
    #[error("`{0}` is no ARN with a plain partition, service, region and account; correct the request")]
    InvalidArn(String),
    #[error("an MCP resource is no AWS resource; only operations of the AWS door can be lent for")]
    NotAws,
    #[error("even the actions alone take more than {} characters", limits::MAX_SESSION_POLICY_CHARS)]
    TooLong,
}

/// The policy for `operation` that holds until `not_after`, cut to its resources where that fits.
pub fn build_session_policy(
    operation: &Operation,
    not_after: OffsetDateTime,
    extras: &SessionPolicyConditions,
) -> Result<SessionPolicy, SessionPolicyError> {
    let statements = group_by_resources(operation)?;
    let condition = condition_json(not_after, extras);
    let json = policy_json(&statements, &condition);
    if json.chars().count() <= limits::MAX_SESSION_POLICY_CHARS {
        return Ok(SessionPolicy { json, scope: CredentialScope::Operation });
    }
    build_actions_only_policy(&statements, &condition)
}

/// The policy for the actions of `operation` alone, for when STS cannot pack the whole.
pub(crate) fn build_action_policy(
    operation: &Operation,
    not_after: OffsetDateTime,
    extras: &SessionPolicyConditions,
) -> Result<SessionPolicy, SessionPolicyError> {
    build_actions_only_policy(&group_by_resources(operation)?, &condition_json(not_after, extras))
}

/// Resource patterns to the actions that need exactly these: sets, so that no action gets another one's resource.
type PolicyStatements<'a> = BTreeMap<BTreeSet<String>, BTreeSet<&'a str>>;

fn group_by_resources(operation: &Operation) -> Result<PolicyStatements<'_>, SessionPolicyError> {
    let mut by_action: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for demand in &operation.required_permissions {
        if !is_plain_action(&demand.action) {
            return Err(SessionPolicyError::InvalidAction(demand.action.clone()));
        }
        let pattern = match &demand.resource {
            Resource::Any => "*".to_owned(),
            Resource::Arn(arn) => resource_pattern(arn)?,
            Resource::McpTool { .. } | Resource::McpServer(_) => return Err(SessionPolicyError::NotAws),
        };
        let patterns = by_action.entry(&demand.action).or_default();
        patterns.extend(alternate_arn_pattern(&pattern));
        patterns.insert(pattern);
    }
    if by_action.is_empty() {
        return Err(SessionPolicyError::NoRequiredPermission);
    }
    let mut statements = PolicyStatements::new();
    for (action, mut patterns) in by_action {
        if patterns.contains("*") {
            patterns = BTreeSet::from(["*".to_owned()]);
        }
        statements.entry(patterns).or_default().insert(action);
    }
    Ok(statements)
}

fn build_actions_only_policy(
    statements: &PolicyStatements<'_>,
    condition: &str,
) -> Result<SessionPolicy, SessionPolicyError> {
    let actions = statements.values().flatten().copied().collect();
    let any = PolicyStatements::from([(BTreeSet::from(["*".to_owned()]), actions)]);
    let json = policy_json(&any, condition);
    if json.chars().count() > limits::MAX_SESSION_POLICY_CHARS {
        return Err(SessionPolicyError::TooLong);
    }
    Ok(SessionPolicy { json, scope: CredentialScope::Actions })
}

/// `service:Name`, without the wildcards IAM would take.
fn is_plain_action(text: &str) -> bool {
    text.split_once(':').is_some_and(|(service, name)| {
        !service.is_empty()
            && !name.is_empty()
            && service.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// `arn` as an IAM pattern that matches exactly it. What the decoder makes stays a wildcard: `-??????` of a
/// secret (Secrets Manager appends six random characters), `:*` of a log group (its own ARN form) and `instance/*`.
fn resource_pattern(arn: &str) -> Result<String, SessionPolicyError> {
    let refuse = || SessionPolicyError::InvalidArn(arn.to_owned());
    let mut parts = arn.splitn(6, ':');
    let (Some("arn"), Some(partition), Some(service), Some(region), Some(account), Some(resource)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse());
    };
    // IAM replaces variables only in the last part, so a wildcard before it could not be escaped.
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if partition.is_empty() || service.is_empty() || resource.is_empty() {
        return Err(refuse());
    }
    if ![partition, service, region, account].into_iter().all(plain) {
        return Err(refuse());
    }
    let (literal, wild) = split_wildcard_suffix(service, resource);
    let mut pattern = String::with_capacity(arn.len() + 8);
    // Writing to a String cannot fail.
    let _infallible = write!(pattern, "arn:{partition}:{service}:{region}:{account}:");
    for character in literal.chars() {
        match character {
            '*' => pattern.push_str("${*}"),
            '?' => pattern.push_str("${?}"),
            '$' => pattern.push_str("${$}"),
            other => pattern.push(other),
        }
    }
    pattern.push_str(wild);
    Ok(pattern)
}

/// The other ARN under which AWS may authorise the same thing: a secret that does not exist yet has no random suffix, and
/// some CloudWatch Logs calls are authorised on the group's ARN without `:*` or its stream.
fn alternate_arn_pattern(pattern: &str) -> Option<String> {
    if pattern.contains(":secretsmanager:") {
        return pattern.strip_suffix("-??????").map(str::to_owned);
    }
    if pattern.contains(":logs:") {
        let group = pattern.split_once(":log-stream:").map(|(group, _stream)| group);
        return group.or_else(|| pattern.strip_suffix(":*")).map(str::to_owned);
    }
    None
}

fn split_wildcard_suffix<'a>(service: &str, resource: &'a str) -> (&'a str, &'a str) {
    let suffix = match service {
        // An instance that RunInstances has yet to make; no instance can be named `*`.
        "ec2" if resource == "instance/*" => return resource.split_at("instance/".len()),
        "secretsmanager" if resource.starts_with("secret:") => "-??????",
        "logs" if resource.starts_with("log-group:") => ":*",
        _ => return (resource, ""),
    };
    let Some(literal) = resource.strip_suffix(suffix) else { return (resource, "") };
    // Only a suffix of a named thing: `log-group:*` names no group, and `log-group:a:log-stream:*` names a stream `*`.
    match literal.split_once(':') {
        Some((_, name)) if !name.is_empty() && (service != "logs" || !name.contains(':')) => {
            resource.split_at(literal.len())
        }
        _ => (resource, ""),
    }
}

fn condition_json(not_after: OffsetDateTime, extras: &SessionPolicyConditions) -> String {
    let mut json = format!(r#"{{"DateLessThan":{{"aws:CurrentTime":"{}"}}"#, format_utc(not_after));
    for (operator, key, values) in [
        ("IpAddress", "aws:SourceIp", &extras.source_ip),
        ("StringEquals", "aws:SourceVpce", &extras.source_vpce),
    ] {
        if !values.is_empty() {
            let _infallible = write!(json, r#","{operator}":{{"{key}":"#);
            write_json_list(values.iter().map(String::as_str), &mut json);
            json.push('}');
        }
    }
    json.push('}');
    json
}

/// `2026-11-21T06:00:00Z`: ISO 8601 in whole seconds, the form IAM documents for dates.
fn format_utc(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

fn policy_json(statements: &PolicyStatements<'_>, condition: &str) -> String {
    // Variables (`${*}`) are read only in this version of the language.
    let mut json = String::from(r#"{"Version":"2012-10-17","Statement":["#);
    for (index, (patterns, actions)) in statements.iter().enumerate() {
        json.push_str(if index == 0 { "" } else { "," });
        json.push_str(r#"{"Effect":"Allow","Action":"#);
        write_json_list(actions.iter().copied(), &mut json);
        json.push_str(r#","Resource":"#);
        write_json_list(patterns.iter().map(String::as_str), &mut json);
        json.push_str(r#","Condition":"#);
        json.push_str(condition);
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

/// A JSON string in the characters STS takes (`Policy`: U+0020 to U+00FF); all others as `\u` escapes.
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
