//! CloudWatch Logs: a log group's ARN ends in `:*`, a stream's in `:log-stream:<name>`.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, push_template_permissions, push_unique,
};
use super::super::request_text::malformed_request;
use durward_core::{AccessLevel, Refusal, RequiredPermission};
use serde_json::Value;

/// Operations whose resource is the stream.
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
            let base = base.strip_suffix(":*").unwrap_or(&base);
            let arn = match stream {
                Some(stream) if STREAM_OPERATIONS.contains(&context.operation_model.name.as_str()) => {
                    format!("{base}:log-stream:{stream}")
                }
                _ => format!("{base}:*"),
            };
            push_unique(
                &mut out,
                permission_on_arn(&required_action.action, required_action.access_level, arn),
            );
        }
    }
    let by_text = |text: &str| text.to_ascii_uppercase().contains("SOURCE");
    let otherwise = context.text_parameter("queryLanguage").is_some_and(|language| language != "CWLI");
    if context.operation_model.name == "StartQuery"
        && (otherwise || context.text_parameter("queryString").is_some_and(by_text))
    {
        // The text of the query may name log groups of its own.
        push_unique(
            &mut out,
            permission_on_any("logs:StartQuery", context.access_level("logs:StartQuery", AccessLevel::Read)),
        );
    }
    Ok(Some(out))
}
