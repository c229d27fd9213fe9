//! KMS: a key is named by id, alias or the ARN of either; re-encryption required_actions two.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, push_template_permissions, push_unique,
};
use durward_core::{AccessLevel, Refusal, RequiredPermission};

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let mut out = Vec::new();
    if context.operation_model.name == "ReEncrypt" {
        for (action, member) in
            [("kms:ReEncryptFrom", "SourceKeyId"), ("kms:ReEncryptTo", "DestinationKeyId")]
        {
            out.push(match context.text_parameter(member) {
                Some(id) => permission_on_arn(action, AccessLevel::Write, key_arn(context, id)),
                // The ciphertext itself names the key.
                None => permission_on_any(action, AccessLevel::Write),
            });
        }
        return Ok(Some(out));
    }
    let members = ["KeyId", "TargetKeyId", "AliasName"];
    let arns: Vec<String> = members
        .iter()
        .filter_map(|member| context.text_parameter(member))
        .map(|id| key_arn(context, id))
        .collect();
    if arns.is_empty() {
        return Ok(None);
    }
    for required_action in context.applicable_actions() {
        if required_action.action.starts_with("kms:") {
            for arn in &arns {
                push_unique(
                    &mut out,
                    permission_on_arn(&required_action.action, required_action.access_level, arn.clone()),
                );
            }
        } else {
            push_template_permissions(context, required_action, &mut out);
        }
    }
    Ok(Some(out))
}

fn key_arn(context: &PermissionContext<'_>, id: &str) -> String {
    let prefix = if id.starts_with("alias/") { "" } else { "key/" };
    context.resolve_arn("kms", prefix, id)
}
