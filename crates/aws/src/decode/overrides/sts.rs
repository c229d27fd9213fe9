//! STS: assuming a role may also tag the session and set its source identity and contexts, each an action of its own.

use super::super::permission_templates::{PermissionContext, permission_on_any, permission_on_arn};
use durward_core::{AccessLevel, Refusal, RequiredPermission};

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let name = context.operation_model.name.as_str();
    if !matches!(name, "AssumeRole" | "AssumeRoleWithSAML" | "AssumeRoleWithWebIdentity") {
        return Ok(None);
    }
    let mut out = Vec::new();
    let mut add = |action: &str, level: AccessLevel| match context.text_parameter("RoleArn") {
        Some(role) if role.starts_with("arn:") => out.push(permission_on_arn(action, level, role.to_owned())),
        _ => out.push(permission_on_any(action, level)),
    };
    let action = format!("sts:{name}");
    add(&action, context.access_level(&action, AccessLevel::Write));
    // Session tags and the source identity can satisfy conditions of other policies, so IAM authorizes each by itself (IAM User
    // Guide, "Pass session tags in AWS STS").
    if context.has_parameter("Tags") || context.has_parameter("TransitiveTagKeys") {
        add("sts:TagSession", AccessLevel::Tagging);
    }
    if context.has_parameter("SourceIdentity") {
        add("sts:SetSourceIdentity", AccessLevel::Write);
    }
    if context.has_parameter("ProvidedContexts") {
        add("sts:SetContext", AccessLevel::Write);
    }
    Ok(Some(out))
}
