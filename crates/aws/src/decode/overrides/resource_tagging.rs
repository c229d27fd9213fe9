//! The Resource Groups Tagging API: it tags the resources in `ResourceARNList`, but IAM checks its actions on `*` alone.

use super::super::permission_templates::{PermissionContext, permission_on_arn, permissions_by_templates};
use durward_core::{AccessLevel, Refusal, RequiredPermission};
use serde_json::Value;

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    if !matches!(context.operation_model.name.as_str(), "TagResources" | "UntagResources") {
        return Ok(None);
    }
    let action = format!("tag:{}", context.operation_model.name);
    let level = context.access_level(&action, AccessLevel::Tagging);
    let mut out = permissions_by_templates(context);
    // Without these, a policy about a bucket would not see that this API tags the bucket.
    for arn in context.list_parameter("ResourceARNList").iter().filter_map(Value::as_str) {
        out.push(permission_on_arn(&action, level, arn.to_owned()));
    }
    Ok(Some(out))
}
