//! CloudWatch Logs: the ARN of a log group ends in `:*`, that of a log stream in `:log-stream:<name>`.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, push_template_permissions,
};
use crate::refusals::malformed_request;
use durward_core::{AccessLevel, Refusal, RequiredPermission};
use serde_json::Value;

/// Operations on a log stream.
const STREAM_OPERATIONS: [&str; 4] = ["CreateLogStream", "DeleteLogStream", "GetLogEvents", "PutLogEvents"];

pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let mut groups: Vec<&str> = Vec::new();
    for member in ["logGroupName", "logGroupIdentifier"] {
        groups.extend(context.text_parameter(member));
    }
    for member in ["logGroupNames", "logGroupIdentifiers"] {
        for item in context.list_parameter(member) {
            let name = item.as_str().filter(|name| !name.is_empty());
            groups.push(name.ok_or_else(|| malformed_request(format!("an item of {member} is not a name")))?);
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    let stream =
        context.parameters.get("logStreamName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let mut out = Vec::new();
    for required_action in context.applicable_actions() {
        if !required_action.action.starts_with("logs:") {
            push_template_permissions(context, required_action, &mut out);
            continue;
        }
        for group in &groups {
            let base = context.resolve_arn("logs", "log-group:", group);
            // DescribeLogGroups returns ARNs with and without the `:*` (CloudWatch Logs API Reference, LogGroup).
            let base = base.strip_suffix(":*").unwrap_or(&base);
            let arn = match stream {
                Some(stream) if STREAM_OPERATIONS.contains(&context.operation_model.name.as_str()) => {
                    format!("{base}:log-stream:{stream}")
                }
                _ => format!("{base}:*"),
            };
            out.push(permission_on_arn(&required_action.action, required_action.access_level, arn));
        }
    }
    let may_name_groups = |text: &str| text.to_ascii_uppercase().contains("SOURCE");
    let other_language = context.text_parameter("queryLanguage").is_some_and(|language| language != "CWLI");
    if context.operation_model.name == "StartQuery"
        && (other_language || context.text_parameter("queryString").is_some_and(may_name_groups))
    {
        // The query text may itself name log groups: with SOURCE, or in SQL and PPL (CloudWatch Logs User Guide, "Supported query
        // languages").
        out.push(permission_on_any(
            "logs:StartQuery",
            context.access_level("logs:StartQuery", AccessLevel::Read),
        ));
    }
    Ok(Some(out))
}
